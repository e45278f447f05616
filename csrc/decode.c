/* The token loop: one decoder, four ways to turn a text into the logits of its next token.
 *
 * Layers up to the last recurrent one (the *body*) run once for each token; those after it (the *head*) only where
 * logits are wanted. With staggered windows the body has one row for each window that the token belongs to, the head
 * the one row whose window is complete.
 */
#include <string.h>

#include "pack.h"
#include "program.h"
#include "sample.h"
#include "screen.h"

struct lstmrt_decoder {
    lstmrt_model *model;
    lstmrt_decode_options options; /* eos_ids points to `ending` */
    int64_t *ending;
    lstmrt_workspace *body, *head;  /* the same one where the body has a single row */
    lstmrt_state *state;
    lstmrt_sampler sampler;
    lstmrt_screen_scratch screen; /* its screen is NULL where logits are computed */
    size_t rows;       /* of the body */
    size_t head_begin; /* the first layer of the head */
    size_t head_end;   /* after its last: a final softmax, which changes no order, is left out */
    int32_t logits;    /* the value that is chosen from */
    int64_t *ids;      /* the body's ids: one a row, or the text so far and then a padded window */
    size_t length;     /* tokens so far */
    int64_t pending;   /* a token made but not yet read */
    bool has_pending;
    bool ended;
};

static bool reruns(const lstmrt_decoder *d)
{
    return d->options.mode == LSTMRT_DECODE_WINDOW || d->options.mode == LSTMRT_DECODE_GROWING;
}

static size_t after_last_recurrent(const lstmrt_model *model)
{
    size_t begin = 0;
    for (size_t i = 0; i < model->n_layers; i++)
        if (lstmrt_op_recurrent(model->layers[i].step.op)) begin = i + 1;
    return begin;
}

static void leave_out_softmax(lstmrt_decoder *d)
{
    d->logits = d->model->outputs[0];
    d->head_end = d->model->n_layers;
    const lstmrt_step *last = &d->model->layers[d->head_end - 1].step;
    if (last->op != LSTMRT_OP_SOFTMAX || last->outputs[0] != d->logits) return;
    d->logits = last->inputs[0];
    d->head_end--;
}

static lstmrt_status check(const lstmrt_model *model, const lstmrt_decode_options *options)
{
    if (model->n_inputs != 1 || model->n_outputs != 1) return LSTMRT_BAD_ARGUMENT;
    if (!lstmrt_value_is(&model->values[model->inputs[0]], LSTMRT_I64, -1, 1) ||
        !lstmrt_value_is(&model->values[model->outputs[0]], LSTMRT_F32, -1, 0))
        return LSTMRT_BAD_ARGUMENT;
    switch (options->mode) {
    case LSTMRT_DECODE_STATEFUL: return model->steppable ? LSTMRT_OK : LSTMRT_NOT_STEPPABLE;
    case LSTMRT_DECODE_STAGGERED:
        if (!model->steppable) return LSTMRT_NOT_STEPPABLE;
        return options->window > 0 && !options->pad_right ? LSTMRT_OK : LSTMRT_BAD_ARGUMENT;
    case LSTMRT_DECODE_WINDOW: return options->window > 0 ? LSTMRT_OK : LSTMRT_BAD_ARGUMENT;
    case LSTMRT_DECODE_GROWING: return options->max_length > 0 ? LSTMRT_OK : LSTMRT_BAD_ARGUMENT;
    }
    return LSTMRT_BAD_ARGUMENT;
}

static lstmrt_status copy_ending(lstmrt_decoder *d)
{
    const size_t n = d->options.n_eos_ids;
    d->ending = lstmrt_allocate_array(n, sizeof *d->ending);
    if (!d->ending) return LSTMRT_OUT_OF_MEMORY;
    if (n > 0) memcpy(d->ending, d->options.eos_ids, n * sizeof *d->ending);
    d->options.eos_ids = d->ending;
    return LSTMRT_OK;
}

