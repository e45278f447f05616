/* The time loop that LSTM, GRU and RNN share. The input part of a block of time steps is computed ahead, all at once
 * (or looked up in a table); then each step adds the recurrent part and advances the states. */
#include <math.h>
#include <string.h>

#include "pack.h"
#include "program.h"

enum { X, LENGTHS, H0, C0, MASK };  /* inputs of a recurrent step */
enum { Y, Y_H, Y_C };               /* its outputs */
enum { W, R, B, P, TABLE };         /* its weights */

static const lstmrt_cell_kind *kind_of(const lstmrt_step *step)
{
    return step->op == LSTMRT_OP_LSTM  ? &lstmrt_lstm_kind
           : step->op == LSTMRT_OP_GRU ? &lstmrt_gru_kind
                                       : &lstmrt_rnn_kind;
}

static bool optional_is(const lstmrt_value *value, lstmrt_dtype dtype, int rows, size_t width)
{
    return !value || lstmrt_value_is(value, dtype, rows, width);
}

static bool fits(const lstmrt_model *model, const lstmrt_step *step, size_t hidden, size_t n_gates)
{
    const lstmrt_value *x = lstmrt_input(model, step, X), *mask = lstmrt_input(model, step, MASK);
    const lstmrt_weight *w = step->weights;
    const bool table = w[TABLE].data != NULL;
    return hidden > 0 && lstmrt_value_is(x, table ? LSTMRT_I64 : LSTMRT_F32, -1, table ? 1 : 0) &&
           lstmrt_over_time(x) &&
           (table ? w[TABLE].rows > 0 && lstmrt_weight_is(&w[TABLE], w[TABLE].rows, n_gates * hidden)
                  : lstmrt_weight_is(&w[W], n_gates * hidden, x->width)) &&
           lstmrt_weight_is(&w[R], n_gates * hidden, hidden) &&
           (!w[B].data || lstmrt_weight_is(&w[B], 1, 2 * n_gates * hidden)) &&
           (!w[P].data || (step->op == LSTMRT_OP_LSTM && lstmrt_weight_is(&w[P], 1, 3 * hidden))) &&
           optional_is(lstmrt_input(model, step, LENGTHS), LSTMRT_I64, LSTMRT_ROWS_BATCH, 1) &&
           optional_is(lstmrt_input(model, step, H0), LSTMRT_F32, LSTMRT_ROWS_BATCH, hidden) &&
           optional_is(lstmrt_input(model, step, C0), LSTMRT_F32, LSTMRT_ROWS_BATCH, hidden) &&
           optional_is(mask, LSTMRT_BOOL, -1, 1) && (!mask || lstmrt_over_time(mask)) &&
           optional_is(lstmrt_output(model, step, Y), LSTMRT_F32, (int)x->rows, hidden) &&
           optional_is(lstmrt_output(model, step, Y_H), LSTMRT_F32, LSTMRT_ROWS_BATCH, hidden) &&
           optional_is(lstmrt_output(model, step, Y_C), LSTMRT_F32, LSTMRT_ROWS_BATCH, hidden) &&
           (step->op == LSTMRT_OP_LSTM || (step->inputs[C0] < 0 && step->outputs[Y_C] < 0));
}

/* The biases that can be added ahead of the recurrent part: Wb + Rb, but for gate h of a GRU with
 * linear_before_reset Wb alone, as r multiplies its Rb. */
