/* Elements of some values, put together anew: what windows, transposes, slices, pads and concatenations are. */
#include "program.h"

#include <string.h>

#include "pack.h"

/* `count` elements of a row of input `input`, from the element `from` on, `step` apart; zeros where `input` is negative. */
struct lstmrt_gather_run {
    int32_t input, from, step, count;
};

/* Which input an index points into, and where; input -1 for a negative index, or for one beyond all of them. */
static lstmrt_gather_run place_of(const lstmrt_model *model, const lstmrt_step *step, int32_t index)
{
    int64_t from = index;
    for (int32_t i = 0; index >= 0 && i < LSTMRT_MAX_INPUTS && step->inputs[i] >= 0; i++) {
        const int64_t width = lstmrt_input(model, step, (size_t)i)->width;
        if (from < width) return (lstmrt_gather_run){i, (int32_t)from, 0, 1};
        from -= width;
    }
    return (lstmrt_gather_run){-1, 0, 0, 1};
}

static bool continues(const lstmrt_gather_run *run, const lstmrt_gather_run *next)
{
    if (run->input != next->input) return false;
    return run->input < 0 || run->count == 1 || next->from == run->from + (int64_t)run->count * run->step;
}

/* Writes the runs to `runs`, or nothing where that is NULL; how many there are. */
static size_t find_runs(const lstmrt_model *model, const lstmrt_step *step, lstmrt_gather_run *runs)
{
    size_t count = 0;
    lstmrt_gather_run run = {0};
    for (size_t i = 0; i < step->n_indices; i++) {
        const lstmrt_gather_run next = place_of(model, step, step->indices[i]);
        if (run.count > 0 && continues(&run, &next)) {
            if (run.count == 1) run.step = next.from - run.from;
            run.count++;
        } else {
            if (run.count > 0 && runs) runs[count] = run;
            count += run.count > 0;
            run = next;
        }
    }
    if (run.count > 0 && runs) runs[count] = run;
    return count + (run.count > 0);
}

lstmrt_status lstmrt_gather_prepare(const lstmrt_model *model, const lstmrt_step *step, lstmrt_layer *layer)
{
    const lstmrt_value *y = lstmrt_output(model, step, 0);
    if (!y || y->dtype == LSTMRT_BOOL || y->across || !step->indices || step->n_indices != y->width || step->inputs[0] < 0)
        return LSTMRT_BAD_PROGRAM;
    for (size_t i = 0; i < LSTMRT_MAX_INPUTS && step->inputs[i] >= 0; i++)
        if (!lstmrt_value_is(lstmrt_input(model, step, i), y->dtype, (int)y->rows, 0)) return LSTMRT_BAD_PROGRAM;
    for (size_t i = 0; i < step->n_indices; i++)
        if (step->indices[i] < -1 || (step->indices[i] >= 0 && place_of(model, step, step->indices[i]).input < 0))
            return LSTMRT_BAD_PROGRAM;
    layer->width = y->width;
    layer->n_runs = find_runs(model, step, NULL);
    layer->runs = lstmrt_allocate_array(layer->n_runs, sizeof *layer->runs);
    if (!layer->runs) return LSTMRT_OUT_OF_MEMORY;
    find_runs(model, step, layer->runs);
    return LSTMRT_OK;
}

static void gather_floats(const lstmrt_layer *layer, const float *const *inputs, float *to)
{
    for (const lstmrt_gather_run *run = layer->runs; run < layer->runs + layer->n_runs; run++) {
        const size_t count = (size_t)run->count;
        const float *from = run->input < 0 ? NULL : inputs[run->input] + run->from;
        if (!from)
            memset(to, 0, count * sizeof *to);
        else if (run->step == 1 && count >= LSTMRT_PAD)
            memcpy(to, from, count * sizeof *to);
        else
            for (size_t i = 0; i < count; i++, from += run->step) to[i] = *from;
        to += count;
    }
}

static void gather_ids(const lstmrt_layer *layer, const int64_t *const *inputs, int64_t *to)
{
    for (const lstmrt_gather_run *run = layer->runs; run < layer->runs + layer->n_runs; run++)
        for (int32_t i = 0; i < run->count; i++) *to++ = run->input < 0 ? 0 : inputs[run->input][run->from + i * run->step];
}

lstmrt_status lstmrt_gather_compute(const lstmrt_layer *layer, lstmrt_workspace *workspace)
{
    const lstmrt_value *value = lstmrt_output(workspace->model, &layer->step, 0);
    const lstmrt_slot *y = lstmrt_output_slot(layer, workspace, 0);
    const size_t rows = lstmrt_rows_of(value, workspace);
    const bool of_ids = value->dtype == LSTMRT_I64;
    const float *floats[LSTMRT_MAX_INPUTS];
    const int64_t *ids[LSTMRT_MAX_INPUTS];
    for (size_t row = 0; row < rows; row++) {
        for (size_t i = 0; i < LSTMRT_MAX_INPUTS && layer->step.inputs[i] >= 0; i++) {
            const lstmrt_slot *x = lstmrt_input_slot(layer, workspace, i);
            if (of_ids)
                ids[i] = (const int64_t *)x->data + row * x->stride;
            else
                floats[i] = (const float *)x->data + row * x->stride;
        }
        if (of_ids)
            gather_ids(layer, ids, (int64_t *)y->data + row * y->stride);
        else
            gather_floats(layer, floats, (float *)y->data + row * y->stride);
    }
    return LSTMRT_OK;
}
