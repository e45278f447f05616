/* The memory of one run. */
#include "pack.h"
#include "recurrent.h"

lstmrt_status lstmrt_workspace_new(const lstmrt_model *model, lstmrt_workspace **workspace)
{
    lstmrt_workspace *made = *workspace = lstmrt_allocate(sizeof *made);
    if (!made) return LSTMRT_OUT_OF_MEMORY;
    made->model = model;
    made->threads = 1;
    made->slots = lstmrt_allocate_array(model->n_values, sizeof *made->slots);
    if (made->slots) return LSTMRT_OK;
    lstmrt_workspace_free(made);
    *workspace = NULL;
    return LSTMRT_OUT_OF_MEMORY;
}

void lstmrt_workspace_free(lstmrt_workspace *workspace)
{
    if (!workspace) return;
    lstmrt_arena_free(&workspace->arena);
    lstmrt_state_close(&workspace->own);
    lstmrt_release(workspace->slots);
    lstmrt_release(workspace);
}

static void place_value(lstmrt_workspace *ws, int32_t index)
{
    const lstmrt_value *value = &ws->model->values[index];
    const size_t rows = lstmrt_rows_of(value, ws), width = lstmrt_width_of(value, ws);
    const size_t stride = value->dtype == LSTMRT_F32 ? lstmrt_round_up(width, LSTMRT_PAD) : width;
    ws->slots[index].stride = stride;
    ws->slots[index].data = lstmrt_arena_take(&ws->arena, lstmrt_size_product(rows, stride), lstmrt_item_size(value->dtype));
}

static size_t larger(size_t a, size_t b) { return a > b ? a : b; }

/* Of a row that the layer multiplies with reduced weights, 0 where it has none. */
static size_t reduced_row_bytes(const lstmrt_layer *layer)
{
    const size_t x = layer->x_reduced.weights ? lstmrt_reduced_row_bytes(layer->inputs) : 0;
    return larger(x, layer->h_reduced.weights ? lstmrt_reduced_row_bytes(layer->width) : 0);
}

/* What the largest layer needs. */
typedef struct {
    size_t rows, inputs, gates, panels, between, row_bytes, scores, scorers, keys, windows, window_sharers;
} scratch_sizes;

static scratch_sizes sizes_of(const lstmrt_workspace *ws)
{
    scratch_sizes s = {.rows = larger(ws->batch, LSTMRT_HOISTED_ROWS)};
    for (size_t i = 0; i < ws->model->n_layers; i++) {
        const lstmrt_layer *layer = &ws->model->layers[i];
        s.row_bytes = larger(s.row_bytes, reduced_row_bytes(layer));
        if (lstmrt_op_mixes_time(layer->step.op))
            s.scores = lstmrt_round_up(larger(ws->time, ws->source), LSTMRT_PAD);
        if (layer->step.op == LSTMRT_OP_ATTENTION && ws->time >= LSTMRT_MANY_QUERIES)
            s.keys = larger(s.keys, layer->inputs * (size_t)layer->step.constant);
        if (layer->step.op == LSTMRT_OP_CONV_LSTM) s.windows = larger(s.windows, lstmrt_conv_lstm_scratch(layer));
        if (!lstmrt_op_recurrent(layer->step.op)) continue;
        if (!layer->table) s.inputs = larger(s.inputs, lstmrt_round_up(layer->inputs, LSTMRT_PAD));
        s.gates = larger(s.gates, layer->gates_stride);
        s.panels = larger(s.panels, layer->h_panels);
        if (layer->step.op == LSTMRT_OP_GRU) s.between = larger(s.between, lstmrt_round_up(layer->width, LSTMRT_PAD));
    }
    const size_t threads = larger(ws->model->threads, ws->model->processors); /* a later call may have these */
    s.scorers = threads < LSTMRT_MOST_SCORERS ? threads : LSTMRT_MOST_SCORERS;
    s.window_sharers = threads < LSTMRT_MOST_WINDOWS ? threads : LSTMRT_MOST_WINDOWS;
    return s;
}

