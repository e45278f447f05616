/* States: h and c of every recurrent layer. */
#include "pack.h"
#include "program.h"

#include <string.h>

static void place(void *owner)
{
    lstmrt_state *state = owner;
    const lstmrt_model *model = state->model;
    const size_t batch = state->batch;
    state->cells = lstmrt_arena_take(&state->arena, model->n_cells, sizeof *state->cells);
    for (size_t i = 0; i < model->n_layers; i++) {
        const lstmrt_layer *layer = &model->layers[i];
        if (!lstmrt_op_has_states(layer->step.op)) continue;
        const size_t stride = lstmrt_round_up(layer->width, LSTMRT_PAD), size = lstmrt_size_product(batch, stride);
        lstmrt_cell cell = {.stride = stride};
        cell.h = lstmrt_arena_take(&state->arena, size, sizeof(float));
        cell.h_next = lstmrt_arena_take(&state->arena, size, sizeof(float));
        if (layer->step.op == LSTMRT_OP_LSTM || layer->step.op == LSTMRT_OP_CONV_LSTM) {
            cell.c = lstmrt_arena_take(&state->arena, size, sizeof(float));
            cell.c_next = lstmrt_arena_take(&state->arena, size, sizeof(float));
        }
        cell.started = lstmrt_arena_take(&state->arena, batch, 1);
        if (state->cells) state->cells[layer->cell] = cell;
    }
}

lstmrt_status lstmrt_state_open(lstmrt_state *state, const lstmrt_model *model, size_t batch)
{
    state->model = model;
    state->batch = batch;
    const lstmrt_status status = lstmrt_arena_fill(&state->arena, place, state);
    if (status) return status;
    lstmrt_state_reset(state);
    return LSTMRT_OK;
}

void lstmrt_state_close(lstmrt_state *state) { lstmrt_arena_free(&state->arena); }

void lstmrt_state_reset(lstmrt_state *state)
{
    for (size_t i = 0; i < state->model->n_cells; i++) {
        lstmrt_cell *cell = &state->cells[i];
        const size_t bytes = state->batch * cell->stride * sizeof(float);
        memset(cell->h, 0, bytes);
        if (cell->c) memset(cell->c, 0, bytes);
        memset(cell->started, 0, state->batch);
    }
}

void lstmrt_state_reset_row(lstmrt_state *state, size_t row)
{
    for (size_t i = 0; i < state->model->n_cells; i++) {
        lstmrt_cell *cell = &state->cells[i];
        memset(cell->h + row * cell->stride, 0, cell->stride * sizeof(float));
        if (cell->c) memset(cell->c + row * cell->stride, 0, cell->stride * sizeof(float));
        cell->started[row] = 0;
    }
}

void lstmrt_state_move_row(lstmrt_state *state, size_t from, size_t to)
{
    for (size_t i = 0; i < state->model->n_cells; i++) {
        lstmrt_cell *cell = &state->cells[i];
        memcpy(cell->h + to * cell->stride, cell->h + from * cell->stride, cell->stride * sizeof(float));
        if (cell->c) memcpy(cell->c + to * cell->stride, cell->c + from * cell->stride, cell->stride * sizeof(float));
        cell->started[to] = cell->started[from];
    }
}

lstmrt_status lstmrt_state_new(lstmrt_model *model, size_t batch, lstmrt_state **state)
{
    *state = NULL;
    if (!model->steppable) return LSTMRT_NOT_STEPPABLE;
    if (batch == 0) return LSTMRT_BAD_ARGUMENT;
    lstmrt_state *made = lstmrt_allocate(sizeof *made);
    if (!made) return LSTMRT_OUT_OF_MEMORY;
    const lstmrt_status status = lstmrt_state_open(made, model, batch);
    if (status) {
        lstmrt_state_free(made);
        return status;
    }
    *state = made;
    return LSTMRT_OK;
}

lstmrt_status lstmrt_state_copy(const lstmrt_state *state, lstmrt_state **copy)
{
    *copy = lstmrt_allocate(sizeof **copy);
    if (!*copy) return LSTMRT_OUT_OF_MEMORY;
    const lstmrt_status status = lstmrt_state_open(*copy, state->model, state->batch);
    if (status) {
        lstmrt_state_free(*copy);
        *copy = NULL;
        return status;
    }
    for (size_t i = 0; i < state->model->n_cells; i++) {
        const lstmrt_cell *from = &state->cells[i], *to = &(*copy)->cells[i];
        const size_t bytes = state->batch * from->stride * sizeof(float);
        memcpy(to->h, from->h, bytes);
        if (from->c) memcpy(to->c, from->c, bytes);
        memcpy(to->started, from->started, state->batch);
    }
    return LSTMRT_OK;
}

void lstmrt_state_free(lstmrt_state *state)
{
    if (state) lstmrt_state_close(state);
    lstmrt_release(state);
}
