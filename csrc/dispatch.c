#include "dispatch.h"

#include <string.h>

#include "cpu.h"

static const struct {
    const lstmrt_kernels *kernels;
    bool (*supported)(void);
} TABLES[] = { /* slowest first */
    {&lstmrt_kernels_scalar, lstmrt_cpu_always},
#if defined(__x86_64__)
    {&lstmrt_kernels_avx2, lstmrt_cpu_has_avx2},
    {&lstmrt_kernels_avx512, lstmrt_cpu_has_avx512},
#endif
};

enum { TABLE_COUNT = sizeof TABLES / sizeof TABLES[0] };

const char *lstmrt_isa_name(size_t i, bool *supported)
{
    if (i >= TABLE_COUNT) return NULL;
    *supported = TABLES[i].supported();
    return TABLES[i].kernels->name;
}

lstmrt_status lstmrt_kernels_find(const char *name, const lstmrt_kernels **kernels)
{
    lstmrt_status status = LSTMRT_UNKNOWN_ISA;
    for (size_t i = TABLE_COUNT; i-- > 0;) {
        if (name && strcmp(name, TABLES[i].kernels->name) != 0) continue;
        if (TABLES[i].supported()) {
            *kernels = TABLES[i].kernels;
            return LSTMRT_OK;
        }
        status = LSTMRT_UNSUPPORTED_ISA;
    }
    return status;
}
