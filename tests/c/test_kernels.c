/* Every kernel of kernels.def on every instruction set, at sizes around the vector's, against plain loops in double.
 * A kernel without a test here does not compile. Arrays end at guard pages; padding that no kernel may use is NaN. */
#include "harness.h"
#include "reference.h"

/* Rounding: each product and sum of a block is off by at most half an ULP of the running sum, which the sum of
 * magnitudes bounds; activations and products after it are within a few more. */
static double tolerance(double magnitudes) { return 0x1p-21 * (1 + magnitudes); }

static const size_t ROWS[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 13}; /* every tile there is */

static lstmrt_activation activation(lstmrt_function function) { return (lstmrt_activation){function, 0.2f, 0.5f}; }

/* hidden sizes 1, W-1, W, W+1, 2W+3 and one past a block of sums */
static size_t hidden_size(const lstmrt_kernels *kernels, size_t i)
{
    const size_t w = kernels->width, sizes[] = {1, w - 1, w, w + 1, 2 * w + 3, LSTMRT_BLOCK + 1};
    return i < COUNT(sizes) ? sizes[i] : SIZE_MAX;
}

#define FOR_HIDDEN_SIZES(hidden, kernels) \
    for (size_t i_ = 0, hidden; (hidden = hidden_size(kernels, i_)) != SIZE_MAX; i_++) \
        if (hidden > 0)

static size_t round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }

/* rows x width floats at `stride`; what lies between width and stride is NaN. */
static guarded rows_random(size_t rows, size_t width, size_t stride, float scale)
{
    guarded g = guarded_random(rows * stride, scale);
    for (size_t r = 0; r < rows; r++) fill(g.x + r * stride + width, stride - width, NAN);
    return g;
}

typedef struct {
    double value, magnitudes;
} sum;

static void sum_add(sum *s, double term)
{
    s->value += term;
    s->magnitudes += fabs(term);
}

/* init + x W for one output: lane `unit` of vector `vector` in panels of `vectors` vectors, as kernels.h packs them. */
static sum product(const lstmrt_kernels *kernels, double init, const float *x, const float *weights, size_t inputs,
                   size_t vectors, size_t vector, size_t unit)
{
    const size_t w = kernels->width, panel = unit / w, lane = unit % w;
    sum s = {init, fabs(init)};
    for (size_t k = 0; k < inputs; k++)
        sum_add(&s, (double)x[k] * weights[((panel * inputs + k) * vectors + vector) * w + lane]);
    return s;
}

static float gate_input(const lstmrt_kernels *kernels, const float *gates, size_t count, size_t gate, size_t unit)
{
    const size_t w = kernels->width;
    return gates[((unit / w) * count + gate) * w + unit % w];
}

/* All panels, then in two parts, the first of them backwards: who computes a panel, and when, changes no bit. `y` is
 * what the kernel writes. */
#define RUN(kernels, kernel, args, n_panels, y)                                                                   \
    do {                                                                                                          \
        guarded before_ = guarded_new((y)->n), whole_ = guarded_new((y)->n);                                      \
        memcpy(before_.x, (y)->x, (y)->n * sizeof(float));                                                        \
        const size_t cut_ = random_below((n_panels) + 1);                                                         \
        (args).panels = (lstmrt_panels){0, (n_panels), false};                                                    \
        (kernels)->kernel(&(args));                                                                               \
        memcpy(whole_.x, (y)->x, (y)->n * sizeof(float));                                                         \
        memcpy((y)->x, before_.x, (y)->n * sizeof(float));                                                        \
        (args).panels = (lstmrt_panels){cut_, (n_panels), false};                                                 \
        (kernels)->kernel(&(args));                                                                               \
        (args).panels = (lstmrt_panels){0, cut_, true};                                                           \
        (kernels)->kernel(&(args));                                                                               \
        CHECK(memcmp(whole_.x, (y)->x, (y)->n * sizeof(float)) == 0, "%s " #kernel ": panels in parts have other bits", \
              (kernels)->name);                                                                                   \
        guarded_free(before_), guarded_free(whole_);                                                              \
    } while (0)

