/* The time loop that LSTM, GRU and RNN share. The input part of a block of time steps is computed ahead, all at once
 * (or looked up in a table); then each step adds the recurrent part and advances the states. */
#include <math.h>
#include <string.h>

#include "blocks.h"
#include "pack.h"
#include "recurrent.h"

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

bool lstmrt_states_fit(const lstmrt_model *model, const lstmrt_step *step, size_t width)
{
    const lstmrt_value *x = lstmrt_input(model, step, X), *mask = lstmrt_input(model, step, MASK);
    return optional_is(lstmrt_input(model, step, H0), LSTMRT_F32, LSTMRT_ROWS_BATCH, width) &&
           optional_is(lstmrt_input(model, step, C0), LSTMRT_F32, LSTMRT_ROWS_BATCH, width) &&
           optional_is(mask, LSTMRT_BOOL, -1, 1) &&
           (!mask || (lstmrt_over_time(x) ? lstmrt_over_time(mask) : mask->rows == x->rows)) &&
           optional_is(lstmrt_output(model, step, Y), LSTMRT_F32, (int)x->rows, width) &&
           optional_is(lstmrt_output(model, step, Y_H), LSTMRT_F32, LSTMRT_ROWS_BATCH, width) &&
           optional_is(lstmrt_output(model, step, Y_C), LSTMRT_F32, LSTMRT_ROWS_BATCH, width);
}

static bool are_bytes(const lstmrt_step *step) { return step->weights[W].bytes || step->weights[R].bytes; }

static bool input_weights_fit(const lstmrt_weight *w, size_t width, size_t outputs)
{
    const lstmrt_weight *table = &w[TABLE];
    if (!table->data) return lstmrt_weight_is(&w[W], outputs, width);
    return table->rows > 0 && (w[W].data ? lstmrt_weight_is(&w[W], outputs, table->cols) : table->cols == outputs);
}

static bool fits(const lstmrt_model *model, const lstmrt_step *step, size_t hidden, size_t n_gates)
{
    const lstmrt_value *x = lstmrt_input(model, step, X);
    const lstmrt_weight *w = step->weights;
    const bool table = w[TABLE].data != NULL;
    return hidden > 0 && lstmrt_value_is(x, table ? LSTMRT_I64 : LSTMRT_F32, -1, table ? 1 : 0) &&
           (lstmrt_over_time(x) || x->rows == LSTMRT_ROWS_BATCH) &&
           (are_bytes(step) ? step->op == LSTMRT_OP_LSTM && !table && lstmrt_bytes_are(&w[W], n_gates * hidden, x->width) &&
                                  lstmrt_bytes_are(&w[R], n_gates * hidden, hidden)
                            : input_weights_fit(w, x->width, n_gates * hidden) &&
                                  lstmrt_weight_is(&w[R], n_gates * hidden, hidden)) &&
           (!w[B].data || lstmrt_weight_is(&w[B], 1, 2 * n_gates * hidden)) &&
           (!w[P].data || (step->op == LSTMRT_OP_LSTM && lstmrt_weight_is(&w[P], 1, 3 * hidden))) &&
           optional_is(lstmrt_input(model, step, LENGTHS), LSTMRT_I64, LSTMRT_ROWS_BATCH, 1) &&
           lstmrt_states_fit(model, step, hidden) &&
           (step->op == LSTMRT_OP_LSTM || (step->inputs[C0] < 0 && step->outputs[Y_C] < 0));
}

/* The biases that can be added ahead of the recurrent part: Wb + Rb, but for gate h of a GRU with
 * linear_before_reset Wb alone, as r multiplies its Rb. */
static lstmrt_status pack_biases(const lstmrt_step *step, const lstmrt_columns *columns, size_t outputs, lstmrt_layer *layer)
{
    const lstmrt_weight *w = step->weights;
    if (!w[B].data) return lstmrt_pack_rows(NULL, 1, outputs, NULL, columns, layer->gates_stride, &layer->x_bias);

    float *recurrent = lstmrt_allocate_array(outputs, sizeof *recurrent);
    if (!recurrent) return LSTMRT_OUT_OF_MEMORY;
    const size_t kept = layer->step.linear_before_reset ? outputs - layer->width : outputs;
    memcpy(recurrent, w[B].data + outputs, kept * sizeof *recurrent);
    const lstmrt_status packed =
        lstmrt_pack_rows(w[B].data, 1, outputs, recurrent, columns, layer->gates_stride, &layer->x_bias);
    lstmrt_release(recurrent);
    return packed;
}

