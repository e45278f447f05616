/* Products of bytes with rows that become bytes, on every instruction set: the bits of plain loops over whole numbers. */
#include "harness.h"
#include "reduced.h"

static const size_t ROWS[] = {1, 2, 3, 5, 6, 7, 13};
static const size_t INPUTS[] = {1, 2, 3, 5, 15, 16, 17, 64, 131, 1027};
static const size_t OUTPUTS[] = {1, 15, 16, 37, 64, 130, 200};

typedef struct {
    size_t inputs, outputs, rows, gates, n_quanta;
    guarded x, init, scales; /* rows x inputs; rows x outputs; outputs */
    int8_t *bytes;           /* outputs x inputs */
    int32_t zero;
    lstmrt_quantum quanta[2];
    float clip;
    lstmrt_activation activation;
} problem;

static problem problem_random(size_t inputs, size_t outputs, size_t rows)
{
    problem p = {.inputs = inputs, .outputs = outputs, .rows = rows, .gates = 1 + random_below(4), .clip = INFINITY};
    p.x = guarded_random(rows * inputs, 3);
    p.init = guarded_random(rows * outputs, 1);
    p.scales = guarded_random(outputs, 0.01f);
    p.bytes = malloc(inputs * outputs);
    REQUIRE(p.bytes);
    for (size_t i = 0; i < inputs * outputs; i++) p.bytes[i] = (int8_t)random_below(256);
    p.zero = random_below(2) ? (int32_t)random_below(256) - 128 : 0;
    return p;
}

static void problem_free(problem *p) { guarded_free(p->x), guarded_free(p->init), guarded_free(p->scales), free(p->bytes); }

/* ---- the plain loops ---- */

/* DynamicQuantizeLinear's of one row, by its definition. */
static lstmrt_quantum quantum_of_row(const problem *p, size_t row)
{
    float low = 0, high = 0;
    for (size_t k = 0; k < p->inputs; k++) {
        low = fminf(low, p->x.x[row * p->inputs + k]);
        high = fmaxf(high, p->x.x[row * p->inputs + k]);
    }
    const float scale = high == low ? 1 : (high - low) / 255;
    return (lstmrt_quantum){scale, (int32_t)nearbyintf(fminf(255, -low / scale))};
}

static lstmrt_quantum quantum_for(const problem *p, size_t row)
{
    return p->n_quanta > 0 ? p->quanta[row % p->n_quanta] : quantum_of_row(p, row);
}

static int32_t byte_of(float x, lstmrt_quantum quantum)
{
    const float whole = nearbyintf(x / quantum.scale) + (float)quantum.zero;
    return (int32_t)fminf(255, fmaxf(0, whole));
}

static float wanted(const problem *p, size_t row, size_t j)
{
    const lstmrt_quantum quantum = quantum_for(p, row);
    int64_t sum = 0;
    for (size_t k = 0; k < p->inputs; k++)
        sum += (int64_t)(byte_of(p->x.x[row * p->inputs + k], quantum) - quantum.zero) * (p->bytes[j * p->inputs + k] - p->zero);
    REQUIRE(sum <= INT32_MAX && sum >= INT32_MIN);
    const float product = (float)sum * (quantum.scale * p->scales.x[j]), z = p->init.x[row * p->outputs + j] + product;
    const float clipped = fminf(p->clip, fmaxf(-p->clip, z));
    return p->activation.function == LSTMRT_RELU ? fmaxf(0, clipped) : clipped;
}

/* ---- the kernels ---- */

/* Where output i of all stands: `gates` vectors side by side, the next ones `gates` + 1 further, rows `stride` apart. */
static size_t place_of(const problem *p, size_t w, size_t stride, size_t i)
{
    const size_t j = i % p->outputs, vector = j / w;
    return i / p->outputs * stride + vector / p->gates * (p->gates + 1) * w + vector % p->gates * w + j % w;
}