/* ---- dense ---- */

static size_t dense_panels(size_t vectors) { return (vectors + LSTMRT_DENSE_VECTORS - 1) / LSTMRT_DENSE_VECTORS; }

static void check_dense(const lstmrt_kernels *kernels, const lstmrt_dense_args *a)
{
    const size_t w = kernels->width;
    for (size_t r = 0; r < a->rows; r++)
        for (size_t column = 0; column < a->vectors * w; column++) {
            const size_t panel = column / w / LSTMRT_DENSE_VECTORS, left = a->vectors - panel * LSTMRT_DENSE_VECTORS;
            const size_t in_panel = left < LSTMRT_DENSE_VECTORS ? left : LSTMRT_DENSE_VECTORS;
            const float *weights = a->weights + panel * a->inputs * LSTMRT_DENSE_VECTORS * w;
            const size_t vector = column / w % LSTMRT_DENSE_VECTORS;
            const sum s = product(kernels, a->init[r * a->init_stride + column], a->x + r * a->x_stride, weights,
                                  a->inputs, in_panel, vector, column % w);
            const double want = reference_activate(a->activation, reference_clip(a->clip, s.value));
            CHECK(near(a->y[r * a->y_stride + column], want, tolerance(s.magnitudes)),
                  "%s dense, inputs %zu, vectors %zu, row %zu of %zu, column %zu: %.9g is not %.9g", kernels->name,
                  a->inputs, a->vectors, r, a->rows, column, a->y[r * a->y_stride + column], want);
        }
}

/* A row's bits do not depend on the rows beside it. */
static void check_dense_alone(const lstmrt_kernels *kernels, const lstmrt_dense_args *a)
{
    const size_t width = a->vectors * kernels->width;
    guarded y = guarded_new(width);
    for (size_t r = 0; r < a->rows; r++) {
        lstmrt_dense_args alone = *a;
        alone.x += r * a->x_stride;
        alone.init += r * a->init_stride;
        alone.y = y.x;
        alone.rows = 1;
        kernels->dense(&alone);
        CHECK(memcmp(y.x, a->y + r * a->y_stride, width * sizeof(float)) == 0,
              "%s dense, inputs %zu, vectors %zu: row %zu of %zu has other bits alone", kernels->name, a->inputs,
              a->vectors, r, a->rows);
    }
    guarded_free(y);
}

static void test_dense_size(const lstmrt_kernels *kernels, size_t inputs, size_t vectors, size_t rows, bool one_init)
{
    const size_t width = vectors * kernels->width, x_stride = inputs + 3;
    guarded x = rows_random(rows, inputs, x_stride, 1), weights = guarded_random(inputs * width, 0.3f);
    guarded init = guarded_random(one_init ? width : rows * width, 1), y = guarded_new(rows * width);
    lstmrt_dense_args args = {
        .x = x.x, .init = init.x, .weights = weights.x, .y = y.x,
        .x_stride = x_stride, .init_stride = one_init ? 0 : width, .y_stride = width,
        .rows = rows, .inputs = inputs, .vectors = vectors,
        .clip = one_init ? INFINITY : 0.75f, .activation = activation(one_init ? LSTMRT_IDENTITY : LSTMRT_TANH),
    };
    RUN(kernels, dense, args, dense_panels(vectors), &y);
    args.panels = (lstmrt_panels){0, dense_panels(vectors), false};
    check_dense(kernels, &args);
    check_dense_alone(kernels, &args);
    guarded_free(x), guarded_free(weights), guarded_free(init), guarded_free(y);
}

static void test_dense(const lstmrt_kernels *kernels)
{
    static const size_t INPUTS[] = {1, 2, 7, LSTMRT_BLOCK - 1, LSTMRT_BLOCK, LSTMRT_BLOCK + 1, 3 * LSTMRT_BLOCK + 5};
    for (size_t i = 0; i < COUNT(INPUTS); i++)
        for (size_t vectors = 1; vectors <= 9; vectors++)
            for (size_t r = 0; r < COUNT(ROWS); r++)
                test_dense_size(kernels, INPUTS[i], vectors, ROWS[r], (i + vectors + r) % 2);
}

