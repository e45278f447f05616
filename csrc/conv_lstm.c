/* An LSTM over images. Each place of its states is a row of an LSTM step, whose inputs are windows of x and of h: they are laid
 * out for a few dozen rows at a time, multiplied by the dense and the LSTM kernel, and forgotten. */
#include <math.h>

#include "pack.h"
#include "recurrent.h"

enum { X, LENGTHS }; /* inputs that are no states */
enum { W, R, B };    /* weights */
enum { GATES = 4 };

/* A window of the places of h around each of them, the one more of an even number behind it. */
static lstmrt_windows windows_of_h(const lstmrt_windows *x)
{
    lstmrt_windows h = *x;
    for (size_t axis = 0; axis < LSTMRT_IMAGE_AXES; axis++) {
        h.sizes[axis] = x->counts[axis];
        h.strides[axis] = h.dilations[axis] = 1;
        h.before[axis] = (x->kernel[axis] - 1) / 2;
    }
    return h;
}

static bool fits(const lstmrt_model *model, const lstmrt_step *step)
{
    const lstmrt_value *x = lstmrt_input(model, step, X);
    const lstmrt_weight *w = step->weights;
    if (!lstmrt_value_is(x, LSTMRT_F32, -1, 0) || !(lstmrt_over_time(x) || x->rows == LSTMRT_ROWS_BATCH) ||
        step->inputs[LENGTHS] >= 0 || !lstmrt_windows_sound(&step->windows) || !w[R].data || w[R].rows < GATES)
        return false;
    const size_t filters = w[R].rows / GATES, sizes = lstmrt_windows_size(step->windows.sizes);
    const size_t window = lstmrt_windows_size(step->windows.kernel);
    const size_t width = lstmrt_size_product(lstmrt_windows_size(step->windows.counts), filters);
    return x->width % sizes == 0 && width <= INT32_MAX &&
           lstmrt_weight_is(&w[W], GATES * filters, lstmrt_size_product(window, x->width / sizes)) &&
           lstmrt_weight_is(&w[R], GATES * filters, lstmrt_size_product(window, filters)) &&
           (!w[B].data || lstmrt_weight_is(&w[B], 1, GATES * filters)) &&
           lstmrt_states_fit(model, step, width);
}

lstmrt_status lstmrt_conv_lstm_prepare(const lstmrt_model *model, const lstmrt_step *step, lstmrt_layer *layer)
{
    if (!fits(model, step)) return LSTMRT_BAD_PROGRAM;
    const lstmrt_weight *w = step->weights;
    const size_t width = model->kernels->width;
    layer->filters = w[R].rows / GATES;
    layer->pitch = lstmrt_round_up(layer->filters, LSTMRT_PAD);
    layer->places = lstmrt_windows_size(step->windows.counts);
    layer->width = layer->places * layer->pitch;
    layer->inputs = w[W].cols;
    layer->h_inputs = w[R].cols;
    layer->h_windows = windows_of_h(&step->windows);
    layer->h_panels = (layer->filters + width - 1) / width;
    layer->rest_vectors = lstmrt_rest_vectors(layer->filters, width);
    layer->skips_zeros = lstmrt_all_finite(&w[R]);
    lstmrt_columns columns;
    lstmrt_status status =
        lstmrt_columns_gates((int[]){0, 1, 2, 3}, GATES, layer->filters, width, layer->rest_vectors, &columns);
    layer->gate_vectors = columns.vectors;
    layer->x_panels = lstmrt_dense_panels(columns.vectors);
    layer->gates_stride = lstmrt_round_up(columns.vectors * columns.width, LSTMRT_PAD);
    if (!status)
        status = lstmrt_pack_matrix(w[W].data, w[W].cols, 1, w[W].cols, &columns, LSTMRT_DENSE_VECTORS, &layer->x_weights);
    if (!status) status = lstmrt_pack_matrix(w[R].data, w[R].cols, 1, w[R].cols, &columns, GATES, &layer->h_weights);
    if (!status) status = lstmrt_pack_rows(w[B].data, 1, w[R].rows, NULL, &columns, layer->gates_stride, &layer->x_bias);
    lstmrt_columns_free(&columns);
    return status;
}

static size_t window_stride(const lstmrt_layer *layer)
{
    return lstmrt_round_up(layer->inputs > layer->h_inputs ? layer->inputs : layer->h_inputs, LSTMRT_PAD);
}

size_t lstmrt_conv_lstm_scratch(const lstmrt_layer *layer)
{
    return lstmrt_size_product(LSTMRT_WINDOW_ROWS, lstmrt_size_sum(window_stride(layer), layer->gates_stride));
}

/* What the parts of a time step share. */
typedef struct {
    const lstmrt_layer *layer;
    const lstmrt_workspace *workspace;
    lstmrt_cell_rows rows; /* images */
    size_t t;
    bool begins; /* h is zero everywhere */
} step_work;

