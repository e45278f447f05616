/* Layers that work row by row or move rows: activations, softmax, arithmetic, concatenation, columns, time, masks. */
#include "program.h"

#include <string.h>

#include "pack.h"

lstmrt_status lstmrt_rowwise_prepare(const lstmrt_model *model, const lstmrt_step *step, lstmrt_layer *layer)
{
    const lstmrt_value *x = lstmrt_input(model, step, 0), *y = lstmrt_output(model, step, 0);
    if (!lstmrt_value_is(x, LSTMRT_F32, -1, 0) || !lstmrt_value_is(y, LSTMRT_F32, (int)x->rows, x->width))
        return LSTMRT_BAD_PROGRAM;
    layer->width = x->width;
    return LSTMRT_OK;
}

lstmrt_status lstmrt_activate_run(const lstmrt_layer *layer, lstmrt_workspace *workspace)
{
    const lstmrt_slot *x = lstmrt_input_slot(layer, workspace, 0), *y = lstmrt_output_slot(layer, workspace, 0);
    const size_t rows = lstmrt_rows_of(lstmrt_input(workspace->model, &layer->step, 0), workspace);
    workspace->model->kernels->activate(&(lstmrt_activate_args){
        x->data, y->data, x->stride, y->stride, rows, layer->width, layer->step.activations[0]});
    return LSTMRT_OK;
}

lstmrt_status lstmrt_softmax_prepare(const lstmrt_model *model, const lstmrt_step *step, lstmrt_layer *layer)
{
    const lstmrt_status status = lstmrt_rowwise_prepare(model, step, layer);
    if (status) return status;
    if (step->constant < 0 || (uint64_t)step->constant > layer->width) return LSTMRT_BAD_PROGRAM;
    layer->inputs = step->constant > 0 ? (size_t)step->constant : layer->width;
    return layer->width % layer->inputs == 0 ? LSTMRT_OK : LSTMRT_BAD_PROGRAM;
}

lstmrt_status lstmrt_softmax_run(const lstmrt_layer *layer, lstmrt_workspace *workspace)
{
    const lstmrt_slot *x = lstmrt_input_slot(layer, workspace, 0), *y = lstmrt_output_slot(layer, workspace, 0);
    const size_t rows = lstmrt_rows_of(lstmrt_input(workspace->model, &layer->step, 0), workspace), part = layer->inputs;
    const bool log = layer->step.op == LSTMRT_OP_LOG_SOFTMAX, whole = part == layer->width;
    for (size_t row = 0; row < (whole ? 1 : rows); row++)
        workspace->model->kernels->softmax(&(lstmrt_softmax_args){
            .x = (const float *)x->data + row * x->stride, .y = (float *)y->data + row * y->stride,
            .x_stride = whole ? x->stride : part, .y_stride = whole ? y->stride : part,
            .rows = whole ? rows : layer->width / part, .width = part, .log = log});
    return LSTMRT_OK;
}

lstmrt_status lstmrt_combine_prepare(const lstmrt_model *model, const lstmrt_step *step, lstmrt_layer *layer)
{
    const lstmrt_status status = lstmrt_rowwise_prepare(model, step, layer);
    if (status) return status;
    const lstmrt_value *a = lstmrt_input(model, step, 0), *b = lstmrt_input(model, step, 1);
    if (b) {
        const bool fits = lstmrt_value_is(b, LSTMRT_F32, -1, 0) && (b->width == a->width || b->width == 1) &&
                          (b->rows == a->rows || (b->rows == LSTMRT_ROWS_BATCH && a->rows != LSTMRT_ROWS_ONE));
        return fits ? LSTMRT_OK : LSTMRT_BAD_PROGRAM;
    }
    if (!lstmrt_weight_is(&step->weights[0], 1, a->width)) return LSTMRT_BAD_PROGRAM;
    layer->row = lstmrt_allocate_array(a->width, sizeof *layer->row);
    if (!layer->row) return LSTMRT_OUT_OF_MEMORY;
    memcpy(layer->row, step->weights[0].data, a->width * sizeof *layer->row);
    return LSTMRT_OK;
}

/* b has one row for each sequence of a. */
static void combine_sequences(const lstmrt_layer *layer, lstmrt_workspace *ws, lstmrt_combine_args args)
{
    const lstmrt_value *a = lstmrt_input(ws->model, &layer->step, 0);
    const lstmrt_slot *from = lstmrt_input_slot(layer, ws, 0), *to = lstmrt_output_slot(layer, ws, 0);
    const float *b = args.b;
    args.b_stride = 0;
    for (size_t i = 0; i < ws->batch; i++) {
        const lstmrt_rows_view rows = lstmrt_sequence(a, from, ws, i), results = lstmrt_sequence(a, to, ws, i);
        args.a = rows.first, args.a_stride = rows.stride, args.rows = rows.count;
        args.y = results.first, args.y_stride = results.stride;
        args.b = b + i * lstmrt_input_slot(layer, ws, 1)->stride;
        ws->model->kernels->combine(&args);
    }
}

