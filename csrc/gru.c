/* The GRU in both forms: packing and one step. Its arithmetic is kernel_gru, or kernel_gru_gates and
 * kernel_gru_candidate, in kernels_recurrent.h. */
#include "pack.h"
#include "program.h"

static lstmrt_status pack_gates(const lstmrt_model *model, const lstmrt_step *step, const lstmrt_layer *layer,
                                const int *gates, size_t n_gates, float **packed)
{
    const size_t hidden = layer->width;
    lstmrt_columns columns;
    lstmrt_status status = lstmrt_columns_gates(gates, n_gates, hidden, model->kernels->width, &columns);
    if (!status)
        status = lstmrt_pack_matrix(step->weights[1].data, hidden, 1, hidden, &columns, n_gates, packed);
    lstmrt_columns_free(&columns);
    return status;
}

static lstmrt_status pack_bias(const lstmrt_model *model, const lstmrt_step *step, lstmrt_layer *layer)
{
    const float *bias = step->weights[2].data; /* Wb of z, r, h, then Rb of z, r, h */
    lstmrt_columns columns;
    lstmrt_status status = lstmrt_columns_plain(layer->width, model->kernels->width, &columns);
    if (!status)
        status = lstmrt_pack_rows(bias ? bias + 5 * layer->width : NULL, 1, layer->width, NULL, &columns,
                                  columns.vectors * columns.width, &layer->h_bias);
    lstmrt_columns_free(&columns);
    return status;
}

static void step_after(const lstmrt_layer *layer, const lstmrt_workspace *workspace, const float *gates,
                       const lstmrt_cell *cell, lstmrt_panels panels)
{
    workspace->model->kernels->gru(&(lstmrt_gru_args){
        .gates = gates,
        .gates_stride = layer->gates_stride,
        .weights = layer->h_weights,
        .bias = layer->h_bias,
        .h = cell->h,
        .h_next = cell->h_next,
        .stride = cell->stride,
        .rows = workspace->batch,
        .inputs = layer->width,
        .panels = panels,
        .clip = layer->step.clip,
        .f = layer->step.activations[0],
        .g = layer->step.activations[1],
    });
}

static void step_gates(const lstmrt_layer *layer, const lstmrt_workspace *workspace, const float *gates,
                       const lstmrt_cell *cell, lstmrt_panels panels)
{
    workspace->model->kernels->gru_gates(&(lstmrt_gru_gates_args){
        .gates = gates,
        .gates_stride = layer->gates_stride,
        .weights = layer->h_weights,
        .h = cell->h,
        .z = workspace->z,
        .reset_h = workspace->reset_h,
        .stride = cell->stride,
        .rows = workspace->batch,
        .inputs = layer->width,
        .panels = panels,
        .clip = layer->step.clip,
        .f = layer->step.activations[0],
    });
}

static void step_candidate(const lstmrt_layer *layer, const lstmrt_workspace *workspace, const float *gates,
                           const lstmrt_cell *cell, lstmrt_panels panels)
{
    workspace->model->kernels->gru_candidate(&(lstmrt_gru_candidate_args){
        .gates = gates,
        .gates_stride = layer->gates_stride,
        .weights = layer->h_candidate_weights,
        .h = cell->h,
        .z = workspace->z,
        .reset_h = workspace->reset_h,
        .h_next = cell->h_next,
        .stride = cell->stride,
        .rows = workspace->batch,
        .inputs = layer->width,
        .panels = panels,
        .clip = layer->step.clip,
        .g = layer->step.activations[1],
    });
}

static lstmrt_status pack_recurrent(const lstmrt_model *model, const lstmrt_step *step, lstmrt_layer *layer)
{
    const size_t width = model->kernels->width;
    layer->h_panels = (layer->width + width - 1) / width;
    layer->phases[0] = step->linear_before_reset ? step_after : step_gates;
    layer->phases[1] = step->linear_before_reset ? NULL : step_candidate;
    lstmrt_status status;
    if (step->linear_before_reset) {
        status = pack_gates(model, step, layer, (int[]){0, 1, 2}, 3, &layer->h_weights);
        return status ? status : pack_bias(model, step, layer);
    }
    status = pack_gates(model, step, layer, (int[]){0, 1}, 2, &layer->h_weights);
    return status ? status : pack_gates(model, step, layer, (int[]){2}, 1, &layer->h_candidate_weights);
}

const lstmrt_cell_kind lstmrt_gru_kind = {{0, 1, 2}, 3, pack_recurrent};
