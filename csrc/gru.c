/* The GRU in both forms: packing and one step. Its arithmetic is kernel_gru, or kernel_gru_gates and
 * kernel_gru_candidate, in kernels_recurrent.h.
 *
 * Reduced weights come as two matrices, of gates z and r and of gate h. Parts of the work are then counted in panels of the
 * second, which have LSTMRT_DENSE_VECTORS vectors of units each. */
#include <math.h>

#include "pack.h"
#include "program.h"

static lstmrt_status pack_gates(const lstmrt_model *model, const lstmrt_step *step, const lstmrt_layer *layer,
                                const int *gates, size_t n_gates, float **packed, lstmrt_reduced_matrix *reduced)
{
    const size_t hidden = layer->width;
    lstmrt_columns columns;
    lstmrt_status status = lstmrt_columns_gates(gates, n_gates, hidden, model->kernels->width, 0, &columns);
    if (!status)
        status = lstmrt_pack_weights(model, &step->weights[1], hidden, 1, hidden, &columns, n_gates, packed, reduced);
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

static size_t unit_vectors(const lstmrt_layer *layer) { return layer->gate_vectors / 3; }

/* `panels` of a reduced layer's gate h, in those of a matrix or layer with `per` times as many. */
static lstmrt_panels scaled(lstmrt_panels panels, size_t per, size_t count)
{
    const size_t end = panels.end * per;
    return (lstmrt_panels){panels.begin * per, end < count ? end : count, panels.backward};
}

static lstmrt_panels units_of(const lstmrt_layer *layer, lstmrt_panels panels)
{
    return layer->h_reduced.weights ? scaled(panels, LSTMRT_DENSE_VECTORS, unit_vectors(layer)) : panels;
}

static void add_reduced_gates(const lstmrt_layer *layer, const lstmrt_workspace *workspace,
                              const lstmrt_cell_rows *rows, lstmrt_panels panels)
{
    const lstmrt_panels both = scaled(panels, 2, lstmrt_dense_panels(2 * unit_vectors(layer)));
    lstmrt_reduced_add_gates(workspace, &layer->h_reduced, rows, 0, 2, 3, both);
}

/* The recurrent parts of z and r go to `gates`, that of h, which r is to multiply, to rows->z. */
static void add_reduced_after(const lstmrt_layer *layer, const lstmrt_workspace *workspace,
                              const lstmrt_cell_rows *rows, lstmrt_panels panels)
{
    add_reduced_gates(layer, workspace, rows, panels);
    const lstmrt_dense_args candidate = {
        .init = layer->h_bias,
        .y = rows->z,
        .y_stride = rows->stride,
        .rows = rows->rows,
        .panels = panels,
        .clip = INFINITY,
    };
    lstmrt_reduced_dense(workspace, &layer->h_candidate_reduced, &candidate);
}

static void step_after(const lstmrt_layer *layer, const lstmrt_workspace *workspace, const lstmrt_cell_rows *rows,
                       lstmrt_panels panels)
{
    const bool reduced = layer->h_reduced.weights;
    if (reduced) add_reduced_after(layer, workspace, rows, panels);
    workspace->model->kernels->gru(&(lstmrt_gru_args){
        .gates = rows->gates,
        .gates_stride = rows->gates_stride,
        .weights = layer->h_weights,
        .bias = reduced ? rows->z : layer->h_bias,
        .bias_stride = reduced ? rows->stride : 0,
        .h = rows->h,
        .h_next = rows->h_next,
        .stride = rows->stride,
        .rows = rows->rows,
        .inputs = reduced ? 0 : rows->inputs,
        .panels = units_of(layer, panels),
        .ahead = rows->ahead,
        .clip = layer->step.clip,
        .f = layer->step.activations[0],
        .g = layer->step.activations[1],
    });
}

static void step_gates(const lstmrt_layer *layer, const lstmrt_workspace *workspace, const lstmrt_cell_rows *rows,
                       lstmrt_panels panels)
{
    const bool reduced = layer->h_reduced.weights;
    if (reduced) add_reduced_gates(layer, workspace, rows, panels);
    workspace->model->kernels->gru_gates(&(lstmrt_gru_gates_args){
        .gates = rows->gates,
        .gates_stride = rows->gates_stride,
        .weights = layer->h_weights,
        .h = rows->h,
        .z = rows->z,
        .reset_h = rows->reset_h,
        .stride = rows->stride,
        .rows = rows->rows,
        .inputs = reduced ? 0 : rows->inputs,
        .panels = units_of(layer, panels),
        .ahead = rows->ahead,
        .clip = layer->step.clip,
        .f = layer->step.activations[0],
    });
}

static void step_candidate(const lstmrt_layer *layer, const lstmrt_workspace *workspace, const lstmrt_cell_rows *rows,
                           lstmrt_panels panels)
{
    const bool reduced = layer->h_reduced.weights;
    if (reduced) lstmrt_reduced_add_gates(workspace, &layer->h_candidate_reduced, rows, 2, 1, 3, panels);
    workspace->model->kernels->gru_candidate(&(lstmrt_gru_candidate_args){
        .gates = rows->gates,
        .gates_stride = rows->gates_stride,
        .weights = layer->h_candidate_weights,
        .h = rows->h,
        .z = rows->z,
        .reset_h = rows->reset_h,
        .h_next = rows->h_next,
        .stride = rows->stride,
        .rows = rows->rows,
        .inputs = reduced ? 0 : layer->width, /* r h is NaN where r is: not always zero where h is */
        .panels = units_of(layer, panels),
        .ahead = rows->ahead,
        .clip = layer->step.clip,
        .g = layer->step.activations[1],
    });
}

static lstmrt_status pack_recurrent(const lstmrt_model *model, const lstmrt_step *step, lstmrt_layer *layer)
{
    const bool after = step->linear_before_reset, is_reduced = model->precision != LSTMRT_PRECISION_F32;
    const size_t units = unit_vectors(layer);
    layer->h_panels = is_reduced ? lstmrt_dense_panels(units) : units;
    layer->phases[0] = after ? step_after : step_gates;
    layer->phases[1] = after ? NULL : step_candidate;
    lstmrt_status status = after ? pack_bias(model, step, layer) : LSTMRT_OK;
    if (status) return status;
    if (after && !is_reduced) return pack_gates(model, step, layer, (int[]){0, 1, 2}, 3, &layer->h_weights, NULL);
    status = pack_gates(model, step, layer, (int[]){0, 1}, 2, &layer->h_weights, &layer->h_reduced);
    if (status) return status;
    return pack_gates(model, step, layer, (int[]){2}, 1, &layer->h_candidate_weights, &layer->h_candidate_reduced);
}

const lstmrt_cell_kind lstmrt_gru_kind = {{0, 1, 2}, 3, pack_recurrent};
