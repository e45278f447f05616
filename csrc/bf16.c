/* From floats to bf16: matrices. */
#include "reduced.h"

#include <math.h>
#include <string.h>

#include "arena.h"
#include "blocks.h"
#include "os.h"

uint16_t lstmrt_bf16_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if (isnan(x)) return (uint16_t)(bits >> 16 | 0x40); /* a quiet one, which no truncation makes an infinity */
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

float lstmrt_bf16_float(uint16_t bits)
{
    const uint32_t wide = (uint32_t)bits << 16;
    float x;
    memcpy(&x, &wide, sizeof x);
    return x;
}

lstmrt_status lstmrt_bf16_pack(const float *data, size_t inputs, size_t k_stride, size_t j_stride,
                               const lstmrt_columns *columns, lstmrt_reduced_matrix *matrix)
{
    const size_t total = columns->vectors * columns->width, panel = LSTMRT_DENSE_VECTORS * columns->width;
    matrix->inputs = inputs;
    matrix->vectors = columns->vectors;
    const size_t size = lstmrt_size_product(lstmrt_round_up(inputs, 2), total);
    uint16_t *out = matrix->weights = lstmrt_allocate_array(size, sizeof *out);
    if (!out) return LSTMRT_OUT_OF_MEMORY;
    for (size_t begin = 0; begin < total; begin += panel) {
        const size_t end = total - begin < panel ? total : begin + panel;
        for (size_t pair = 0; pair < inputs; pair += 2)
            for (size_t j = begin; j < end; j++)
                for (size_t k = pair; k < pair + 2; k++, out++) {
                    const int64_t source = columns->source[j];
                    if (k < inputs && source >= 0)
                        *out = lstmrt_bf16_of(data[k * k_stride + (size_t)source * j_stride]);
                }
    }
    lstmrt_block_share(&matrix->weights, size * sizeof *out);
    return LSTMRT_OK;
}
