/* Models: checked programs with packed weights, and whole runs of them. */
#include "program.h"

#include <string.h>

#include "screen.h"

static lstmrt_status copy_array(const void *from, size_t count, size_t size, void *to)
{
    void *made = lstmrt_allocate_array(count, size);
    if (!made) return LSTMRT_OUT_OF_MEMORY;
    if (count > 0) memcpy(made, from, count * size);
    memcpy(to, &made, sizeof made);
    return LSTMRT_OK;
}

static bool value_sound(const lstmrt_value *value)
{
    return (unsigned)value->dtype <= LSTMRT_BOOL && (unsigned)value->rows <= LSTMRT_ROWS_ONE &&
           value->width > 0 && value->width <= INT32_MAX &&
           (unsigned)value->across <= LSTMRT_ACROSS_SOURCE;
}

static bool index_sound(const lstmrt_model *model, int32_t index) { return (size_t)index < model->n_values; }

/* Of a value that the caller gives or a step reads. */
static bool input_sound(const lstmrt_model *model, int32_t index)
{
    return index_sound(model, index) && model->values[index].across == LSTMRT_ACROSS_NOTHING;
}

/* Every value is made once, by the caller or by one step, before it is used. `made` has a byte for each value. */
static bool order_sound(const lstmrt_model *model, const lstmrt_program *program, uint8_t *made)
{
    for (size_t i = 0; i < model->n_values; i++)
        if (!value_sound(&model->values[i])) return false;
    for (size_t i = 0; i < model->n_inputs; i++)
        if (!input_sound(model, model->inputs[i]) || made[model->inputs[i]]++) return false;
    for (size_t s = 0; s < program->n_steps; s++) {
        const lstmrt_step *step = &program->steps[s];
        for (size_t i = 0; i < LSTMRT_MAX_INPUTS; i++)
            if (step->inputs[i] != -1 && (!input_sound(model, step->inputs[i]) || !made[step->inputs[i]])) return false;
        for (size_t i = 0; i < LSTMRT_MAX_OUTPUTS; i++)
            if (step->outputs[i] != -1 && (!index_sound(model, step->outputs[i]) || made[step->outputs[i]]++))
                return false;
    }
    for (size_t i = 0; i < model->n_outputs; i++) {
        if (!index_sound(model, model->outputs[i]) || !made[model->outputs[i]]) return false;
        for (size_t j = 0; j < model->n_inputs; j++)
            if (model->inputs[j] == model->outputs[i]) return false;
    }
    return model->n_outputs > 0;
}

static lstmrt_status check_order(const lstmrt_model *model, const lstmrt_program *program)
{
    uint8_t *made = lstmrt_allocate_array(model->n_values, 1);
    if (!made) return LSTMRT_OUT_OF_MEMORY;
    const bool sound = order_sound(model, program, made);
    lstmrt_release(made);
    return sound ? LSTMRT_OK : LSTMRT_BAD_PROGRAM;
}

size_t lstmrt_layer_products(const lstmrt_model *model, const lstmrt_layer *layer, size_t x_rows, size_t h_rows)
{
    const size_t outputs = layer->gate_vectors * model->kernels->width;
    const size_t x = layer->x_weights || layer->x_reduced.weights ? lstmrt_size_product(layer->inputs, x_rows) : 0;
    const size_t h = layer->h_weights || layer->h_reduced.weights ? lstmrt_size_product(layer->h_inputs, h_rows) : 0;
    const size_t products = lstmrt_size_product(lstmrt_size_sum(x, h), lstmrt_size_product(outputs, layer->places));
    return lstmrt_reduced_floats(model, layer, products);
}

size_t lstmrt_layer_weights(const lstmrt_model *model, const lstmrt_layer *layer)
{
    return lstmrt_layer_products(model, layer, 1, 1);
}

static bool reads(const lstmrt_step *step, const lstmrt_step *other)
{
    for (size_t i = 0; i < LSTMRT_MAX_INPUTS; i++)
        for (size_t o = 0; o < LSTMRT_MAX_OUTPUTS; o++)
            if (step->inputs[i] >= 0 && step->inputs[i] == other->outputs[o]) return true;
    return false;
}

static bool is_layer_over_time(const lstmrt_model *model, const lstmrt_step *step)
{
    return lstmrt_op_recurrent(step->op) && lstmrt_over_time(lstmrt_input(model, step, 0));
}

