/* Dense layers and embeddings. */
#include "program.h"

#include <math.h>
#include <string.h>

#include "blocks.h"
#include "pack.h"

size_t lstmrt_dense_panels(size_t vectors) { return (vectors + LSTMRT_DENSE_VECTORS - 1) / LSTMRT_DENSE_VECTORS; }

/* Packs W and b. */
static lstmrt_status prepare_product(const lstmrt_model *model, const lstmrt_step *step, size_t inputs, size_t width,
                                     lstmrt_layer *layer)
{
    const lstmrt_weight *w = &step->weights[0], *b = &step->weights[1];
    if (b->data && !lstmrt_weight_is(b, 1, width)) return LSTMRT_BAD_PROGRAM;
    layer->inputs = inputs;
    layer->width = width;
    layer->dynamic = w->bytes != NULL;

    lstmrt_columns columns;
    lstmrt_status status = lstmrt_columns_plain(width, model->kernels->width, &columns);
    layer->gate_vectors = columns.vectors;
    layer->x_panels = lstmrt_dense_panels(columns.vectors);
    if (!status)
        status = lstmrt_pack_weights(model, w, inputs, layer->dynamic ? 1 : width, layer->dynamic ? inputs : 1, &columns,
                                     LSTMRT_DENSE_VECTORS, &layer->x_weights, &layer->x_reduced);
    if (!status)
        status = lstmrt_pack_rows(b->data, 1, width, NULL, &columns, columns.vectors * columns.width, &layer->x_bias);
    lstmrt_columns_free(&columns);
    return status;
}

lstmrt_status lstmrt_dense_prepare(const lstmrt_model *model, const lstmrt_step *step, lstmrt_layer *layer)
{
    const lstmrt_value *x = lstmrt_input(model, step, 0), *y = lstmrt_output(model, step, 0);
    const lstmrt_weight *w = &step->weights[0];
    if (!lstmrt_value_is(x, LSTMRT_F32, -1, 0) || !lstmrt_value_is(y, LSTMRT_F32, (int)x->rows, 0) ||
        !(w->bytes ? lstmrt_bytes_are(w, y->width, x->width) : lstmrt_weight_is(w, x->width, y->width)))
        return LSTMRT_BAD_PROGRAM;
    return prepare_product(model, step, x->width, y->width, layer);
}

/* Kernels write whole vectors: parts of y that lie side by side must be made of such. */
lstmrt_status lstmrt_conv_prepare(const lstmrt_model *model, const lstmrt_step *step, lstmrt_layer *layer)
{
    const lstmrt_value *x = lstmrt_input(model, step, 0), *y = lstmrt_output(model, step, 0);
    const lstmrt_weight *w = &step->weights[0];
    if (!lstmrt_value_is(x, LSTMRT_F32, -1, 0) || !lstmrt_value_is(y, LSTMRT_F32, (int)x->rows, 0) || !w->data ||
        w->rows == 0 || w->cols == 0 || w->cols % LSTMRT_PAD > 0 || x->width % w->rows > 0 ||
        lstmrt_size_product(x->width / w->rows, w->cols) != y->width)
        return LSTMRT_BAD_PROGRAM;
    return prepare_product(model, step, w->rows, w->cols, layer);
}

/* What the parts of a dense layer's work share. */
typedef struct {
    const lstmrt_workspace *workspace;
    const lstmrt_layer *layer;
    const float *x;
    float *y;
    size_t x_stride, y_stride, rows;
} dense_work;

static void dense_part(const void *argument, size_t part, size_t parts)
{
    const dense_work *work = argument;
    const lstmrt_layer *layer = work->layer;
    const lstmrt_dense_args args = {
        .x = work->x,
        .x_stride = work->x_stride,
        .init = layer->x_bias,
        .weights = layer->x_weights,
        .y = work->y,
        .y_stride = work->y_stride,
        .rows = work->rows,
        .inputs = layer->inputs,
        .vectors = layer->gate_vectors,
        .panels = lstmrt_panels_part(layer->x_panels, part, parts, work->workspace->backward),
        .clip = INFINITY,
        .activation = lstmrt_op_recurrent(layer->step.op) ? (lstmrt_activation){0} : layer->step.activations[0],
    };
    if (layer->x_reduced.weights)
        lstmrt_reduced_dense(work->workspace, &layer->x_reduced, &args);
    else
        work->workspace->model->kernels->dense(&args);
}

void lstmrt_dense_share(const lstmrt_workspace *ws, const lstmrt_layer *layer, const float *x, size_t x_stride,
                        size_t rows, float *y, size_t y_stride)
{
    const size_t weights = layer->inputs * layer->gate_vectors * ws->model->kernels->width;
    const size_t most = layer->x_reduced.weights ? ws->most_rows : rows;
    for (size_t row = 0; row < rows; row += most) {
        const size_t taken = rows - row < most ? rows - row : most;
        const float *from = x + row * x_stride;
        const dense_work work = {ws, layer, from, y + row * y_stride, x_stride, y_stride, taken};
        if (layer->x_reduced.weights) lstmrt_reduced_take(ws, &layer->x_reduced, from, x_stride, taken, ws->n_quanta);
        lstmrt_share(ws, lstmrt_reduced_floats(ws->model, layer, weights), taken, dense_part, &work);
    }
}

