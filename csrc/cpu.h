/* What this CPU and its operating system run: the CPU has the instructions and the system saves their registers. */
#ifndef LSTMRT_CPU_H
#define LSTMRT_CPU_H

#include <stdbool.h>

bool lstmrt_cpu_always(void);          /* plain C: everywhere */
bool lstmrt_cpu_has_avx2(void);        /* AVX2 and FMA */
bool lstmrt_cpu_has_avx512(void);      /* AVX-512 F, BW, DQ and VL, and AVX2 and FMA */
bool lstmrt_cpu_has_avx512_vnni(void); /* the same and AVX-512 VNNI */
bool lstmrt_cpu_has_avx512_bf16(void); /* the same and AVX-512 BF16 */

#endif
