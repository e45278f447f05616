/* Several texts decoded side by side: the rows of one step, so that weights are read once for all of them.
 *
 * A stream has one row of the body, or with staggered windows one for each window that a token belongs to. Streams in
 * use stand in front, in `order`; the last one moves into the place of one that leaves. What a stream reads next is
 * the next id of its padding, its prompt, or what it made itself, so that some streams read their prompts while others
 * write. Where a row stands changes none of its bits.
 */
#include <string.h>

#include "decode.h"
#include "pack.h"

typedef struct {
    lstmrt_chooser chooser;
    int64_t *prompt;
    size_t n_prompt;
    size_t length;   /* ids read, padding included */
    size_t left;     /* ids that it may still make */
    int64_t newest;  /* the id it made last */
} stream;

struct lstmrt_batch {
    lstmrt_model *model;
    lstmrt_decode_plan plan;
    lstmrt_decode_options options; /* mode, window and padding: of all streams */
    lstmrt_workspace *body, *head;
    lstmrt_state *state;
    lstmrt_screen_scratch screen; /* its screen is NULL where there is none */
    stream *streams; /* by slot */
    size_t *order;   /* the first `n` are the slots of streams in use, in the order of their rows; then the free ones */
    size_t *asking;  /* scratch: places in `order` of the streams that want logits */
    size_t n, most;
    size_t rows; /* of a stream */
    int64_t *ids; /* one a row of the body */
};

static lstmrt_status open(lstmrt_batch *b)
{
    const size_t rows = lstmrt_size_product(b->most, b->rows);
    b->streams = lstmrt_allocate_array(b->most, sizeof *b->streams);
    b->order = lstmrt_allocate_array(b->most, sizeof *b->order);
    b->asking = lstmrt_allocate_array(b->most, sizeof *b->asking);
    b->ids = lstmrt_allocate_array(rows, sizeof *b->ids);
    if (!b->streams || !b->order || !b->asking || !b->ids) return LSTMRT_OUT_OF_MEMORY;
    for (size_t i = 0; i < b->most; i++) b->order[i] = i;
    lstmrt_status status = lstmrt_state_new(b->model, rows, &b->state);
    if (!status) status = lstmrt_workspace_new(b->model, &b->body);
    if (!status) status = lstmrt_workspace_new(b->model, &b->head);
    if (!status) status = lstmrt_workspace_shape(b->body, rows, 1, 1);
    if (!status) status = lstmrt_workspace_shape(b->head, b->most, 1, 1);
    if (!status) status = lstmrt_decode_open_screen(b->model, &b->plan, b->most, &b->screen);
    if (status) return status;
    b->body->state = b->head->state = b->state;
    b->body->slots[b->model->inputs[0]] = b->head->slots[b->model->inputs[0]] = (lstmrt_slot){b->ids, 1};
    return LSTMRT_OK;
}

lstmrt_status lstmrt_batch_new(lstmrt_model *model, const lstmrt_decode_options *options, size_t streams,
                               lstmrt_batch **batch)
{
    *batch = NULL;
    lstmrt_status status = lstmrt_decode_check(model, options);
    if (status) return status;
    const bool carries = options->mode == LSTMRT_DECODE_STATEFUL || options->mode == LSTMRT_DECODE_STAGGERED;
    if (!carries || streams == 0) return LSTMRT_BAD_ARGUMENT;
    lstmrt_batch *made = lstmrt_allocate(sizeof *made);
    if (!made) return LSTMRT_OUT_OF_MEMORY;
    made->model = model;
    made->plan = lstmrt_decode_plan_of(model);
    made->options = *options;
    made->most = streams;
    made->rows = options->mode == LSTMRT_DECODE_STAGGERED ? options->window : 1;
    status = open(made);
    if (status)
        lstmrt_batch_free(made);
    else
        *batch = made;
    return status;
}

static void close_stream(stream *s)
{
    lstmrt_chooser_close(&s->chooser);
    lstmrt_release(s->prompt);
    *s = (stream){0};
}

