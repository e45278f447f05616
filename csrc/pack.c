#include "pack.h"

#include "arena.h"
#include "blocks.h"
#include "os.h"

size_t lstmrt_round_up(size_t n, size_t unit) { return (n + unit - 1) / unit * unit; }

static lstmrt_status columns_new(size_t vectors, size_t width, lstmrt_columns *columns)
{
    columns->vectors = vectors;
    columns->width = width;
    columns->source = lstmrt_allocate_array(lstmrt_size_product(vectors, width), sizeof *columns->source);
    return columns->source ? LSTMRT_OK : LSTMRT_OUT_OF_MEMORY;
}

lstmrt_status lstmrt_columns_plain(size_t n, size_t width, lstmrt_columns *columns)
{
    const lstmrt_status status = columns_new((n + width - 1) / width, width, columns);
    if (status) return status;
    for (size_t j = 0; j < columns->vectors * width; j++) columns->source[j] = j < n ? (int64_t)j : -1;
    return LSTMRT_OK;
}

lstmrt_status lstmrt_columns_gates(const int *gates, size_t n_gates, size_t hidden, size_t width, size_t rest_vectors,
                                   lstmrt_columns *columns)
{
    const size_t panels = (hidden + width - 1) / width, whole = rest_vectors > 0 ? hidden / width : panels;
    const lstmrt_status status = columns_new(whole * n_gates + rest_vectors, width, columns);
    if (status) return status;
    int64_t *source = columns->source;
    for (size_t panel = 0; panel < panels; panel++) {
        const size_t share = panel < whole ? width : rest_vectors * width / n_gates; /* of each gate */
        for (size_t gate = 0; gate < n_gates; gate++)
            for (size_t unit = panel * width; unit < panel * width + share; unit++)
                *source++ = unit < hidden ? (int64_t)((size_t)gates[gate] * hidden + unit) : -1;
    }
    return LSTMRT_OK;
}

void lstmrt_columns_free(lstmrt_columns *columns)
{
    lstmrt_release(columns->source);
    columns->source = NULL;
}

lstmrt_status lstmrt_pack_matrix(const float *data, size_t inputs, size_t k_stride, size_t j_stride,
                                 const lstmrt_columns *columns, size_t panel_vectors, float **packed)
{
    const size_t total = columns->vectors * columns->width, panel_width = panel_vectors * columns->width;
    float *out = *packed = lstmrt_allocate_array(lstmrt_size_product(inputs, total), sizeof **packed);
    if (!out) return LSTMRT_OUT_OF_MEMORY;
    for (size_t begin = 0; begin < total; begin += panel_width) {
        const size_t end = total - begin < panel_width ? total : begin + panel_width;
        for (size_t k = 0; k < inputs; k++)
            for (size_t j = begin; j < end; j++, out++) {
                const int64_t source = columns->source[j];
                *out = source < 0 ? 0.0f : data[k * k_stride + (size_t)source * j_stride];
            }
    }
    lstmrt_block_share(packed, inputs * total * sizeof **packed);
    return LSTMRT_OK;
}

lstmrt_status lstmrt_pack_rows(const float *data, size_t rows, size_t cols, const float *more,
                               const lstmrt_columns *columns, size_t stride, float **packed)
{
    float *out = *packed = lstmrt_allocate_array(lstmrt_size_product(rows, stride), sizeof **packed);
    if (!out) return LSTMRT_OUT_OF_MEMORY;
    if (!data) return LSTMRT_OK;
    for (size_t row = 0; row < rows; row++)
        for (size_t j = 0; j < columns->vectors * columns->width; j++) {
            const int64_t source = columns->source[j];
            if (source < 0) continue;
            const float value = data[row * cols + (size_t)source];
            out[row * stride + j] = more ? value + more[source] : value;
        }
    return LSTMRT_OK;
}