/* The table's rows are x: what is made of each, with all its bits, is made once. */
static lstmrt_status multiply_table(const lstmrt_model *model, const lstmrt_step *step, const lstmrt_columns *columns,
                                    lstmrt_layer *layer)
{
    const lstmrt_weight *w = step->weights, *table = &w[TABLE];
    float *weights;
    const lstmrt_status status =
        lstmrt_pack_matrix(w[W].data, table->cols, 1, table->cols, columns, LSTMRT_DENSE_VECTORS, &weights);
    layer->table = lstmrt_allocate_array(lstmrt_size_product(table->rows, layer->gates_stride), sizeof *layer->table);
    if (!status && layer->table) {
        const lstmrt_fp_state state = lstmrt_fp_flush_denormals();
        model->kernels->dense(&(lstmrt_dense_args){
            .x = table->data, .x_stride = table->cols, .init = layer->x_bias, .weights = weights, .y = layer->table,
            .y_stride = layer->gates_stride, .rows = table->rows, .inputs = table->cols, .vectors = layer->gate_vectors,
            .panels = {0, layer->x_panels, false}, .clip = INFINITY});
        lstmrt_fp_restore(state);
    }
    lstmrt_block_release(weights);
    return status || layer->table ? status : LSTMRT_OUT_OF_MEMORY;
}

static lstmrt_status pack_input_part(const lstmrt_model *model, const lstmrt_step *step, const lstmrt_columns *columns,
                                     size_t n_gates, lstmrt_layer *layer)
{
    const size_t outputs = n_gates * layer->width;
    const lstmrt_weight *w = step->weights, *table = &w[TABLE];
    lstmrt_status status = w[W].data || w[W].bytes ? pack_biases(step, columns, outputs, layer) : LSTMRT_OK;
    if (status) return status;
    if (!table->data)
        return lstmrt_pack_weights(model, &w[W], layer->inputs, 1, layer->inputs, columns, LSTMRT_DENSE_VECTORS,
                                   &layer->x_weights, &layer->x_reduced);
    layer->vocabulary = table->rows;
    status = w[W].data ? multiply_table(model, step, columns, layer)
                       : lstmrt_pack_rows(table->data, table->rows, outputs, NULL, columns, layer->gates_stride, &layer->table);
    if (!status) lstmrt_block_share(&layer->table, table->rows * layer->gates_stride * sizeof *layer->table);
    return status;
}

bool lstmrt_all_finite(const lstmrt_weight *weight)
{
    for (size_t i = 0; i < weight->rows * weight->cols; i++)
        if (!isfinite(weight->data[i])) return false;
    return true;
}

size_t lstmrt_rest_vectors(size_t hidden, size_t width)
{
    const size_t rest = hidden % width;
    return rest == 0 || 2 * rest > width ? 0 : 4 * rest > width ? 2 : 1;
}

