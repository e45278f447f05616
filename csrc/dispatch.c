#include "dispatch.h"

#include <string.h>

#include "cpu.h"

static const lstmrt_isa SETS[] = { /* slowest first */
    {"scalar", lstmrt_cpu_always, &lstmrt_kernels_scalar, &lstmrt_int8_scalar, &lstmrt_bf16_scalar, &lstmrt_bytes_scalar},
#if defined(__x86_64__)
    {"avx2", lstmrt_cpu_has_avx2, &lstmrt_kernels_avx2, &lstmrt_int8_avx2, &lstmrt_bf16_avx2, &lstmrt_bytes_avx2},
    {"avx512", lstmrt_cpu_has_avx512, &lstmrt_kernels_avx512, &lstmrt_int8_avx512, &lstmrt_bf16_avx512, &lstmrt_bytes_avx512},
    {"avx512_vnni", lstmrt_cpu_has_avx512_vnni, &lstmrt_kernels_avx512, &lstmrt_int8_avx512_vnni, &lstmrt_bf16_avx512,
     &lstmrt_bytes_avx512_vnni},
    {"avx512_bf16", lstmrt_cpu_has_avx512_bf16, &lstmrt_kernels_avx512, &lstmrt_int8_avx512_vnni, &lstmrt_bf16_avx512_bf16,
     &lstmrt_bytes_avx512_vnni},
#endif
#if defined(__aarch64__)
    {"neon", lstmrt_cpu_always, &lstmrt_kernels_neon, &lstmrt_int8_neon, &lstmrt_bf16_neon, &lstmrt_bytes_neon},
    {"neon_dot", lstmrt_cpu_has_neon_dot, &lstmrt_kernels_neon, &lstmrt_int8_neon_dot, &lstmrt_bf16_neon, &lstmrt_bytes_neon},
#endif
#if LSTMRT_AMX
    {"amx", lstmrt_amx_works, &lstmrt_kernels_avx512, &lstmrt_int8_amx, &lstmrt_bf16_avx512_bf16,
     &lstmrt_bytes_avx512_vnni},
#endif
};

enum { SET_COUNT = sizeof SETS / sizeof SETS[0] };

static const void *kernels_of(const lstmrt_isa *isa, lstmrt_precision precision)
{
    switch (precision) {
    case LSTMRT_PRECISION_INT8: return isa->int8;
    case LSTMRT_PRECISION_BF16: return isa->bf16;
    default: return isa->f32;
    }
}

/* Whether a set has kernels of its own for this precision. */
static bool differs(const lstmrt_isa *isa, lstmrt_precision precision)
{
    return isa == SETS || kernels_of(isa, precision) != kernels_of(isa - 1, precision);
}

const char *lstmrt_isa_name(lstmrt_precision precision, size_t i, bool *supported)
{
    for (const lstmrt_isa *isa = SETS; isa < SETS + SET_COUNT; isa++)
        if (differs(isa, precision) && i-- == 0) {
            *supported = isa->supported();
            return isa->name;
        }
    return NULL;
}

const char *lstmrt_isa_shown(const lstmrt_isa *isa, lstmrt_precision precision)
{
    while (!differs(isa, precision)) isa--;
    return isa->name;
}

lstmrt_status lstmrt_isa_find(const char *name, const lstmrt_isa **isa)
{
    lstmrt_status status = LSTMRT_UNKNOWN_ISA;
    for (size_t i = SET_COUNT; i-- > 0;) {
        if (name && strcmp(name, SETS[i].name) != 0) continue;
        if (SETS[i].supported()) {
            *isa = &SETS[i];
            return LSTMRT_OK;
        }
        status = LSTMRT_UNSUPPORTED_ISA;
    }
    return status;
}
