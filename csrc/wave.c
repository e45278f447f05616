/* Recurrent layers at once, a block of time steps at a time: layers that follow one another, each on blocks that the one
 * before it has done, or two that do not wait for each other, such as the directions of one. What stands between them and
 * works row by row runs along. Threads take blocks as these become ready: one that wakes up late, or leaves, stops nobody. */
#include <stdatomic.h>

#include "recurrent.h"

enum {
    MOST_STAGES = 8,
    FEWEST_STEPS = 4,         /* of a block: fewer read input weights too often */
    LEAD = 2,                 /* blocks that a thread's stage is ahead of another before it turns to that one */
    BLOCK_COST = 8 * 1024,    /* of taking a block, between near cores; see share.c */
    SLOWEST = 8               /* products in a nanosecond, where none were timed yet */
};

/* A recurrent layer and the others up to the next one, which one thread at a time runs for a block. */
typedef struct {
    _Alignas(LSTMRT_ALIGNMENT) atomic_size_t done; /* time steps */
    atomic_bool taken;
    bool follows; /* the stage before it, block for block */
    size_t steps; /* of a block */
    size_t cost;  /* of all time steps; see share.c */
    const lstmrt_layer *begin, *end;
    lstmrt_workspace *workspace;
    lstmrt_status status;
} wave_stage;

typedef struct {
    wave_stage stages[MOST_STAGES];
    size_t n_stages, time;
    size_t largest; /* cost of a stage */
    atomic_bool failed;
} wave;

/* ---- which layers ---- */

static bool is_made_by(const lstmrt_layer *begin, const lstmrt_layer *end, int32_t value)
{
    for (const lstmrt_layer *layer = begin; layer < end; layer++)
        for (size_t o = 0; o < LSTMRT_MAX_OUTPUTS; o++)
            if (layer->step.outputs[o] == value) return true;
    return false;
}

/* Whether a layer can run a time step when its inputs are there up to that step. */
static bool goes_by_steps(const lstmrt_model *model, const lstmrt_layer *layer)
{
    const lstmrt_step *step = &layer->step;
    if (layer->dynamic) return false; /* reads whole sequences: the scale of one is that of all its steps */
    if (!lstmrt_op_recurrent(step->op))
        return lstmrt_op_rowwise(step->op) && lstmrt_over_time(lstmrt_output(model, step, 0));
    const bool pairs = layer->pairs_with_next || (layer > model->layers && layer[-1].pairs_with_next);
    return !step->reverse && !pairs && lstmrt_over_time(lstmrt_input(model, step, 0));
}

/* Whether it can do so when those are made by the layers from `first` on, which do too. */
static bool can_follow(const lstmrt_model *model, const lstmrt_layer *first, const lstmrt_layer *layer)
{
    if (!goes_by_steps(model, layer)) return false;
    for (size_t i = 0; i < LSTMRT_MAX_INPUTS; i++) {
        const lstmrt_value *x = lstmrt_input(model, &layer->step, i);
        if (x && !lstmrt_over_time(x) && is_made_by(first, layer, layer->step.inputs[i])) return false;
    }
    return true;
}

/* Layers from `first` on that can run as a wave, or 0; how many of them are recurrent. */
static size_t stack_length(const lstmrt_model *model, const lstmrt_layer *first, size_t *recurrent)
{
    const lstmrt_layer *const end = model->layers + model->n_layers;
    size_t length = 0;
    *recurrent = 0;
    if (!lstmrt_op_recurrent(first->step.op)) return 0;
    for (const lstmrt_layer *layer = first; layer < end && can_follow(model, first, layer); layer++) {
        if (!lstmrt_op_recurrent(layer->step.op)) continue;
        if (*recurrent == MOST_STAGES) break;
        length = (size_t)(layer - first) + 1;
        ++*recurrent;
    }
    return *recurrent > 1 ? length : 0;
}

