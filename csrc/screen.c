#include "screen.h"

#include <float.h>
#include <math.h>

/* Rows with weights or a bias beyond this are always computed: sums of them could overflow where their bound does not. */
#define HUGE_NORM 0x1p60

enum {
    SMALLEST_BYTES = 1 << 20, /* output layers with fewer bytes of weights are as fast without */
    MOST_INPUTS = 8 * LSTMRT_INT8_BLOCK, /* the bounds allow for as many roundings */
    MOST_LEFT = 8, /* computing more than a part in so many of the vectors one by one is slower than all at once */
    TOGETHER = 16  /* rows: their outputs stay near */
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

static size_t outputs_of(const lstmrt_screen *screen) { return screen->matrix.vectors * screen->isa->f32->width; }

/* As many vectors as may be left of a row. */
static size_t most_left(const lstmrt_screen *screen) { return screen->matrix.vectors / MOST_LEFT + 1; }

static void place(void *owner)
{
    lstmrt_screen_scratch *scratch = owner;
    const lstmrt_screen *screen = scratch->screen;
    const size_t rows = scratch->most;
    scratch->rows = lstmrt_arena_take(&scratch->arena, rows, sizeof *scratch->rows);
    scratch->y = lstmrt_arena_take(&scratch->arena, lstmrt_size_product(rows, outputs_of(screen)), sizeof *scratch->y);
    scratch->quantized = lstmrt_arena_take(&scratch->arena, rows, lstmrt_reduced_row_bytes(screen->matrix.inputs));
    scratch->scales = lstmrt_arena_take(&scratch->arena, rows, sizeof *scratch->scales);
    scratch->left = lstmrt_arena_take(&scratch->arena, lstmrt_size_product(rows, most_left(screen)), sizeof *scratch->left);
    scratch->best = lstmrt_arena_take(&scratch->arena, scratch->n_best, sizeof *scratch->best);
}

lstmrt_status lstmrt_screen_open(const lstmrt_screen *screen, size_t rows, lstmrt_screen_scratch *scratch)
{
    scratch->screen = screen;
    scratch->n_best = rows;
    scratch->most = rows < TOGETHER ? rows : TOGETHER;
    const lstmrt_status status = lstmrt_arena_fill(&scratch->arena, place, scratch);
    for (size_t i = 0; !status && i < scratch->most; i++) {
        scratch->rows[i].y = scratch->y + i * outputs_of(screen);
        scratch->rows[i].left = scratch->left + i * most_left(screen);
    }
    return status;
}

void lstmrt_screen_close(lstmrt_screen_scratch *scratch) { lstmrt_arena_free(&scratch->arena); }

/* ---- choosing ---- */

/* What the parts of the work for some rows share. */
typedef struct {
    const lstmrt_screen_scratch *scratch;
    const float *x;
    size_t x_stride, rows;
} choice;

static const float *x_of(const choice *c, size_t row) { return c->x + row * c->x_stride; }

static double norm_of(const float *x, size_t n)
{
    double sums[4] = {0}; /* side by side: one chain of additions would wait for each */
    size_t i = 0;
    for (; i + 4 <= n; i += 4)
        for (size_t j = 0; j < 4; j++) sums[j] += (double)x[i + j] * x[i + j];
    for (; i < n; i++) sums[0] += (double)x[i] * x[i];
    return sqrt(sums[0] + sums[1] + sums[2] + sums[3]);
}

/* How far from a row's outputs those of whole numbers may be. */
static void measure_row(const lstmrt_screen *screen, const float *x, float scale, lstmrt_screen_row *row)
{
    const size_t inputs = screen->matrix.inputs;
    const double norm = norm_of(x, inputs);
    row->bounded = norm < HUGE_NORM && !isnan(scale);
    const double rounding = (0.51 * scale + LSTMRT_INT8_SMALLEST) * sqrt((double)inputs);
    const double bias = (sum_error(inputs) + 0x1p-20) * screen->largest_bias;
    row->norm = round_up(norm * MARGIN);
    row->slack = round_up((rounding * screen->largest_norm * MARGIN + bias) * MARGIN + 0x1p-90 * (1 + norm));
}

/* y of all rows in whole numbers. */
static void bound_part(const void *argument, size_t part, size_t parts)
{
    const choice *c = argument;
    const lstmrt_screen *screen = c->scratch->screen;
    const lstmrt_reduced_matrix *matrix = &screen->matrix;
    screen->isa->int8->product(&(lstmrt_reduced_product_args){
        .x = c->scratch->quantized,
        .x_scales = c->scratch->scales,
        .weights = matrix->weights,
        .scales = matrix->scales,
        .init = screen->bias,
        .y = c->scratch->y,
        .y_stride = outputs_of(screen),
        .rows = c->rows,
        .inputs = matrix->inputs,
        .vectors = matrix->vectors,
        .gates = 1,
        .pitch = screen->isa->f32->width,
        .panels = lstmrt_panels_part(lstmrt_dense_panels(matrix->vectors), part, parts, false),
        .clip = INFINITY,
    });
}

/* The layer's outputs in one vector, with the bits that computing all of them has. */
static void compute_vector(const lstmrt_screen *screen, const float *x, size_t vector, float *y)
{
    const lstmrt_layer *layer = screen->layer;
    const size_t width = screen->isa->f32->width, panel = vector / LSTMRT_DENSE_VECTORS * LSTMRT_DENSE_VECTORS * width;
    screen->isa->f32->dense_vector(&(lstmrt_dense_vector_args){
        .x = x,
        .init = layer->x_bias + vector * width,
        .weights = layer->x_weights + panel * layer->inputs + vector * width - panel,
        .y = y + vector * width,
        .pitch = panel_width(screen, panel),
        .inputs = layer->inputs,
    });
}

/* Computes the vector with the highest lower bound; returns what the largest output is not below. */
static float threshold_of(const lstmrt_screen *screen, const float *x, const lstmrt_screen_row *row)
{
    const size_t width = screen->isa->f32->width;
    float threshold;
    size_t vector;
    screen->isa->f32->screen_lower(&(lstmrt_screen_lower_args){
        row->y, screen->slopes, row->norm, row->slack, screen->matrix.vectors, &threshold, &vector});
    compute_vector(screen, x, vector, row->y);
    for (size_t j = vector * width; j < (vector + 1) * width && j < screen->layer->width; j++)
        if (row->y[j] > threshold) threshold = row->y[j];
    return threshold;
}

static void find_left(const lstmrt_screen *screen, const float *x, lstmrt_screen_row *row)
{
    row->n_left = SIZE_MAX;
    if (!row->bounded) return;
    size_t n;
    screen->isa->f32->screen_left(&(lstmrt_screen_left_args){
        .y = row->y,
        .slopes = screen->slopes,
        .norm = row->norm,
        .slack = row->slack,
        .threshold = threshold_of(screen, x, row),
        .vectors = screen->matrix.vectors,
        .most = most_left(screen),
        .left = row->left,
        .n = &n,
    });
    if (n > 0 && n < most_left(screen)) row->n_left = n;
}

static void left_part(const void *argument, size_t part, size_t parts)
{
    const choice *c = argument;
    for (size_t row = part; row < c->rows; row += parts)
        find_left(c->scratch->screen, x_of(c, row), &c->scratch->rows[row]);
}

/* The vectors that are left of all rows, dealt out. */
static void compute_part(const void *argument, size_t part, size_t parts)
{
    const choice *c = argument;
    size_t at = 0;
    for (size_t i = 0; i < c->rows; i++) {
        const lstmrt_screen_row *row = &c->scratch->rows[i];
        for (size_t v = 0; row->n_left != SIZE_MAX && v < row->n_left; v++)
            if (at++ % parts == part) compute_vector(c->scratch->screen, x_of(c, i), row->left[v], row->y);
    }
}

static size_t count_left(const choice *c)
{
    size_t n = 0;
    for (size_t i = 0; i < c->rows; i++)
        if (c->scratch->rows[i].n_left != SIZE_MAX) n += c->scratch->rows[i].n_left;
    return n;
}

/* All outputs of the rows that the screen cannot help, as many neighbours as there are at once. */
static void compute_rest(const choice *c, const lstmrt_workspace *ws)
{
    const lstmrt_screen *screen = c->scratch->screen;
    const lstmrt_screen_row *rows = c->scratch->rows;
    for (size_t begin = 0, end; begin < c->rows; begin = end + 1) {
        for (end = begin; end < c->rows && rows[end].n_left == SIZE_MAX;) end++;
        if (end > begin)
            lstmrt_dense_share(ws, screen->layer, x_of(c, begin), c->x_stride, end - begin, rows[begin].y, outputs_of(screen));
    }
}

/* NumPy's argmax over all outputs, or over the vectors that are left. */
static size_t choose(const lstmrt_screen *screen, const lstmrt_screen_row *row)
{
    const size_t width = screen->isa->f32->width, outputs = screen->layer->width;
    size_t best;
    if (row->n_left == SIZE_MAX) {
        screen->isa->f32->argmax(&(lstmrt_argmax_args){row->y, outputs, &best});
        return best;
    }
    best = row->left[0] * width;
    for (size_t i = 0; i < row->n_left; i++) {
        const size_t begin = row->left[i] * width;
        for (size_t j = begin; j < begin + width && j < outputs; j++) {
            if (isnan(row->y[j])) return j;
            if (row->y[j] > row->y[best]) best = j;
        }
    }
    return best;
}

static void choose_together(const choice *c, const lstmrt_workspace *ws, size_t *best)
{
    const lstmrt_screen_scratch *scratch = c->scratch;
    const lstmrt_screen *screen = scratch->screen;
    const size_t inputs = screen->matrix.inputs, outputs = outputs_of(screen), width = screen->isa->f32->width;
    screen->isa->int8->rows(&(lstmrt_reduced_rows_args){
        .x = c->x, .reduced = scratch->quantized, .scales = scratch->scales, .x_stride = c->x_stride, .rows = c->rows,
        .inputs = inputs});
    for (size_t i = 0; i < c->rows; i++) measure_row(screen, x_of(c, i), scratch->scales[i], &scratch->rows[i]);
    lstmrt_share(ws, inputs * outputs / sizeof(float), c->rows, bound_part, c);
    lstmrt_share(ws, 4 * outputs, c->rows, left_part, c); /* it reads y and the slopes, twice */
    lstmrt_share(ws, count_left(c) * width * inputs, 1, compute_part, c);
    compute_rest(c, ws);
    for (size_t i = 0; i < c->rows; i++) best[i] = choose(screen, &scratch->rows[i]);
}

const size_t *lstmrt_screen_argmax(lstmrt_screen_scratch *scratch, const lstmrt_workspace *ws, const float *x,
                                   size_t x_stride, size_t rows)
{
    for (size_t row = 0; row < rows; row += scratch->most) {
        const size_t taken = rows - row < scratch->most ? rows - row : scratch->most;
        choose_together(&(choice){scratch, x + row * x_stride, x_stride, taken}, ws, scratch->best + row);
    }
    return scratch->best;
}
