#include "screen.h"

#include <float.h>
#include <math.h>

/* Rows with weights or a bias beyond this are always computed: sums of them could overflow where their bound does not. */
#define HUGE_NORM 0x1p60

enum {
    SMALLEST_BYTES = 1 << 20, /* output layers with fewer bytes of weights are as fast without */
    MOST_INPUTS = 8 * LSTMRT_INT8_BLOCK, /* the bounds allow for as many roundings */
    MOST_LEFT = 8 /* computing more than a part in so many of the vectors one by one is slower than all at once */
};

struct lstmrt_screen {
    const lstmrt_isa *isa;
    const lstmrt_layer *layer;
    lstmrt_reduced_matrix matrix;
    float *bias;   /* the layer's; -INFINITY for what pads the last vector */
    float *slopes; /* of each output's radius, as a multiple of |x|; INFINITY: always computed */
    double largest_norm, largest_bias; /* of |s q| and |b| over the others */
};

bool lstmrt_screen_fits(const lstmrt_isa *isa, const lstmrt_layer *layer)
{
    const bool has_vectors = isa->f32->width > 1; /* one at a time, whole numbers are no faster than floats */
    return has_vectors && layer->step.op == LSTMRT_OP_DENSE && layer->step.activations[0].function == LSTMRT_IDENTITY &&
           layer->inputs <= MOST_INPUTS && layer->inputs * layer->width * sizeof(float) >= SMALLEST_BYTES;
}

/* ---- bounds ---- */

/* The unit roundoff of floats, and a share that every bound is enlarged by, for the roundings of the bounds themselves. */
static const double UNIT = 0x1p-24, MARGIN = 1 + 0x1p-20;

/* Terms of any sum of `inputs` products, whatever its order: n u / (1 - n u) bounds its relative error. */
static double sum_error(size_t inputs)
{
    const double n = (double)inputs + 8;
    return n * UNIT / (1 - n * UNIT);
}

static float round_up(double x) { return nextafterf((float)x, INFINITY); }

/* |w|, |s q| and |w - s q| of column j of a panel, all Euclidean. */
typedef struct {
    double weights, whole, rest;
} norms;

static norms norms_of(const float *data, size_t inputs, size_t k_stride, size_t j, float scale)
{
    norms n = {0, 0, 0};
    for (size_t k = 0; k < inputs; k++) {
        const float weight = data[k * k_stride + j];
        const double whole = (double)scale * lstmrt_int8_weight(weight, scale);
        n.weights += (double)weight * weight;
        n.whole += whole * whole;
        n.rest += (weight - whole) * (weight - whole);
    }
    return (norms){sqrt(n.weights), sqrt(n.whole), sqrt(n.rest)};
}

/* The slope of an output's radius; see NUMERICS.md. */
static float slope_of(lstmrt_screen *screen, norms n, double bias)
{
    if (!(n.weights < HUGE_NORM) || !(n.whole < HUGE_NORM) || !(fabs(bias) < HUGE_NORM)) return INFINITY;
    screen->largest_norm = fmax(screen->largest_norm, n.whole);
    screen->largest_bias = fmax(screen->largest_bias, fabs(bias));
    const double exact = sum_error(screen->layer->inputs) * n.weights, bound = 0x1p-20 * n.whole;
    return round_up((n.rest + exact + bound) * MARGIN + 0x1p-100);
}

static void measure_panel(lstmrt_screen *screen, const float *data, size_t width, size_t begin)
{
    const lstmrt_layer *layer = screen->layer;
    for (size_t j = begin; j < begin + width; j++) {
        screen->bias[j] = j < layer->width ? layer->x_bias[j] : -INFINITY;
        if (j >= layer->width) continue;
        const norms n = norms_of(data, layer->inputs, width, j - begin, screen->matrix.scales[j]);
        screen->slopes[j] = slope_of(screen, n, layer->x_bias[j]);
    }
}

/* ---- making one ---- */

static size_t panel_width(const lstmrt_screen *screen, size_t begin)
{
    const size_t total = screen->matrix.vectors * screen->isa->f32->width;
    const size_t panel = LSTMRT_DENSE_VECTORS * screen->isa->f32->width;
    return total - begin < panel ? total - begin : panel;
}