static lstmrt_status pack_input_part(const lstmrt_model *model, const lstmrt_step *step, const lstmrt_columns *columns,
                                     size_t n_gates, lstmrt_layer *layer)
{
    const size_t outputs = n_gates * layer->width;
    const lstmrt_weight *w = step->weights;
    if (w[TABLE].data) {
        layer->vocabulary = w[TABLE].rows;
        return lstmrt_pack_rows(w[TABLE].data, layer->vocabulary, outputs, NULL, columns, layer->gates_stride,
                                &layer->table);
    }
    const lstmrt_status status = lstmrt_pack_weights(model, w[W].data, layer->inputs, 1, layer->inputs, columns,
                                                     LSTMRT_DENSE_VECTORS, &layer->x_weights, &layer->x_reduced);
    if (status || !w[B].data)
        return status ? status : lstmrt_pack_rows(NULL, 1, outputs, NULL, columns, layer->gates_stride, &layer->x_bias);

    float *recurrent = lstmrt_allocate_array(outputs, sizeof *recurrent);
    if (!recurrent) return LSTMRT_OUT_OF_MEMORY;
    const size_t kept = layer->step.linear_before_reset ? outputs - layer->width : outputs;
    memcpy(recurrent, w[B].data + outputs, kept * sizeof *recurrent);
    const lstmrt_status packed =
        lstmrt_pack_rows(w[B].data, 1, outputs, recurrent, columns, layer->gates_stride, &layer->x_bias);
    lstmrt_release(recurrent);
    return packed;
}

lstmrt_status lstmrt_recurrent_prepare(const lstmrt_model *model, const lstmrt_step *step, lstmrt_layer *layer)
{
    const lstmrt_cell_kind *kind = kind_of(step);
    const size_t hidden = step->weights[R].cols;
    if (!fits(model, step, hidden, kind->n_gates)) return LSTMRT_BAD_PROGRAM;
    layer->inputs = lstmrt_input(model, step, X)->width;
    layer->width = hidden;
    layer->step.linear_before_reset = step->linear_before_reset && step->op == LSTMRT_OP_GRU;

    lstmrt_columns columns;
    lstmrt_status status = lstmrt_columns_gates(kind->gates, kind->n_gates, hidden, model->kernels->width, &columns);
    layer->gate_vectors = columns.vectors;
    layer->x_panels = lstmrt_dense_panels(columns.vectors);
    layer->gates_stride = lstmrt_round_up(columns.vectors * columns.width, LSTMRT_PAD);
    if (!status) status = pack_input_part(model, step, &columns, kind->n_gates, layer);
    lstmrt_columns_free(&columns);
    return status ? status : kind->pack_recurrent(model, step, layer);
}

/* x of `steps` time steps to workspace->x_rows, time first. */
static void gather_rows(const lstmrt_slot *x, const lstmrt_value *value, const lstmrt_workspace *ws, size_t begin,
                        size_t steps)
{
    for (size_t b = 0; b < ws->batch; b++) {
        const float *from = (const float *)x->data + lstmrt_row_at(value, ws, begin, b) * x->stride;
        for (size_t t = 0; t < steps; t++)
            memcpy(ws->x_rows + (t * ws->batch + b) * x->stride, from + t * x->stride, value->width * sizeof *from);
    }
}

/* Input parts of time steps [begin, end) to workspace->gates: row (t - begin) * batch + b. */
static lstmrt_status input_part(const lstmrt_layer *layer, lstmrt_workspace *ws, size_t begin, size_t end)
{
    const lstmrt_value *value = lstmrt_input(ws->model, &layer->step, X);
    const lstmrt_slot *x = lstmrt_input_slot(layer, ws, X);
    const size_t steps = end - begin, batch = ws->batch, stride = layer->gates_stride;
    if (layer->table) {
        for (size_t row = 0; row < steps * batch; row++) {
            const size_t at = lstmrt_row_at(value, ws, begin + row / batch, row % batch);
            const int64_t id = ((const int64_t *)x->data)[at * x->stride];
            const lstmrt_status status = lstmrt_table_lookup(ws->model, layer, id, stride, ws->gates + row * stride);
            if (status) return status;
        }
        return LSTMRT_OK;
    }
    const float *rows = (const float *)x->data + lstmrt_row_at(value, ws, begin, 0) * x->stride;
    size_t rows_stride = x->stride;
    if (value->rows == LSTMRT_ROWS_BATCH_TIME && batch > 1 && steps == 1) {
        rows_stride = ws->time * x->stride;
    } else if (value->rows == LSTMRT_ROWS_BATCH_TIME && batch > 1) {
        gather_rows(x, value, ws, begin, steps);
        rows = ws->x_rows;
    }
    lstmrt_dense_share(ws, layer, rows, rows_stride, steps * batch, ws->gates, stride);
    return LSTMRT_OK;
}

