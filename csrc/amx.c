/* Whether AMX can be relied on. */
#include "cpu.h"

#if LSTMRT_AMX

#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "dispatch.h"

enum { INPUTS = 70, PADDED = 80, ROWS = 17, VECTORS = 3, OUTPUTS = VECTORS * 16 }; /* a tail of each kind of tile */

/* x W by one table. */
static void multiply(const lstmrt_reduced_kernels *kernels, const float *x, const uint8_t *weights, float *y)
{
    float scales[OUTPUTS], x_scales[ROWS], zeros[OUTPUTS] = {0};
    char rows[ROWS * (4 * PADDED + 64)];
    for (size_t i = 0; i < OUTPUTS; i++) scales[i] = 1;
    kernels->rows(&(lstmrt_reduced_rows_args){
        .x = x, .reduced = rows, .scales = x_scales, .x_stride = INPUTS, .rows = ROWS, .inputs = INPUTS});
    kernels->product(&(lstmrt_reduced_product_args){
        .x = rows, .x_scales = x_scales, .weights = weights, .scales = scales, .init = zeros, .y = y, .y_stride = OUTPUTS,
        .rows = ROWS, .inputs = INPUTS, .vectors = VECTORS, .gates = 1, .pitch = OUTPUTS / VECTORS, .panels = {0, 1, false},
        .clip = INFINITY});
}

bool lstmrt_amx_agrees(void)
{
    float x[ROWS * INPUTS], y[ROWS * OUTPUTS], expected[ROWS * OUTPUTS];
    uint8_t weights[PADDED * OUTPUTS];
    uint32_t random = 1;
    for (size_t i = 0; i < ROWS * INPUTS; i++) x[i] = (float)(random = random * 1664525 + 1013904223) - 0x1p31f;
    for (size_t i = 0; i < PADDED * OUTPUTS; i++) weights[i] = (uint8_t)((random = random * 1664525 + 1013904223) >> 24);
    multiply(&lstmrt_int8_amx, x, weights, y);
    multiply(&lstmrt_int8_avx512_vnni, x, weights, expected);
    return memcmp(y, expected, sizeof y) == 0;
}

bool lstmrt_amx_works(void)
{
    enum { UNKNOWN, NO, YES };
    static atomic_int known = UNKNOWN;
    if (atomic_load(&known) == UNKNOWN) atomic_store(&known, lstmrt_cpu_has_amx() && lstmrt_amx_agrees() ? YES : NO);
    return atomic_load(&known) == YES;
}

#endif