void lstmrt_batch_free(lstmrt_batch *b)
{
    if (!b) return;
    if (b->streams)
        for (size_t i = 0; i < b->most; i++) close_stream(&b->streams[i]);
    lstmrt_workspace_free(b->body);
    lstmrt_workspace_free(b->head);
    lstmrt_state_free(b->state);
    lstmrt_screen_close(&b->screen);
    lstmrt_release(b->streams);
    lstmrt_release(b->order);
    lstmrt_release(b->asking);
    lstmrt_release(b->ids);
    lstmrt_release(b);
}

/* ---- streams come and go ---- */

static lstmrt_status open_stream(const lstmrt_batch *b, const lstmrt_decode_options *options, const int64_t *ids, size_t n,
                                 size_t most_made, stream *s)
{
    s->prompt = lstmrt_allocate_array(n, sizeof *s->prompt);
    if (!s->prompt) return LSTMRT_OUT_OF_MEMORY;
    memcpy(s->prompt, ids, n * sizeof *ids);
    s->n_prompt = n;
    s->left = most_made;
    const lstmrt_status status = lstmrt_chooser_open(&s->chooser, b->model, &b->plan, options);
    if (status) return status;
    for (size_t i = 0; i < n; i++) lstmrt_sampler_see(&s->chooser.sampler, ids[i]);
    return LSTMRT_OK;
}

lstmrt_status lstmrt_batch_add(lstmrt_batch *b, const lstmrt_decode_options *options, const int64_t *ids, size_t n,
                               size_t most_made, size_t *slot)
{
    if (b->n == b->most || n == 0 || most_made == 0) return LSTMRT_BAD_ARGUMENT;
    const size_t place = b->n, free_slot = b->order[place];
    stream *s = &b->streams[free_slot];
    const lstmrt_status status = open_stream(b, options, ids, n, most_made, s);
    if (status) {
        close_stream(s);
        return status;
    }
    for (size_t row = 0; row < b->rows; row++) lstmrt_state_reset_row(b->state, place * b->rows + row);
    *slot = free_slot;
    b->n++;
    return LSTMRT_OK;
}

static void leave(lstmrt_batch *b, size_t place)
{
    const size_t slot = b->order[place], last = --b->n;
    close_stream(&b->streams[slot]);
    b->order[place] = b->order[last];
    b->order[last] = slot;
    if (place == last) return;
    for (size_t row = 0; row < b->rows; row++)
        lstmrt_state_move_row(b->state, last * b->rows + row, place * b->rows + row);
}

lstmrt_status lstmrt_batch_drop(lstmrt_batch *b, size_t slot)
{
    for (size_t place = 0; place < b->n; place++) {
        if (b->order[place] != slot) continue;
        leave(b, place);
        return LSTMRT_OK;
    }
    return LSTMRT_BAD_ARGUMENT;
}

/* ---- a step ---- */

/* Ids of padding before the prompt: as many as the first window lacks. */
static size_t padding_of(const lstmrt_batch *b) { return b->rows - 1; }

static int64_t next_id(const lstmrt_batch *b, const stream *s)
{
    const size_t padding = padding_of(b);
    if (s->length < padding) return b->options.pad_id;
    return s->length - padding < s->n_prompt ? s->prompt[s->length - padding] : s->newest;
}

/* Every row of a stream reads its next id; of staggered windows one begins anew, in the row of the one that was left
 * behind. */
static lstmrt_status read_ids(lstmrt_batch *b)
{
    for (size_t place = 0; place < b->n; place++) {
        stream *s = &b->streams[b->order[place]];
        const int64_t id = next_id(b, s);
        for (size_t row = 0; row < b->rows; row++) b->ids[place * b->rows + row] = id;
        if (b->options.mode == LSTMRT_DECODE_STAGGERED)
            lstmrt_state_reset_row(b->state, place * b->rows + s->length % b->rows);
        s->length++;
    }
    const lstmrt_status status = lstmrt_workspace_shape(b->body, b->n * b->rows, 1, 1);
    return status ? status : lstmrt_workspace_run(b->body, 0, b->plan.head_begin);
}

/* The places of streams that have read all they were given. */
static size_t find_asking(lstmrt_batch *b)
{
    size_t n = 0;
    for (size_t place = 0; place < b->n; place++) {
        const stream *s = &b->streams[b->order[place]];
        if (s->length >= padding_of(b) + s->n_prompt) b->asking[n++] = place;
    }
    return n;
}