/* ---- recurrent cells ---- */

/* What one recurrent step reads and writes; a kernel uses the fields it has. */
typedef struct {
    const lstmrt_kernels *kernels;
    size_t rows, hidden, inputs, padded, stride, gates_stride;
    guarded gates, weights, second_weights, extra, h, c, z, reset_h, h_next, c_next;
} cell;

static cell cell_new(const lstmrt_kernels *kernels, size_t hidden, size_t rows, size_t inputs, size_t gates,
                     size_t extra)
{
    cell s = {.kernels = kernels, .rows = rows, .hidden = hidden, .inputs = inputs};
    s.padded = round_up(hidden, kernels->width);
    s.stride = round_up(hidden, LSTMRT_PAD);
    s.gates_stride = gates * s.padded + kernels->width;
    s.gates = guarded_random(rows * s.gates_stride, 2);
    s.weights = guarded_random(hidden * gates * s.padded, 0.5f);
    s.second_weights = guarded_random(hidden * s.padded, 0.5f);
    s.extra = guarded_random(extra * s.padded, 1);
    s.h = rows_random(rows, hidden, s.stride, 1);
    s.c = rows_random(rows, hidden, s.stride, 1.5f);
    s.z = rows_random(rows, hidden, s.stride, 1);
    s.reset_h = rows_random(rows, hidden, s.stride, 1);
    s.h_next = guarded_new(rows * s.stride);
    s.c_next = guarded_new(rows * s.stride);
    return s;
}

static void cell_free(cell *s)
{
    guarded_free(s->gates), guarded_free(s->weights), guarded_free(s->second_weights), guarded_free(s->extra);
    guarded_free(s->h), guarded_free(s->c), guarded_free(s->z), guarded_free(s->reset_h);
    guarded_free(s->h_next), guarded_free(s->c_next);
}

static void check_unit(const cell *s, const char *what, const guarded *got, size_t row, size_t unit, double want,
                       double magnitudes)
{
    const float value = got->x[row * s->stride + unit];
    CHECK(near(value, want, tolerance(magnitudes)), "%s %s, hidden %zu, row %zu of %zu, unit %zu: %.9g is not %.9g",
          s->kernels->name, what, s->hidden, row, s->rows, unit, value, want);
}

#define FOR_UNITS(s, row, unit) \
    for (size_t row = 0; row < (s)->rows; row++) \
        for (size_t unit = 0; unit < (s)->hidden; unit++)

/* Sum of gate `gate` of `count`: the gates' input part plus h R^T, with R in panels of `packed` vectors. */
static sum gate_sum(const cell *s, const float *x, const float *weights, size_t packed, size_t vector, size_t count,
                    size_t gate, size_t row, size_t unit)
{
    const float init = gate_input(s->kernels, s->gates.x + row * s->gates_stride, count, gate, unit);
    return product(s->kernels, init, x + row * s->stride, weights, s->inputs, packed, vector, unit);
}

static void check_lstm(const cell *s, const lstmrt_lstm_args *a)
{
    const size_t w = s->kernels->width;
    FOR_UNITS(s, row, unit) {
        sum z[4]; /* i o f c */
        double magnitudes = 0;
        for (size_t gate = 0; gate < 4; gate++) {
            z[gate] = gate_sum(s, a->h, a->weights, 4, gate, 4, gate, row, unit);
            magnitudes += z[gate].magnitudes;
        }
        double p[3] = {0, 0, 0}; /* i o f */
        for (size_t gate = 0; gate < 3; gate++)
            if (a->peepholes) p[gate] = a->peepholes[(unit / w * 3 + gate) * w + unit % w];
        const double c = a->c[row * s->stride + unit];
        const double i = reference_activate(a->f, reference_clip(a->clip, z[0].value + p[0] * c));
        const double f = reference_activate(a->f, reference_clip(a->clip, z[2].value + p[2] * c));
        const double g = reference_activate(a->g, reference_clip(a->clip, z[3].value));
        const double c_next = (a->input_forget ? 1 - i : f) * c + i * g;
        const double o = reference_activate(a->f, reference_clip(a->clip, z[1].value + p[1] * c_next));
        const double h_next = o * reference_activate(a->activation_h, c_next);
        check_unit(s, "lstm c", &s->c_next, row, unit, c_next, magnitudes);
        check_unit(s, "lstm h", &s->h_next, row, unit, h_next, magnitudes);
    }
}

