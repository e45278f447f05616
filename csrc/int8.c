/* From floats to whole numbers: int8 matrices. */
#include "reduced.h"

#include <math.h>
#include <string.h>

#include "arena.h"
#include "blocks.h"
#include "os.h"

enum { LARGEST_WEIGHT = 127 };

float lstmrt_int8_scale(float largest)
{
    if (!isfinite(largest)) return NAN;
    if (largest <= LSTMRT_INT8_SMALLEST) return 0.0f;
    const float scale = largest / LARGEST_WEIGHT;
    uint32_t bits;
    memcpy(&bits, &scale, sizeof bits);
    const uint32_t down = bits & ~UINT32_C(0xff), up = (bits + 0xff) & ~UINT32_C(0xff);
    float rounded;
    memcpy(&rounded, &up, sizeof rounded);
    if (isinf(rounded * LARGEST_WEIGHT)) memcpy(&rounded, &down, sizeof rounded);
    return rounded;
}

int8_t lstmrt_int8_weight(float weight, float scale)
{
    if (!(scale > 0.0f)) return 0;
    const double round = 0x1.8p52; /* adding it rounds to a whole number */
    return (int8_t)((double)weight / scale + round - round);
}

/* |element| of each column of a panel, the largest; NaN and infinity stay. */
static void largest_of(const float *data, size_t inputs, size_t k_stride, size_t j_stride, const int64_t *source,
                       size_t width, float *largest)
{
    memset(largest, 0, width * sizeof *largest);
    for (size_t k = 0; k < inputs; k++)
        for (size_t j = 0; j < width; j++) {
            if (source[j] < 0) continue;
            const float size = fabsf(data[k * k_stride + (size_t)source[j] * j_stride]);
            if (!(size <= largest[j])) largest[j] = isnan(largest[j]) ? NAN : size;
        }
}

/* The rest of the last group of inputs stays 0, which no quantized row multiplies with anything but 0. */
static void pack_panel(const lstmrt_reduced_kernels *kernels, const float *data, size_t inputs, size_t k_stride,
                       size_t j_stride, const int64_t *source, size_t width, const float *scales, int8_t *out)
{
    const size_t group = kernels->group;
    for (size_t begin = 0; begin < inputs; begin += group)
        for (size_t j = 0; j < width; j++)
            for (size_t i = 0; i < group; i++, out++) {
                const bool there = begin + i < inputs && source[j] >= 0;
                const size_t at = there ? (begin + i) * k_stride + (size_t)source[j] * j_stride : 0;
                *out = (int8_t)(uint8_t)((there ? lstmrt_int8_weight(data[at], scales[j]) : 0) + kernels->offset);
            }
}

lstmrt_status lstmrt_int8_new(const lstmrt_isa *isa, size_t inputs, size_t vectors, lstmrt_reduced_matrix *matrix)
{
    const size_t total = lstmrt_size_product(vectors, isa->f32->width);
    const size_t padded = lstmrt_round_up(inputs, isa->int8->group);
    matrix->inputs = inputs;
    matrix->vectors = vectors;
    matrix->scales = lstmrt_allocate_array(total, sizeof *matrix->scales);
    matrix->weights = lstmrt_allocate_array(lstmrt_size_product(padded, total), 1);
    return matrix->scales && matrix->weights ? LSTMRT_OK : LSTMRT_OUT_OF_MEMORY;
}

size_t lstmrt_int8_pack_panel(const lstmrt_isa *isa, const float *data, size_t k_stride, size_t j_stride,
                              const int64_t *source, size_t begin, lstmrt_reduced_matrix *matrix)
{
    const size_t total = matrix->vectors * isa->f32->width, panel = LSTMRT_DENSE_VECTORS * isa->f32->width;
    const size_t width = total - begin < panel ? total - begin : panel;
    float *scales = matrix->scales + begin;
    largest_of(data, matrix->inputs, k_stride, j_stride, source, width, scales);
    for (size_t j = 0; j < width; j++) scales[j] = lstmrt_int8_scale(scales[j]);
    pack_panel(isa->int8, data, matrix->inputs, k_stride, j_stride, source, width, scales,
               (int8_t *)matrix->weights + begin * lstmrt_round_up(matrix->inputs, isa->int8->group));
    return begin + width;
}

lstmrt_status lstmrt_int8_pack(const lstmrt_isa *isa, const float *data, size_t inputs, size_t k_stride,
                               size_t j_stride, const lstmrt_columns *columns, lstmrt_reduced_matrix *matrix)
{
    const lstmrt_status status = lstmrt_int8_new(isa, inputs, columns->vectors, matrix);
    if (status) return status;
    for (size_t begin = 0; begin < columns->vectors * columns->width;)
        begin = lstmrt_int8_pack_panel(isa, data, k_stride, j_stride, columns->source + begin, begin, matrix);
    lstmrt_block_share(&matrix->weights, lstmrt_round_up(inputs, isa->int8->group) * columns->vectors * isa->f32->width);
    return LSTMRT_OK;
}
