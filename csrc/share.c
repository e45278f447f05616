/* How much of a call's work is shared, and with how many threads. */
#include "program.h"

/* Costs count products, but a single row as two: its time is that of reading the weights. Some 50 make a nanosecond. */
enum {
    PART_COST = 64 * 1024,        /* of the smallest part: a section's ends take 0.2 to 0.7 us */
    SECTION_COST = 10 * 1024,     /* of those ends, between near cores */
    EXCHANGE_COST = 24,           /* of a float that another core has made */
    STEP_COST = 5 * 1024,         /* of what a time step does beside products */
    VALUE_COST = 64,              /* of a float that a step makes, whatever it does */
    BRIEF_COST = 40 * 1024,       /* of a run that is brief: about a microsecond */
    WAKING_COST = 18 * PART_COST, /* of a thread that sleeps: what it cannot do meanwhile, and 7 us of the caller's */
    FAR = 4                       /* times as much takes a section or an exchange between far cores; waking, half of that */
};

static size_t cost(size_t weights, size_t rows) { return lstmrt_size_product(weights, rows > 2 ? rows : 2); }

static size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

bool lstmrt_run_is_brief(const lstmrt_model *model, size_t batch, size_t time, size_t source)
{
    const size_t rows = lstmrt_size_product(batch, time > source ? time : source);
    size_t beside = STEP_COST * model->n_cells;
    for (size_t i = 0; i < model->n_values; i++) beside = lstmrt_size_sum(beside, VALUE_COST * (size_t)model->values[i].width);
    const bool attends = model->attended[LSTMRT_ACROSS_TIME] > 0 || model->attended[LSTMRT_ACROSS_SOURCE] > 0;
    return !attends && lstmrt_size_sum(cost(model->weights, rows), lstmrt_size_product(beside, rows)) <= BRIEF_COST;
}

lstmrt_panels lstmrt_panels_part(size_t count, size_t part, size_t parts, bool backward)
{
    return (lstmrt_panels){count * part / parts, count * (part + 1) / parts, backward};
}

/* Threads that a call may have: what the model says, or else the processors that other calls leave. */
static size_t threads_free(const lstmrt_model *model)
{
    if (model->threads) return model->threads;
    const size_t processors = model->processors, calls = lstmrt_calls();
    return processors > calls ? processors - calls + 1 : 1;
}

size_t lstmrt_parts(const lstmrt_workspace *ws, size_t weights, size_t rows)
{
    const size_t parts = smaller(ws->threads, cost(weights, rows) / PART_COST);
    return parts > 1 ? smaller(parts, threads_free(ws->model)) : 1;
}

void lstmrt_share(const lstmrt_workspace *ws, size_t weights, size_t rows, lstmrt_job *job, const void *argument)
{
    lstmrt_pool_run(job, argument, lstmrt_parts(ws, weights, rows));
}

/* ---- what sharing saves ---- */

/* Time steps of a layer, and those of them that multiply states: the first one's may be zeros. */
static size_t steps_of(const lstmrt_workspace *ws, const lstmrt_layer *layer)
{
    return lstmrt_op_has_states(layer->step.op) ? ws->time : lstmrt_length_of(lstmrt_output(ws->model, &layer->step, 0), ws);
}

static size_t state_steps_of(const lstmrt_workspace *ws, const lstmrt_layer *layer)
{
    return ws->time - (layer->skips_zeros && lstmrt_starts_from_zero(ws, layer));
}

/* Of all time steps, where so many parts share the products of inputs and those of states. */
static size_t cost_in_parts(const lstmrt_workspace *ws, const lstmrt_layer *layer, size_t x_parts, size_t h_parts)
{
    const size_t x = lstmrt_layer_products(ws->model, layer, ws->batch, 0), h = lstmrt_layer_products(ws->model, layer, 0, 1);
    const size_t of_x = lstmrt_size_product(x / x_parts, steps_of(ws, layer));
    const size_t of_h = lstmrt_size_product(cost(h, ws->batch) / h_parts, state_steps_of(ws, layer));
    return lstmrt_size_sum(lstmrt_size_sum(of_x, of_h), lstmrt_op_recurrent(layer->step.op) ? STEP_COST * ws->time : 0);
}