static void test_lstm_size(const lstmrt_kernels *kernels, size_t hidden, size_t rows, size_t inputs)
{
    for (int variant = 0; variant < 4; variant++) {
        cell s = cell_new(kernels, hidden, rows, inputs, 4, 3);
        lstmrt_lstm_args args = {
            .gates = s.gates.x, .weights = s.weights.x, .peepholes = variant & 1 ? s.extra.x : NULL,
            .h = s.h.x, .c = s.c.x, .h_next = s.h_next.x, .c_next = s.c_next.x,
            .gates_stride = s.gates_stride, .h_stride = s.stride, .stride = s.stride, .rows = rows, .inputs = inputs,
            .clip = variant == 3 ? 0.8f : INFINITY, .input_forget = variant & 2,
            .f = activation(variant == 1 ? LSTMRT_HARD_SIGMOID : LSTMRT_SIGMOID),
            .g = activation(variant == 2 ? LSTMRT_SOFTSIGN : LSTMRT_TANH),
            .activation_h = activation(variant == 3 ? LSTMRT_SCALED_TANH : LSTMRT_TANH),
        };
        RUN(kernels, lstm, args, s.padded / kernels->width, &s.h_next);
        check_lstm(&s, &args);
        cell_free(&s);
    }
}

static void check_gru(const cell *s, const lstmrt_gru_args *a)
{
    FOR_UNITS(s, row, unit) {
        const sum z = gate_sum(s, a->h, a->weights, 3, 0, 3, 0, row, unit);
        const sum r = gate_sum(s, a->h, a->weights, 3, 1, 3, 1, row, unit);
        const sum n = product(s->kernels, a->bias[row * a->bias_stride + unit], a->h + row * s->stride, a->weights,
                              s->inputs, 3, 2, unit);
        const double input = gate_input(s->kernels, a->gates + row * s->gates_stride, 3, 2, unit);
        const double update = reference_activate(a->f, reference_clip(a->clip, z.value));
        const double reset = reference_activate(a->f, reference_clip(a->clip, r.value));
        const double candidate = reference_activate(a->g, reference_clip(a->clip, input + reset * n.value));
        const double h = a->h[row * s->stride + unit];
        check_unit(s, "gru h", &s->h_next, row, unit, (1 - update) * candidate + update * h,
                   z.magnitudes + r.magnitudes * (1 + n.magnitudes) + n.magnitudes);
    }
}

static void test_gru_size(const lstmrt_kernels *kernels, size_t hidden, size_t rows, size_t inputs)
{
    for (int variant = 0; variant < 2; variant++) {
        cell s = cell_new(kernels, hidden, rows, inputs, 3, rows);
        lstmrt_gru_args args = {
            .gates = s.gates.x, .weights = s.weights.x, .bias = s.extra.x, .h = s.h.x, .h_next = s.h_next.x,
            .bias_stride = variant ? s.padded : 0, .gates_stride = s.gates_stride, .stride = s.stride,
            .rows = rows, .inputs = inputs,
            .clip = variant ? 0.8f : INFINITY, .f = activation(LSTMRT_SIGMOID),
            .g = activation(variant ? LSTMRT_SOFTSIGN : LSTMRT_TANH),
        };
        RUN(kernels, gru, args, s.padded / kernels->width, &s.h_next);
        check_gru(&s, &args);
        cell_free(&s);
    }
}