void lstmrt_wave_find(lstmrt_model *model)
{
    for (size_t i = 0, recurrent; i < model->n_layers; i += model->layers[i].stack ? model->layers[i].stack : 1) {
        model->layers[i].stack = stack_length(model, &model->layers[i], &recurrent);
        if (model->layers[i].stack && recurrent - 1 > model->n_beside) model->n_beside = recurrent - 1;
    }
}

/* ---- stages, and when they pay ---- */

static void list_stages(const lstmrt_workspace *ws, const lstmrt_layer *first, size_t length, wave *w)
{
    *w = (wave){.time = ws->time};
    for (const lstmrt_layer *layer = first; layer < first + length; layer++) {
        if (lstmrt_op_recurrent(layer->step.op)) {
            wave_stage *begun = &w->stages[w->n_stages++];
            begun->begin = layer;
            begun->follows = first->stack && w->n_stages > 1;
        }
        wave_stage *stage = &w->stages[w->n_stages - 1];
        stage->end = layer + 1;
        stage->cost = lstmrt_size_sum(stage->cost, lstmrt_cost_alone(ws, layer));
        if (stage->cost > w->largest) w->largest = stage->cost;
    }
}

/* In blocks of `steps`, by the threads of the workspace. */
static size_t wave_cost(const lstmrt_workspace *ws, const wave *w, size_t threads, size_t steps)
{
    const size_t parts = threads < w->n_stages ? threads : w->n_stages, blocks = (w->time + steps - 1) / steps;
    size_t sum = 0, waited = 0, exchanged = 0;
    for (size_t i = 0; i < w->n_stages; i++) {
        const wave_stage *stage = &w->stages[i];
        sum += stage->cost;
        if (stage->follows && i < parts) waited += stage->cost / blocks;
        if (i > 0) exchanged += (stage->begin->inputs + stage->begin->width) * ws->batch * w->time;
    }
    const size_t dealt = sum / parts > w->largest ? sum / parts : w->largest;
    const size_t taking = BLOCK_COST * ws->distance * blocks * w->n_stages / parts;
    return dealt + waited + taking + lstmrt_cost_exchanged(ws, exchanged);
}

/* Whether the stage's weights are about as much as a core's cache holds: larger ones are read too often by short blocks. */
static bool is_small(const lstmrt_workspace *ws, const wave_stage *stage)
{
    size_t weights = 0;
    for (const lstmrt_layer *layer = stage->begin; layer < stage->end; layer++)
        weights += lstmrt_layer_weights(ws->model, layer);
    return weights <= 2 * ws->model->cache;
}

static size_t one_by_one(const lstmrt_workspace *ws, const lstmrt_layer *first, size_t length)
{
    size_t sum = 0;
    for (const lstmrt_layer *layer = first; layer < first + length; layer++)
        sum = lstmrt_size_sum(sum, lstmrt_cost_shared(ws, layer));
    return sum;
}

/* As lstmrt_wave_length says, and what is to be done. */
static size_t plan(const lstmrt_workspace *ws, const lstmrt_layer *first, size_t n, size_t *cost, wave *w)
{
    const size_t threads = lstmrt_parts(ws, SIZE_MAX, 1), length = first->stack ? first->stack : first->pairs_with_next ? 2 : 0;
    if (threads < 2 || length == 0 || length > n) return 0;
    list_stages(ws, first, length, w);
    size_t steps = FEWEST_STEPS, most = lstmrt_recurrence_most(ws);
    for (size_t i = 0; i < w->n_stages; i++) {
        if (w->stages[i].follows && (ws->time <= FEWEST_STEPS || !is_small(ws, &w->stages[i]))) return 0;
        if (!w->stages[i].begin->goes_ahead || ws->batch > 1) continue;
        steps = LSTMRT_AHEAD_ROWS;
        most = LSTMRT_AHEAD_STEPS;
    }
    if (steps > most) steps = most;
    while (2 * steps <= most && wave_cost(ws, w, threads, 2 * steps) < wave_cost(ws, w, threads, steps)) steps *= 2;
    for (size_t i = 0; i < w->n_stages; i++) w->stages[i].steps = steps;
    *cost = wave_cost(ws, w, threads, steps);
    return *cost < one_by_one(ws, first, length) ? length : 0;
}

