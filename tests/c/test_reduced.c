/* Products with reduced weights on every instruction set. int8: exact sums, the same on each, against plain loops over
 * whole numbers. bf16: against sums in double over rounded weights. */
#include "harness.h"
#include "reduced.h"

static const size_t ROWS[] = {1, 2, 3, 4, 5, 7, 13};
static const size_t INPUTS[] = {1, 2, 3, 5, 15, 16, 17, 64, 131, 2047, 2048, 2053, 4100};

typedef struct {
    size_t inputs, outputs, rows;
    guarded x, weights, init; /* rows x inputs; inputs x outputs; rows x outputs */
} problem;

static problem problem_random(size_t inputs, size_t outputs, size_t rows)
{
    return (problem){inputs, outputs, rows, guarded_random(rows * inputs, 3), guarded_random(inputs * outputs, 0.3f),
                     guarded_random(rows * outputs, 1)};
}

static void problem_free(problem *p) { guarded_free(p->x), guarded_free(p->weights), guarded_free(p->init); }

/* ---- the plain loops ---- */

static float largest_of_row(const problem *p, size_t row)
{
    float largest = 0;
    for (size_t k = 0; k < p->inputs; k++) largest = fmaxf(largest, fabsf(p->x.x[row * p->inputs + k]));
    return largest;
}

/* The quantized input, from its definition: x times the row's inverse scale, to the nearest whole number. */
static int quantized(float x, float largest)
{
    const float inverse = LSTMRT_INT8_LARGEST / largest, scale = largest / LSTMRT_INT8_LARGEST;
    const int whole = (int)nearbyintf(x * inverse);
    CHECK(fabs((double)x - (double)whole * scale) <= 0.51 * scale, "not the nearest");
    return whole;
}

static float scale_of_column(const problem *p, size_t j)
{
    float largest = 0;
    for (size_t k = 0; k < p->inputs; k++) largest = fmaxf(largest, fabsf(p->weights.x[k * p->outputs + j]));
    return lstmrt_int8_scale(largest);
}

/* Sum of the blocks' exact sums, each rounded to a float, as kernels.h promises. */
static float whole_sum(const problem *p, const int *x, size_t j, float scale)
{
    float total = 0;
    for (size_t begin = 0; begin < p->inputs; begin += LSTMRT_INT8_BLOCK) {
        int64_t sum = 0;
        for (size_t k = begin; k < p->inputs && k < begin + LSTMRT_INT8_BLOCK; k++)
            sum += x[k] * lstmrt_int8_weight(p->weights.x[k * p->outputs + j], scale);
        REQUIRE(sum <= INT32_MAX && sum >= INT32_MIN);
        total += (float)sum;
    }
    return total;
}

/* ---- the kernels ---- */

typedef struct {
    const lstmrt_isa *isa;
    const lstmrt_reduced_kernels *kernels;
    lstmrt_reduced_matrix matrix;
    bool backward;
    void *rows;
    float *scales, *init, *y; /* init and y: rows x stride, by units' vectors `gates` at a time, `pitch` apart */
    size_t stride, gates, pitch;
} run;

/* Where output j stands in a row. */
static size_t place_of(const run *r, size_t j)
{
    const size_t w = r->isa->f32->width, vector = j / w;
    return vector / r->gates * r->pitch + vector % r->gates * w + j % w;
}