/* The rows of one sequence, which share a quantum. */
static void run_sequence(const lstmrt_layer *layer, lstmrt_workspace *ws, size_t b)
{
    const lstmrt_rows_view x = lstmrt_sequence(lstmrt_input(ws->model, &layer->step, 0), lstmrt_input_slot(layer, ws, 0), ws, b);
    const lstmrt_rows_view y = lstmrt_sequence(lstmrt_output(ws->model, &layer->step, 0), lstmrt_output_slot(layer, ws, 0), ws, b);
    layer->x_reduced.kernels->range(&(lstmrt_reduced_range_args){x.first, ws->quanta, x.stride, x.count, layer->inputs});
    lstmrt_dense_share(ws, layer, x.first, x.stride, x.count, y.first, y.stride);
}

lstmrt_status lstmrt_dense_run(const lstmrt_layer *layer, lstmrt_workspace *workspace)
{
    const lstmrt_value *value = lstmrt_input(workspace->model, &layer->step, 0);
    const lstmrt_slot *x = lstmrt_input_slot(layer, workspace, 0), *y = lstmrt_output_slot(layer, workspace, 0);
    const bool in_sequences = layer->dynamic && lstmrt_length_of(value, workspace) > 1;
    workspace->n_quanta = in_sequences;
    for (size_t b = 0; in_sequences && b < workspace->batch; b++) run_sequence(layer, workspace, b);
    if (!in_sequences)
        lstmrt_dense_share(workspace, layer, x->data, x->stride, lstmrt_rows_of(value, workspace), y->data, y->stride);
    return LSTMRT_OK;
}

lstmrt_status lstmrt_conv_run(const lstmrt_layer *layer, lstmrt_workspace *workspace)
{
    const lstmrt_value *value = lstmrt_input(workspace->model, &layer->step, 0);
    const lstmrt_slot *x = lstmrt_input_slot(layer, workspace, 0), *y = lstmrt_output_slot(layer, workspace, 0);
    const size_t rows = lstmrt_rows_of(value, workspace), parts = value->width / layer->inputs;
    const bool dense = x->stride == value->width && y->stride == parts * layer->width;
    const size_t at_once = dense ? rows : 1;
    for (size_t row = 0; row < rows; row += at_once)
        lstmrt_dense_share(workspace, layer, (const float *)x->data + row * x->stride, layer->inputs, at_once * parts,
                           (float *)y->data + row * y->stride, layer->width);
    return LSTMRT_OK;
}

lstmrt_status lstmrt_embedding_prepare(const lstmrt_model *model, const lstmrt_step *step, lstmrt_layer *layer)
{
    const lstmrt_value *ids = lstmrt_input(model, step, 0), *y = lstmrt_output(model, step, 0);
    const lstmrt_weight *table = &step->weights[0];
    if (!lstmrt_value_is(ids, LSTMRT_I64, -1, 0) || !lstmrt_value_is(y, LSTMRT_F32, (int)ids->rows, 0) ||
        table->rows == 0 || y->width % ids->width > 0 || !lstmrt_weight_is(table, table->rows, y->width / ids->width))
        return LSTMRT_BAD_PROGRAM;
    layer->width = layer->gates_stride = table->cols;
    layer->inputs = ids->width;
    layer->vocabulary = table->rows;
    if (model->precision != LSTMRT_PRECISION_F32) return lstmrt_reduce_table(model, table, layer);
    const size_t size = lstmrt_size_product(table->rows, table->cols);
    layer->table = lstmrt_allocate_array(size, sizeof *layer->table);
    if (!layer->table) return LSTMRT_OUT_OF_MEMORY;
    memcpy(layer->table, table->data, size * sizeof *layer->table);
    lstmrt_block_share(&layer->table, size * sizeof *layer->table);
    return LSTMRT_OK;
}

/* The row that an id names. */
static lstmrt_status row_of(const lstmrt_layer *layer, int64_t id, size_t *row)
{
    const int64_t vocabulary = (int64_t)layer->vocabulary;
    if (id < -vocabulary || id >= vocabulary) return LSTMRT_ID_OUT_OF_RANGE;
    *row = (size_t)(id < 0 ? id + vocabulary : id);
    return LSTMRT_OK;
}

lstmrt_status lstmrt_table_row(const lstmrt_layer *layer, int64_t id, float **at)
{
    size_t row;
    const lstmrt_status status = row_of(layer, id, &row);
    if (!status) *at = layer->table + row * layer->gates_stride;
    return status;
}

lstmrt_status lstmrt_table_lookup(const lstmrt_model *model, const lstmrt_layer *layer, int64_t id, size_t width,
                                  float *to)
{
    size_t row;
    const lstmrt_status status = row_of(layer, id, &row);
    if (status) return status;
    if (layer->reduced_table)
        lstmrt_reduced_lookup(model, layer, row, to);
    else
        memcpy(to, layer->table + row * layer->gates_stride, width * sizeof *to);
    return LSTMRT_OK;
}

lstmrt_status lstmrt_embedding_run(const lstmrt_layer *layer, lstmrt_workspace *workspace)
{
    const lstmrt_slot *ids = lstmrt_input_slot(layer, workspace, 0), *y = lstmrt_output_slot(layer, workspace, 0);
    const size_t rows = lstmrt_rows_of(lstmrt_input(workspace->model, &layer->step, 0), workspace);
    lstmrt_status status = LSTMRT_OK;
    for (size_t row = 0; row < rows; row++)
        for (size_t i = 0; i < layer->inputs && !status; i++) {
            const int64_t id = ((const int64_t *)ids->data)[row * ids->stride + i];
            float *to = (float *)y->data + row * y->stride + i * layer->width;
            status = lstmrt_table_lookup(workspace->model, layer, id, layer->width, to);
        }
    return status;
}
