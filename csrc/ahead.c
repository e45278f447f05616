/* Input parts of the next block of time steps, which the steps of this one compute on the way (kernels_ahead.h). */
#include "pack.h"
#include "program.h"

_Static_assert(2 * LSTMRT_AHEAD_STEPS <= LSTMRT_HOISTED_ROWS && LSTMRT_AHEAD_STEPS % LSTMRT_AHEAD_ROWS == 0,
               "two blocks of whole items");

/* Each block reads the input weights again: beyond a few times the second-level cache they would come from memory, and
 * others' work in the third one decides how soon that is. More inputs than units have more products than steps have room for. */
bool lstmrt_ahead_pays(const lstmrt_model *model, const lstmrt_layer *layer)
{
    const size_t bytes = layer->inputs * layer->gate_vectors * model->kernels->width * sizeof(float);
    return model->kernels->takes_ahead && layer->x_weights && 0 < layer->inputs && layer->inputs <= layer->width &&
           bytes <= 3 * lstmrt_cache_size();
}

/* x of time steps [begin, begin + steps) as the kernels read it: element by element of a few rows, zeros for those that are
 * missing to whole items. */
static void interleave(const lstmrt_layer *layer, const lstmrt_workspace *ws, size_t begin, size_t steps, size_t rows)
{
    const lstmrt_slot *x = lstmrt_input_slot(layer, ws, 0);
    const lstmrt_value *value = lstmrt_input(ws->model, &layer->step, 0);
    const float *from = (const float *)x->data + lstmrt_row_at(value, ws, begin, 0) * x->stride;
    for (size_t row = 0; row < rows; row++) {
        const size_t within = row % LSTMRT_AHEAD_ROWS;
        float *to = ws->x_rows + (row - within) * layer->inputs + within;
        for (size_t k = 0; k < layer->inputs; k++)
            to[k * LSTMRT_AHEAD_ROWS] = row < steps ? from[row * x->stride + k] : 0;
    }
}

lstmrt_ahead lstmrt_ahead_begin(const lstmrt_layer *layer, lstmrt_workspace *ws, size_t begin, size_t steps, float *gates)
{
    const size_t rows = lstmrt_round_up(steps, LSTMRT_AHEAD_ROWS);
    interleave(layer, ws, begin, steps, rows);
    for (size_t panel = 0, vector = 0, end; panel < layer->h_panels; panel++, vector = end) {
        end = layer->gate_vectors * (panel + 1) / layer->h_panels;
        ws->ahead_next[panel] = (lstmrt_ahead_place){.vector = vector, .end = end};
    }
    return (lstmrt_ahead){
        .x = ws->x_rows,
        .init = layer->x_bias,
        .weights = layer->x_weights,
        .y = gates,
        .y_stride = layer->gates_stride,
        .next = ws->ahead_next,
        .rows = rows,
        .inputs = layer->inputs,
        .vectors = layer->gate_vectors,
    };
}

/* What the parts of the rest share. */
typedef struct {
    const lstmrt_kernels *kernels;
    const lstmrt_ahead *ahead;
    size_t panels;
} rest_work;

static void rest_part(const void *argument, size_t part, size_t parts)
{
    const rest_work *work = argument;
    const lstmrt_panels panels = lstmrt_panels_part(work->panels, part, parts, false);
    work->kernels->ahead_rest(&(lstmrt_ahead_rest_args){work->ahead, panels});
}

void lstmrt_ahead_finish(const lstmrt_layer *layer, const lstmrt_workspace *ws, const lstmrt_ahead *ahead)
{
    const lstmrt_kernels *kernels = ws->model->kernels;
    const rest_work work = {kernels, ahead, layer->h_panels};
    lstmrt_share(ws, layer->inputs * layer->gate_vectors * kernels->width, ahead->rows, rest_part, &work);
}
