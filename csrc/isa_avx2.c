/* Kernels for AVX2 and FMA. Compiles to nothing on other machines. */
#if defined(__x86_64__)
#include <immintrin.h>
#include <math.h>
#include <string.h>
#include "kernels.h"

#define TARGET "avx2,fma"
#include "target.h"
#include "vec_avx2.h"
#include "kernels_table.h"
#include "target.h"
#endif