static lstmrt_status fill(lstmrt_screen *screen)
{
    const lstmrt_layer *layer = screen->layer;
    const size_t total = layer->gate_vectors * screen->isa->f32->width;
    lstmrt_status status = lstmrt_int8_new(screen->isa, layer->inputs, layer->gate_vectors, &screen->matrix);
    if (status) return status;
    screen->bias = lstmrt_allocate_array(total, sizeof *screen->bias);
    screen->slopes = lstmrt_allocate_array(total, sizeof *screen->slopes);
    if (!screen->bias || !screen->slopes) return LSTMRT_OUT_OF_MEMORY;
    lstmrt_columns in_panel;
    status = lstmrt_columns_plain(LSTMRT_DENSE_VECTORS * screen->isa->f32->width, screen->isa->f32->width, &in_panel);
    for (size_t begin = 0; !status && begin < total;) {
        const float *data = layer->x_weights + begin * layer->inputs;
        const size_t width = panel_width(screen, begin);
        begin = lstmrt_int8_pack_panel(screen->isa, data, width, 1, in_panel.source, begin, &screen->matrix);
        measure_panel(screen, data, width, begin - width);
    }
    lstmrt_columns_free(&in_panel);
    return status;
}

lstmrt_status lstmrt_screen_new(const lstmrt_isa *isa, const lstmrt_layer *layer, lstmrt_screen **screen)
{
    lstmrt_screen *made = *screen = lstmrt_allocate(sizeof *made);
    if (!made) return LSTMRT_OUT_OF_MEMORY;
    made->isa = isa;
    made->layer = layer;
    const lstmrt_status status = fill(made);
    if (!status) return status;
    lstmrt_screen_free(made);
    *screen = NULL;
    return status;
}

void lstmrt_screen_free(lstmrt_screen *screen)
{
    if (!screen) return;
    lstmrt_reduced_free(&screen->matrix);
    lstmrt_release(screen->bias);
    lstmrt_release(screen->slopes);
    lstmrt_release(screen);
}

static void place(void *owner)
{
    lstmrt_screen_scratch *scratch = owner;
    const lstmrt_reduced_matrix *matrix = &scratch->screen->matrix;
    const size_t total = matrix->vectors * scratch->screen->isa->f32->width;
    scratch->y = lstmrt_arena_take(&scratch->arena, total, sizeof *scratch->y);
    scratch->quantized = lstmrt_arena_take(&scratch->arena, lstmrt_reduced_row_bytes(matrix->inputs), 1);
    scratch->left = lstmrt_arena_take(&scratch->arena, matrix->vectors, sizeof *scratch->left);
}

lstmrt_status lstmrt_screen_open(const lstmrt_screen *screen, lstmrt_screen_scratch *scratch)
{
    scratch->screen = screen;
    return lstmrt_arena_fill(&scratch->arena, place, scratch);
}

void lstmrt_screen_close(lstmrt_screen_scratch *scratch) { lstmrt_arena_free(&scratch->arena); }

/* ---- choosing ---- */

/* All outputs, and the argmax of them. */
static size_t choose_from_all(lstmrt_screen_scratch *scratch, const float *x)
{
    const lstmrt_screen *screen = scratch->screen;
    size_t best;
    scratch->n_left = SIZE_MAX;
    lstmrt_dense_rows(screen->isa->f32, screen->layer, x, 0, 1, scratch->y, 0);
    screen->isa->f32->argmax(&(lstmrt_argmax_args){scratch->y, screen->layer->width, &best});
    return best;
}

/* The layer's outputs in one vector, with the bits that computing all of them has. */
static void compute_vector(const lstmrt_screen_scratch *scratch, const float *x, size_t vector)
{
    const lstmrt_screen *screen = scratch->screen;
    const lstmrt_layer *layer = screen->layer;
    const size_t width = screen->isa->f32->width, panel = vector / LSTMRT_DENSE_VECTORS * LSTMRT_DENSE_VECTORS * width;
    screen->isa->f32->dense_vector(&(lstmrt_dense_vector_args){
        .x = x,
        .init = layer->x_bias + vector * width,
        .weights = layer->x_weights + panel * layer->inputs + vector * width - panel,
        .y = scratch->y + vector * width,
        .pitch = panel_width(screen, panel),
        .inputs = layer->inputs,
    });
}

/* What bounds every output: |exact - y| <= slope norm + slack. */
typedef struct {
    float norm, slack;
} radius;