size_t lstmrt_wave_length(const lstmrt_workspace *ws, const lstmrt_layer *first, size_t n, size_t *cost)
{
    wave w;
    return plan(ws, first, n, cost, &w);
}

/* ---- running ---- */

static void place_part(const lstmrt_workspace *ws, int32_t index, size_t t, size_t b)
{
    if (index < 0) return;
    const lstmrt_value *value = &ws->model->values[index];
    const lstmrt_slot *slot = &ws->slots[index];
    const size_t at = lstmrt_row_at(value, ws, t, b) * slot->stride * lstmrt_item_size(value->dtype);
    ws->part_slots[index] = (lstmrt_slot){(char *)slot->data + at, slot->stride};
}

/* Rows of time steps [begin, begin + steps) through a layer that knows no others: in a workspace that has these alone. */
static lstmrt_status run_rows(const lstmrt_layer *layer, const lstmrt_workspace *ws, size_t begin, size_t steps)
{
    const lstmrt_model *model = ws->model;
    const bool apart = lstmrt_output(model, &layer->step, 0)->rows == LSTMRT_ROWS_BATCH_TIME;
    lstmrt_workspace part = *ws;
    part.slots = ws->part_slots;
    part.time = steps;
    part.batch = apart ? 1 : ws->batch;
    lstmrt_status status = LSTMRT_OK;
    for (size_t b = 0; !status && b < ws->batch; b += part.batch) {
        for (size_t i = 0; i < LSTMRT_MAX_INPUTS; i++) place_part(ws, layer->step.inputs[i], begin, b);
        for (size_t i = 0; i < LSTMRT_MAX_OUTPUTS; i++) place_part(ws, layer->step.outputs[i], begin, b);
        status = lstmrt_layer_run(layer, &part);
    }
    return status;
}

static lstmrt_status run_block(const wave_stage *stage, size_t steps, size_t next)
{
    lstmrt_workspace *ws = stage->workspace;
    lstmrt_status status = LSTMRT_OK;
    for (const lstmrt_layer *layer = stage->begin; !status && layer < stage->end; layer++)
        status = lstmrt_op_recurrent(layer->step.op) ? lstmrt_recurrence_block(&ws->runs[layer->cell], steps, next)
                                                     : run_rows(layer, ws, stage->done, steps);
    return status;
}

static size_t done_by(const wave_stage *stage) { return atomic_load_explicit(&stage->done, memory_order_acquire); }

/* Time steps of the block that begins `done` steps in. */
static size_t block_at(const wave *w, const wave_stage *stage, size_t done)
{
    return w->time - done < stage->steps ? w->time - done : stage->steps;
}

/* Time steps whose inputs are there. */
static size_t inputs_of(const wave *w, const wave_stage *stage) { return stage->follows ? done_by(stage - 1) : w->time; }

static bool is_ready(const wave *w, const wave_stage *stage)
{
    const size_t done = done_by(stage);
    return done < w->time && done + block_at(w, stage, done) <= inputs_of(w, stage);
}

static bool is_free(const wave *w, const wave_stage *stage)
{
    return !atomic_load_explicit(&stage->taken, memory_order_relaxed) && is_ready(w, stage);
}

static bool is_over(const wave *w)
{
    size_t done = 0;
    while (done < w->n_stages && done_by(&w->stages[done]) == w->time) done++;
    return done == w->n_stages || atomic_load(&w->failed);
}

/* The free stage that is most behind; or that which this thread had last, whose weights are near, until it is far ahead. */
static wave_stage *choose(wave *w, wave_stage *last)
{
    wave_stage *behind = NULL;
    for (wave_stage *stage = w->stages; stage < w->stages + w->n_stages; stage++)
        if (is_free(w, stage) && (!behind || done_by(stage) < done_by(behind))) behind = stage;
    const bool stays = behind && last && is_free(w, last) && done_by(last) <= done_by(behind) + LEAD * last->steps;
    return stays ? last : behind;
}