static run run_new(const lstmrt_isa *isa, lstmrt_precision precision, const problem *p, size_t gates)
{
    const bool int8 = precision == LSTMRT_PRECISION_INT8;
    const size_t w = isa->f32->width;
    run r = {.isa = isa, .kernels = int8 ? isa->int8 : isa->bf16, .gates = gates, .pitch = (gates + 1) * w};
    lstmrt_columns columns;
    REQUIRE(lstmrt_columns_plain(p->outputs, w, &columns) == LSTMRT_OK);
    REQUIRE((int8 ? lstmrt_int8_pack(isa, p->weights.x, p->inputs, p->outputs, 1, &columns, &r.matrix)
                  : lstmrt_bf16_pack(p->weights.x, p->inputs, p->outputs, 1, &columns, &r.matrix)) == LSTMRT_OK);
    r.stride = (columns.vectors / gates + 1) * r.pitch;
    lstmrt_columns_free(&columns);
    r.rows = lstmrt_allocate_array(p->rows, lstmrt_reduced_row_bytes(p->inputs));
    r.scales = lstmrt_allocate_array(p->rows, sizeof(float));
    r.init = lstmrt_allocate_array(p->rows * r.stride, sizeof(float));
    r.y = lstmrt_allocate_array(p->rows * r.stride, sizeof(float));
    for (size_t row = 0; row < p->rows; row++)
        for (size_t j = 0; j < p->outputs; j++) r.init[row * r.stride + place_of(&r, j)] = p->init.x[row * p->outputs + j];
    return r;
}

static void run_free(run *r)
{
    lstmrt_reduced_free(&r->matrix);
    lstmrt_release(r->rows), lstmrt_release(r->scales), lstmrt_release(r->init), lstmrt_release(r->y);
}

static void multiply(run *r, const problem *p, size_t row, size_t rows)
{
    char *x = (char *)r->rows + row * lstmrt_reduced_row_bytes(p->inputs);
    r->kernels->rows(&(lstmrt_reduced_rows_args){
        .x = p->x.x + row * p->inputs, .reduced = x, .scales = r->scales + row, .x_stride = p->inputs, .rows = rows,
        .inputs = p->inputs});
    r->kernels->product(&(lstmrt_reduced_product_args){
        .x = x, .x_scales = r->scales + row, .weights = r->matrix.weights, .scales = r->matrix.scales,
        .init = r->init + row * r->stride, .y = r->y + row * r->stride, .init_stride = r->stride, .y_stride = r->stride,
        .rows = rows, .inputs = p->inputs, .vectors = r->matrix.vectors, .gates = r->gates, .pitch = r->pitch,
        .panels = {0, (r->matrix.vectors + LSTMRT_DENSE_VECTORS - 1) / LSTMRT_DENSE_VECTORS, r->backward},
        .clip = INFINITY,
    });
}

#define FOR_EACH_SET(isa, precision) \
    for (size_t isa_ = 0, once_ = 1; once_; once_ = 0) \
        for (const lstmrt_isa *isa; (isa = set_at(precision, &isa_)) != NULL;)

static const lstmrt_isa *set_at(lstmrt_precision precision, size_t *i)
{
    bool supported = false;
    const char *name;
    while ((name = lstmrt_isa_name(precision, (*i)++, &supported)) != NULL) {
        const lstmrt_isa *isa = NULL;
        if (!supported) continue;
        REQUIRE(lstmrt_isa_find(name, &isa) == LSTMRT_OK);
        REQUIRE(strcmp(lstmrt_isa_shown(isa, precision), name) == 0);
        return isa;
    }
    return NULL;
}

/* ---- tests ---- */

static void check_int8(const run *r, const problem *p, size_t row)
{
    int *x = malloc(p->inputs * sizeof *x);
    REQUIRE(x);
    const float largest = largest_of_row(p, row), x_scale = largest / LSTMRT_INT8_LARGEST;
    CHECK(r->scales[row] == x_scale, "%s: scale of a row", r->isa->name);
    for (size_t k = 0; k < p->inputs; k++) x[k] = quantized(p->x.x[row * p->inputs + k], largest);
    for (size_t j = 0; j < p->outputs; j++) {
        const float scale = scale_of_column(p, j), total = whole_sum(p, x, j, scale);
        const double init = p->init.x[row * p->outputs + j], want = (double)(scale * x_scale) * total + init;
        const float got = r->y[row * r->stride + place_of(r, j)];
        CHECK(near(got, want, 0x1p-23 * (fabs(want) + fabs(init))),
              "%s int8, %zu x %zu, row %zu of %zu, output %zu: %.9g is not %.9g",
              r->isa->name, p->inputs, p->outputs, row, p->rows, j, got, want);
    }
    free(x);
}