static void place_scratch(lstmrt_workspace *ws, lstmrt_arena *arena, scratch_sizes s)
{
    ws->x_rows = lstmrt_arena_take(arena, lstmrt_size_product(s.rows, s.inputs), sizeof(float));
    ws->gates = lstmrt_arena_take(arena, lstmrt_size_product(s.rows, s.gates), sizeof(float));
    ws->ahead_next = lstmrt_arena_take(arena, s.panels, sizeof *ws->ahead_next);
    ws->z = lstmrt_arena_take(arena, lstmrt_size_product(ws->batch, s.between), sizeof(float));
    ws->reset_h = lstmrt_arena_take(arena, lstmrt_size_product(ws->batch, s.between), sizeof(float));
    ws->scores = lstmrt_arena_take(arena, lstmrt_size_product(s.scorers * LSTMRT_SCORED_ROWS, s.scores), sizeof(float));
    ws->scores_stride = s.scores;
    ws->scorers = s.scorers;
    ws->key_panels = lstmrt_arena_take(arena, lstmrt_size_product(s.keys, s.scores), sizeof(float));
    ws->window_floats = s.windows;
    ws->window_sharers = s.window_sharers;
    ws->windows = lstmrt_arena_take(arena, lstmrt_size_product(s.window_sharers, s.windows), sizeof(float));
    ws->most_rows = s.rows;
    ws->reduced_rows = lstmrt_arena_take(arena, s.rows, s.row_bytes);
    ws->reduced_scales = lstmrt_arena_take(arena, s.row_bytes > 0 ? s.rows : 0, sizeof(float));
    ws->reduced_zeros = lstmrt_arena_take(arena, ws->model->dynamic ? s.rows : 0, sizeof *ws->reduced_zeros);
    ws->quanta = lstmrt_arena_take(arena, ws->model->dynamic ? ws->batch : 0, sizeof *ws->quanta);
}

static void place(void *owner)
{
    lstmrt_workspace *ws = owner;
    const lstmrt_model *model = ws->model;
    scratch_sizes sizes = sizes_of(ws);
    const size_t n_beside = model->n_beside, in_parts = n_beside > 0 ? model->n_values : 0;
    for (size_t i = 0; i < model->n_layers; i++)
        for (size_t o = 0; o < LSTMRT_MAX_OUTPUTS; o++)
            if (model->layers[i].step.outputs[o] >= 0) place_value(ws, model->layers[i].step.outputs[o]);
    ws->runs = lstmrt_arena_take(&ws->arena, n_beside > 0 ? model->n_cells : 0, sizeof *ws->runs);
    ws->beside = lstmrt_arena_take(&ws->arena, n_beside, sizeof *ws->beside);
    for (size_t i = 0; i <= n_beside; i++) {
        lstmrt_workspace beside = {.model = model, .batch = ws->batch, .time = ws->time, .source = ws->source,
                                   .threads = 1, .slots = ws->slots, .runs = ws->runs};
        lstmrt_workspace *placed = i == 0 ? ws : &beside;
        placed->part_slots = lstmrt_arena_take(&ws->arena, in_parts, sizeof *ws->slots);
        place_scratch(placed, &ws->arena, sizes);
        sizes.scores = sizes.windows = 0; /* nothing that needs them runs beside another layer */
        if (i > 0 && ws->beside) ws->beside[i - 1] = beside;
    }
}

lstmrt_status lstmrt_workspace_shape(lstmrt_workspace *ws, size_t batch, size_t time, size_t source)
{
    if (batch == 0 || time == 0 || source == 0) return LSTMRT_BAD_ARGUMENT;
    if (ws->batch == batch && ws->time == time && ws->source == source) return LSTMRT_OK;
    ws->batch = batch;
    ws->time = time;
    ws->source = source;
    const lstmrt_status status = lstmrt_arena_fill(&ws->arena, place, ws);
    if (status) ws->batch = ws->time = ws->source = 0; /* the shape of nothing: the next call places anew */
    return status;
}

lstmrt_workspace lstmrt_workspace_alone(const lstmrt_workspace *ws)
{
    lstmrt_workspace alone = *ws;
    alone.threads = 1;
    return alone;
}

lstmrt_workspace *lstmrt_workspace_beside(const lstmrt_workspace *ws, size_t i)
{
    lstmrt_workspace *beside = &ws->beside[i];
    beside->state = ws->state;
    beside->backward = ws->backward;
    beside->moved = ws->moved;
    beside->begun = ws->begun;
    return beside;
}

/* Runs some of layers [0, n), one or those that run at once; how many. */
static size_t run_next(lstmrt_workspace *ws, const lstmrt_layer *layers, size_t n, lstmrt_status *status)
{
    const size_t at_once = ws->threads > 1 ? lstmrt_wave_run(ws, layers, n, status) : 0;
    if (at_once > 0) return at_once;
    *status = lstmrt_layer_run(layers, ws);
    return 1;
}

lstmrt_status lstmrt_workspace_run(lstmrt_workspace *ws, size_t begin, size_t end)
{
    lstmrt_status status = LSTMRT_OK;
    ws->backward = ws->model->sweeps && !ws->backward;
    for (size_t i = begin; !status && i < end;) i += run_next(ws, &ws->model->layers[i], end - i, &status);
    return status;
}
