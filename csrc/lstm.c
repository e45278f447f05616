/* The LSTM: packing and one step. Its arithmetic is kernel_lstm in kernels_recurrent.h. */
#include "pack.h"
#include "program.h"

static void step_units(const lstmrt_layer *layer, const lstmrt_workspace *workspace, const lstmrt_cell_rows *rows,
                       lstmrt_panels panels)
{
    if (layer->h_reduced.weights)
        lstmrt_reduced_add_gates(workspace, &layer->h_reduced, rows, 0, 4, 4, panels);
    workspace->model->kernels->lstm(&(lstmrt_lstm_args){
        .gates = rows->gates,
        .gates_stride = rows->gates_stride,
        .weights = layer->h_weights,
        .peepholes = layer->peepholes,
        .h = rows->h,
        .c = rows->c,
        .h_next = rows->h_next,
        .c_next = rows->c_next,
        .h_stride = rows->stride,
        .stride = rows->stride,
        .rows = rows->rows,
        .inputs = layer->h_weights ? rows->inputs : 0,
        .panels = panels,
        .ahead = rows->ahead,
        .rest_panel = layer->h_panels - 1,
        .rest_vectors = layer->rest_vectors,
        .clip = layer->step.clip,
        .input_forget = layer->step.input_forget,
        .f = layer->step.activations[0],
        .g = layer->step.activations[1],
        .activation_h = layer->step.activations[2],
    });
}

static lstmrt_status pack_recurrent(const lstmrt_model *model, const lstmrt_step *step, lstmrt_layer *layer)
{
    const lstmrt_weight *r = &step->weights[1], *p = &step->weights[3];
    const size_t width = model->kernels->width;
    layer->h_panels = (layer->width + width - 1) / width;
    layer->phases[0] = step_units;
    lstmrt_columns columns;
    lstmrt_status status = lstmrt_columns_gates((int[]){0, 1, 2, 3}, 4, layer->width, width, layer->rest_vectors, &columns);
    if (!status)
        status = lstmrt_pack_weights(model, r, layer->width, 1, layer->width, &columns, 4, &layer->h_weights,
                                     &layer->h_reduced);
    lstmrt_columns_free(&columns);
    if (status || !p->data) return status;
    status = lstmrt_columns_gates((int[]){0, 1, 2}, 3, layer->width, width, 0, &columns);
    if (!status)
        status = lstmrt_pack_rows(p->data, 1, 3 * layer->width, NULL, &columns, columns.vectors * width,
                                  &layer->peepholes);
    lstmrt_columns_free(&columns);
    return status;
}

const lstmrt_cell_kind lstmrt_lstm_kind = {{0, 1, 2, 3}, 4, pack_recurrent};