static void test_gru_gates_size(const lstmrt_kernels *kernels, size_t hidden, size_t rows, size_t inputs)
{
    cell s = cell_new(kernels, hidden, rows, inputs, 3, 1);
    lstmrt_gru_gates_args args = {
        .gates = s.gates.x, .weights = s.weights.x, .h = s.h.x, .z = s.z.x, .reset_h = s.reset_h.x,
        .gates_stride = s.gates_stride, .stride = s.stride, .rows = rows, .inputs = inputs,
        .clip = 1.5f, .f = activation(LSTMRT_SIGMOID),
    };
    RUN(kernels, gru_gates, args, s.padded / kernels->width, &s.reset_h);
    FOR_UNITS(&s, row, unit) {
        const sum z = gate_sum(&s, args.h, args.weights, 2, 0, 3, 0, row, unit);
        const sum r = gate_sum(&s, args.h, args.weights, 2, 1, 3, 1, row, unit);
        const double reset = reference_activate(args.f, reference_clip(args.clip, r.value));
        check_unit(&s, "gru_gates z", &s.z, row, unit, reference_activate(args.f, reference_clip(args.clip, z.value)),
                   z.magnitudes);
        check_unit(&s, "gru_gates r h", &s.reset_h, row, unit, reset * args.h[row * s.stride + unit], r.magnitudes);
    }
    cell_free(&s);
}

static void test_gru_candidate_size(const lstmrt_kernels *kernels, size_t hidden, size_t rows, size_t inputs)
{
    cell s = cell_new(kernels, hidden, rows, inputs, 3, 1);
    lstmrt_gru_candidate_args args = {
        .gates = s.gates.x, .weights = s.second_weights.x, .h = s.h.x, .z = s.z.x, .reset_h = s.reset_h.x,
        .h_next = s.h_next.x, .gates_stride = s.gates_stride, .stride = s.stride, .rows = rows,
        .inputs = inputs,
        .clip = 1.5f, .g = activation(LSTMRT_TANH),
    };
    RUN(kernels, gru_candidate, args, s.padded / kernels->width, &s.h_next);
    FOR_UNITS(&s, row, unit) {
        const sum n = gate_sum(&s, args.reset_h, args.weights, 1, 0, 3, 2, row, unit);
        const double candidate = reference_activate(args.g, reference_clip(args.clip, n.value));
        const double z = args.z[row * s.stride + unit], h = args.h[row * s.stride + unit];
        check_unit(&s, "gru_candidate h", &s.h_next, row, unit, (1 - z) * candidate + z * h, n.magnitudes);
    }
    cell_free(&s);
}

#define CELL_TEST(kernel)                                                                          \
    static void test_##kernel(const lstmrt_kernels *kernels)                                       \
    {                                                                                              \
        FOR_HIDDEN_SIZES(hidden, kernels)                                                          \
            for (size_t r = 0; r < COUNT(ROWS); r++)                                               \
                for (size_t all = 0; all < 2; all++)                                               \
                    test_##kernel##_size(kernels, hidden, ROWS[r], all * hidden);                  \
    }

CELL_TEST(lstm)
CELL_TEST(gru)
CELL_TEST(gru_gates)
CELL_TEST(gru_candidate)

/* ---- row by row ---- */

static void test_activate(const lstmrt_kernels *kernels)
{
    for (size_t width = 1; width <= 2 * kernels->width + 3; width++)
        for (int in_place = 0; in_place < 2; in_place++) {
            const size_t rows = 3, stride = width + 1;
            guarded x = rows_random(rows, width, stride, 3), y = guarded_new(rows * stride);
            fill(y.x, y.n, 77);
            memcpy(y.x, x.x, in_place ? y.n * sizeof(float) : 0);
            kernels->activate(&(lstmrt_activate_args){in_place ? y.x : x.x, y.x, stride, stride, rows, width,
                                                      activation(LSTMRT_TANH)});
            for (size_t i = 0; i < rows * stride; i++) {
                const double between = in_place ? NAN : 77, want = i % stride < width ? tanh(x.x[i]) : between;
                CHECK(near(y.x[i], want, 4 * ulp(want)), "%s activate, width %zu", kernels->name, width);
            }
            guarded_free(x), guarded_free(y);
        }
}

