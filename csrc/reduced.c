/* Layers with reduced weights: how they are packed, and the products that stand in for the dense kernel's. */
#include <math.h>
#include <string.h>

#include "arena.h"
#include "blocks.h"
#include "program.h"

void lstmrt_reduced_free(lstmrt_reduced_matrix *matrix)
{
    lstmrt_block_release(matrix->weights);
    lstmrt_release(matrix->scales);
    lstmrt_release(matrix->sums);
    *matrix = (lstmrt_reduced_matrix){0};
}

lstmrt_status lstmrt_pack_weights(const lstmrt_model *model, const lstmrt_weight *weight, size_t inputs, size_t k_stride,
                                  size_t j_stride, const lstmrt_columns *columns, size_t panel_vectors, float **packed,
                                  lstmrt_reduced_matrix *reduced)
{
    const lstmrt_isa *isa = model->isa;
    const float *data = weight->data;
    if (weight->bytes) return lstmrt_bytes_pack(isa, weight, inputs, k_stride, j_stride, columns, reduced);
    switch (model->precision) {
    case LSTMRT_PRECISION_INT8:
        reduced->kernels = isa->int8;
        return lstmrt_int8_pack(isa, data, inputs, k_stride, j_stride, columns, reduced);
    case LSTMRT_PRECISION_BF16:
        reduced->kernels = isa->bf16;
        return lstmrt_bf16_pack(data, inputs, k_stride, j_stride, columns, reduced);
    default: return lstmrt_pack_matrix(data, inputs, k_stride, j_stride, columns, panel_vectors, packed);
    }
}

/* ---- products ---- */

size_t lstmrt_reduced_floats(const lstmrt_model *model, const lstmrt_layer *layer, size_t weights)
{
    if (layer->dynamic) return weights / 4;
    switch (model->precision) {
    case LSTMRT_PRECISION_INT8: return weights / 4;
    case LSTMRT_PRECISION_BF16: return weights / 2;
    default: return weights;
    }
}

void lstmrt_reduced_take(const lstmrt_workspace *ws, const lstmrt_reduced_matrix *matrix, const float *x, size_t stride,
                         size_t rows, size_t n_quanta)
{
    matrix->kernels->rows(&(lstmrt_reduced_rows_args){
        .x = x,
        .reduced = ws->reduced_rows,
        .scales = ws->reduced_scales,
        .x_stride = stride,
        .rows = rows,
        .inputs = matrix->inputs,
        .zeros = ws->reduced_zeros,
        .quanta = ws->quanta,
        .n_quanta = n_quanta,
    });
}

static void multiply(const lstmrt_workspace *ws, const lstmrt_reduced_matrix *matrix, lstmrt_reduced_product_args args)
{
    args.x = ws->reduced_rows;
    args.x_scales = ws->reduced_scales;
    args.weights = matrix->weights;
    args.scales = matrix->scales;
    args.x_zeros = ws->reduced_zeros;
    args.sums = matrix->sums;
    args.zero = matrix->zero;
    args.inputs = matrix->inputs;
    args.vectors = matrix->vectors;
    matrix->kernels->product(&args);
}

void lstmrt_reduced_dense(const lstmrt_workspace *ws, const lstmrt_reduced_matrix *matrix, const lstmrt_dense_args *a)
{
    multiply(ws, matrix, (lstmrt_reduced_product_args){
        .init = a->init,
        .y = a->y,
        .init_stride = a->init_stride,
        .y_stride = a->y_stride,
        .rows = a->rows,
        .gates = 1,
        .pitch = ws->model->kernels->width,
        .panels = a->panels,
        .clip = a->clip,
        .activation = a->activation,
    });
}

void lstmrt_reduced_add_gates(const lstmrt_workspace *ws, const lstmrt_reduced_matrix *matrix,
                              const lstmrt_cell_rows *rows, size_t first, size_t n,
                              size_t all, lstmrt_panels panels)
{
    const size_t width = ws->model->kernels->width;
    multiply(ws, matrix, (lstmrt_reduced_product_args){
        .init = rows->gates + first * width,
        .y = rows->gates + first * width,
        .init_stride = rows->gates_stride,
        .y_stride = rows->gates_stride,
        .rows = rows->rows,
        .gates = n,
        .pitch = all * width,
        .panels = panels,
        .clip = INFINITY,
    });
}

/* ---- embeddings ---- */

static void reduce_row(const lstmrt_model *model, const float *from, size_t width, size_t row, lstmrt_layer *layer)
{
    if (model->precision == LSTMRT_PRECISION_BF16) {
        uint16_t *to = (uint16_t *)layer->reduced_table + row * width;
        for (size_t i = 0; i < width; i++) to[i] = lstmrt_bf16_of(from[i]);
        return;
    }
    float largest = 0;
    for (size_t i = 0; i < width; i++)
        if (!(fabsf(from[i]) <= largest)) largest = isnan(largest) ? largest : fabsf(from[i]);
    int8_t *to = (int8_t *)layer->reduced_table + row * width;
    const float scale = layer->table_scales[row] = lstmrt_int8_scale(largest);
    for (size_t i = 0; i < width; i++) to[i] = lstmrt_int8_weight(from[i], scale);
}

lstmrt_status lstmrt_reduce_table(const lstmrt_model *model, const lstmrt_weight *table, lstmrt_layer *layer)
{
    const bool int8 = model->precision == LSTMRT_PRECISION_INT8;
    layer->reduced_table = lstmrt_allocate_array(lstmrt_size_product(table->rows, table->cols), int8 ? 1 : 2);
    layer->table_scales = lstmrt_allocate_array(int8 ? table->rows : 0, sizeof *layer->table_scales);
    if (!layer->reduced_table || !layer->table_scales) return LSTMRT_OUT_OF_MEMORY;
    for (size_t row = 0; row < table->rows; row++)
        reduce_row(model, table->data + row * table->cols, table->cols, row, layer);
    return LSTMRT_OK;
}

void lstmrt_reduced_lookup(const lstmrt_model *model, const lstmrt_layer *layer, size_t row, float *to)
{
    const size_t width = layer->width;
    if (model->precision == LSTMRT_PRECISION_INT8) {
        const int8_t *q = (const int8_t *)layer->reduced_table + row * width;
        for (size_t i = 0; i < width; i++) to[i] = q[i] * layer->table_scales[row];
    } else {
        const uint16_t *bits = (const uint16_t *)layer->reduced_table + row * width;
        for (size_t i = 0; i < width; i++) to[i] = lstmrt_bf16_float(bits[i]);
    }
}