static double norm_of(const float *x, size_t n)
{
    double sums[4] = {0}; /* side by side: one chain of additions would wait for each */
    size_t i = 0;
    for (; i + 4 <= n; i += 4)
        for (size_t j = 0; j < 4; j++) sums[j] += (double)x[i + j] * x[i + j];
    for (; i < n; i++) sums[0] += (double)x[i] * x[i];
    return sqrt(sums[0] + sums[1] + sums[2] + sums[3]);
}

/* Bounds y for the row x; false where nothing can be said. */
static bool bound(lstmrt_screen_scratch *scratch, const float *x, radius *r)
{
    const lstmrt_screen *screen = scratch->screen;
    const size_t inputs = screen->matrix.inputs;
    float scale;
    screen->isa->int8->rows(&(lstmrt_reduced_rows_args){
        .x = x, .reduced = scratch->quantized, .scales = &scale, .rows = 1, .inputs = inputs});
    const double norm = norm_of(x, inputs);
    if (!(norm < HUGE_NORM) || isnan(scale)) return false;
    screen->isa->int8->product(&(lstmrt_reduced_product_args){
        .x = scratch->quantized,
        .x_scales = &scale,
        .weights = screen->matrix.weights,
        .scales = screen->matrix.scales,
        .init = screen->bias,
        .y = scratch->y,
        .rows = 1,
        .inputs = inputs,
        .vectors = screen->matrix.vectors,
        .gates = 1,
        .pitch = screen->isa->f32->width,
        .panels = {0, lstmrt_dense_panels(screen->matrix.vectors), false},
        .clip = INFINITY,
    });
    const double rounding = (0.51 * scale + LSTMRT_INT8_SMALLEST) * sqrt((double)inputs);
    const double bias = (sum_error(inputs) + 0x1p-20) * screen->largest_bias;
    r->norm = round_up(norm * MARGIN);
    r->slack = round_up((rounding * screen->largest_norm * MARGIN + bias) * MARGIN + 0x1p-90 * (1 + norm));
    return true;
}

/* Computes the vector with the highest lower bound; returns what the largest output is not below. */
static float threshold_of(lstmrt_screen_scratch *scratch, const float *x, radius r)
{
    const lstmrt_screen *screen = scratch->screen;
    const size_t width = screen->isa->f32->width;
    float threshold;
    size_t vector;
    screen->isa->f32->screen_lower(&(lstmrt_screen_lower_args){
        scratch->y, screen->slopes, r.norm, r.slack, screen->matrix.vectors, &threshold, &vector});
    compute_vector(scratch, x, vector);
    for (size_t j = vector * width; j < (vector + 1) * width && j < screen->layer->width; j++)
        if (scratch->y[j] > threshold) threshold = scratch->y[j];
    return threshold;
}

/* NumPy's argmax over the vectors that are left. */
static size_t choose_from_left(lstmrt_screen_scratch *scratch, const float *x)
{
    const size_t width = scratch->screen->isa->f32->width, outputs = scratch->screen->layer->width;
    size_t best = scratch->left[0] * width;
    for (size_t i = 0; i < scratch->n_left; i++) {
        const size_t begin = scratch->left[i] * width;
        compute_vector(scratch, x, scratch->left[i]);
        for (size_t j = begin; j < begin + width && j < outputs; j++) {
            if (isnan(scratch->y[j])) return j;
            if (scratch->y[j] > scratch->y[best]) best = j;
        }
    }
    return best;
}

size_t lstmrt_screen_argmax(lstmrt_screen_scratch *scratch, const float *x)
{
    const lstmrt_screen *screen = scratch->screen;
    const size_t most = screen->matrix.vectors / MOST_LEFT + 1;
    radius r;
    if (!bound(scratch, x, &r)) return choose_from_all(scratch, x);
    screen->isa->f32->screen_left(&(lstmrt_screen_left_args){
        .y = scratch->y,
        .slopes = screen->slopes,
        .norm = r.norm,
        .slack = r.slack,
        .threshold = threshold_of(scratch, x, r),
        .vectors = screen->matrix.vectors,
        .most = most,
        .left = scratch->left,
        .n = &scratch->n_left,
    });
    const bool few = scratch->n_left > 0 && scratch->n_left < most;
    return few ? choose_from_left(scratch, x) : choose_from_all(scratch, x);
}