static double combine(lstmrt_op op, double a, double b)
{
    switch (op) {
    case LSTMRT_OP_ADD: return a + b;
    case LSTMRT_OP_SUB: return a - b;
    case LSTMRT_OP_MUL: return a * b;
    case LSTMRT_OP_MAX: return fmax(a, b);
    case LSTMRT_OP_LESS: return a < b;
    default: return a / b;
    }
}

static void test_combine(const lstmrt_kernels *kernels)
{
    static const lstmrt_op OPS[] = {LSTMRT_OP_ADD, LSTMRT_OP_SUB, LSTMRT_OP_MUL, LSTMRT_OP_DIV, LSTMRT_OP_MAX,
                                      LSTMRT_OP_LESS};
    for (size_t width = 1; width <= 2 * kernels->width + 3; width++)
        for (size_t variant = 0; variant < 12; variant++) {
            const size_t rows = 3, b_rows = variant % 2 ? rows : 1;
            const lstmrt_op op = OPS[variant / 2];
            guarded a = guarded_random(rows * width, 3), b = guarded_random(b_rows * width, 3);
            guarded y = guarded_new(rows * width);
            kernels->combine(
                &(lstmrt_combine_args){a.x, b.x, y.x, width, b_rows == 1 ? 0 : width, width, rows, width, op, false});
            for (size_t i = 0; i < rows * width; i++) {
                const double want = (float)combine(op, a.x[i], b.x[i % (b_rows * width)]);
                CHECK(y.x[i] == want, "%s combine %d, width %zu", kernels->name, (int)op, width);
            }
            guarded single = guarded_random(rows, 3);
            kernels->combine(&(lstmrt_combine_args){a.x, single.x, y.x, width, 1, width, rows, width, op, true});
            for (size_t i = 0; i < rows * width; i++)
                CHECK(y.x[i] == (float)combine(op, a.x[i], single.x[i / width]), "%s combine %d with one, width %zu",
                      kernels->name, (int)op, width);
            guarded_free(a), guarded_free(b), guarded_free(y), guarded_free(single);
        }
}

static void check_softmax(const lstmrt_kernels *kernels, const float *x, const float *y, size_t width, bool log_of_it)
{
    double largest = -INFINITY, total = 0;
    for (size_t i = 0; i < width; i++) largest = fmax(largest, x[i]);
    for (size_t i = 0; i < width; i++) total += exp(x[i] - largest);
    for (size_t i = 0; i < width; i++) {
        const double want = log_of_it ? x[i] - largest - log(total) : exp(x[i] - largest) / total;
        const double allowed = fabs(want) * 0x1p-20 + (log_of_it ? 0x1p-20 : 0x1p-126);
        CHECK(near(y[i], want, allowed), "%s softmax, log %d, width %zu: %.9g is not %.9g", kernels->name, log_of_it,
              width, y[i], want);
    }
}

static void test_softmax(const lstmrt_kernels *kernels)
{
    for (size_t width = 1; width <= 4 * kernels->width + 3; width++)
        for (int kind = 0; kind < 4; kind++) {
            const size_t rows = 3;
            const bool log_of_it = kind & 1;
            guarded x = guarded_random(rows * width, kind & 2 ? 1e38f : 8), y = guarded_new(rows * width);
            kernels->softmax(&(lstmrt_softmax_args){x.x, y.x, width, width, rows, width, log_of_it});
            for (size_t r = 0; r < rows; r++) check_softmax(kernels, x.x + r * width, y.x + r * width, width, log_of_it);
            x.x[width + random_below(width)] = NAN;
            kernels->softmax(&(lstmrt_softmax_args){x.x, x.x, width, width, rows, width, log_of_it});
            for (size_t i = 0; i < width; i++)
                CHECK(isnan(x.x[width + i]) && x.x[i] == y.x[i], "%s softmax of a NaN, width %zu", kernels->name,
                      width);
            guarded_free(x), guarded_free(y);
        }
}

static size_t argmax(const float *x, size_t width)
{
    size_t best = 0;
    for (size_t i = 0; i < width; i++) {
        if (isnan(x[i])) return i;
        if (x[i] > x[best]) best = i;
    }
    return best;
}

