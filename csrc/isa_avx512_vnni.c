/* The int8 kernels for AVX-512 VNNI; all others are those of AVX-512. Compiles to nothing on other machines. */
#if defined(__x86_64__)
#include <immintrin.h>
#include <math.h>
#include <string.h>
#include "kernels.h"

#define TARGET "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni"
#include "target.h"
#define INT8_VNNI
#include "vec_avx512.h"
#undef VEC_ISA
#define VEC_ISA avx512_vnni
#include "kernels_activations.h"
#include "kernels_register_tiles.h"
#include "kernels_reduced.h"
#include "kernels_int8.h"
#include "kernels_bytes.h"
#include "target.h"
#endif
