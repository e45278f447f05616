/* The int8 product of several rows for AMX; all else is AVX-512's, VNNI's and BF16's. Compiles to nothing where there is no AMX. */
#include "cpu.h"

#if LSTMRT_AMX
#include <immintrin.h>
#include <math.h>
#include <string.h>
#include "kernels.h"

#define TARGET "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,amx-tile,amx-int8"
#include "target.h"
#define INT8_VNNI
#include "vec_avx512.h"
#undef VEC_ISA
#define VEC_ISA amx
#include "kernels_activations.h"
#include "kernels_register_tiles.h"
#include "kernels_reduced.h"
#include "kernels_tiles.h"
#include "target.h"
#endif