static bool can_screen(const lstmrt_batch *b, size_t n)
{
    if (!b->screen.screen) return false;
    for (size_t i = 0; i < n; i++)
        if (!b->streams[b->order[b->asking[i]]].chooser.plain) return false;
    return true;
}

/* Moves the rows of the windows that are complete to the head, and runs its layers before `end`. */
static lstmrt_status run_head(lstmrt_batch *b, size_t n, size_t end)
{
    const lstmrt_status status = lstmrt_workspace_shape(b->head, n, 1, 1);
    if (status) return status;
    for (size_t i = 0; i < n; i++) {
        const size_t place = b->asking[i], length = b->streams[b->order[place]].length;
        lstmrt_cross(&b->plan, b->body, place * b->rows + length % b->rows, b->head, i);
    }
    return lstmrt_workspace_run(b->head, b->plan.head_begin, end);
}

/* The ids that the `n` streams which ask choose. */
static lstmrt_status choose(lstmrt_batch *b, size_t n)
{
    const bool screened = can_screen(b, n);
    const size_t end = b->plan.head_end - screened;
    const lstmrt_status status = run_head(b, n, end);
    if (status) return status;
    const lstmrt_slot *from = &b->head->slots[screened ? b->model->layers[end].step.inputs[0] : b->plan.logits];
    const float *rows = from->data;
    const size_t *best = screened ? lstmrt_screen_argmax(&b->screen, b->head, rows, from->stride, n) : NULL;
    for (size_t i = 0; i < n; i++) {
        stream *s = &b->streams[b->order[b->asking[i]]];
        s->newest = best ? (int64_t)best[i] : lstmrt_chooser_choose(&s->chooser, rows + i * from->stride);
    }
    return LSTMRT_OK;
}

/* Says what the `n` streams which asked have made, and lets those go that have ended. */
static size_t hand_out(lstmrt_batch *b, size_t n, lstmrt_event *events)
{
    size_t made = 0, leaving = 0;
    for (size_t i = 0; i < n; i++) {
        const size_t place = b->asking[i], slot = b->order[place];
        stream *s = &b->streams[slot];
        const bool ending = lstmrt_chooser_ends(&s->chooser, s->newest);
        if (!ending) {
            events[made++] = (lstmrt_event){slot, s->newest};
            lstmrt_sampler_see(&s->chooser.sampler, s->newest);
            s->left--;
        }
        if (!ending && s->left > 0) continue;
        events[made++] = (lstmrt_event){slot, LSTMRT_ENDED};
        b->asking[leaving++] = place;
    }
    while (leaving > 0) leave(b, b->asking[--leaving]); /* from the last: none moves that is still to leave */
    return made;
}

static lstmrt_status step(lstmrt_batch *b, lstmrt_event *events, size_t *made)
{
    lstmrt_status status = read_ids(b);
    const size_t asking = status ? 0 : find_asking(b);
    *made = 0;
    if (asking == 0) return status;
    status = choose(b, asking);
    if (!status) *made = hand_out(b, asking, events);
    return status;
}

/* Around the work of up to `steps` steps; head and body are never at work at once. */
static lstmrt_fp_state begin(lstmrt_batch *b, size_t steps)
{
    const lstmrt_fp_state was = lstmrt_fp_flush_denormals();
    lstmrt_call_begin(b->body, steps);
    b->head->threads = b->body->threads;
    return was;
}

static void end(lstmrt_batch *b, lstmrt_fp_state was)
{
    lstmrt_call_end(b->body);
    b->head->threads = 1;
    lstmrt_fp_restore(was);
}

lstmrt_status lstmrt_batch_next(lstmrt_batch *b, size_t steps, lstmrt_event *events, size_t n, int64_t budget,
                                size_t *made)
{
    *made = 0;
    if (n < 2 * b->most) return LSTMRT_BAD_ARGUMENT;
    const int64_t deadline = lstmrt_clock() + budget;
    const lstmrt_fp_state was = begin(b, steps);
    lstmrt_status status = LSTMRT_OK;
    while (!status && steps > 0 && b->n > 0 && n - *made >= 2 * b->n) {
        size_t of_step;
        status = step(b, events + *made, &of_step);
        *made += of_step;
        if (of_step > 0) steps--;
        if (lstmrt_clock() > deadline) break;
    }
    end(b, was);
    return status;
}
