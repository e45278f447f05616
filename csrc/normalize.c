/* Layer normalization: sums in double, in one order for every instruction set, rounded once at the end. */
#include "program.h"

#include <math.h>
#include <string.h>

#include "pack.h"

lstmrt_status lstmrt_layer_norm_prepare(const lstmrt_model *model, const lstmrt_step *step, lstmrt_layer *layer)
{
    const lstmrt_status status = lstmrt_rowwise_prepare(model, step, layer);
    if (status) return status;
    const lstmrt_weight *scale = &step->weights[0], *shift = &step->weights[1];
    const size_t width = layer->inputs = scale->cols;
    if (width == 0 || layer->width % width > 0 || !lstmrt_weight_is(scale, 1, width) ||
        (shift->data && !lstmrt_weight_is(shift, 1, width)))
        return LSTMRT_BAD_PROGRAM;
    layer->row = lstmrt_allocate_array(2 * width, sizeof *layer->row);
    if (!layer->row) return LSTMRT_OUT_OF_MEMORY;
    memcpy(layer->row, scale->data, width * sizeof *layer->row);
    if (shift->data)
        memcpy(layer->row + width, shift->data, width * sizeof *layer->row);
    else
        memset(layer->row + width, 0, width * sizeof *layer->row);
    return LSTMRT_OK;
}

/* Four sums side by side, which do not wait for one another. */
static double sum_of(const float *x, size_t width, double mean, bool squared)
{
    double sums[4] = {0, 0, 0, 0};
    for (size_t i = 0; i < width; i++) {
        const double d = x[i] - mean;
        sums[i % 4] += squared ? d * d : d;
    }
    return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

static void normalize_row(const float *x, float *y, size_t width, float epsilon, const float *scale, const float *shift)
{
    const double mean = sum_of(x, width, 0, false) / (double)width;
    const double factor = 1 / sqrt(sum_of(x, width, mean, true) / (double)width + epsilon);
    for (size_t i = 0; i < width; i++) y[i] = (float)((x[i] - mean) * factor * scale[i] + shift[i]);
}

lstmrt_status lstmrt_layer_norm_run(const lstmrt_layer *layer, lstmrt_workspace *workspace)
{
    const lstmrt_slot *x = lstmrt_input_slot(layer, workspace, 0), *y = lstmrt_output_slot(layer, workspace, 0);
    const size_t rows = lstmrt_rows_of(lstmrt_input(workspace->model, &layer->step, 0), workspace);
    const size_t part = layer->inputs;
    for (size_t row = 0; row < rows; row++)
        for (size_t i = 0; i < layer->width; i += part)
            normalize_row((const float *)x->data + row * x->stride + i, (float *)y->data + row * y->stride + i, part,
                          layer->step.epsilon, layer->row, layer->row + part);
    return LSTMRT_OK;
}