/* Neighbours that do not wait for each other, as the two directions of a layer are. */
static void find_pairs(lstmrt_model *model)
{
    for (size_t i = 0; i + 1 < model->n_layers; i++) {
        lstmrt_layer *layer = &model->layers[i];
        const lstmrt_step *next = &layer[1].step;
        const bool taken = i > 0 && layer[-1].pairs_with_next;
        layer->pairs_with_next = !taken && is_layer_over_time(model, &layer->step) && is_layer_over_time(model, next) &&
                                 !reads(next, &layer->step);
        if (layer->pairs_with_next) model->n_beside = 1;
    }
}

/* Whether a time step of some sequences can be all that a run has. */
static bool goes_by_steps(const lstmrt_model *model, bool takes_one_step)
{
    for (size_t i = 0; i < model->n_values; i++) {
        const lstmrt_value *value = &model->values[i];
        if (value->rows == LSTMRT_ROWS_ONE || (takes_one_step && lstmrt_over_time(value))) return false;
    }
    return true;
}

static lstmrt_status prepare_layers(lstmrt_model *model, const lstmrt_program *program)
{
    bool takes_one_step = false;
    model->steppable = true;
    for (size_t i = 0; i < program->n_steps; i++) {
        lstmrt_layer *layer = &model->layers[model->n_layers++];
        const lstmrt_step *step = &program->steps[i];
        const lstmrt_status status = lstmrt_layer_prepare(model, step, layer);
        if (status) return status;
        if (lstmrt_op_has_states(layer->step.op)) layer->cell = model->n_cells++;
        model->steppable = model->steppable && lstmrt_layer_steppable(layer);
        takes_one_step |= lstmrt_op_has_states(step->op) && !lstmrt_over_time(lstmrt_input(model, step, 0));
        model->dynamic = model->dynamic || layer->dynamic;
        if (step->op == LSTMRT_OP_ATTENTION)
            model->attended[lstmrt_attention_across(model, step)] += (layer->inputs + layer->width) * (size_t)step->constant;
        model->weights = lstmrt_size_sum(model->weights, lstmrt_layer_weights(model, layer));
    }
    model->steppable = model->steppable && goes_by_steps(model, takes_one_step);
    find_pairs(model);
    lstmrt_wave_find(model);
    model->cache = lstmrt_cache_size() / sizeof(float);
    model->sweeps = model->weights > model->cache / 4 * 3; /* a quarter is for states, tables and whatever else runs there */
    model->processors = lstmrt_cpu_count();
    return LSTMRT_OK;
}

static lstmrt_status fill(lstmrt_model *model, const lstmrt_program *program)
{
    lstmrt_status status = copy_array(program->values, program->n_values, sizeof *program->values, &model->values);
    if (!status) status = copy_array(program->inputs, program->n_inputs, sizeof *program->inputs, &model->inputs);
    if (!status) status = copy_array(program->outputs, program->n_outputs, sizeof *program->outputs, &model->outputs);
    if (status) return status;
    model->n_values = program->n_values;
    model->n_inputs = program->n_inputs;
    model->n_outputs = program->n_outputs;
    status = check_order(model, program);
    if (status) return status;
    model->layers = lstmrt_allocate_array(program->n_steps, sizeof *model->layers);
    if (!model->layers) return LSTMRT_OUT_OF_MEMORY;
    return prepare_layers(model, program);
}

lstmrt_status lstmrt_model_new(const lstmrt_program *program, const char *isa, lstmrt_model **model)
{
    *model = NULL;
    if ((unsigned)program->precision > LSTMRT_PRECISION_INT8) return LSTMRT_BAD_PROGRAM;
    lstmrt_model *made = lstmrt_allocate(sizeof *made);
    if (!made) return LSTMRT_OUT_OF_MEMORY;
    lstmrt_status status = lstmrt_isa_find(isa, &made->isa);
    if (!status) {
        made->kernels = made->isa->f32;
        made->precision = program->precision;
        status = fill(made, program);
    }
    if (status)
        lstmrt_model_free(made);
    else
        *model = made;
    return status;
}

void lstmrt_model_free(lstmrt_model *model)
{
    if (!model) return;
    lstmrt_workspace_free(model->last);
    while (model->idle) {
        lstmrt_workspace *next = model->idle->next;
        lstmrt_workspace_free(model->idle);
        model->idle = next;
    }
    lstmrt_screen_free(model->screen);
    for (size_t i = 0; i < model->n_layers; i++) lstmrt_layer_free(&model->layers[i]);
    lstmrt_release(model->layers);
    lstmrt_release(model->values);
    lstmrt_release(model->inputs);
    lstmrt_release(model->outputs);
    lstmrt_release(model);
}

const char *lstmrt_model_isa(const lstmrt_model *model)
{
    return lstmrt_isa_shown(model->isa, model->dynamic ? LSTMRT_PRECISION_INT8 : model->precision);
}

void lstmrt_model_set_threads(lstmrt_model *model, size_t threads) { model->threads = threads; }