/* Workspaces shaped for the largest run there will be. */
static lstmrt_status open_workspaces(lstmrt_decoder *d, size_t longest)
{
    lstmrt_status status = lstmrt_workspace_new(d->model, &d->body);
    if (!status) status = lstmrt_workspace_shape(d->body, d->rows, longest);
    d->head = d->body;
    if (status || d->rows == 1) return status;
    status = lstmrt_workspace_new(d->model, &d->head);
    return status ? status : lstmrt_workspace_shape(d->head, 1, 1);
}

static lstmrt_status open_state(lstmrt_decoder *d)
{
    lstmrt_status status = LSTMRT_OK;
    if (reruns(d)) {
        status = lstmrt_state_open(&d->body->own, d->model, 1);
        d->body->state = &d->body->own;
    } else {
        status = lstmrt_state_new(d->model, d->rows, &d->state);
        d->body->state = d->state;
    }
    d->head->state = d->body->state; /* the head has no recurrent layer: it only must not be NULL */
    return status;
}

static bool is_plain_greedy(const lstmrt_decode_options *options)
{
    return !options->do_sample && options->repetition_penalty == 1.0;
}

/* Greedy choice from a large output layer, the last one of the head, goes through the model's screen. */
static lstmrt_status open_screen(lstmrt_decoder *d)
{
    const lstmrt_layer *last = &d->model->layers[d->head_end - 1];
    if (!is_plain_greedy(&d->options) || d->head_end == d->head_begin || last->step.outputs[0] != d->logits ||
        d->model->precision != LSTMRT_PRECISION_F32 || !lstmrt_screen_fits(d->model->isa, last))
        return LSTMRT_OK;
    lstmrt_mutex_lock(&d->model->lock);
    lstmrt_status status = LSTMRT_OK;
    if (!d->model->screen) status = lstmrt_screen_new(d->model->isa, last, &d->model->screen);
    lstmrt_mutex_unlock(&d->model->lock);
    return status ? status : lstmrt_screen_open(d->model->screen, &d->screen);
}

static lstmrt_status fill(lstmrt_decoder *d, lstmrt_model *model, const lstmrt_decode_options *options)
{
    lstmrt_status status = check(model, options);
    if (status) return status;
    d->model = model;
    d->options = *options;
    d->rows = options->mode == LSTMRT_DECODE_STAGGERED ? options->window : 1;
    leave_out_softmax(d);
    d->head_begin = reruns(d) ? 0 : after_last_recurrent(model);
    const size_t longest = options->mode == LSTMRT_DECODE_WINDOW    ? options->window
                           : options->mode == LSTMRT_DECODE_GROWING ? options->max_length
                                                                    : 1;
    status = copy_ending(d);
    if (!status) status = lstmrt_sampler_init(&d->sampler, options, model->values[d->logits].width);
    if (!status) status = open_workspaces(d, longest);
    if (!status) status = open_state(d);
    if (!status) status = open_screen(d);
    if (status) return status;
    d->ids = lstmrt_allocate_array(lstmrt_size_product(d->rows, lstmrt_size_product(longest, 2)), sizeof *d->ids);
    if (!d->ids) return LSTMRT_OUT_OF_MEMORY;
    d->body->slots[model->inputs[0]] = (lstmrt_slot){d->ids, 1};
    d->head->slots[model->inputs[0]] = (lstmrt_slot){d->ids, 1};
    return LSTMRT_OK;
}

lstmrt_status lstmrt_decoder_new(lstmrt_model *model, const lstmrt_decode_options *options, lstmrt_decoder **decoder)
{
    lstmrt_decoder *made = lstmrt_allocate(sizeof *made);
    *decoder = NULL;
    if (!made) return LSTMRT_OUT_OF_MEMORY;
    const lstmrt_status status = fill(made, model, options);
    if (status)
        lstmrt_decoder_free(made);
    else
        *decoder = made;
    return status;
}

