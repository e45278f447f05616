/* The int8 product of AMX, bit for bit against that of VNNI. Where the CPU has no AMX (or none for this process), the same object
 * code runs on the model of its tiles in tiles.h: what is tested then is all but the hardware. */
#define _GNU_SOURCE /* names of registers */
#include "harness.h"

#include <stdio.h>

#include "cpu.h"

#if LSTMRT_AMX

#include <pthread.h>

#include "reduced.h"
#include "tiles.h"

enum { WIDTH = 16 };

/* What both kernels get: rows x inputs, and weights of whole numbers, random ones or the largest there are. */
typedef struct {
    size_t rows, inputs, vectors, gates, pitch, y_stride;
    guarded x, weights, scales, bias;
} problem;

static uint8_t weight_random(bool extreme) { return (uint8_t)(extreme ? random_below(2) * 254 + 1 : 1 + random_below(255)); }

static problem problem_random(size_t rows, size_t inputs, size_t vectors, size_t gates, bool extreme)
{
    const size_t groups = (inputs + 3) / 4, pitch = (gates + random_below(2)) * WIDTH;
    problem p = {rows, inputs, vectors, gates, pitch, ((vectors - 1) / gates + 1) * pitch,
                 guarded_random(rows * inputs, 3), guarded_new(groups * vectors * WIDTH),
                 guarded_random(vectors * WIDTH, 1), guarded_random(((vectors - 1) / gates + 1) * pitch, 1)};
    for (size_t i = 0; i < p.x.n && extreme; i++) p.x.x[i] = random_below(2) ? 3.0f : -3.0f;
    for (size_t k = 0; k < inputs && extreme; k++) p.x.x[k] = 3.0f; /* row 0: nothing cancels where weights do not */
    uint8_t *weights = (uint8_t *)p.weights.x;
    for (size_t i = 0; i < 4 * p.weights.n; i++) weights[i] = weight_random(extreme);
    for (size_t i = 0; i < 4 * p.weights.n && extreme; i += 4 * WIDTH) memset(weights + i, 255, 4); /* a column of 127s */
    return p;
}

static void problem_free(problem *p)
{
    guarded_free(p->x), guarded_free(p->weights), guarded_free(p->scales), guarded_free(p->bias);
}

typedef enum { FROM_BIAS, IN_PLACE, ACTIVATED, WAYS } way;

/* y of panels [begin, end), over what was in it before. Rows and y end where memory does. */
static guarded multiply(const lstmrt_reduced_kernels *kernels, const problem *p, way how, lstmrt_panels panels)
{
    guarded rows = guarded_new(p->rows * lstmrt_reduced_row_bytes(p->inputs) / sizeof(float));
    guarded x_scales = guarded_new(p->rows), y = guarded_new(p->rows * p->y_stride);
    for (size_t i = 0; i < y.n; i++) y.x[i] = (float)(i % 97);
    kernels->rows(&(lstmrt_reduced_rows_args){
        .x = p->x.x, .reduced = rows.x, .scales = x_scales.x, .x_stride = p->inputs, .rows = p->rows, .inputs = p->inputs});
    kernels->product(&(lstmrt_reduced_product_args){
        .x = rows.x, .x_scales = x_scales.x, .weights = p->weights.x, .scales = p->scales.x,
        .init = how == IN_PLACE ? y.x : p->bias.x, .init_stride = how == IN_PLACE ? p->y_stride : 0,
        .y = y.x, .y_stride = p->y_stride, .rows = p->rows, .inputs = p->inputs, .vectors = p->vectors,
        .gates = p->gates, .pitch = p->pitch, .panels = panels, .clip = how == ACTIVATED ? 2.5f : INFINITY,
        .activation = {how == ACTIVATED ? LSTMRT_TANH : LSTMRT_IDENTITY, 0, 0}});
    CHECK(!tiles_configured, "tiles are left to the caller");
    guarded_free(rows), guarded_free(x_scales);
    return y;
}

static bool agree(const problem *p, way how, lstmrt_panels panels)
{
    guarded y = multiply(&lstmrt_int8_amx, p, how, panels), want = multiply(&lstmrt_int8_avx512_vnni, p, how, panels);
    const bool same = memcmp(y.x, want.x, y.n * sizeof(float)) == 0;
    guarded_free(y), guarded_free(want);
    return same;
}

static void check(size_t rows, size_t inputs, size_t vectors, bool extreme)
{
    problem p = problem_random(rows, inputs, vectors, 1 + random_below(4), extreme);
    const size_t panels = (vectors + LSTMRT_DENSE_VECTORS - 1) / LSTMRT_DENSE_VECTORS, begin = random_below(panels);
    const lstmrt_panels some = {begin, begin + 1 + random_below(panels - begin), random_below(2)};
    for (way how = FROM_BIAS; how < WAYS; how++)
        CHECK(agree(&p, how, some), "%zu rows, %zu x %zu vectors, panels %zu to %zu, way %d: not VNNI's bits", rows, inputs,
              vectors, some.begin, some.end, how);
    problem_free(&p);
}

