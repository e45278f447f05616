/* The token loop: one decoder, four ways to turn a text into the logits of its next token.
 *
 * Layers up to the last recurrent one (the *body*) run once for each token; those after it (the *head*) only where
 * logits are wanted. With staggered windows the body has one row for each window that the token belongs to, the head
 * the one row whose window is complete.
 */
#include <string.h>

#include "decode.h"
#include "pack.h"

struct lstmrt_decoder {
    lstmrt_model *model;
    lstmrt_decode_options options;
    lstmrt_workspace *body, *head;  /* the same one where the body has a single row */
    lstmrt_state *state;
    lstmrt_chooser chooser;
    lstmrt_screen_scratch screen; /* its screen is NULL where logits are computed */
    lstmrt_decode_plan plan; /* of all layers as the head, where the text is run again for each token */
    size_t rows;     /* of the body */
    int64_t *ids;    /* the body's ids: one a row, or the text so far and then a padded window */
    size_t length;   /* tokens so far */
    int64_t pending; /* a token made but not yet read */
    bool has_pending;
    bool ended;
};

static bool reruns(const lstmrt_decoder *d)
{
    return d->options.mode == LSTMRT_DECODE_WINDOW || d->options.mode == LSTMRT_DECODE_GROWING;
}

/* Workspaces shaped for the largest run there will be. */
static lstmrt_status open_workspaces(lstmrt_decoder *d, size_t longest)
{
    lstmrt_status status = lstmrt_workspace_new(d->model, &d->body);
    if (!status) status = lstmrt_workspace_shape(d->body, d->rows, longest, 1);
    d->head = d->body;
    if (status || d->rows == 1) return status;
    status = lstmrt_workspace_new(d->model, &d->head);
    return status ? status : lstmrt_workspace_shape(d->head, 1, 1, 1);
}

static lstmrt_status open_state(lstmrt_decoder *d)
{
    lstmrt_status status = LSTMRT_OK;
    if (reruns(d)) {
        status = lstmrt_state_open(&d->body->own, d->model, 1);
        d->body->state = &d->body->own;
    } else {
        const bool staggered = d->options.mode == LSTMRT_DECODE_STAGGERED;
        status = lstmrt_state_new(d->model, d->rows + staggered, &d->state);
        d->body->begun = staggered;
        d->body->state = d->state;
    }
    d->head->state = d->body->state; /* the head has no recurrent layer: it only must not be NULL */
    return status;
}

static lstmrt_status fill(lstmrt_decoder *d, lstmrt_model *model, const lstmrt_decode_options *options)
{
    lstmrt_status status = lstmrt_decode_check(model, options);
    if (status) return status;
    d->model = model;
    d->options = *options;
    d->rows = options->mode == LSTMRT_DECODE_STAGGERED ? options->window : 1;
    d->plan = lstmrt_decode_plan_of(model);
    if (reruns(d)) d->plan.head_begin = 0;
    const size_t longest = options->mode == LSTMRT_DECODE_WINDOW    ? options->window
                           : options->mode == LSTMRT_DECODE_GROWING ? options->max_length
                                                                    : 1;
    status = lstmrt_chooser_open(&d->chooser, model, &d->plan, options);
    if (!status) status = open_workspaces(d, longest);
    if (!status) status = open_state(d);
    if (!status && d->chooser.plain) status = lstmrt_decode_open_screen(model, &d->plan, 1, &d->screen);
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
    lstmrt_chooser_close(&decoder->chooser);
    lstmrt_screen_close(&decoder->screen);
    lstmrt_release(decoder->ids);
    lstmrt_release(decoder);
}

/* All windows that position `length` belongs to read its id, the oldest in the first row. The one that starts there begins at
 * zero, in the last row: its state is that of a row more, which is never written. Once there are as many as rows, each
 * moves to the row of the one before it. */