void lstmrt_decoder_free(lstmrt_decoder *decoder)
{
    if (!decoder) return;
    if (decoder->head != decoder->body) lstmrt_workspace_free(decoder->head);
    lstmrt_workspace_free(decoder->body);
    lstmrt_state_free(decoder->state);
    lstmrt_sampler_free(&decoder->sampler);
    lstmrt_screen_close(&decoder->screen);
    lstmrt_release(decoder->ending);
    lstmrt_release(decoder->ids);
    lstmrt_release(decoder);
}

static void reset_row(lstmrt_state *state, size_t row)
{
    for (size_t i = 0; i < state->model->n_cells; i++) {
        lstmrt_cell *cell = &state->cells[i];
        memset(cell->h + row * cell->stride, 0, cell->stride * sizeof(float));
        if (cell->c) memset(cell->c + row * cell->stride, 0, cell->stride * sizeof(float));
        cell->started[row] = 0;
    }
}

/* All windows that position `length` belongs to read its id; the one that starts there begins at zero, in the row
 * whose window has just been left behind. */
static lstmrt_status read_step(lstmrt_decoder *d, int64_t id)
{
    if (d->options.mode == LSTMRT_DECODE_STAGGERED) reset_row(d->state, d->length % d->rows);
    for (size_t row = 0; row < d->rows; row++) d->ids[row] = id;
    d->length++;
    return lstmrt_workspace_run(d->body, 0, d->head_begin);
}

/* Re-running modes keep the last `window`, or all, ids at the front of `ids`. */
static lstmrt_status read_text(lstmrt_decoder *d, int64_t id)
{
    if (d->options.mode == LSTMRT_DECODE_WINDOW && d->length == d->options.window)
        memmove(d->ids, d->ids + 1, --d->length * sizeof *d->ids);
    if (d->options.mode == LSTMRT_DECODE_GROWING && d->length == d->options.max_length) return LSTMRT_BAD_ARGUMENT;
    d->ids[d->length++] = id;
    return LSTMRT_OK;
}

static lstmrt_status read_id(lstmrt_decoder *d, int64_t id)
{
    return reruns(d) ? read_text(d, id) : read_step(d, id);
}

static void cross_value(lstmrt_decoder *d, int32_t index, size_t row)
{
    const lstmrt_slot *from = &d->body->slots[index], *to = &d->head->slots[index];
    const size_t size = from->stride * lstmrt_item_size(d->model->values[index].dtype);
    memcpy(to->data, (const char *)from->data + row * size, size);
}

/* Moves the row of the completed window from the body to the head's workspace, for every value that crosses. */
static void cross(lstmrt_decoder *d, size_t row)
{
    for (size_t i = d->head_begin; i < d->head_end; i++)
        for (size_t n = 0; n < LSTMRT_MAX_INPUTS; n++) {
            const int32_t index = d->model->layers[i].step.inputs[n];
            if (index >= 0 && index != d->model->inputs[0]) cross_value(d, index, row);
        }
    if (d->head_begin == d->head_end) cross_value(d, d->logits, row);
}

/* Both run the layers before `end`. */
static lstmrt_status head_of_step(lstmrt_decoder *d, size_t end)
{
    /* Window `length - rows`, the one complete now, has its row where the next one will begin. */
    if (d->head != d->body) cross(d, d->length % d->rows);
    return lstmrt_workspace_run(d->head, d->head_begin, end);
}

static lstmrt_status head_of_text(lstmrt_decoder *d, size_t end)
{
    int64_t *ids = d->ids;
    size_t time = d->length;
    if (d->options.mode == LSTMRT_DECODE_WINDOW) {
        const size_t padding = d->options.window - d->length;
        time = d->options.window;
        ids = d->ids + time;
        for (size_t i = 0; i < time; i++) ids[i] = d->options.pad_id;
        memcpy(ids + (d->options.pad_right ? 0 : padding), d->ids, d->length * sizeof *ids);
    }
    lstmrt_status status = lstmrt_workspace_shape(d->body, 1, time);
    if (status) return status;
    d->body->slots[d->model->inputs[0]].data = ids;
    lstmrt_state_reset(&d->body->own);
    return lstmrt_workspace_run(d->body, 0, end);
}

static lstmrt_status run_head(lstmrt_decoder *d, size_t end)
{
    return reruns(d) ? head_of_text(d, end) : head_of_step(d, end);
}

