/* The int8 kernels for AArch64 with dot products of bytes; all others are those of neon. Compiles to nothing on other machines. */
#if defined(__aarch64__)
#include <arm_neon.h>
#include <math.h>
#include <string.h>
#include "kernels.h"

#if defined(__clang__)
#define TARGET "dotprod"
#else
#define TARGET "arch=armv8.2-a+dotprod"
#endif
#include "target.h"
#define INT8_DOT
#include "vec_neon.h"
#undef VEC_ISA
#define VEC_ISA neon_dot
#include "kernels_activations.h"
#include "kernels_register_tiles.h"
#include "kernels_reduced.h"
#include "kernels_int8.h"
#include "target.h"
#endif