bool lstmrt_model_steppable(const lstmrt_model *model) { return model->steppable; }

/* An idle workspace, best the one that was last in use. */
static lstmrt_status take_workspace(lstmrt_model *model, lstmrt_workspace **workspace)
{
    lstmrt_workspace *idle = atomic_exchange(&model->last, NULL);
    if (!idle) {
        lstmrt_lock();
        idle = model->idle;
        if (idle) model->idle = idle->next;
        lstmrt_unlock();
    }
    *workspace = idle;
    return idle ? LSTMRT_OK : lstmrt_workspace_new(model, workspace);
}

static void give_back(lstmrt_model *model, lstmrt_workspace *workspace)
{
    workspace = atomic_exchange(&model->last, workspace);
    if (!workspace) return;
    lstmrt_lock();
    workspace->next = model->idle;
    model->idle = workspace;
    lstmrt_unlock();
}

static lstmrt_status check_buffers(const lstmrt_workspace *ws, const lstmrt_buffer *buffers, const int32_t *values,
                                   size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const lstmrt_value *value = &ws->model->values[values[i]];
        const size_t elements = lstmrt_size_product(lstmrt_rows_of(value, ws), lstmrt_width_of(value, ws));
        const size_t bytes = lstmrt_size_product(elements, lstmrt_item_size(value->dtype));
        if (!buffers[i].data || buffers[i].bytes != bytes) return LSTMRT_BAD_ARGUMENT;
    }
    return LSTMRT_OK;
}

static void bind_inputs(lstmrt_workspace *ws, const lstmrt_buffer *buffers)
{
    for (size_t i = 0; i < ws->model->n_inputs; i++) {
        const int32_t index = ws->model->inputs[i];
        ws->slots[index] = (lstmrt_slot){buffers[i].data, ws->model->values[index].width};
    }
}

static void copy_outputs(const lstmrt_workspace *ws, const lstmrt_buffer *buffers)
{
    for (size_t i = 0; i < ws->model->n_outputs; i++) {
        const lstmrt_value *value = &ws->model->values[ws->model->outputs[i]];
        const lstmrt_slot *slot = &ws->slots[ws->model->outputs[i]];
        const size_t item = lstmrt_item_size(value->dtype), width = lstmrt_width_of(value, ws) * item;
        const size_t rows = lstmrt_rows_of(value, ws);
        for (size_t row = 0; row < rows; row++)
            memcpy((char *)buffers[i].data + row * width, (const char *)slot->data + row * slot->stride * item, width);
    }
}

static lstmrt_status run_shaped(lstmrt_workspace *ws, lstmrt_state *state, const lstmrt_buffer *inputs,
                                const lstmrt_buffer *outputs)
{
    const lstmrt_model *model = ws->model;
    lstmrt_status status = check_buffers(ws, inputs, model->inputs, model->n_inputs);
    if (!status) status = check_buffers(ws, outputs, model->outputs, model->n_outputs);
    if (!status && !state) status = lstmrt_state_open(&ws->own, model, ws->batch);
    if (status) return status;
    ws->state = state ? state : &ws->own;
    bind_inputs(ws, inputs);
    const lstmrt_fp_state was = lstmrt_fp_flush_denormals();
    lstmrt_call_begin(ws, 1);
    status = lstmrt_workspace_run(ws, 0, model->n_layers);
    lstmrt_call_end(ws);
    lstmrt_fp_restore(was);
    if (!status) copy_outputs(ws, outputs);
    return status;
}

static lstmrt_status run_from(lstmrt_model *model, lstmrt_state *state, const lstmrt_buffer *inputs,
                              const lstmrt_buffer *outputs, size_t batch, size_t time, size_t source)
{
    lstmrt_workspace *ws;
    lstmrt_status status = take_workspace(model, &ws);
    if (status) return status;
    status = lstmrt_workspace_shape(ws, batch, time, source);
    if (!status) status = run_shaped(ws, state, inputs, outputs);
    give_back(model, ws);
    return status;
}

lstmrt_status lstmrt_run(lstmrt_model *model, const lstmrt_buffer *inputs, const lstmrt_buffer *outputs, size_t batch,
                         size_t time, size_t source)
{
    return run_from(model, NULL, inputs, outputs, batch, time, source);
}

lstmrt_status lstmrt_step_run(lstmrt_model *model, lstmrt_state *state, const lstmrt_buffer *inputs,
                              const lstmrt_buffer *outputs)
{
    if (!model->steppable) return LSTMRT_NOT_STEPPABLE;
    if (state->model != model) return LSTMRT_BAD_ARGUMENT;
    return run_from(model, state, inputs, outputs, state->batch, 1, 1);
}
