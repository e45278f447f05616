/* Kernels for AVX-512 F and DQ. Compiles to nothing on other machines. */
#if defined(__x86_64__)
#include <immintrin.h>
#include <math.h>
#include "kernels.h"

#define TARGET "avx512f,avx512dq"
#include "target.h"
#include "vec_avx512.h"
#include "kernels_table.h"
#include "target.h"
#endif
