/* Kernels for AArch64, whose baseline has Advanced SIMD. Compiles to nothing on other machines. */
#if defined(__aarch64__)
#include "vec_neon.h"
#include "kernels_table.h"
#endif
