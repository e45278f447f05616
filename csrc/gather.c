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
    return run->input < 0 || run->count == 1 || next->from == run->from + run->count * run->step;
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
    if (!lstmrt_value_is(y, LSTMRT_F32, -1, 0) || !step->indices || step->n_indices != y->width || step->inputs[0] < 0)
        return LSTMRT_BAD_PROGRAM;
    for (size_t i = 0; i < LSTMRT_MAX_INPUTS && step->inputs[i] >= 0; i++)
        if (!lstmrt_value_is(lstmrt_input(model, step, i), LSTMRT_F32, (int)y->rows, 0)) return LSTMRT_BAD_PROGRAM;
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

static float *copy_run(const lstmrt_gather_run *run, const float *from, float *to)
{
    const size_t count = (size_t)run->count;
    if (run->step == 1 && count >= LSTMRT_PAD)
        memcpy(to, from, count * sizeof *to);
    else
        for (size_t i = 0; i < count; i++, from += run->step) to[i] = *from;
    return to + count;
}

lstmrt_status lstmrt_gather_compute(const lstmrt_layer *layer, lstmrt_workspace *workspace)
{
    const lstmrt_slot *y = lstmrt_output_slot(layer, workspace, 0);
    const size_t rows = lstmrt_rows_of(lstmrt_output(workspace->model, &layer->step, 0), workspace);
    const float *inputs[LSTMRT_MAX_INPUTS];
    for (size_t row = 0; row < rows; row++) {
        for (size_t i = 0; i < LSTMRT_MAX_INPUTS && layer->step.inputs[i] >= 0; i++) {
            const lstmrt_slot *x = lstmrt_input_slot(layer, workspace, i);
            inputs[i] = (const float *)x->data + row * x->stride;
        }
        float *to = (float *)y->data + row * y->stride;
        for (size_t i = 0; i < layer->n_runs; i++) {
            const lstmrt_gather_run *run = &layer->runs[i];
            if (run->input >= 0) {
                to = copy_run(run, inputs[run->input] + run->from, to);
            } else {
                memset(to, 0, (size_t)run->count * sizeof *to);
                to += run->count;
            }
        }
    }
    return LSTMRT_OK;
}
