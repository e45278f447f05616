/* What this CPU and its operating system run: the CPU has the instructions and the system saves their registers. */
#ifndef LSTMRT_CPU_H
#define LSTMRT_CPU_H

#include <stdbool.h>

/* Whether this build has code for AMX: Linux asks for its registers, and compilers know it by now. */
#if defined(__x86_64__) && defined(__linux__) && (defined(__clang__) ? __clang_major__ >= 12 : __GNUC__ >= 11)
#define LSTMRT_AMX 1
#else
#define LSTMRT_AMX 0
#endif

bool lstmrt_cpu_always(void);          /* plain C everywhere, Advanced SIMD on AArch64 */
bool lstmrt_cpu_has_neon_dot(void);    /* AArch64's dot products of bytes */
bool lstmrt_cpu_has_avx2(void);        /* AVX2 and FMA */
bool lstmrt_cpu_has_avx512(void);      /* AVX-512 F, BW, DQ and VL, and AVX2 and FMA */
bool lstmrt_cpu_has_avx512_vnni(void); /* the same and AVX-512 VNNI */
bool lstmrt_cpu_has_avx512_bf16(void); /* the same and AVX-512 BF16 */
bool lstmrt_cpu_has_amx(void);         /* the same and AMX of bytes, whose registers the system gives this process */

#endif
