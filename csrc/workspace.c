/* The memory of one run. */
#include "pack.h"
#include "program.h"

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
    const size_t rows = value->rows == LSTMRT_ROWS_BATCH ? ws->batch : lstmrt_size_product(ws->batch, ws->time);
    const size_t stride = value->dtype == LSTMRT_F32 ? lstmrt_round_up(value->width, LSTMRT_PAD) : value->width;
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

static void place(void *owner)
{
    lstmrt_workspace *ws = owner;
    size_t gates = 0, between = 0, inputs = 0, row_bytes = 0;
    for (size_t i = 0; i < ws->model->n_layers; i++) {
        const lstmrt_layer *layer = &ws->model->layers[i];
        for (size_t o = 0; o < LSTMRT_MAX_OUTPUTS; o++)
            if (layer->step.outputs[o] >= 0) place_value(ws, layer->step.outputs[o]);
        row_bytes = larger(row_bytes, reduced_row_bytes(layer));
        if (!lstmrt_op_recurrent(layer->step.op)) continue;
        const size_t hidden = lstmrt_round_up(layer->width, LSTMRT_PAD);
        if (!layer->table) inputs = larger(inputs, lstmrt_round_up(layer->inputs, LSTMRT_PAD));
        gates = larger(gates, layer->gates_stride);
        if (layer->step.op == LSTMRT_OP_GRU) between = larger(between, hidden);
    }
    const size_t hoisted = larger(ws->batch, LSTMRT_HOISTED_ROWS);
    ws->x_rows = lstmrt_arena_take(&ws->arena, lstmrt_size_product(hoisted, inputs), sizeof(float));
    ws->gates = lstmrt_arena_take(&ws->arena, lstmrt_size_product(hoisted, gates), sizeof(float));
    ws->z = lstmrt_arena_take(&ws->arena, lstmrt_size_product(ws->batch, between), sizeof(float));
    ws->reset_h = lstmrt_arena_take(&ws->arena, lstmrt_size_product(ws->batch, between), sizeof(float));
    ws->most_rows = hoisted;
    ws->reduced_rows = lstmrt_arena_take(&ws->arena, hoisted, row_bytes);
    ws->reduced_scales = lstmrt_arena_take(&ws->arena, row_bytes > 0 ? hoisted : 0, sizeof(float));
}

lstmrt_status lstmrt_workspace_shape(lstmrt_workspace *ws, size_t batch, size_t time)
{
    if (batch == 0 || time == 0) return LSTMRT_BAD_ARGUMENT;
    if (ws->batch == batch && ws->time == time) return LSTMRT_OK;
    ws->batch = batch;
    ws->time = time;
    const lstmrt_status status = lstmrt_arena_fill(&ws->arena, place, ws);
    if (status) ws->batch = ws->time = 0; /* the shape of nothing: the next call places anew */
    return status;
}

lstmrt_status lstmrt_workspace_run(lstmrt_workspace *ws, size_t begin, size_t end)
{
    ws->backward = ws->model->sweeps && !ws->backward;
    for (size_t i = begin; i < end; i++) {
        const lstmrt_status status = lstmrt_layer_run(&ws->model->layers[i], ws);
        if (status) return status;
    }
    return LSTMRT_OK;
}