/* Few distinct values make ties; some rows get what a sloppy argmax trips over. */
static void test_argmax(const lstmrt_kernels *kernels)
{
    static const float ODD[] = {NAN, INFINITY, -INFINITY, 0.0f, -0.0f, 3.4e38f, -3.4e38f};
    for (size_t width = 1; width <= 9 * kernels->width + 3; width++)
        for (int trial = 0; trial < 40; trial++) {
            guarded x = guarded_new(width);
            fill(x.x, width, -INFINITY);
            for (size_t i = 0; i < width && trial > 0; i++) x.x[i] = (float)random_below(trial < 20 ? 4 : 100000) - 2;
            for (int i = 0; i < trial % 5; i++) x.x[random_below(width)] = ODD[random_below(COUNT(ODD))];
            size_t got = SIZE_MAX;
            kernels->argmax(&(lstmrt_argmax_args){x.x, width, &got});
            CHECK(got == argmax(x.x, width), "%s argmax, width %zu: %zu is not %zu", kernels->name, width, got,
                  argmax(x.x, width));
            guarded_free(x);
        }
}

#include "ahead_kernels.h"
#include "attention_kernels.h"

static void test_probe_read(const lstmrt_kernels *kernels)
{
    for (size_t width = 0; width <= 1024; width += 256) {
        guarded x = guarded_new(width);
        for (size_t i = 0; i < width; i++) x.x[i] = (float)random_below(100); /* sums that no order rounds */
        double want = 0;
        for (size_t i = 0; i < width; i++) want += 3 * x.x[i];
        float got = -1;
        kernels->probe_read(&(lstmrt_probe_read_args){x.x, width, 3, &got});
        CHECK(got == want, "%s probe_read, width %zu: %g is not %g", kernels->name, width, got, want);
        guarded_free(x);
    }
}

/* Chain i goes 2 + (i - 2) / 2^turns. */
static void test_probe_fma(const lstmrt_kernels *kernels)
{
    for (size_t turns = 0; turns <= 4; turns++) {
        float got = -1;
        size_t operations = 0;
        kernels->probe_fma(&(lstmrt_probe_fma_args){turns, &got, &operations});
        const size_t lanes = turns > 0 ? operations / (2 * turns) : 0, chains = lanes / kernels->width;
        double want = 0;
        for (size_t i = 0; i < chains; i++) want += (double)kernels->width * (2 + ((double)i - 2) / (1 << turns));
        CHECK(turns == 0 || (chains >= 8 && lanes % kernels->width == 0 && got == want),
              "%s probe_fma, %zu turns: %g is not %g", kernels->name, turns, got, want);
    }
}

/* ---- the greedy screen ---- */

/* Bounds of `n` outputs, a few of them odd: y, and slopes for a norm of 0.5 and a slack of 0.25. */
typedef struct {
    guarded y, slopes;
    size_t vectors;
} bounds;

static bounds bounds_random(const lstmrt_kernels *kernels, size_t vectors, int odd)
{
    static const float ODD[] = {NAN, INFINITY, -INFINITY, 3.4e38f};
    const size_t n = vectors * kernels->width;
    bounds b = {guarded_random(n, 4), guarded_random(n, 1), vectors};
    for (size_t i = 0; i < n; i++) b.slopes.x[i] = fabsf(b.slopes.x[i]);
    for (int i = 0; i < odd; i++) {
        b.y.x[random_below(n)] = ODD[random_below(COUNT(ODD))];
        b.slopes.x[random_below(n)] = INFINITY;
    }
    return b;
}

static double bound_of(const bounds *b, size_t i, int sign) { return b->y.x[i] + sign * (b->slopes.x[i] * 0.5 + 0.25); }