/* What a set may round x to. */
static double input_error(const run *r)
{
    return strcmp(r->isa->name, "avx512_bf16") == 0 ? 0x1p-8 : 0;
}

static void check_bf16(const run *r, const problem *p, size_t row)
{
    for (size_t j = 0; j < p->outputs; j++) {
        double want = p->init.x[row * p->outputs + j], magnitudes = fabs(want), rounded = 0;
        for (size_t k = 0; k < p->inputs; k++) {
            const float weight = p->weights.x[k * p->outputs + j], near_weight = lstmrt_bf16_float(lstmrt_bf16_of(weight));
            const double term = (double)p->x.x[row * p->inputs + k] * near_weight;
            want += term;
            magnitudes += fabs(term);
            rounded += fabs(term) * input_error(r);
        }
        const float got = r->y[row * r->stride + place_of(r, j)];
        CHECK(near(got, want, 0x1p-21 * magnitudes + rounded),
              "%s bf16, %zu x %zu, row %zu of %zu, output %zu: %.9g is not %.9g", r->isa->name, p->inputs, p->outputs,
              row, p->rows, j, got, want);
    }
}

static void test_size(const lstmrt_isa *isa, lstmrt_precision precision, size_t inputs, size_t outputs, size_t rows,
                      size_t gates)
{
    problem p = problem_random(inputs, outputs, rows);
    run r = run_new(isa, precision, &p, gates), alone = run_new(isa, precision, &p, gates);
    r.backward = outputs % 2;
    multiply(&r, &p, 0, rows);
    for (size_t row = 0; row < rows; row++) {
        (precision == LSTMRT_PRECISION_INT8 ? check_int8 : check_bf16)(&r, &p, row);
        multiply(&alone, &p, row, 1);
    }
    for (size_t i = 0; i < rows * outputs; i++) {
        const size_t at = i / outputs * r.stride + place_of(&r, i % outputs);
        CHECK(memcmp(r.y + at, alone.y + at, sizeof(float)) == 0, "%s: other bits among other rows", isa->name);
    }
    run_free(&r), run_free(&alone), problem_free(&p);
}

/* With scales of 1 and no init, y is the sums themselves: equal on all sets, at the largest values there are too. */
static void test_same_sums(bool extreme)
{
    enum { OUTPUTS = 37, N = 2053, HELD = 3 };
    problem p = problem_random(N, OUTPUTS, HELD);
    for (size_t i = 0; i < p.x.n && extreme; i++) p.x.x[i] = random_below(2) ? 1.5f : -1.5f;
    for (size_t i = 0; i < p.weights.n && extreme; i++) p.weights.x[i] = i % OUTPUTS == 3 ? 0.7f : -0.7f;
    for (size_t k = 0; k < N && extreme; k++) p.x.x[k] = 1.5f; /* row 0: nothing cancels */
    fill(p.init.x, p.init.n, 0);
    float first[HELD * OUTPUTS];
    bool have_first = false;
    FOR_EACH_SET(isa, LSTMRT_PRECISION_INT8) {
        run r = run_new(isa, LSTMRT_PRECISION_INT8, &p, 1);
        for (size_t j = 0; j < OUTPUTS; j++) r.matrix.scales[j] = 1;
        isa->int8->rows(&(lstmrt_reduced_rows_args){
            .x = p.x.x, .reduced = r.rows, .scales = r.scales, .x_stride = N, .rows = HELD, .inputs = N});
        for (size_t row = 0; row < HELD; row++) r.scales[row] = 1;
        isa->int8->product(&(lstmrt_reduced_product_args){
            .x = r.rows, .x_scales = r.scales, .weights = r.matrix.weights, .scales = r.matrix.scales,
            .init = r.init, .y = r.y, .init_stride = r.stride, .y_stride = r.stride, .rows = HELD, .inputs = N,
            .vectors = r.matrix.vectors, .gates = 1, .pitch = r.pitch, .clip = INFINITY,
            .panels = {0, (r.matrix.vectors + LSTMRT_DENSE_VECTORS - 1) / LSTMRT_DENSE_VECTORS, false}});
        for (size_t i = 0; i < HELD * OUTPUTS; i++) {
            const float got = r.y[i / OUTPUTS * r.stride + place_of(&r, i % OUTPUTS)];
            if (!have_first) first[i] = got;
            CHECK(got == first[i], "%s: %.9g is not scalar's %.9g", isa->name, got, first[i]);
        }
        have_first = true;
        run_free(&r);
    }
    if (extreme) CHECK(first[3] == (float)(127 * 8191 * 2048) + (float)(127 * 8191 * 5), "the largest sum: %.9g", first[3]);
    problem_free(&p);
}

