/* From ONNX's weight layouts to the panels that kernels stream. See kernels.h for the layouts. */
#ifndef LSTMRT_PACK_H
#define LSTMRT_PACK_H

#include "kernels.h"

/* Which source column stands in each packed column; -1 is padding, which packs to zero. */
typedef struct {
    int64_t *source; /* vectors * width */
    size_t vectors, width;
} lstmrt_columns;

/* Columns 0..n-1 in their order, padded to whole vectors. */
lstmrt_status lstmrt_columns_plain(size_t n, size_t width, lstmrt_columns *columns);

/* For each vector of `hidden` units the given gates side by side: gate g of unit u is source column g * hidden + u. The units
 * that are left over take n_gates vectors like the others, or `rest_vectors` where that is not 0. */
lstmrt_status lstmrt_columns_gates(const int *gates, size_t n_gates, size_t hidden, size_t width, size_t rest_vectors,
                                   lstmrt_columns *columns);
void lstmrt_columns_free(lstmrt_columns *columns);

/* Packs a matrix whose element (input k, column j) is data[k * k_stride + j * j_stride] into panels of
 * `panel_vectors` vectors; the last panel has what is left. */
lstmrt_status lstmrt_pack_matrix(const float *data, size_t inputs, size_t k_stride, size_t j_stride,
                                 const lstmrt_columns *columns, size_t panel_vectors, float **packed);

/* Rows (rows x source columns, `cols` apart), each packed and padded to `stride` floats; `more`, or NULL, is a row that
 * is added to each. data NULL: zeros. */
lstmrt_status lstmrt_pack_rows(const float *data, size_t rows, size_t cols, const float *more,
                               const lstmrt_columns *columns, size_t stride, float **packed);

/* `n` rounded up to a multiple of `unit`. */
size_t lstmrt_round_up(size_t n, size_t unit);

#endif