lstmrt_status lstmrt_combine_run(const lstmrt_layer *layer, lstmrt_workspace *workspace)
{
    const lstmrt_value *a_value = lstmrt_input(workspace->model, &layer->step, 0);
    const lstmrt_value *b_value = lstmrt_input(workspace->model, &layer->step, 1);
    const lstmrt_slot *a = lstmrt_input_slot(layer, workspace, 0), *b = lstmrt_input_slot(layer, workspace, 1);
    const lstmrt_slot *y = lstmrt_output_slot(layer, workspace, 0);
    const lstmrt_combine_args args = {
        .a = a->data, .b = b ? b->data : layer->row, .y = y->data,
        .a_stride = a->stride, .b_stride = b ? b->stride : 0, .y_stride = y->stride,
        .rows = lstmrt_rows_of(a_value, workspace), .width = layer->width,
        .op = layer->step.op, .b_single = b && b_value->width == 1,
    };
    if (b && b_value->rows != a_value->rows)
        combine_sequences(layer, workspace, args);
    else
        workspace->model->kernels->combine(&args);
    return LSTMRT_OK;
}

lstmrt_status lstmrt_concat_prepare(const lstmrt_model *model, const lstmrt_step *step, lstmrt_layer *layer)
{
    const lstmrt_value *y = lstmrt_output(model, step, 0);
    if (!lstmrt_value_is(y, LSTMRT_F32, -1, 0)) return LSTMRT_BAD_PROGRAM;
    size_t width = 0;
    for (size_t i = 0; i < LSTMRT_MAX_INPUTS && step->inputs[i] >= 0; i++) {
        const lstmrt_value *x = lstmrt_input(model, step, i);
        if (!lstmrt_value_is(x, LSTMRT_F32, (int)y->rows, 0)) return LSTMRT_BAD_PROGRAM;
        width += x->width;
    }
    layer->width = y->width;
    return width == y->width ? LSTMRT_OK : LSTMRT_BAD_PROGRAM;
}

lstmrt_status lstmrt_concat_run(const lstmrt_layer *layer, lstmrt_workspace *workspace)
{
    const lstmrt_slot *y = lstmrt_output_slot(layer, workspace, 0);
    const size_t rows = lstmrt_rows_of(lstmrt_output(workspace->model, &layer->step, 0), workspace);
    size_t column = 0;
    for (size_t i = 0; i < LSTMRT_MAX_INPUTS && layer->step.inputs[i] >= 0; i++) {
        const lstmrt_slot *x = lstmrt_input_slot(layer, workspace, i);
        const size_t width = lstmrt_input(workspace->model, &layer->step, i)->width;
        for (size_t row = 0; row < rows; row++)
            memcpy((float *)y->data + row * y->stride + column, (const float *)x->data + row * x->stride,
                   width * sizeof(float));
        column += width;
    }
    return LSTMRT_OK;
}

lstmrt_status lstmrt_columns_prepare(const lstmrt_model *model, const lstmrt_step *step, lstmrt_layer *layer)
{
    const lstmrt_value *x = lstmrt_input(model, step, 0), *y = lstmrt_output(model, step, 0);
    if (!lstmrt_value_is(x, LSTMRT_F32, -1, 0) || !lstmrt_value_is(y, LSTMRT_F32, (int)x->rows, 0))
        return LSTMRT_BAD_PROGRAM;
    layer->width = y->width;
    const bool inside = y->width <= x->width && step->constant >= 0 && step->constant <= x->width - y->width;
    return inside ? LSTMRT_OK : LSTMRT_BAD_PROGRAM;
}

lstmrt_status lstmrt_columns_run(const lstmrt_layer *layer, lstmrt_workspace *workspace)
{
    const lstmrt_slot *x = lstmrt_input_slot(layer, workspace, 0), *y = lstmrt_output_slot(layer, workspace, 0);
    const size_t rows = lstmrt_rows_of(lstmrt_output(workspace->model, &layer->step, 0), workspace);
    for (size_t row = 0; row < rows; row++)
        memcpy((float *)y->data + row * y->stride, (const float *)x->data + row * x->stride + layer->step.constant,
               layer->width * sizeof(float));
    return LSTMRT_OK;
}

static bool swapped(lstmrt_rows a, lstmrt_rows b)
{
    return (a == LSTMRT_ROWS_BATCH_TIME && b == LSTMRT_ROWS_TIME_BATCH) ||
           (a == LSTMRT_ROWS_TIME_BATCH && b == LSTMRT_ROWS_BATCH_TIME);
}