/* Rows that no scale fits give NaN; zeros and next to nothing give init. */
static void test_odd_rows(const lstmrt_isa *isa, lstmrt_precision precision)
{
    static const float ODD[] = {NAN, INFINITY, -INFINITY, 0.0f, 1e-38f, 3e38f};
    for (size_t i = 0; i < COUNT(ODD); i++) {
        problem p = problem_random(19, 5, 2);
        fill(p.x.x, 19, 0);
        p.x.x[7] = ODD[i];
        run r = run_new(isa, precision, &p, 1);
        multiply(&r, &p, 0, 2);
        for (size_t j = 0; j < 5; j++) {
            const size_t at = place_of(&r, j);
            const float got = r.y[at], init = p.init.x[j];
            if (i == 0 || (i < 3 && precision == LSTMRT_PRECISION_INT8))
                CHECK(isnan(got), "%s: a row with %g gives %g", isa->name, ODD[i], got);
            else if (i < 3)
                CHECK(!isfinite(got), "%s: a row with %g gives %g", isa->name, ODD[i], got);
            else if (i < 5)
                CHECK(got == init, "%s: a row with %g gives %g, not %g", isa->name, ODD[i], got, init);
            else
                CHECK(near(got, (double)ODD[i] * p.weights.x[7 * 5 + j], 3e38 * 0.3 / 200), "%s: %g", isa->name, got);
            CHECK(!isnan(r.y[r.stride + at]), "%s: the row after %g", isa->name, ODD[i]);
        }
        run_free(&r), problem_free(&p);
    }
}

/* scale q is exact, and quantizing it again changes nothing. */
static void test_again(void)
{
    for (int trial = 0; trial < 1000; trial++) {
        const float size = ldexpf(1, (int)random_below(180) - 90);
        float weights[9], largest = 0, once = 0;
        for (size_t i = 0; i < COUNT(weights); i++) largest = fmaxf(largest, fabsf(weights[i] = random_float(size)));
        const float scale = lstmrt_int8_scale(largest);
        int8_t q[COUNT(weights)];
        for (size_t i = 0; i < COUNT(weights); i++) {
            q[i] = lstmrt_int8_weight(weights[i], scale);
            CHECK(fabs((double)weights[i] - (double)scale * q[i]) <= 0.5000001 * scale, "not the nearest");
            CHECK((double)(scale * q[i]) == (double)scale * q[i], "not exact: %d times %g", q[i], scale);
            weights[i] = scale * q[i];
            once = fmaxf(once, fabsf(weights[i]));
        }
        CHECK(lstmrt_int8_scale(once) == scale, "another scale: %.9g, %.9g", lstmrt_int8_scale(once), scale);
        for (size_t i = 0; i < COUNT(weights); i++) CHECK(lstmrt_int8_weight(weights[i], scale) == q[i], "another number");
    }
    CHECK(isfinite(127 * lstmrt_int8_scale(3.4028234e38f)), "the largest float has a finite scale");
    CHECK(lstmrt_int8_scale(0) == 0 && lstmrt_int8_scale(1e-40f) == 0, "nothing has no scale");
    CHECK(isnan(lstmrt_int8_scale(INFINITY)) && isnan(lstmrt_int8_scale(NAN)), "what is not finite has none");
    CHECK(lstmrt_int8_weight(1, 0) == 0 && lstmrt_int8_weight(NAN, NAN) == 0, "numbers without a scale are 0");
}

