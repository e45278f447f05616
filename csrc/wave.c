/* Recurrent layers that follow one another, at once: while one works on a block of time steps, the next works on the block
 * before it, on a thread of its own. What stands between them and works row by row runs along. */
#include "recurrent.h"

enum {
    MOST_STAGES = 8,
    FEWEST_STEPS = 4,        /* of a block: fewer read input weights too often */
    SECTION_COST = 20 * 1024 /* of meeting the other threads; see share.c */
};

/* Some layers of the stack, which one thread runs for a block after the other. */
typedef struct {
    const lstmrt_layer *begin, *end;
    lstmrt_workspace *workspace;
    size_t done; /* time steps */
    lstmrt_status status;
} wave_stage;

typedef struct {
    wave_stage stages[MOST_STAGES];
    size_t n_stages;
    size_t steps;   /* of a block */
    size_t section; /* stage s begins in section s */
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
        length = (size_t)(layer - first) + 1;
        ++*recurrent;
    }
    return *recurrent > 1 ? length : 0;
}

void lstmrt_wave_find(lstmrt_model *model)
{
    for (size_t i = 0, recurrent; i < model->n_layers; i += model->layers[i].stack ? model->layers[i].stack : 1) {
        model->layers[i].stack = stack_length(model, &model->layers[i], &recurrent);
        const size_t beside = (recurrent < MOST_STAGES ? recurrent : MOST_STAGES) - 1;
        if (model->layers[i].stack && beside > model->n_beside) model->n_beside = beside;
    }
}

/* ---- stages, and when they pay ---- */

/* Of a time step: a single row takes as long as two where weights are read for it alone. */
static size_t cost_of(const lstmrt_workspace *ws, const lstmrt_layer *layer)
{
    return lstmrt_layer_products(ws->model, layer, ws->batch, ws->batch > 2 ? ws->batch : 2);
}

/* Deals the stack out to stages that cost at most `limit` each; false where that takes more than `most`. */
static bool deal(lstmrt_workspace *ws, const lstmrt_layer *first, size_t most, size_t limit, wave *w)
{
    size_t spent = 0;
    w->n_stages = 0;
    for (const lstmrt_layer *layer = first; layer < first + first->stack; layer++) {
        const size_t cost = cost_of(ws, layer);
        if (layer == first || spent + cost > limit) {
            if (w->n_stages == most) return false;
            w->stages[w->n_stages++] = (wave_stage){.begin = layer};
            spent = 0;
        }
        w->stages[w->n_stages - 1].end = layer + 1;
        spent += cost;
    }
    return true;
}

/* Deals it out as evenly as `most` stages can; the cost of the largest stage. */
static size_t deal_evenly(lstmrt_workspace *ws, const lstmrt_layer *first, size_t most, wave *w)
{
    size_t low = 0, high = 0;
    for (const lstmrt_layer *layer = first; layer < first + first->stack; layer++) {
        const size_t cost = cost_of(ws, layer);
        low = cost > low ? cost : low;
        high = lstmrt_size_sum(high, cost);
    }
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (deal(ws, first, most, middle, w))
            high = middle;
        else
            low = middle + 1;
    }
    deal(ws, first, most, high, w);
    return high;
}

/* Of all time steps, where each takes the largest stage `largest`. */
static size_t wave_cost(const lstmrt_workspace *ws, const wave *w, size_t largest, size_t steps)
{
    const size_t more = w->n_stages - 1;
    return largest * (ws->time + more * steps) + SECTION_COST * (ws->time / steps + more);
}

/* Of all time steps of the stack, where layers run one after the other and threads share each step. */
static size_t shared_cost(lstmrt_workspace *ws, const lstmrt_layer *first, size_t threads)
{
    size_t sum = 0;
    for (const lstmrt_layer *layer = first; layer < first + first->stack; layer++) {
        const size_t recurrent = lstmrt_layer_products(ws->model, layer, 0, 1);
        const size_t parts = lstmrt_parts(ws, recurrent, ws->batch), rows = ws->batch > 2 ? ws->batch : 2;
        const size_t meetings = parts < 2 || recurrent == 0 ? 0 : layer->phases[1] ? 2 : 1;
        sum += (cost_of(ws, layer) - recurrent * rows) / threads + recurrent * rows / parts + meetings * SECTION_COST;
    }
    return sum * ws->time;
}

