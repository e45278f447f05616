/* How much of a call's work is shared, and with how many threads. */
#include "program.h"

/* Costs count products, but a single row as two: its time is that of reading the weights. Some 50 make a nanosecond. */
enum {
    PART_COST = 64 * 1024,       /* of the smallest part: a section's ends take a third of a microsecond */
    CALL_COST = 64 * PART_COST   /* of the smallest call: waking a thread takes tens of microseconds */
};

static size_t cost(size_t weights, size_t rows) { return lstmrt_size_product(weights, rows > 2 ? rows : 2); }

static size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

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
    const size_t parts = lstmrt_parts(ws, weights, rows);
    if (parts > 1)
        lstmrt_pool_run(job, argument, parts);
    else
        job(argument, 0, 1);
}

void lstmrt_call_begin(lstmrt_workspace *ws, size_t rows)
{
    lstmrt_calls_begin();
    ws->threads = 1;
    const size_t *attended = ws->model->attended;
    const size_t looked_at = lstmrt_size_sum(lstmrt_size_product(attended[LSTMRT_ACROSS_TIME], ws->time),
                                             lstmrt_size_product(attended[LSTMRT_ACROSS_SOURCE], ws->source));
    if (cost(lstmrt_size_sum(ws->model->weights, looked_at), rows) >= CALL_COST) ws->threads = lstmrt_pool_open(threads_free(ws->model));
}

void lstmrt_call_end(lstmrt_workspace *ws)
{
    if (ws->threads > 1) lstmrt_pool_close();
    ws->threads = 1;
    lstmrt_calls_end();
}