/* What says which time steps count. */
typedef struct {
    const lstmrt_workspace *workspace;
    const int64_t *lengths;
    const uint8_t *mask;
    const lstmrt_value *mask_value;
    size_t mask_stride;
} validity;

static validity validity_of(const lstmrt_layer *layer, const lstmrt_workspace *ws)
{
    const lstmrt_slot *lengths = lstmrt_input_slot(layer, ws, LENGTHS), *mask = lstmrt_input_slot(layer, ws, MASK);
    return (validity){
        .workspace = ws,
        .lengths = lengths ? lengths->data : NULL,
        .mask = mask ? mask->data : NULL,
        .mask_value = lstmrt_input(ws->model, &layer->step, MASK),
        .mask_stride = mask ? mask->stride : 0,
    };
}

static bool is_past_end(const validity *v, size_t t, size_t b) { return v->lengths && (int64_t)t >= v->lengths[b]; }

static bool is_valid(const validity *v, size_t t, size_t b)
{
    if (is_past_end(v, t, b)) return false;
    return !v->mask || v->mask[lstmrt_row_at(v->mask_value, v->workspace, t, b) * v->mask_stride];
}

static lstmrt_status check_lengths(const validity *v)
{
    for (size_t b = 0; v->lengths && b < v->workspace->batch; b++)
        if (v->lengths[b] < 0 || (uint64_t)v->lengths[b] > v->workspace->time) return LSTMRT_BAD_ARGUMENT;
    return LSTMRT_OK;
}

static void swap(float **a, float **b)
{
    float *was = *a;
    *a = *b;
    *b = was;
}

static void copy_rows(const float *from, size_t from_stride, float *to, size_t to_stride, size_t rows, size_t width)
{
    for (size_t row = 0; row < rows; row++)
        memcpy(to + row * to_stride, from + row * from_stride, width * sizeof *to);
}

static void load_initial(const lstmrt_slot *initial, float *state, const lstmrt_cell *cell, size_t rows, size_t width)
{
    if (initial) copy_rows(initial->data, initial->stride, state, cell->stride, rows, width);
}

/* Rows whose step does not count keep the states they had. */
static void keep_invalid(const lstmrt_layer *layer, const validity *v, size_t t, lstmrt_cell *cell)
{
    for (size_t b = 0; b < v->workspace->batch; b++) {
        if (is_valid(v, t, b)) {
            cell->started[b] = 1;
            continue;
        }
        memcpy(cell->h_next + b * cell->stride, cell->h + b * cell->stride, layer->width * sizeof(float));
        if (cell->c) memcpy(cell->c_next + b * cell->stride, cell->c + b * cell->stride, layer->width * sizeof(float));
    }
}

/* y at time t: the new h; at masked steps the h before, or 0 (see zero_masked_output in lstmrt.h); 0 past the end. */
static void emit(const lstmrt_layer *layer, const lstmrt_workspace *ws, const validity *v, size_t t,
                 const lstmrt_cell *cell)
{
    const lstmrt_slot *y = lstmrt_output_slot(layer, ws, Y);
    const lstmrt_value *value = lstmrt_output(ws->model, &layer->step, Y);
    if (!y) return;
    const bool carry = !layer->step.zero_masked_output;
    for (size_t b = 0; b < ws->batch; b++) {
        float *row = (float *)y->data + lstmrt_row_at(value, ws, t, b) * y->stride;
        if (is_valid(v, t, b) || (carry && !is_past_end(v, t, b) && cell->started[b]))
            memcpy(row, cell->h + b * cell->stride, layer->width * sizeof *row);
        else
            memset(row, 0, layer->width * sizeof *row);
    }
}

static bool any_valid(const validity *v, size_t t)
{
    for (size_t b = 0; b < v->workspace->batch; b++)
        if (is_valid(v, t, b)) return true;
    return false;
}