/* (rows x outputs) in `y`. */
static void compute(const lstmrt_isa *isa, const problem *p, bool backward, float *y)
{
    const size_t w = isa->f32->width, pitch = (p->gates + 1) * w;
    const lstmrt_weight weight = {.rows = p->outputs, .cols = p->inputs, .bytes = p->bytes, .scales = p->scales.x, .zero = p->zero};
    lstmrt_columns columns;
    lstmrt_reduced_matrix matrix;
    REQUIRE(lstmrt_columns_plain(p->outputs, w, &columns) == LSTMRT_OK);
    REQUIRE(lstmrt_bytes_pack(isa, &weight, p->inputs, 1, p->inputs, &columns, &matrix) == LSTMRT_OK);
    const size_t stride = (columns.vectors / p->gates + 1) * pitch;
    void *rows = lstmrt_allocate_array(p->rows, lstmrt_reduced_row_bytes(p->inputs));
    float *scales = lstmrt_allocate_array(p->rows, sizeof *scales);
    int32_t *zeros = lstmrt_allocate_array(p->rows, sizeof *zeros);
    float *gates = lstmrt_allocate_array(p->rows * stride, sizeof *gates);
    REQUIRE(rows && scales && zeros && gates);
    for (size_t i = 0; i < p->rows * p->outputs; i++) gates[place_of(p, w, stride, i)] = p->init.x[i];
    isa->bytes->rows(&(lstmrt_reduced_rows_args){p->x.x, rows, scales, p->inputs, p->rows, p->inputs, zeros, p->quanta, p->n_quanta});
    isa->bytes->product(&(lstmrt_reduced_product_args){
        .x = rows, .x_scales = scales, .x_zeros = zeros, .weights = matrix.weights, .scales = matrix.scales,
        .sums = matrix.sums, .zero = matrix.zero, .init = gates, .y = gates, .init_stride = stride, .y_stride = stride,
        .rows = p->rows, .inputs = p->inputs, .vectors = matrix.vectors, .gates = p->gates, .pitch = pitch,
        .panels = {0, (matrix.vectors + LSTMRT_DENSE_VECTORS - 1) / LSTMRT_DENSE_VECTORS, backward},
        .clip = p->clip, .activation = p->activation});
    for (size_t i = 0; i < p->rows * p->outputs; i++) y[i] = gates[place_of(p, w, stride, i)];
    lstmrt_columns_free(&columns), lstmrt_reduced_free(&matrix);
    lstmrt_release(rows), lstmrt_release(scales), lstmrt_release(zeros), lstmrt_release(gates);
}

/* for (each set of kernels) body */
#define FOR_EACH_SET(isa)                                                                                   \
    for (size_t i_ = 0, once_ = 1; once_; once_ = 0)                                                        \
        for (const lstmrt_isa *isa; (isa = set_at(&i_)) != NULL;)

static const lstmrt_isa *set_at(size_t *i)
{
    bool supported = false;
    const char *name;
    while ((name = lstmrt_isa_name(LSTMRT_PRECISION_INT8, (*i)++, &supported)) != NULL) {
        const lstmrt_isa *isa = NULL;
        if (!supported) continue;
        REQUIRE(lstmrt_isa_find(name, &isa) == LSTMRT_OK);
        return isa;
    }
    return NULL;
}

/* ---- tests ---- */

static void check(const problem *p)
{
    const size_t n = p->rows * p->outputs;
    float *want = malloc(n * sizeof *want), *got = malloc(n * sizeof *got);
    REQUIRE(want && got);
    for (size_t i = 0; i < n; i++) want[i] = wanted(p, i / p->outputs, i % p->outputs);
    FOR_EACH_SET(isa) {
        compute(isa, p, p->outputs % 2, got);
        for (size_t i = 0; i < n; i++)
            CHECK(got[i] == want[i], "%s, %zu x %zu, row %zu of %zu, output %zu: %.9g is not %.9g", isa->name, p->inputs,
                  p->outputs, i / p->outputs, p->rows, i % p->outputs, got[i], want[i]);
    }
    free(want), free(got);
}

