#include <string.h>

#include "decode.h"
#include "pack.h"

/* ---- the plan ---- */

lstmrt_status lstmrt_decode_check(const lstmrt_model *model, const lstmrt_decode_options *options)
{
    if (model->n_inputs != 1 || model->n_outputs != 1) return LSTMRT_BAD_ARGUMENT;
    const lstmrt_value *ids = &model->values[model->inputs[0]];
    const size_t longest = lstmrt_over_time(ids) ? SIZE_MAX : 1; /* text that one run can read */
    if (!lstmrt_value_is(ids, LSTMRT_I64, -1, 1) || !lstmrt_value_is(&model->values[model->outputs[0]], LSTMRT_F32, -1, 0))
        return LSTMRT_BAD_ARGUMENT;
    switch (options->mode) {
    case LSTMRT_DECODE_STATEFUL: return model->steppable ? LSTMRT_OK : LSTMRT_NOT_STEPPABLE;
    case LSTMRT_DECODE_STAGGERED:
        if (!model->steppable || model->dynamic) return LSTMRT_NOT_STEPPABLE;
        return options->window > 0 && !options->pad_right ? LSTMRT_OK : LSTMRT_BAD_ARGUMENT;
    case LSTMRT_DECODE_WINDOW: return options->window > 0 && options->window <= longest ? LSTMRT_OK : LSTMRT_BAD_ARGUMENT;
    case LSTMRT_DECODE_GROWING:
        return options->max_length > 0 && options->max_length <= longest ? LSTMRT_OK : LSTMRT_BAD_ARGUMENT;
    }
    return LSTMRT_BAD_ARGUMENT;
}

lstmrt_decode_plan lstmrt_decode_plan_of(const lstmrt_model *model)
{
    lstmrt_decode_plan plan = {.head_end = model->n_layers, .logits = model->outputs[0]};
    for (size_t i = 0; i < model->n_layers; i++)
        if (lstmrt_op_has_states(model->layers[i].step.op)) plan.head_begin = i + 1;
    const lstmrt_step *last = &model->layers[model->n_layers - 1].step;
    const bool normalizes = last->op == LSTMRT_OP_SOFTMAX || last->op == LSTMRT_OP_LOG_SOFTMAX;
    if (normalizes && last->outputs[0] == plan.logits) {
        plan.logits = last->inputs[0];
        plan.head_end--;
    }
    return plan;
}

/* ---- from body to head ---- */

static void cross_value(int32_t index, const lstmrt_workspace *body, size_t body_row, const lstmrt_workspace *head,
                        size_t head_row)
{
    const lstmrt_slot *from = &body->slots[index], *to = &head->slots[index];
    const size_t size = from->stride * lstmrt_item_size(body->model->values[index].dtype);
    memcpy((char *)to->data + head_row * size, (const char *)from->data + body_row * size, size);
}

void lstmrt_cross(const lstmrt_decode_plan *plan, const lstmrt_workspace *body, size_t body_row,
                  const lstmrt_workspace *head, size_t head_row)
{
    const lstmrt_model *model = body->model;
    for (size_t i = plan->head_begin; i < plan->head_end; i++)
        for (size_t n = 0; n < LSTMRT_MAX_INPUTS; n++) {
            const int32_t index = model->layers[i].step.inputs[n];
            if (index >= 0 && index != model->inputs[0]) cross_value(index, body, body_row, head, head_row);
        }
    if (plan->head_begin == plan->head_end) cross_value(plan->logits, body, body_row, head, head_row);
}

/* ---- choosing ---- */

/* The first to be ready with one gives it to the model. */
static lstmrt_status make_screen(lstmrt_model *model, const lstmrt_layer *last)
{
    lstmrt_screen *made;
    const lstmrt_status status = lstmrt_screen_new(model->isa, last, &made);
    if (status) return status;
    lstmrt_lock();
    if (!model->screen) {
        model->screen = made;
        made = NULL;
    }
    lstmrt_unlock();
    lstmrt_screen_free(made);
    return LSTMRT_OK;
}

lstmrt_status lstmrt_decode_open_screen(lstmrt_model *model, const lstmrt_decode_plan *plan, size_t rows,
                                        lstmrt_screen_scratch *scratch)
{
    const lstmrt_layer *last = &model->layers[plan->head_end - 1];
    if (plan->head_end == plan->head_begin || last->step.outputs[0] != plan->logits ||
        model->precision != LSTMRT_PRECISION_F32 || last->dynamic || !lstmrt_screen_fits(model->isa, last))
        return LSTMRT_OK;
    lstmrt_lock();
    const bool is_there = model->screen;
    lstmrt_unlock();
    if (!is_there) {
        const lstmrt_status status = make_screen(model, last);
        if (status) return status;
    }
    return lstmrt_screen_open(model->screen, rows, scratch);
}

lstmrt_status lstmrt_chooser_open(lstmrt_chooser *chooser, const lstmrt_model *model, const lstmrt_decode_plan *plan,
                                  const lstmrt_decode_options *options)
{
    *chooser = (lstmrt_chooser){
        .kernels = model->kernels,
        .plain = !options->do_sample && options->repetition_penalty == 1.0,
        .n_ending = options->n_eos_ids,
    };
    const lstmrt_status status = lstmrt_sampler_init(&chooser->sampler, options, model->values[plan->logits].width);
    if (status) return status;
    chooser->ending = lstmrt_allocate_array(chooser->n_ending, sizeof *chooser->ending);
    if (!chooser->ending) return LSTMRT_OUT_OF_MEMORY;
    if (chooser->n_ending > 0) memcpy(chooser->ending, options->eos_ids, chooser->n_ending * sizeof *chooser->ending);
    return LSTMRT_OK;
}

void lstmrt_chooser_close(lstmrt_chooser *chooser)
{
    lstmrt_sampler_free(&chooser->sampler);
    lstmrt_release(chooser->ending);
    *chooser = (lstmrt_chooser){0};
}

int64_t lstmrt_chooser_choose(lstmrt_chooser *chooser, const float *logits)
{
    if (!chooser->plain) return (int64_t)lstmrt_choose(&chooser->sampler, logits);
    size_t best;
    chooser->kernels->argmax(&(lstmrt_argmax_args){logits, chooser->sampler.vocabulary, &best});
    return (int64_t)best;
}

bool lstmrt_chooser_ends(const lstmrt_chooser *chooser, int64_t id)
{
    for (size_t i = 0; i < chooser->n_ending; i++)
        if (chooser->ending[i] == id) return true;
    return false;
}