/* What the parts of one phase of a step share. */
typedef struct {
    const lstmrt_layer *layer;
    const lstmrt_workspace *workspace;
    float *gates;
    const lstmrt_cell *cell;
    lstmrt_cell_step *step;
    bool backward;
} step_work;

static void step_part(const void *argument, size_t part, size_t parts)
{
    const step_work *work = argument;
    work->step(work->layer, work->workspace, work->gates, work->cell,
               lstmrt_panels_part(work->layer->h_panels, part, parts, work->backward));
}

static void step_all(const lstmrt_layer *layer, const lstmrt_workspace *ws, size_t t, float *gates,
                     const lstmrt_cell *cell)
{
    const size_t weights = layer->width * layer->gate_vectors * ws->model->kernels->width;
    const float *const multiplied[] = {cell->h, ws->reset_h}; /* in each phase */
    for (size_t i = 0; i < 2 && layer->phases[i]; i++) {
        const bool backward = ws->model->sweeps && ws->backward != (t % 2 == 1);
        const step_work work = {layer, ws, gates, cell, layer->phases[i], backward};
        if (layer->h_reduced.weights) lstmrt_reduced_take(ws, multiplied[i], cell->stride, ws->batch, layer->width);
        lstmrt_share(ws, lstmrt_reduced_floats(ws->model, weights), ws->batch, step_part, &work);
    }
}

static void advance(const lstmrt_layer *layer, const lstmrt_workspace *ws, const validity *v, size_t t,
                    float *gates, lstmrt_cell *cell)
{
    if (any_valid(v, t)) {
        step_all(layer, ws, t, gates, cell);
        if (v->lengths || v->mask) keep_invalid(layer, v, t, cell);
        swap(&cell->h, &cell->h_next);
        swap(&cell->c, &cell->c_next);
    }
    emit(layer, ws, v, t, cell);
}

/* The last states; rows of length 0 have none, not even the initial one (onnxruntime's reading of ONNX). */
static void finish(const lstmrt_layer *layer, const lstmrt_workspace *ws, const validity *v, const lstmrt_cell *cell)
{
    const float *states[] = {[Y_H] = cell->h, [Y_C] = cell->c};
    for (size_t i = Y_H; i <= Y_C; i++) {
        const lstmrt_slot *out = lstmrt_output_slot(layer, ws, i);
        if (!out) continue;
        copy_rows(states[i], cell->stride, out->data, out->stride, ws->batch, layer->width);
        for (size_t b = 0; v->lengths && b < ws->batch; b++)
            if (v->lengths[b] == 0) memset((float *)out->data + b * out->stride, 0, layer->width * sizeof(float));
    }
}

lstmrt_status lstmrt_recurrent_run(const lstmrt_layer *layer, lstmrt_workspace *ws)
{
    lstmrt_cell *cell = &ws->state->cells[layer->cell];
    const validity v = validity_of(layer, ws);
    lstmrt_status status = check_lengths(&v);
    if (status) return status;
    load_initial(lstmrt_input_slot(layer, ws, H0), cell->h, cell, ws->batch, layer->width);
    load_initial(lstmrt_input_slot(layer, ws, C0), cell->c, cell, ws->batch, layer->width);

    const size_t block = LSTMRT_HOISTED_ROWS / ws->batch ? LSTMRT_HOISTED_ROWS / ws->batch : 1, time = ws->time;
    for (size_t done = 0; done < time; done += block) {
        const size_t steps = time - done < block ? time - done : block;
        const size_t begin = layer->step.reverse ? time - done - steps : done;
        status = input_part(layer, ws, begin, begin + steps);
        if (status) return status;
        for (size_t i = 0; i < steps; i++) {
            const size_t at = layer->step.reverse ? steps - 1 - i : i;
            advance(layer, ws, &v, begin + at, ws->gates + at * ws->batch * layer->gates_stride, cell);
        }
    }
    finish(layer, ws, &v, cell);
    return LSTMRT_OK;
}
