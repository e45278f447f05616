/* The bf16 kernels for AVX-512 BF16; all others are those of AVX-512. Compiles to nothing on other machines. */
#if defined(__x86_64__)
#include <immintrin.h>
#include <math.h>
#include <string.h>
#include "kernels.h"

#define TARGET "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16"
#include "target.h"
#define BF16_DOT
#include "vec_avx512.h"
#undef VEC_ISA
#define VEC_ISA avx512_bf16
#include "kernels_activations.h"
#include "kernels_register_tiles.h"
#include "kernels_reduced.h"
#include "kernels_bf16.h"
#include "target.h"
#endif