/* Takes a stage that has a block to run, where there is one. */
static wave_stage *take(wave *w, wave_stage *last)
{
    for (wave_stage *stage; (stage = choose(w, last));) {
        if (atomic_exchange(&stage->taken, true)) continue;
        if (is_ready(w, stage)) return stage;
        atomic_store(&stage->taken, false);
    }
    return NULL;
}

/* The next block of a stage that was taken; those after it may have their inputs prepared where these are there. Nanoseconds
 * that the largest stage's would take. */
static int64_t advance(wave *w, wave_stage *stage)
{
    const int64_t start = lstmrt_clock();
    const size_t done = done_by(stage), steps = block_at(w, stage, done), next = block_at(w, stage, done + steps);
    const bool prepares = stage->steps <= LSTMRT_AHEAD_STEPS && done + steps + next <= inputs_of(w, stage);
    stage->status = run_block(stage, steps, prepares ? next : 0);
    if (stage->status) atomic_store(&w->failed, true);
    atomic_store_explicit(&stage->done, done + steps, memory_order_release);
    atomic_store_explicit(&stage->taken, false, memory_order_release);
    return (lstmrt_clock() - start) * (int64_t)w->largest / (int64_t)(stage->cost + 1);
}

static bool can_go_on(const void *argument)
{
    const wave *w = argument;
    for (const wave_stage *stage = w->stages; stage < w->stages + w->n_stages; stage++)
        if (is_free(w, stage)) return true;
    return is_over(w);
}

static void wave_part(const void *argument, size_t part, size_t parts)
{
    wave *w = *(wave *const *)argument;
    wave_stage *last = NULL;
    int64_t longest = (int64_t)(w->largest / w->time * w->stages->steps / SLOWEST);
    bool timed = false;
    (void)parts;
    while (!is_over(w)) {
        wave_stage *stage = take(w, last);
        if (stage) {
            const int64_t longest_now = advance(w, last = stage);
            longest = timed && longest > longest_now ? longest : longest_now;
            timed = true;
        } else if (!lstmrt_pool_await(can_go_on, w, part, longest)) {
            break;
        }
    }
}

static lstmrt_status begin_all(wave *w)
{
    lstmrt_status status = LSTMRT_OK;
    for (wave_stage *stage = w->stages; !status && stage < w->stages + w->n_stages; stage++)
        status = lstmrt_recurrence_begin(stage->begin, stage->workspace, &stage->workspace->runs[stage->begin->cell]);
    return status;
}

static lstmrt_status finish_all(const wave *w)
{
    for (const wave_stage *stage = w->stages; stage < w->stages + w->n_stages; stage++) {
        if (stage->status) return stage->status;
        lstmrt_recurrence_finish(&stage->workspace->runs[stage->begin->cell]);
    }
    return LSTMRT_OK;
}

size_t lstmrt_wave_run(lstmrt_workspace *ws, const lstmrt_layer *first, size_t n, lstmrt_status *status)
{
    wave w, *const argument = &w;
    size_t cost;
    const size_t length = lstmrt_pool_rests() ? 0 : plan(ws, first, n, &cost, &w);
    if (length == 0) return 0;
    lstmrt_workspace own = lstmrt_workspace_alone(ws);
    for (size_t i = 0; i < w.n_stages; i++) w.stages[i].workspace = i == 0 ? &own : lstmrt_workspace_beside(ws, i - 1);
    *status = begin_all(&w);
    if (*status) return length;
    const size_t threads = lstmrt_parts(ws, SIZE_MAX, 1);
    lstmrt_pool_run(wave_part, &argument, threads < w.n_stages ? threads : w.n_stages);
    *status = finish_all(&w);
    return length;
}