static const size_t ROWS[] = {1, 7, 8, 11, 15, 16, 17, 31, 32, 33, 48, 70};
static const size_t INPUTS[] = {1, 4, 5, 60, 61, 63, 64, 65, 68, 97, 127, 128, 129, 131, 200};
static const size_t LONG[] = {2047, 2048, 2049, 2052, 2112, 2117, 4100};

static void test_shapes(void)
{
    for (size_t i = 0; i < COUNT(INPUTS); i++)
        for (size_t n = 0; n < COUNT(ROWS); n++) check(ROWS[n], INPUTS[i], 1 + (5 * i + 3 * n) % 9, n % 3 == 2);
    for (size_t i = 0; i < COUNT(LONG); i++) check(14 + random_below(5), LONG[i], 1 + i % 3, i % 2);
    for (int trial = 0; trial < 60; trial++)
        check(8 + random_below(63), 1 + random_below(300), 1 + random_below(9), random_below(2));
}

/* A row that is not finite gives NaN and leaves the others alone. */
static void test_odd_rows(void)
{
    problem p = problem_random(19, 77, 2, 1, false);
    p.x.x[3 * p.inputs + 76] = NAN;
    p.x.x[18 * p.inputs] = INFINITY;
    fill(p.x.x + 5 * p.inputs, p.inputs, 0);
    guarded y = multiply(&lstmrt_int8_amx, &p, FROM_BIAS, (lstmrt_panels){0, 1, false});
    for (size_t row = 0; row < p.rows; row++)
        for (size_t v = 0; v < p.vectors; v++)
            for (size_t j = v * p.pitch; j < v * p.pitch + WIDTH; j++) {
                const float got = y.x[row * p.y_stride + j];
                CHECK(isnan(got) == (row == 3 || row == 18), "row %zu: %g", row, got);
                CHECK(row != 5 || got == p.bias.x[j], "a row of zeros: %g, not %g", got, p.bias.x[j]);
            }
    guarded_free(y), problem_free(&p);
}

/* Every other turn adds 1 for each group of inputs. */
static void test_probe(void)
{
    for (size_t turns = 1; turns < 6; turns++) {
        float got = -1;
        size_t operations = 0;
        lstmrt_int8_amx.probe(&(lstmrt_probe_fma_args){turns, &got, &operations});
        const size_t sums = operations / (2 * turns * lstmrt_int8_amx.group);
        CHECK(sums == 4 * 16 * 16 * 16 && got == (float)(sums * (turns / 2)), "%zu turns: %g", turns, got);
        CHECK(!tiles_configured, "tiles are left to the caller");
    }
}

static void test_trial(bool emulated)
{
    CHECK(lstmrt_amx_agrees(), "AMX is not VNNI");
    if (!emulated) return;
    tiles_broken = true;
    CHECK(!lstmrt_amx_agrees(), "wrong tiles are trusted");
    tiles_broken = false;
}

static void *multiply_often(void *argument)
{
    const problem *p = argument;
    for (int i = 0; i < 5; i++) CHECK(agree(p, FROM_BIAS, (lstmrt_panels){0, 2, i % 2}), "beside other threads, turn %d", i);
    return NULL;
}

/* Each thread has tiles of its own. */
static void test_threads(void)
{
    problem problems[3];
    pthread_t threads[COUNT(problems)];
    for (size_t i = 0; i < COUNT(problems); i++) problems[i] = problem_random(20 + i, 50 + 40 * i, 7, 1, false);
    for (size_t i = 0; i < COUNT(problems); i++) REQUIRE(pthread_create(&threads[i], NULL, multiply_often, &problems[i]) == 0);
    for (size_t i = 0; i < COUNT(problems); i++) REQUIRE(pthread_join(threads[i], NULL) == 0);
    for (size_t i = 0; i < COUNT(problems); i++) problem_free(&problems[i]);
}

static int test(void)
{
    const bool emulated = !lstmrt_cpu_has_amx(); /* which also asks for the tiles */
    if (emulated) tiles_begin();
    test_trial(emulated);
    test_shapes();
    test_odd_rows();
    test_probe();
    test_threads();
    CHECK((tiles_run > 0) == emulated, "%lu instructions were emulated", tiles_run);
    printf("test_tiles: on %s\n", emulated ? "a model of AMX: this CPU has none" : "the AMX of this CPU");
    return finish("test_tiles");
}

int main(void)
{
    if (lstmrt_cpu_has_avx512_vnni()) return test();
    printf("test_tiles: skipped, this CPU has no AVX-512 VNNI\n");
    return 0;
}

#else

int main(void)
{
    printf("test_tiles: skipped, no code for AMX in this build\n");
    return 0;
}

#endif