lstmrt_status lstmrt_time_prepare(const lstmrt_model *model, const lstmrt_step *step, lstmrt_layer *layer)
{
    const lstmrt_value *x = lstmrt_input(model, step, 0), *y = lstmrt_output(model, step, 0);
    if (!lstmrt_over_time(x) || !y || x->dtype != y->dtype || x->width != y->width || y->across)
        return LSTMRT_BAD_PROGRAM;
    layer->width = x->width;
    const bool fits = step->op == LSTMRT_OP_SWAP      ? swapped(x->rows, y->rows)
                      : step->op == LSTMRT_OP_REVERSE ? y->rows == x->rows
                                                      : y->rows == LSTMRT_ROWS_BATCH;
    return fits ? LSTMRT_OK : LSTMRT_BAD_PROGRAM;
}

/* FIRST, LAST, REVERSE and SWAP: each row of y is the row of x at some time of the same sequence. */
lstmrt_status lstmrt_time_run(const lstmrt_layer *layer, lstmrt_workspace *workspace)
{
    const lstmrt_value *x = lstmrt_input(workspace->model, &layer->step, 0);
    const lstmrt_value *y = lstmrt_output(workspace->model, &layer->step, 0);
    const lstmrt_slot *from = lstmrt_input_slot(layer, workspace, 0), *to = lstmrt_output_slot(layer, workspace, 0);
    const size_t size = lstmrt_item_size(x->dtype), last = workspace->time - 1;
    const size_t times = y->rows == LSTMRT_ROWS_BATCH ? 1 : workspace->time;
    for (size_t t = 0; t < times; t++) {
        const size_t t_from = layer->step.op == LSTMRT_OP_LAST      ? last
                              : layer->step.op == LSTMRT_OP_REVERSE ? last - t
                                                                    : t;
        for (size_t b = 0; b < workspace->batch; b++)
            memcpy((char *)to->data + lstmrt_row_at(y, workspace, t, b) * to->stride * size,
                   (const char *)from->data + lstmrt_row_at(x, workspace, t_from, b) * from->stride * size,
                   layer->width * size);
    }
    return LSTMRT_OK;
}

/* Elements of one kind go in and as many of another, in the same rows, come out. */
static lstmrt_status prepare_elements(const lstmrt_model *model, const lstmrt_step *step, lstmrt_layer *layer,
                                      lstmrt_dtype from, lstmrt_dtype to)
{
    const lstmrt_value *x = lstmrt_input(model, step, 0), *y = lstmrt_output(model, step, 0);
    if (!lstmrt_value_is(x, from, -1, 0) || !lstmrt_value_is(y, to, (int)x->rows, x->width)) return LSTMRT_BAD_PROGRAM;
    layer->width = x->width;
    return LSTMRT_OK;
}

lstmrt_status lstmrt_cast_prepare(const lstmrt_model *model, const lstmrt_step *step, lstmrt_layer *layer)
{
    const lstmrt_value *x = lstmrt_input(model, step, 0);
    return prepare_elements(model, step, layer, x && x->dtype == LSTMRT_I64 ? LSTMRT_I64 : LSTMRT_BOOL, LSTMRT_F32);
}

lstmrt_status lstmrt_cast_run(const lstmrt_layer *layer, lstmrt_workspace *workspace)
{
    const lstmrt_slot *x = lstmrt_input_slot(layer, workspace, 0), *y = lstmrt_output_slot(layer, workspace, 0);
    const lstmrt_value *value = lstmrt_input(workspace->model, &layer->step, 0);
    const size_t rows = lstmrt_rows_of(value, workspace);
    for (size_t row = 0; row < rows; row++) {
        float *to = (float *)y->data + row * y->stride;
        for (size_t i = 0; i < layer->width; i++)
            to[i] = value->dtype == LSTMRT_I64 ? (float)((const int64_t *)x->data)[row * x->stride + i]
                                               : (float)(((const uint8_t *)x->data)[row * x->stride + i] != 0);
    }
    return LSTMRT_OK;
}

lstmrt_status lstmrt_not_equal_prepare(const lstmrt_model *model, const lstmrt_step *step, lstmrt_layer *layer)
{
    return prepare_elements(model, step, layer, LSTMRT_I64, LSTMRT_BOOL);
}

lstmrt_status lstmrt_not_equal_run(const lstmrt_layer *layer, lstmrt_workspace *workspace)
{
    const lstmrt_slot *ids = lstmrt_input_slot(layer, workspace, 0), *mask = lstmrt_output_slot(layer, workspace, 0);
    const size_t rows = lstmrt_rows_of(lstmrt_input(workspace->model, &layer->step, 0), workspace);
    for (size_t row = 0; row < rows; row++)
        for (size_t i = 0; i < layer->width; i++)
            ((uint8_t *)mask->data)[row * mask->stride + i] =
                ((const int64_t *)ids->data)[row * ids->stride + i] != layer->step.constant;
    return LSTMRT_OK;
}