static void test_sizes(void)
{
    for (size_t i = 0; i < COUNT(INPUTS); i++)
        for (size_t o = 0; o < COUNT(OUTPUTS); o++) {
            problem p = problem_random(INPUTS[i], OUTPUTS[o], ROWS[(i + o) % COUNT(ROWS)]);
            check(&p);
            p.n_quanta = 1 + random_below(2); /* too narrow for some of x, which is cut off */
            p.quanta[0] = (lstmrt_quantum){0.013f, 140};
            p.quanta[1] = (lstmrt_quantum){0.021f, 77};
            p.clip = 0.7f;
            p.activation.function = LSTMRT_RELU;
            check(&p);
            problem_free(&p);
        }
}

/* Halves are rounded to even numbers, before the zero point is added. */
static void test_halves(void)
{
    problem p = problem_random(64, 3, 2);
    p.n_quanta = 1;
    p.quanta[0] = (lstmrt_quantum){0.5f, 101};
    for (size_t k = 0; k < p.x.n; k++) p.x.x[k] = ((float)random_below(40) - 20.0f) * 0.25f;
    check(&p);
    problem_free(&p);
}

/* The largest sums that there can be. */
static void test_extremes(void)
{
    for (int sign = -1; sign <= 1; sign += 2) {
        problem p = problem_random(LSTMRT_BYTES_INPUTS, 17, 2);
        for (size_t k = 0; k < p.x.n; k++) p.x.x[k] = k < p.inputs ? 1.5f : -1.5f;
        for (size_t i = 0; i < p.inputs * p.outputs; i++) p.bytes[i] = sign < 0 ? -128 : 127;
        p.zero = sign < 0 ? 127 : -128;
        check(&p);
        problem_free(&p);
    }
}

static void test_range(const lstmrt_isa *isa)
{
    static const float ODD[] = {NAN, INFINITY, -INFINITY, 3e38f};
    enum { HELD = 3, N = 21 };
    guarded x = guarded_random(HELD * N, 2);
    lstmrt_quantum q;
    isa->bytes->range(&(lstmrt_reduced_range_args){x.x, &q, N, HELD, N});
    const problem all = {.inputs = HELD * N, .x = x};
    const lstmrt_quantum want = quantum_of_row(&all, 0);
    CHECK(q.scale == want.scale && q.zero == want.zero, "%s: %g %d of three rows", isa->name, q.scale, q.zero);
    isa->bytes->range(&(lstmrt_reduced_range_args){x.x, &q, N, 0, N});
    CHECK(q.scale == 1 && q.zero == 0, "%s: %g %d of no rows", isa->name, q.scale, q.zero);
    x.x[5] = -3e38f;
    for (size_t i = 0; i < COUNT(ODD); i++) {
        x.x[30] = ODD[i];
        isa->bytes->range(&(lstmrt_reduced_range_args){x.x, &q, N, HELD, N});
        CHECK(isnan(q.scale), "%s: a range with %g has the scale %g", isa->name, ODD[i], q.scale);
    }
    guarded_free(x);
}

/* A row that is not finite gives NaN, and its neighbours what they give anyway. */
static void test_odd_rows(const lstmrt_isa *isa)
{
    problem p = problem_random(19, 5, 2);
    p.x.x[7] = INFINITY;
    float y[10];
    compute(isa, &p, false, y);
    for (size_t j = 0; j < 5; j++) {
        CHECK(isnan(y[j]), "%s: infinity gives %g", isa->name, y[j]);
        CHECK(y[5 + j] == wanted(&p, 1, j), "%s: the row after infinity", isa->name);
    }
    problem_free(&p);
}

int main(void)
{
    test_sizes();
    test_halves();
    test_extremes();
    FOR_EACH_SET(isa) {
        test_range(isa);
        test_odd_rows(isa);
    }
    return finish("test_bytes");
}
