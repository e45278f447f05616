/* Kernels for AVX-512 F, BW, DQ and VL. Compiles to nothing on other machines. */
#if defined(__x86_64__)
#include <immintrin.h>
#include <math.h>
#include <string.h>
#include "kernels.h"

#define TARGET "avx512f,avx512bw,avx512dq,avx512vl"
#include "target.h"
#include "vec_avx512.h"
#include "kernels_table.h"
#include "target.h"
#endif
