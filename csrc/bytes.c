/* Matrices whose weights are bytes in the model's file: packed as they are. */
#include "arena.h"
#include "blocks.h"
#include "os.h"
#include "reduced.h"

/* The rest of the last group of inputs stays 0: whatever a row has there counts for nothing. */
static void pack_panel(size_t group, const lstmrt_weight *weight, size_t inputs, size_t k_stride, size_t j_stride,
                       const int64_t *source, size_t width, int8_t *out, int32_t *sums)
{
    for (size_t begin = 0; begin < inputs; begin += group)
        for (size_t j = 0; j < width; j++)
            for (size_t k = begin; k < begin + group; k++, out++) {
                const bool there = k < inputs && source[j] >= 0;
                *out = there ? weight->bytes[k * k_stride + (size_t)source[j] * j_stride] : 0;
                sums[j] += *out;
            }
}

lstmrt_status lstmrt_bytes_pack(const lstmrt_isa *isa, const lstmrt_weight *weight, size_t inputs, size_t k_stride,
                                size_t j_stride, const lstmrt_columns *columns, lstmrt_reduced_matrix *matrix)
{
    const size_t total = columns->vectors * columns->width, panel = LSTMRT_DENSE_VECTORS * columns->width;
    const size_t padded = lstmrt_round_up(inputs, isa->bytes->group), bytes = lstmrt_size_product(padded, total);
    *matrix = (lstmrt_reduced_matrix){
        .kernels = isa->bytes,
        .inputs = inputs,
        .vectors = columns->vectors,
        .zero = weight->zero,
        .weights = lstmrt_allocate_array(bytes, 1),
        .scales = lstmrt_allocate_array(total, sizeof *matrix->scales),
        .sums = lstmrt_allocate_array(total, sizeof *matrix->sums),
    };
    if (!matrix->weights || !matrix->scales || !matrix->sums) return LSTMRT_OUT_OF_MEMORY;
    for (size_t begin = 0; begin < total; begin += panel)
        pack_panel(isa->bytes->group, weight, inputs, k_stride, j_stride, columns->source + begin,
                   total - begin < panel ? total - begin : panel, (int8_t *)matrix->weights + begin * padded,
                   matrix->sums + begin);
    for (size_t j = 0; j < total; j++) matrix->scales[j] = columns->source[j] < 0 ? 0 : weight->scales[columns->source[j]];
    lstmrt_block_share(&matrix->weights, bytes);
    return LSTMRT_OK;
}