static void test_sizes(const lstmrt_isa *isa, lstmrt_precision precision)
{
    for (size_t i = 0; i < COUNT(INPUTS); i++)
        for (size_t n = 0; n < COUNT(ROWS); n++)
            for (size_t vectors = 0; vectors < 10; vectors++) {
                if (INPUTS[i] > 200 && (vectors % 4 != 1 || ROWS[n] > 3)) continue;
                const size_t outputs = vectors * isa->f32->width + 1 + random_below(isa->f32->width);
                test_size(isa, precision, INPUTS[i], outputs, ROWS[n], 1 + (i + n + vectors) % 4);
            }
}

/* Products of ones: bf16 adds two of them each turn, int8 one every other turn. */
static void test_probe(const lstmrt_isa *isa, lstmrt_precision precision)
{
    const bool int8 = precision == LSTMRT_PRECISION_INT8;
    const lstmrt_reduced_kernels *kernels = int8 ? isa->int8 : isa->bf16;
    for (size_t turns = 1; turns < 6; turns++) {
        float got = -1;
        size_t operations = 0;
        kernels->probe(&(lstmrt_probe_fma_args){turns, &got, &operations});
        const size_t sums = operations / (2 * turns * kernels->group);
        CHECK(sums >= 8 * isa->f32->width && got == (float)(sums * (int8 ? turns / 2 : 2 * turns)),
              "%s probe, %zu turns, %zu sums: %g", isa->name, turns, sums, got);
    }
}

static void test_bf16_numbers(void)
{
    static const struct {
        float x, want;
    } CASES[] = {{1, 1}, {-0.0f, -0.0f}, {INFINITY, INFINITY}, {-INFINITY, -INFINITY}, {3.4028235e38f, INFINITY},
                 {0x1.01p0f, 0x1p0f}, {0x1.03p0f, 0x1.04p0f}, {0x1.010002p0f, 0x1.02p0f}, {-0x1.fdp5f, -0x1.fcp5f}};
    for (size_t i = 0; i < COUNT(CASES); i++) {
        const float got = lstmrt_bf16_float(lstmrt_bf16_of(CASES[i].x));
        CHECK(memcmp(&got, &CASES[i].want, sizeof got) == 0, "%a becomes %a", CASES[i].x, got);
        CHECK(lstmrt_bf16_of(got) == lstmrt_bf16_of(CASES[i].x), "again, %a", got);
    }
    const uint32_t quiet[] = {0x7f800001, 0xff80ffff, 0x7fc00000, 0x7fffffff};
    for (size_t i = 0; i < COUNT(quiet); i++) {
        float x;
        memcpy(&x, &quiet[i], sizeof x);
        CHECK(isnan(lstmrt_bf16_float(lstmrt_bf16_of(x))), "the NaN %x", quiet[i]);
    }
}

int main(void)
{
    for (lstmrt_precision precision = LSTMRT_PRECISION_BF16; precision <= LSTMRT_PRECISION_INT8; precision++)
        FOR_EACH_SET(isa, precision) {
            test_sizes(isa, precision);
            test_odd_rows(isa, precision);
            test_probe(isa, precision);
        }
    test_bf16_numbers();
    test_same_sums(false);
    test_same_sums(true);
    test_again();
    return finish("test_reduced");
}