static void take_x(const step_work *s, size_t begin, size_t rows, float *to)
{
    const lstmrt_layer *layer = s->layer;
    const lstmrt_slot *x = lstmrt_input_slot(layer, s->workspace, X);
    const lstmrt_value *value = lstmrt_input(s->workspace->model, &layer->step, X);
    const size_t channels = value->width / lstmrt_windows_size(layer->step.windows.sizes);
    for (size_t row = begin; row < begin + rows; row++, to += window_stride(layer)) {
        const size_t at = lstmrt_row_at(value, s->workspace, s->t, row / layer->places);
        lstmrt_windows_take(&layer->step.windows, (const float *)x->data + at * x->stride, channels, channels,
                            row % layer->places, to);
    }
}

static void take_h(const step_work *s, size_t begin, size_t rows, float *to)
{
    const lstmrt_layer *layer = s->layer;
    for (size_t row = begin; row < begin + rows; row++, to += window_stride(layer))
        lstmrt_windows_take(&layer->h_windows, s->rows.h + row / layer->places * s->rows.stride, layer->pitch,
                            layer->filters, row % layer->places, to);
}

static void compute_rows(const step_work *s, size_t begin, size_t rows, float *windows)
{
    const lstmrt_layer *layer = s->layer;
    const lstmrt_kernels *kernels = s->workspace->model->kernels;
    const size_t stride = window_stride(layer), at = begin * layer->pitch;
    float *gates = windows + LSTMRT_WINDOW_ROWS * stride;
    take_x(s, begin, rows, windows);
    kernels->dense(&(lstmrt_dense_args){
        .x = windows,
        .init = layer->x_bias,
        .weights = layer->x_weights,
        .y = gates,
        .x_stride = stride,
        .y_stride = layer->gates_stride,
        .rows = rows,
        .inputs = layer->inputs,
        .vectors = layer->gate_vectors,
        .panels = {0, layer->x_panels, false},
        .clip = INFINITY,
    });
    if (!s->begins) take_h(s, begin, rows, windows);
    kernels->lstm(&(lstmrt_lstm_args){
        .gates = gates,
        .weights = layer->h_weights,
        .h = windows,
        .c = s->rows.c + at,
        .h_next = s->rows.h_next + at,
        .c_next = s->rows.c_next + at,
        .gates_stride = layer->gates_stride,
        .h_stride = stride,
        .stride = layer->pitch,
        .rows = rows,
        .inputs = s->begins ? 0 : layer->h_inputs,
        .panels = {0, layer->h_panels, false},
        .rest_panel = layer->h_panels - 1,
        .rest_vectors = layer->rest_vectors,
        .clip = INFINITY,
        .f = layer->step.activations[0],
        .g = layer->step.activations[1],
        .activation_h = layer->step.activations[2],
    });
}

static void step_part(const void *argument, size_t part, size_t parts)
{
    const step_work *s = argument;
    const size_t all = s->rows.rows * s->layer->places, end = all * (part + 1) / parts;
    float *windows = s->workspace->windows + part * s->workspace->window_floats;
    for (size_t row = all * part / parts; row < end; row += LSTMRT_WINDOW_ROWS)
        compute_rows(s, row, end - row < LSTMRT_WINDOW_ROWS ? end - row : LSTMRT_WINDOW_ROWS, windows);
}

static void advance(lstmrt_recurrence *run, size_t t)
{
    const lstmrt_layer *layer = run->layer;
    const lstmrt_workspace *ws = run->workspace;
    const step_work work = {layer, ws, lstmrt_recurrence_rows(run), t, layer->skips_zeros && run->begun == ws->batch};
    const bool moves = lstmrt_recurrence_moves(run, t);
    if (moves) {
        const size_t outputs = layer->gate_vectors * ws->model->kernels->width;
        const size_t products = lstmrt_size_product(layer->inputs + layer->h_inputs, outputs);
        const size_t most = lstmrt_parts(ws, products, lstmrt_size_product(ws->batch, layer->places));
        lstmrt_pool_run(step_part, &work, most < ws->window_sharers ? most : ws->window_sharers);
    }
    lstmrt_recurrence_settle(run, t, moves ? &work.rows : NULL);
}

lstmrt_status lstmrt_conv_lstm_run(const lstmrt_layer *layer, lstmrt_workspace *ws)
{
    lstmrt_recurrence run;
    const lstmrt_status status = lstmrt_recurrence_begin(layer, ws, &run);
    if (status) return status;
    for (size_t i = 0; i < run.steps; i++) advance(&run, layer->step.reverse ? run.steps - 1 - i : i);
    lstmrt_recurrence_finish(&run);
    return LSTMRT_OK;
}