/* Whether every stage's weights are about as much as a core's cache holds: larger ones are read too often by short blocks. */
static bool stages_are_small(const lstmrt_workspace *ws, const wave *w)
{
    for (const wave_stage *stage = w->stages; stage < w->stages + w->n_stages; stage++) {
        size_t weights = 0;
        for (const lstmrt_layer *layer = stage->begin; layer < stage->end; layer++)
            weights += lstmrt_layer_weights(ws->model, layer);
        if (weights > 2 * ws->model->cache) return false;
    }
    return true;
}

static bool plan(lstmrt_workspace *ws, const lstmrt_layer *first, wave *w)
{
    const size_t threads = lstmrt_parts(ws, SIZE_MAX, 1), most = lstmrt_recurrence_most(ws);
    if (ws->time <= FEWEST_STEPS || threads < 2 || lstmrt_pool_rests()) return false;
    const size_t largest = deal_evenly(ws, first, threads < MOST_STAGES ? threads : MOST_STAGES, w);
    if (w->n_stages < 2 || !stages_are_small(ws, w)) return false;
    w->steps = most < FEWEST_STEPS ? most : FEWEST_STEPS;
    while (2 * w->steps <= most && wave_cost(ws, w, largest, 2 * w->steps) < wave_cost(ws, w, largest, w->steps))
        w->steps *= 2;
    return wave_cost(ws, w, largest, w->steps) < shared_cost(ws, first, threads);
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

static lstmrt_status run_block(const wave_stage *stage, size_t steps)
{
    lstmrt_workspace *ws = stage->workspace;
    lstmrt_status status = LSTMRT_OK;
    for (const lstmrt_layer *layer = stage->begin; !status && layer < stage->end; layer++)
        status = lstmrt_op_recurrent(layer->step.op) ? lstmrt_recurrence_block(&ws->runs[layer->cell], steps, 0)
                                                     : run_rows(layer, ws, stage->done, steps);
    return status;
}

static void wave_part(const void *argument, size_t part, size_t parts)
{
    wave *w = *(wave *const *)argument;
    for (size_t i = part; i < w->n_stages && i <= w->section; i += parts) {
        wave_stage *stage = &w->stages[i];
        const size_t left = stage->workspace->time - stage->done, steps = left < w->steps ? left : w->steps;
        if (steps > 0 && !stage->status) stage->status = run_block(stage, steps);
        stage->done += steps;
    }
}

static lstmrt_status begin_all(const wave *w)
{
    lstmrt_status status = LSTMRT_OK;
    for (size_t i = 0; i < w->n_stages; i++)
        for (const lstmrt_layer *layer = w->stages[i].begin; !status && layer < w->stages[i].end; layer++)
            if (lstmrt_op_recurrent(layer->step.op))
                status = lstmrt_recurrence_begin(layer, w->stages[i].workspace, &w->stages[i].workspace->runs[layer->cell]);
    return status;
}

static lstmrt_status finish_all(const wave *w)
{
    for (size_t i = 0; i < w->n_stages; i++) {
        if (w->stages[i].status) return w->stages[i].status;
        for (const lstmrt_layer *layer = w->stages[i].begin; layer < w->stages[i].end; layer++)
            if (lstmrt_op_recurrent(layer->step.op)) lstmrt_recurrence_finish(&w->stages[i].workspace->runs[layer->cell]);
    }
    return LSTMRT_OK;
}

bool lstmrt_wave_run(lstmrt_workspace *ws, const lstmrt_layer *first, lstmrt_status *status)
{
    wave w = {.section = 0}, *const argument = &w;
    if (!plan(ws, first, &w)) return false;
    lstmrt_workspace own = lstmrt_workspace_alone(ws);
    for (size_t i = 0; i < w.n_stages; i++) w.stages[i].workspace = i == 0 ? &own : lstmrt_workspace_beside(ws, i - 1);
    *status = begin_all(&w);
    if (*status) return true;
    const size_t blocks = (ws->time + w.steps - 1) / w.steps;
    for (; w.section < blocks + w.n_stages - 1; w.section++) lstmrt_pool_run(wave_part, &argument, w.n_stages);
    *status = finish_all(&w);
    return true;
}
