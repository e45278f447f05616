/* Layers over the time of a sequence: softmax of each column, and sums, means and maxima of rows. */
#include <math.h>
#include <string.h>

#include "pack.h"
#include "program.h"

enum { X, WEIGHTS };

lstmrt_status lstmrt_time_softmax_prepare(const lstmrt_model *model, const lstmrt_step *step, lstmrt_layer *layer)
{
    return lstmrt_over_time(lstmrt_input(model, step, X)) ? lstmrt_rowwise_prepare(model, step, layer) : LSTMRT_BAD_PROGRAM;
}

static void gather(lstmrt_rows_view rows, size_t column, float *to)
{
    for (size_t t = 0; t < rows.count; t++) to[t] = rows.first[t * rows.stride + column];
}

lstmrt_status lstmrt_time_softmax_run(const lstmrt_layer *layer, lstmrt_workspace *ws)
{
    const lstmrt_value *value = lstmrt_input(ws->model, &layer->step, X);
    for (size_t b = 0; b < ws->batch; b++) {
        const lstmrt_rows_view x = lstmrt_sequence(value, lstmrt_input_slot(layer, ws, X), ws, b);
        const lstmrt_rows_view y = lstmrt_sequence(value, lstmrt_output_slot(layer, ws, 0), ws, b);
        for (size_t column = 0; column < layer->width; column++) {
            gather(x, column, ws->scores);
            ws->model->kernels->softmax(&(lstmrt_softmax_args){ws->scores, ws->scores, 0, 0, 1, x.count, false});
            for (size_t t = 0; t < y.count; t++) y.first[t * y.stride + column] = ws->scores[t];
        }
    }
    return LSTMRT_OK;
}

lstmrt_status lstmrt_pooling_prepare(const lstmrt_model *model, const lstmrt_step *step, lstmrt_layer *layer)
{
    const lstmrt_value *x = lstmrt_input(model, step, X), *weights = lstmrt_input(model, step, WEIGHTS);
    if (!lstmrt_over_time(x) || !lstmrt_value_is(x, LSTMRT_F32, -1, 0) ||
        !lstmrt_value_is(lstmrt_output(model, step, 0), LSTMRT_F32, LSTMRT_ROWS_BATCH, x->width))
        return LSTMRT_BAD_PROGRAM;
    layer->width = x->width;
    if (!weights) return LSTMRT_OK;
    const bool fits = step->op == LSTMRT_OP_TIME_SUM && lstmrt_value_is(weights, LSTMRT_F32, (int)x->rows, 1);
    return fits ? LSTMRT_OK : LSTMRT_BAD_PROGRAM;
}

/* NaN where there is one. */
static void largest(lstmrt_rows_view x, size_t width, float *y)
{
    memcpy(y, x.first, width * sizeof *y);
    for (size_t t = 1; t < x.count; t++)
        for (size_t i = 0; i < width; i++) {
            const float one = x.first[t * x.stride + i];
            y[i] = one > y[i] || isnan(one) ? one : y[i];
        }
}

/* Of rows, each times its weight in workspace->scores. */
static void sum(const lstmrt_workspace *ws, lstmrt_rows_view x, size_t width, float *y)
{
    ws->model->kernels->mix(&(lstmrt_mix_args){.w = ws->scores, .x = x.first, .y = y, .x_stride = x.stride, .rows = 1,
                                               .steps = x.count, .width = width});
}

lstmrt_status lstmrt_pooling_run(const lstmrt_layer *layer, lstmrt_workspace *ws)
{
    const lstmrt_value *x_value = lstmrt_input(ws->model, &layer->step, X);
    const lstmrt_value *weights = lstmrt_input(ws->model, &layer->step, WEIGHTS);
    const lstmrt_slot *y_slot = lstmrt_output_slot(layer, ws, 0);
    const size_t width = layer->width;
    for (size_t b = 0; b < ws->batch; b++) {
        const lstmrt_rows_view x = lstmrt_sequence(x_value, lstmrt_input_slot(layer, ws, X), ws, b);
        float *y = (float *)y_slot->data + b * y_slot->stride;
        if (weights)
            gather(lstmrt_sequence(weights, lstmrt_input_slot(layer, ws, WEIGHTS), ws, b), 0, ws->scores);
        else
            for (size_t t = 0; t < x.count; t++) ws->scores[t] = 1;
        if (layer->step.op == LSTMRT_OP_TIME_MAX)
            largest(x, width, y);
        else
            sum(ws, x, width, y);
        if (layer->step.op == LSTMRT_OP_TIME_MEAN)
            for (size_t i = 0; i < width; i++) y[i] /= (float)x.count;
    }
    return LSTMRT_OK;
}