static void test_screen_lower(const lstmrt_kernels *kernels)
{
    for (int trial = 0; trial < 60; trial++) {
        const size_t vectors = 1 + random_below(9);
        const bounds b = bounds_random(kernels, vectors, trial % 4);
        double want = -INFINITY;
        for (size_t i = 0; i < vectors * kernels->width; i++) want = fmax(want, bound_of(&b, i, -1));
        float largest = NAN;
        size_t vector = SIZE_MAX;
        kernels->screen_lower(&(lstmrt_screen_lower_args){b.y.x, b.slopes.x, 0.5f, 0.25f, vectors, &largest, &vector});
        CHECK(near(largest, want, 1e-6 * fmax(1, fabs(want))), "%s screen_lower: %g is not %g", kernels->name, largest, want);
        bool there = want == -INFINITY && vector == 0;
        for (size_t i = vector * kernels->width; i < (vector + 1) * kernels->width && vector < vectors; i++)
            there = there || near(bound_of(&b, i, -1), want, 1e-6 * fmax(1, fabs(want)));
        CHECK(there, "%s screen_lower: not in vector %zu of %zu", kernels->name, vector, vectors);
        guarded_free(b.y), guarded_free(b.slopes);
    }
}

static void test_screen_left(const lstmrt_kernels *kernels)
{
    for (int trial = 0; trial < 60; trial++) {
        const size_t vectors = 1 + random_below(9), most = trial % 2 ? vectors : 1 + random_below(vectors);
        const bounds b = bounds_random(kernels, vectors, trial % 4);
        const float threshold = trial % 5 ? 3 : -INFINITY;
        uint32_t left[9], want[9];
        size_t n = SIZE_MAX, wanted = 0;
        for (size_t vector = 0; vector < vectors && wanted < most; vector++) {
            bool can = false;
            for (size_t i = 0; i < kernels->width; i++)
                can = can || !(bound_of(&b, vector * kernels->width + i, 1) < threshold);
            if (can) want[wanted++] = (uint32_t)vector;
        }
        kernels->screen_left(&(lstmrt_screen_left_args){b.y.x, b.slopes.x, 0.5f, 0.25f, threshold, vectors, most, left, &n});
        CHECK(n == wanted && memcmp(left, want, wanted * sizeof *want) == 0, "%s screen_left: %zu, not %zu",
              kernels->name, n, wanted);
        guarded_free(b.y), guarded_free(b.slopes);
    }
}

/* Every vector alone has the bits that it has among all. */
static void test_dense_vector(const lstmrt_kernels *kernels)
{
    static const size_t INPUTS[] = {1, 7, LSTMRT_BLOCK - 1, LSTMRT_BLOCK, LSTMRT_BLOCK + 1, 3 * LSTMRT_BLOCK + 5};
    const size_t w = kernels->width;
    for (size_t i = 0; i < COUNT(INPUTS); i++)
        for (size_t vectors = 1; vectors <= 9; vectors++) {
            const size_t inputs = INPUTS[i];
            guarded x = guarded_random(inputs, 1), weights = guarded_random(inputs * vectors * w, 0.3f);
            guarded init = guarded_random(vectors * w, 1), all = guarded_new(vectors * w), y = guarded_new(w);
            kernels->dense(&(lstmrt_dense_args){.x = x.x, .init = init.x, .weights = weights.x, .y = all.x, .rows = 1,
                                                .inputs = inputs, .vectors = vectors, .panels = {0, dense_panels(vectors), false},
                                                .clip = INFINITY});
            for (size_t vector = 0; vector < vectors; vector++) {
                const size_t in_panel = vector % LSTMRT_DENSE_VECTORS, panel = vector - in_panel;
                const size_t left = vectors - panel, pitch = left < LSTMRT_DENSE_VECTORS ? left : LSTMRT_DENSE_VECTORS;
                kernels->dense_vector(&(lstmrt_dense_vector_args){
                    x.x, init.x + vector * w, weights.x + panel * w * inputs + in_panel * w, y.x, pitch * w, inputs});
                CHECK(memcmp(y.x, all.x + vector * w, w * sizeof(float)) == 0,
                      "%s dense_vector, inputs %zu, vector %zu of %zu", kernels->name, inputs, vector, vectors);
            }
            guarded_free(x), guarded_free(weights), guarded_free(init), guarded_free(all), guarded_free(y);
        }
}

int main(void)
{
    FOR_EACH_ISA(kernels) {
#define X(kernel) test_##kernel(kernels);
#include "kernels.def"
#undef X
    }
    return finish("test_kernels");
}
