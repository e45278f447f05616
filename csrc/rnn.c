/* The plain RNN: its step is a dense layer from h to h that starts at the input part. */
#include "pack.h"
#include "program.h"

static void step_units(const lstmrt_layer *layer, const lstmrt_workspace *workspace, const lstmrt_cell_rows *rows,
                       lstmrt_panels panels)
{
    const lstmrt_dense_args args = {
        .x = rows->h,
        .x_stride = rows->stride,
        .init = rows->gates,
        .init_stride = rows->gates_stride,
        .weights = layer->h_weights,
        .y = rows->h_next,
        .y_stride = rows->stride,
        .rows = rows->rows,
        .inputs = rows->inputs,
        .vectors = layer->gate_vectors,
        .panels = panels,
        .ahead = rows->ahead,
        .clip = layer->step.clip,
        .activation = layer->step.activations[0],
    };
    if (layer->h_reduced.weights)
        lstmrt_reduced_dense(workspace, &layer->h_reduced, &args);
    else
        workspace->model->kernels->dense(&args);
}

static lstmrt_status pack_recurrent(const lstmrt_model *model, const lstmrt_step *step, lstmrt_layer *layer)
{
    const size_t hidden = layer->width;
    layer->h_panels = layer->x_panels;
    layer->phases[0] = step_units;
    lstmrt_columns columns;
    lstmrt_status status = lstmrt_columns_plain(hidden, model->kernels->width, &columns);
    if (!status)
        status = lstmrt_pack_weights(model, &step->weights[1], hidden, 1, hidden, &columns, LSTMRT_DENSE_VECTORS,
                                     &layer->h_weights, &layer->h_reduced);
    lstmrt_columns_free(&columns);
    return status;
}

const lstmrt_cell_kind lstmrt_rnn_kind = {{0}, 1, pack_recurrent};
