/* GATHER, CONV and LAYER_NORM of parts, against loops; and programs with them that do not hold together. */
#include "programs.h"

enum { WIDTH_A = 37, WIDTH_B = 5, WINDOWS = 3, INPUTS = 11, FILTERS = 32, BATCH = 4 };

static int32_t indices[WINDOWS * INPUTS];

/* Runs of all kinds: side by side, apart, backwards, of one element, of nothing, from both inputs. */
static void fill_indices(void)
{
    const size_t n = COUNT(indices);
    for (size_t i = 0; i < n;) {
        const size_t kind = random_below(4), step = 1 + random_below(3), length = 1 + random_below(20);
        const int32_t first = (int32_t)random_below(WIDTH_A + WIDTH_B);
        for (size_t j = 0; j < length && i < n; j++) {
            const int32_t at = kind == 0 ? -1 : kind == 1 ? first - (int32_t)(j * step) : first + (int32_t)(j * step);
            indices[i++] = at >= -1 && at < WIDTH_A + WIDTH_B ? at : -1;
        }
    }
}

/* a, b -> the windows -> their products -> normalized parts. */
static builder program(void)
{
    builder b = {0};
    const lstmrt_rows rows = LSTMRT_ROWS_BATCH;
    const int32_t x = add_input(&b, LSTMRT_F32, rows, WIDTH_A), more = add_input(&b, LSTMRT_F32, rows, WIDTH_B);
    const int32_t seen = add_output(&b, add_simple(&b, LSTMRT_OP_GATHER, x, rows, WINDOWS * INPUTS));
    last_step(&b)->inputs[1] = more;
    last_step(&b)->indices = indices;
    last_step(&b)->n_indices = COUNT(indices);
    const int32_t y = add_output(&b, add_simple(&b, LSTMRT_OP_CONV, seen, rows, WINDOWS * FILTERS));
    last_step(&b)->weights[0] = random_weight(&b, INPUTS, FILTERS, 1);
    last_step(&b)->weights[1] = random_weight(&b, 1, FILTERS, 1);
    last_step(&b)->activations[0].function = LSTMRT_RELU;
    add_output(&b, add_simple(&b, LSTMRT_OP_LAYER_NORM, y, rows, WINDOWS * FILTERS));
    last_step(&b)->weights[0] = random_weight(&b, 1, FILTERS, 1);
    last_step(&b)->epsilon = 1e-3f;
    return b;
}

static double product(const builder *b, const float *seen, size_t window, size_t filter)
{
    double sum = b->steps[1].weights[1].data[filter];
    for (size_t k = 0; k < INPUTS; k++)
        sum += (double)seen[window * INPUTS + k] * b->steps[1].weights[0].data[k * FILTERS + filter];
    return fmax(0, sum);
}

static void check_norm(const builder *b, const char *isa, const float *x, const float *y)
{
    double mean = 0, variance = 0;
    for (size_t i = 0; i < FILTERS; i++) mean += x[i] / (double)FILTERS;
    for (size_t i = 0; i < FILTERS; i++) variance += (x[i] - mean) * (x[i] - mean) / FILTERS;
    for (size_t i = 0; i < FILTERS; i++) {
        const double want = (x[i] - mean) / sqrt(variance + (double)1e-3f) * b->steps[2].weights[0].data[i];
        CHECK(fabs(y[i] - want) < 1e-5, "%s: normalized %.9g is not %.9g", isa, y[i], want);
    }
}

static void test_results(const lstmrt_kernels *kernels)
{
    fill_indices();
    builder b = program();
    lstmrt_model *model = model_of(&b, kernels->name);
    arrays a = arrays_for(&b, BATCH, 1);
    CHECK(lstmrt_run(model, a.inputs, a.outputs, BATCH, 1, 1) == LSTMRT_OK, "%s", kernels->name);
    for (size_t row = 0; row < BATCH; row++) {
        const float *seen = (float *)a.outputs[0].data + row * WINDOWS * INPUTS;
        const float *y = (float *)a.outputs[1].data + row * WINDOWS * FILTERS;
        for (size_t i = 0; i < COUNT(indices); i++) {
            const int32_t at = indices[i];
            const float *from = at < WIDTH_A ? (float *)a.inputs[0].data + row * WIDTH_A + at
                                             : (float *)a.inputs[1].data + row * WIDTH_B + at - WIDTH_A;
            CHECK(seen[i] == (at < 0 ? 0 : *from), "%s: element %zu from %d", kernels->name, i, (int)at);
        }
        for (size_t i = 0; i < WINDOWS * FILTERS; i++)
            CHECK(fabs(y[i] - product(&b, seen, i / FILTERS, i % FILTERS)) < 1e-4, "%s: product %zu", kernels->name, i);
        for (size_t part = 0; part < WINDOWS; part++)
            check_norm(&b, kernels->name, y + part * FILTERS,
                       (float *)a.outputs[2].data + row * WINDOWS * FILTERS + part * FILTERS);
    }
    arrays_free(&a);
    lstmrt_model_free(model);
    builder_free(&b);
}

/* X(what it does to program()). */
#define FAULTS(X)                                                        \
    X(indices[7] = -2)                                                   \
    X(indices[7] = WIDTH_A + WIDTH_B)                                    \
    X(b.steps[0].indices = NULL)                                         \
    X(b.steps[0].n_indices--)                                            \
    X(b.steps[0].inputs[0] = -1)                                         \
    X(b.values[b.inputs[1]].rows = LSTMRT_ROWS_BATCH_TIME)               \
    X(b.values[b.inputs[1]].dtype = LSTMRT_I64)                          \
    X(b.steps[1].weights[0].rows--)                                      \
    X(b.steps[1].weights[0].rows = 0)                                    \
    X(b.steps[1].weights[0].cols = 0)                                    \
    X(b.steps[1].weights[0].cols = SIZE_MAX / 2)                         \
    X(b.steps[1].weights[0].data = NULL)                                 \
    X(b.steps[1].weights[1].cols--)                                      \
    X(b.values[b.outputs[1]].width /= 4)              \
    X(b.steps[2].weights[0].cols = 5)                                    \
    X(b.steps[2].weights[0].cols = 0)

static void test_faults(void)
{
#define X(damage)                                                        \
    {                                                                    \
        fill_indices();                                                  \
        builder b = program();                                           \
        damage;                                                          \
        const lstmrt_program bad = program_of(&b);                       \
        lstmrt_model *model;                                             \
        CHECK(lstmrt_model_new(&bad, NULL, &model) == LSTMRT_BAD_PROGRAM, "%s", #damage); \
        lstmrt_model_free(model);                                        \
        builder_free(&b);                                                \
    }
    FAULTS(X)
#undef X
}

int main(void)
{
    FOR_EACH_ISA(kernels)
        for (size_t i = 0; i < 20; i++) test_results(kernels);
    test_faults();
    return finish("test_windows");
}