size_t lstmrt_cost_alone(const lstmrt_workspace *ws, const lstmrt_layer *layer) { return cost_in_parts(ws, layer, 1, 1); }

size_t lstmrt_cost_exchanged(const lstmrt_workspace *ws, size_t floats)
{
    return lstmrt_size_product(floats, EXCHANGE_COST * ws->distance);
}

size_t lstmrt_cost_shared(const lstmrt_workspace *ws, const lstmrt_layer *layer)
{
    const size_t rows = lstmrt_size_product(ws->batch, steps_of(ws, layer));
    const size_t x = lstmrt_layer_products(ws->model, layer, 1, 0), h = lstmrt_layer_products(ws->model, layer, 0, 1);
    const size_t h_parts = lstmrt_parts(ws, h, ws->batch);
    const bool beside = layer->goes_ahead && ws->batch == 1; /* the steps, which take the input part along */
    const size_t x_parts = beside ? h_parts : lstmrt_parts(ws, x, smaller(rows, LSTMRT_HOISTED_ROWS));
    const size_t h_sections = h_parts < 2 ? 0 : layer->phases[1] ? 2 * ws->time : ws->time;
    const size_t x_sections = x_parts < 2 || beside ? 0 : 1 + rows / LSTMRT_HOISTED_ROWS;
    const size_t exchanged = (h_parts > 1 ? layer->width : 0) + (x_parts > 1 ? layer->inputs : 0);
    const size_t between = lstmrt_size_sum((h_sections + x_sections) * SECTION_COST * ws->distance,
                                           lstmrt_cost_exchanged(ws, lstmrt_size_product(exchanged, rows)));
    return lstmrt_size_sum(cost_in_parts(ws, layer, x_parts, h_parts), between);
}

/* What all threads of the workspace save of what a run of it costs one. */
static size_t saved_by(const lstmrt_workspace *ws)
{
    const lstmrt_layer *const end = ws->model->layers + ws->model->n_layers;
    size_t saved = 0;
    for (const lstmrt_layer *layer = ws->model->layers, *next; layer < end;) {
        size_t alone = 0, shared;
        const size_t at_once = lstmrt_wave_length(ws, layer, (size_t)(end - layer), &shared);
        if (at_once == 0) shared = lstmrt_cost_shared(ws, layer);
        for (next = layer + (at_once > 0 ? at_once : 1); layer < next; layer++)
            alone = lstmrt_size_sum(alone, lstmrt_cost_alone(ws, layer));
        saved = lstmrt_size_sum(saved, alone > shared ? alone - shared : 0);
    }
    return saved;
}

/* Floats that the attentions of a run look at, for each row. */
static size_t attended_by(const lstmrt_workspace *ws)
{
    const size_t *attended = ws->model->attended;
    return lstmrt_size_sum(lstmrt_size_product(attended[LSTMRT_ACROSS_TIME], ws->time),
                           lstmrt_size_product(attended[LSTMRT_ACROSS_SOURCE], ws->source));
}

/* Threads that so many runs of the workspace should have. */
static size_t threads_for(lstmrt_workspace *ws, size_t runs)
{
    const size_t rows = lstmrt_size_product(runs, lstmrt_size_product(ws->batch, ws->time)), attended = attended_by(ws);
    if (cost(lstmrt_size_sum(ws->model->weights, attended), rows) <= WAKING_COST) return 1; /* as most steps do */
    ws->threads = threads_free(ws->model);
    if (ws->threads < 2) return 1;
    ws->distance = lstmrt_pool_is_far() ? FAR : 1;
    const size_t saved = lstmrt_size_sum(lstmrt_size_product(saved_by(ws), runs), cost(attended, rows) / 2);
    return saved < (ws->distance > 1 ? FAR / 2 : 1) * WAKING_COST ? 1 : ws->threads;
}

void lstmrt_call_begin(lstmrt_workspace *ws, size_t runs)
{
    lstmrt_calls_begin();
    ws->threads = threads_for(ws, runs);
    if (ws->threads > 1) ws->threads = lstmrt_pool_open(ws->threads);
}

void lstmrt_call_end(lstmrt_workspace *ws)
{
    if (ws->threads > 1) lstmrt_pool_close();
    ws->threads = 1;
    lstmrt_calls_end();
}