static lstmrt_status read_step(lstmrt_decoder *d, int64_t id)
{
    d->body->moved = d->options.mode == LSTMRT_DECODE_STAGGERED && d->length >= d->rows;
    const size_t rows = d->length < d->rows ? d->length + 1 : d->rows;
    const lstmrt_status status = lstmrt_workspace_shape(d->body, rows, 1, 1);
    if (status) return status;
    for (size_t row = 0; row < rows; row++) d->ids[row] = id;
    d->length++;
    return lstmrt_workspace_run(d->body, 0, d->plan.head_begin);
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

/* Both run the layers before `end`. */
static lstmrt_status head_of_step(lstmrt_decoder *d, size_t end)
{
    if (d->head != d->body) lstmrt_cross(&d->plan, d->body, 0, d->head, 0); /* the window that is complete now */
    return lstmrt_workspace_run(d->head, d->plan.head_begin, end);
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
    lstmrt_status status = lstmrt_workspace_shape(d->body, 1, time, 1);
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
static lstmrt_status choose_screened(lstmrt_decoder *d, int64_t *id)
{
    const size_t output = d->plan.head_end - 1;
    const lstmrt_status status = run_head(d, output);
    if (status) return status;
    const float *x = last_row(d, d->model->layers[output].step.inputs[0]);
    *id = (int64_t)*lstmrt_screen_argmax(&d->screen, d->head, x, 0, 1);
    return status;
}

static lstmrt_status choose_from_logits(lstmrt_decoder *d, int64_t *id)
{
    const lstmrt_status status = run_head(d, d->plan.head_end);
    if (!status) *id = lstmrt_chooser_choose(&d->chooser, last_row(d, d->plan.logits));
    return status;
}

/* With staggered windows the text stands behind as much padding as the first windows need. */
static bool wants_padding(const lstmrt_decoder *d)
{
    return d->options.mode == LSTMRT_DECODE_STAGGERED && d->length + 1 < d->rows;
}

/* Around the work for up to `n` ids; head and body are never at work at once. */
static lstmrt_fp_state begin(lstmrt_decoder *d, size_t n)
{
    const lstmrt_fp_state was = lstmrt_fp_flush_denormals();
    lstmrt_call_begin(d->body, n);
    d->head->threads = d->body->threads;
    return was;
}

static void end(lstmrt_decoder *d, lstmrt_fp_state was)
{
    lstmrt_call_end(d->body);
    d->head->threads = 1;
    lstmrt_fp_restore(was);
}

lstmrt_status lstmrt_decoder_prompt(lstmrt_decoder *d, const int64_t *ids, size_t n, int64_t budget, size_t *taken)
{
    const int64_t deadline = lstmrt_clock() + budget;
    const lstmrt_fp_state was = begin(d, n);
    lstmrt_status status = d->has_pending ? read_id(d, d->pending) : LSTMRT_OK;
    d->has_pending = false;
    size_t i = 0;
    while (!status && i < n) {
        if (wants_padding(d)) {
            status = read_step(d, d->options.pad_id);
        } else {
            lstmrt_sampler_see(&d->chooser.sampler, ids[i]);
            status = read_id(d, ids[i]);
            if (!status) i++;
        }
        if (lstmrt_clock() > deadline) break;
    }
    end(d, was);
    *taken = i;
    return status;
}

static lstmrt_status make_id(lstmrt_decoder *d, int64_t *id)
{
    const lstmrt_status status = d->has_pending ? read_id(d, d->pending) : LSTMRT_OK;
    d->has_pending = false;
    if (status) return status;
    return d->screen.screen ? choose_screened(d, id) : choose_from_logits(d, id);
}

lstmrt_status lstmrt_decoder_next(lstmrt_decoder *d, int64_t *ids, size_t n, int64_t budget, size_t *made, bool *ended)
{
    const int64_t deadline = lstmrt_clock() + budget;
    const lstmrt_fp_state was = begin(d, n);
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
        d->ended = lstmrt_chooser_ends(&d->chooser, id);
        if (d->ended) break;
        lstmrt_sampler_see(&d->chooser.sampler, id);
        ids[(*made)++] = d->pending = id;
        d->has_pending = true;
        if (lstmrt_clock() > deadline) break;
    }
    end(d, was);
    *ended = d->ended;
    return status;
}