lstmrt_status lstmrt_recurrent_prepare(const lstmrt_model *model, const lstmrt_step *step, lstmrt_layer *layer)
{
    const lstmrt_cell_kind *kind = kind_of(step);
    const size_t hidden = step->weights[R].cols;
    if (!fits(model, step, hidden, kind->n_gates)) return LSTMRT_BAD_PROGRAM;
    layer->inputs = lstmrt_input(model, step, X)->width;
    layer->width = layer->filters = layer->pitch = layer->h_inputs = hidden;
    layer->step.linear_before_reset = step->linear_before_reset && step->op == LSTMRT_OP_GRU;
    layer->dynamic = are_bytes(step);
    const bool f32 = model->precision == LSTMRT_PRECISION_F32 && !layer->dynamic;
    layer->skips_zeros = f32 && lstmrt_all_finite(&step->weights[R]);

    const size_t width = model->kernels->width;
    layer->rest_vectors = step->op == LSTMRT_OP_LSTM && f32 ? lstmrt_rest_vectors(hidden, width) : 0;
    lstmrt_columns columns;
    lstmrt_status status =
        lstmrt_columns_gates(kind->gates, kind->n_gates, hidden, width, layer->rest_vectors, &columns);
    layer->gate_vectors = columns.vectors;
    layer->x_panels = lstmrt_dense_panels(columns.vectors);
    layer->gates_stride = lstmrt_round_up(columns.vectors * columns.width, LSTMRT_PAD);
    if (!status) status = pack_input_part(model, step, &columns, kind->n_gates, layer);
    lstmrt_columns_free(&columns);
    layer->goes_ahead = lstmrt_ahead_pays(model, layer);
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

/* Rows of input parts; stride 0: all are the same one. */
typedef struct {
    float *data;
    size_t stride;
} input_rows;

static int64_t id_of(const lstmrt_layer *layer, const lstmrt_workspace *ws, size_t t, size_t b)
{
    const lstmrt_slot *x = lstmrt_input_slot(layer, ws, X);
    return ((const int64_t *)x->data)[lstmrt_row_at(lstmrt_input(ws->model, &layer->step, X), ws, t, b) * x->stride];
}

/* Whether a time step reads one id in all rows, as a token's and all windows' do. */
static bool reads_one_id(const lstmrt_layer *layer, const lstmrt_workspace *ws, size_t t)
{
    for (size_t b = 1; b < ws->batch; b++)
        if (id_of(layer, ws, t, b) != id_of(layer, ws, t, 0)) return false;
    return true;
}

/* From the table, where a row that serves all is read in place: reduced weights' products would be added to it. */
static lstmrt_status look_up(const lstmrt_layer *layer, const lstmrt_workspace *ws, size_t begin, size_t end,
                             input_rows *gates)
{
    const size_t batch = ws->batch, stride = layer->gates_stride;
    if (end - begin == 1 && !layer->h_reduced.weights && reads_one_id(layer, ws, begin)) {
        gates->stride = 0;
        return lstmrt_table_row(layer, id_of(layer, ws, begin, 0), &gates->data);
    }
    for (size_t row = 0; row < (end - begin) * batch; row++) {
        const int64_t id = id_of(layer, ws, begin + row / batch, row % batch);
        const lstmrt_status status = lstmrt_table_lookup(ws->model, layer, id, stride, gates->data + row * stride);
        if (status) return status;
    }
    return LSTMRT_OK;
}

/* Input parts of time steps [begin, end): row (t - begin) * batch + b. */
static lstmrt_status input_part(const lstmrt_layer *layer, lstmrt_workspace *ws, size_t begin, size_t end,
                                input_rows *gates)
{
    const lstmrt_value *value = lstmrt_input(ws->model, &layer->step, X);
    const lstmrt_slot *x = lstmrt_input_slot(layer, ws, X);
    const size_t steps = end - begin, batch = ws->batch;
    *gates = (input_rows){ws->gates, layer->gates_stride};
    ws->n_quanta = batch;
    if (layer->table) return look_up(layer, ws, begin, end, gates);
    const float *rows = (const float *)x->data + lstmrt_row_at(value, ws, begin, 0) * x->stride;
    size_t rows_stride = x->stride;
    if (value->rows == LSTMRT_ROWS_BATCH_TIME && batch > 1 && steps == 1) {
        rows_stride = ws->time * x->stride;
    } else if (value->rows == LSTMRT_ROWS_BATCH_TIME && batch > 1) {
        gather_rows(x, value, ws, begin, steps);
        rows = ws->x_rows;
    }
    lstmrt_dense_share(ws, layer, rows, rows_stride, steps * batch, gates->data, gates->stride);
    return LSTMRT_OK;
}

static lstmrt_validity validity_of(const lstmrt_layer *layer, const lstmrt_workspace *ws)
{
    const lstmrt_slot *lengths = lstmrt_input_slot(layer, ws, LENGTHS), *mask = lstmrt_input_slot(layer, ws, MASK);
    return (lstmrt_validity){
        .workspace = ws,
        .lengths = lengths ? lengths->data : NULL,
        .mask = mask ? mask->data : NULL,
        .mask_value = lstmrt_input(ws->model, &layer->step, MASK),
        .mask_stride = mask ? mask->stride : 0,
    };
}

static bool is_past_end(const lstmrt_validity *v, size_t t, size_t b) { return v->lengths && (int64_t)t >= v->lengths[b]; }

static bool is_valid(const lstmrt_validity *v, size_t t, size_t b)
{
    if (is_past_end(v, t, b)) return false;
    return !v->mask || v->mask[lstmrt_row_at(v->mask_value, v->workspace, t, b) * v->mask_stride];
}

static lstmrt_status check_lengths(const lstmrt_validity *v, size_t steps)
{
    for (size_t b = 0; v->lengths && b < v->workspace->batch; b++)
        if (v->lengths[b] < 0 || (uint64_t)v->lengths[b] > steps) return LSTMRT_BAD_ARGUMENT;
    return LSTMRT_OK;
}

static void swap(float **a, float **b)
{
    float *was = *a;
    *a = *b;
    *b = was;
}

/* The row of a state, whose places may stand apart, from and to one of a value. */
static void load_row(const lstmrt_layer *layer, const float *from, float *state)
{
    for (size_t i = 0; i < layer->places; i++)
        memcpy(state + i * layer->pitch, from + i * layer->filters, layer->filters * sizeof *from);
}

static void give_row(const lstmrt_layer *layer, const float *state, float *to)
{
    for (size_t i = 0; i < layer->places; i++)
        memcpy(to + i * layer->filters, state + i * layer->pitch, layer->filters * sizeof *to);
}

static void load_initial(const lstmrt_layer *layer, const lstmrt_slot *initial, float *state, const lstmrt_cell *cell,
                         size_t rows)
{
    for (size_t row = 0; initial && row < rows; row++)
        load_row(layer, (const float *)initial->data + row * initial->stride, state + row * cell->stride);
}

/* Rows whose step does not count keep the states they had. */
static void keep_invalid(const lstmrt_layer *layer, const lstmrt_validity *v, size_t t, const lstmrt_cell_rows *rows,
                         uint8_t *started)
{
    const size_t size = layer->width * sizeof(float);
    for (size_t b = 0; b < rows->rows; b++) {
        const bool valid = is_valid(v, t, b);
        started[b] = valid || started[b + v->workspace->moved];
        if (valid) continue;
        memcpy(rows->h_next + b * rows->stride, rows->h + b * rows->stride, size);
        if (rows->c) memcpy(rows->c_next + b * rows->stride, rows->c + b * rows->stride, size);
    }
}

/* y at time t: the new h; at masked steps the h before, or 0 (see zero_masked_output in lstmrt.h); 0 past the end. */
static void emit(const lstmrt_layer *layer, const lstmrt_workspace *ws, const lstmrt_validity *v, size_t t,
                 const lstmrt_cell *cell)
{
    const lstmrt_slot *y = lstmrt_output_slot(layer, ws, Y);
    const lstmrt_value *value = lstmrt_output(ws->model, &layer->step, Y);
    if (!y) return;
    const bool carry = !layer->step.zero_masked_output;
    for (size_t b = 0; b < ws->batch; b++) {
        float *row = (float *)y->data + lstmrt_row_at(value, ws, t, b) * y->stride;
        if (is_valid(v, t, b) || (carry && !is_past_end(v, t, b) && cell->started[b]))
            give_row(layer, cell->h + b * cell->stride, row);
        else
            memset(row, 0, layer->places * layer->filters * sizeof *row);
    }
}

static bool any_valid(const lstmrt_validity *v, size_t t)
{
    for (size_t b = 0; b < v->workspace->batch; b++)
        if (is_valid(v, t, b)) return true;
    return false;
}

static float *row_in(float *rows, size_t at) { return rows ? rows + at : NULL; }

lstmrt_cell_rows lstmrt_recurrence_rows(const lstmrt_recurrence *run)
{
    const lstmrt_workspace *ws = run->workspace;
    const lstmrt_cell *cell = run->cell;
    const size_t moved = ws->moved * cell->stride;
    return (lstmrt_cell_rows){
        .h = cell->h + moved,
        .c = row_in(cell->c, moved),
        .h_next = cell->h_next,
        .c_next = cell->c_next,
        .z = ws->z,
        .reset_h = ws->reset_h,
        .stride = cell->stride,
        .rows = ws->batch,
        .inputs = run->layer->width,
        .ahead = run->ahead.rows > 0 ? &run->ahead : NULL,
    };
}

/* The last `n` of them, whose h is zero. */
static lstmrt_cell_rows last_rows(const lstmrt_cell_rows *all, size_t n)
{
    const size_t first = all->rows - n, at = first * all->stride;
    lstmrt_cell_rows rows = *all;
    rows.gates += first * all->gates_stride;
    rows.h += at;
    rows.c = rows.c ? rows.c + at : NULL;
    rows.h_next += at;
    rows.c_next = row_in(rows.c_next, at);
    rows.z = row_in(rows.z, at);
    rows.reset_h = row_in(rows.reset_h, at);
    rows.rows = n;
    rows.inputs = 0;
    return rows;
}

/* What the parts of one phase of a step share. */
typedef struct {
    const lstmrt_layer *layer;
    const lstmrt_workspace *workspace;
    const lstmrt_cell_rows *rows;
    size_t begun; /* of them, whose h is zero */
    lstmrt_cell_step *step;
    bool backward;
} step_work;

static void step_part(const void *argument, size_t part, size_t parts)
{
    const step_work *work = argument;
    const lstmrt_panels panels = lstmrt_panels_part(work->layer->h_panels, part, parts, work->backward);
    if (work->begun == 0) {
        work->step(work->layer, work->workspace, work->rows, panels);
        return;
    }
    lstmrt_cell_rows first = *work->rows, last = last_rows(work->rows, work->begun);
    first.rows -= work->begun;
    if (first.rows > 0) work->step(work->layer, work->workspace, &first, panels);
    work->step(work->layer, work->workspace, &last, panels);
}

/* `begun`: as many of the last rows have an h of zeros. */
static void step_all(const lstmrt_layer *layer, const lstmrt_workspace *ws, size_t t, const lstmrt_cell_rows *rows,
                     size_t begun)
{
    const size_t weights = layer->width * layer->gate_vectors * ws->model->kernels->width;
    const float *const multiplied[] = {rows->h, rows->reset_h}; /* in each phase */
    for (size_t i = 0; i < 2 && layer->phases[i]; i++) {
        const bool backward = ws->model->sweeps && ws->backward != (t % 2 == 1);
        const size_t left_out = i == 0 && layer->skips_zeros ? begun : 0;
        const step_work work = {layer, ws, rows, left_out, layer->phases[i], backward};
        if (layer->h_reduced.weights) lstmrt_reduced_take(ws, &layer->h_reduced, multiplied[i], rows->stride, rows->rows, 0);
        lstmrt_share(ws, lstmrt_reduced_floats(ws->model, layer, weights), ws->batch, step_part, &work);
    }
}

bool lstmrt_recurrence_moves(const lstmrt_recurrence *run, size_t t)
{
    return any_valid(&run->validity, t) || run->workspace->moved > 0;
}

void lstmrt_recurrence_settle(lstmrt_recurrence *run, size_t t, const lstmrt_cell_rows *rows)
{
    const lstmrt_validity *v = &run->validity;
    if (rows) {
        if (v->lengths || v->mask) keep_invalid(run->layer, v, t, rows, run->cell->started);
        swap(&run->cell->h, &run->cell->h_next);
        swap(&run->cell->c, &run->cell->c_next);
    }
    emit(run->layer, run->workspace, v, t, run->cell);
    run->begun = 0;
}

static void advance(lstmrt_recurrence *run, size_t t, input_rows gates)
{
    const bool moves = lstmrt_recurrence_moves(run, t);
    lstmrt_cell_rows rows = lstmrt_recurrence_rows(run);
    rows.gates = gates.data;
    rows.gates_stride = gates.stride;
    if (moves) step_all(run->layer, run->workspace, t, &rows, run->begun);
    lstmrt_recurrence_settle(run, t, moves ? &rows : NULL);
}

/* Of x, one for each sequence: its time steps before its length. */
static void find_quanta(const lstmrt_layer *layer, const lstmrt_workspace *ws, const lstmrt_validity *v)
{
    const lstmrt_value *value = lstmrt_input(ws->model, &layer->step, X);
    for (size_t b = 0; b < ws->batch; b++) {
        const lstmrt_rows_view x = lstmrt_sequence(value, lstmrt_input_slot(layer, ws, X), ws, b);
        layer->x_reduced.kernels->range(&(lstmrt_reduced_range_args){
            .x = x.first,
            .quantum = &ws->quanta[b],
            .x_stride = x.stride,
            .rows = v->lengths ? (size_t)v->lengths[b] : x.count,
            .inputs = layer->inputs,
        });
    }
}

size_t lstmrt_recurrence_most(const lstmrt_workspace *ws)
{
    return LSTMRT_HOISTED_ROWS / ws->batch ? LSTMRT_HOISTED_ROWS / ws->batch : 1;
}

bool lstmrt_starts_from_zero(const lstmrt_workspace *ws, const lstmrt_layer *layer)
{
    return ws->state == &ws->own && layer->step.inputs[H0] < 0;
}

lstmrt_status lstmrt_recurrence_begin(const lstmrt_layer *layer, lstmrt_workspace *ws, lstmrt_recurrence *run)
{
    lstmrt_cell *cell = &ws->state->cells[layer->cell];
    run->layer = layer;
    run->workspace = ws;
    run->cell = cell;
    run->validity = validity_of(layer, ws);
    run->steps = lstmrt_length_of(lstmrt_input(ws->model, &layer->step, X), ws);
    run->begun = lstmrt_starts_from_zero(ws, layer) ? ws->batch : ws->begun;
    run->done = 0;
    run->ahead.rows = 0;
    const lstmrt_status status = check_lengths(&run->validity, run->steps);
    if (status) return status;
    if (layer->dynamic) find_quanta(layer, ws, &run->validity);
    load_initial(layer, lstmrt_input_slot(layer, ws, H0), cell->h, cell, ws->batch);
    load_initial(layer, lstmrt_input_slot(layer, ws, C0), cell->c, cell, ws->batch);
    return LSTMRT_OK;
}

/* The earliest of `steps` time steps that run when `done` have. */
static size_t first_of(const lstmrt_recurrence *run, size_t done, size_t steps)
{
    return run->layer->step.reverse ? run->steps - done - steps : done;
}

static bool goes_ahead(const lstmrt_recurrence *run) { return run->layer->goes_ahead && run->workspace->batch == 1; }

/* The input parts of this block, which the one before may have computed. */
static lstmrt_status block_inputs(lstmrt_recurrence *run, size_t steps, input_rows *gates)
{
    *gates = (input_rows){run->ahead.y, run->layer->gates_stride};
    if (run->ahead.rows > 0) return LSTMRT_OK;
    const size_t begin = first_of(run, run->done, steps);
    return input_part(run->layer, run->workspace, begin, begin + steps, gates);
}

/* Gives this block, whose input parts are in `gates`, those of the next one to compute, in the other half of what is there
 * for them. */
static void begin_ahead(lstmrt_recurrence *run, size_t steps, size_t next, const float *gates)
{
    const lstmrt_layer *layer = run->layer;
    float *first = run->workspace->gates, *second = first + LSTMRT_AHEAD_STEPS * layer->gates_stride;
    const size_t begin = first_of(run, run->done + steps, next);
    run->ahead = lstmrt_ahead_begin(layer, run->workspace, begin, next, gates == first ? second : first);
}

lstmrt_status lstmrt_recurrence_block(lstmrt_recurrence *run, size_t steps, size_t next)
{
    input_rows gates;
    const lstmrt_status status = block_inputs(run, steps, &gates);
    if (status) return status;
    run->ahead.rows = 0;
    if (next > 0 && goes_ahead(run)) begin_ahead(run, steps, next, gates.data);
    const size_t begin = first_of(run, run->done, steps);
    for (size_t i = 0; i < steps; i++) {
        const size_t at = run->layer->step.reverse ? steps - 1 - i : i;
        const input_rows now = {gates.data + at * run->workspace->batch * gates.stride, gates.stride};
        advance(run, begin + at, now);
    }
    if (run->ahead.rows > 0) lstmrt_ahead_finish(run->layer, run->workspace, &run->ahead);
    run->done += steps;
    return LSTMRT_OK;
}

/* Rows of length 0 have no last states, not even the initial ones (onnxruntime's reading of ONNX). */
void lstmrt_recurrence_finish(const lstmrt_recurrence *run)
{
    const float *states[] = {[Y_H] = run->cell->h, [Y_C] = run->cell->c};
    const int64_t *lengths = run->validity.lengths;
    for (size_t i = Y_H; i <= Y_C; i++) {
        const lstmrt_slot *out = lstmrt_output_slot(run->layer, run->workspace, i);
        for (size_t b = 0; out && b < run->workspace->batch; b++) {
            float *to = (float *)out->data + b * out->stride;
            give_row(run->layer, states[i] + b * run->cell->stride, to);
            if (lengths && lengths[b] == 0) memset(to, 0, run->layer->width * sizeof *to);
        }
    }
}

lstmrt_status lstmrt_recurrent_run(const lstmrt_layer *layer, lstmrt_workspace *ws)
{
    lstmrt_recurrence run;
    lstmrt_status status = lstmrt_recurrence_begin(layer, ws, &run);
    const size_t most = goes_ahead(&run) ? LSTMRT_AHEAD_STEPS : lstmrt_recurrence_most(ws);
    while (!status && run.done < run.steps) {
        const size_t left = run.steps - run.done, steps = left < most ? left : most, next = left - steps;
        status = lstmrt_recurrence_block(&run, steps, next < most ? next : most);
    }
    if (!status) lstmrt_recurrence_finish(&run);
    return status;
}