/* The row of the newest token. */
static const float *last_row(const lstmrt_decoder *d, int32_t value)
{
    const lstmrt_slot *slot = &d->head->slots[value];
    return (const float *)slot->data + (lstmrt_rows_of(&d->model->values[value], d->head) - 1) * slot->stride;
}

/* The screen takes the place of the output layer. */
static lstmrt_status choose_screened(lstmrt_decoder *d, size_t *best)
{
    const lstmrt_status status = run_head(d, d->head_end - 1);
    if (!status) *best = lstmrt_screen_argmax(&d->screen, last_row(d, d->model->layers[d->head_end - 1].step.inputs[0]));
    return status;
}

static lstmrt_status choose_from_logits(lstmrt_decoder *d, size_t *best)
{
    const lstmrt_status status = run_head(d, d->head_end);
    if (status) return status;
    const float *row = last_row(d, d->logits);
    if (is_plain_greedy(&d->options))
        d->model->kernels->argmax(&(lstmrt_argmax_args){row, d->sampler.vocabulary, best});
    else
        *best = lstmrt_choose(&d->sampler, row);
    return LSTMRT_OK;
}

static bool is_ending(const lstmrt_decoder *d, int64_t id)
{
    for (size_t i = 0; i < d->options.n_eos_ids; i++)
        if (d->options.eos_ids[i] == id) return true;
    return false;
}

/* With staggered windows the text stands behind as much padding as the first windows need. */
static bool wants_padding(const lstmrt_decoder *d)
{
    return d->options.mode == LSTMRT_DECODE_STAGGERED && d->length + 1 < d->rows;
}

lstmrt_status lstmrt_decoder_prompt(lstmrt_decoder *d, const int64_t *ids, size_t n, int64_t budget, size_t *taken)
{
    const int64_t deadline = lstmrt_clock() + budget;
    const lstmrt_fp_state was = lstmrt_fp_flush_denormals();
    lstmrt_status status = d->has_pending ? read_id(d, d->pending) : LSTMRT_OK;
    d->has_pending = false;
    size_t i = 0;
    while (!status && i < n) {
        if (wants_padding(d)) {
            status = read_step(d, d->options.pad_id);
        } else {
            lstmrt_sampler_see(&d->sampler, ids[i]);
            status = read_id(d, ids[i]);
            if (!status) i++;
        }
        if (lstmrt_clock() > deadline) break;
    }
    lstmrt_fp_restore(was);
    *taken = i;
    return status;
}

static lstmrt_status make_id(lstmrt_decoder *d, int64_t *id)
{
    size_t best;
    lstmrt_status status = d->has_pending ? read_id(d, d->pending) : LSTMRT_OK;
    d->has_pending = false;
    if (!status) status = d->screen.screen ? choose_screened(d, &best) : choose_from_logits(d, &best);
    if (!status) *id = (int64_t)best;
    return status;
}

lstmrt_status lstmrt_decoder_next(lstmrt_decoder *d, int64_t *ids, size_t n, int64_t budget, size_t *made, bool *ended)
{
    const int64_t deadline = lstmrt_clock() + budget;
    const lstmrt_fp_state was = lstmrt_fp_flush_denormals();
    lstmrt_status status = d->length > 0 || d->has_pending ? LSTMRT_OK : LSTMRT_BAD_ARGUMENT;
    *made = 0;
    while (!status && !d->ended && *made < n) {
        if (d->options.mode == LSTMRT_DECODE_GROWING && d->length + d->has_pending >= d->options.max_length) {
            d->ended = true;
            break;
        }
        int64_t id;
        status = make_id(d, &id);
        if (status) break;
        d->ended = is_ending(d, id);
        if (d->ended) break;
        lstmrt_sampler_see(&d->sampler, id);
        ids[(*made)++] = d->pending = id;
        d->has_pending = true;
        if (lstmrt_clock() > deadline) break;
    }
    lstmrt_fp_restore(was);
    *ended = d->ended;
    return status;
}
