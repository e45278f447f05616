/* CONV_LSTM against loops over images in double; and programs with one that do not hold together. */
#include "programs.h"
#include "reference.h"

enum { CHANNELS = 3, FILTERS = 9, BATCH = 2, TIME = 3, FUZZED = 20000 };

static const lstmrt_windows WINDOWS = {.sizes = {2, 5, 7}, .counts = {1, 3, 7}, .kernel = {2, 3, 2}, .strides = {2, 2, 1},
                                       .dilations = {1, 1, 3}, .before = {0, 1, 2}};

static size_t product_of(const uint32_t *along) { return (size_t)along[0] * along[1] * along[2]; }

/* x, h0, c0, mask -> y, h, c: every option that there is. */
static builder program(void)
{
    const lstmrt_rows bt = LSTMRT_ROWS_BATCH_TIME, rb = LSTMRT_ROWS_BATCH;
    const size_t width = product_of(WINDOWS.counts) * FILTERS, window = product_of(WINDOWS.kernel);
    builder b = {0};
    const int32_t x = add_input(&b, LSTMRT_F32, bt, product_of(WINDOWS.sizes) * CHANNELS);
    add_output(&b, add_simple(&b, LSTMRT_OP_CONV_LSTM, x, bt, width));
    lstmrt_step *step = last_step(&b);
    step->windows = WINDOWS;
    for (size_t i = 2; i < 4; i++) step->inputs[i] = add_input(&b, LSTMRT_F32, rb, width);
    step->inputs[4] = add_input(&b, LSTMRT_BOOL, bt, 1);
    for (size_t i = 1; i < 3; i++) step->outputs[i] = add_output(&b, add_value(&b, LSTMRT_F32, rb, width));
    step->weights[0] = random_weight(&b, 4 * FILTERS, window * CHANNELS, 0.3f);
    step->weights[1] = random_weight(&b, 4 * FILTERS, window * FILTERS, 0.2f);
    step->weights[2] = random_weight(&b, 1, 4 * FILTERS, 0.5f);
    step->activations[0].function = LSTMRT_SIGMOID;
    step->activations[1].function = LSTMRT_TANH;
    step->activations[2].function = LSTMRT_SOFTSIGN;
    step->reverse = true;
    return b;
}

/* Place (z, y, x) of an image of `channels`, 0 outside. */
static double element(const float *image, const uint32_t *sizes, const int64_t *place, size_t channels, size_t channel)
{
    for (size_t axis = 0; axis < 3; axis++)
        if (place[axis] < 0 || place[axis] >= (int64_t)sizes[axis]) return 0;
    const size_t at = ((size_t)place[0] * sizes[1] + (size_t)place[1]) * sizes[2] + (size_t)place[2];
    return image[at * channels + channel];
}

/* One row of weights times the window at (z, y, x) of the counts. */
static double convolved(const float *w, const float *image, const lstmrt_windows *s, const size_t *at, size_t channels)
{
    double sum = 0;
    for (size_t k = 0; k < product_of(s->kernel); k++) {
        const size_t in[] = {k / s->kernel[2] / s->kernel[1], k / s->kernel[2] % s->kernel[1], k % s->kernel[2]};
        int64_t place[3];
        for (size_t axis = 0; axis < 3; axis++)
            place[axis] = (int64_t)(at[axis] * s->strides[axis] + in[axis] * s->dilations[axis]) - s->before[axis];
        for (size_t c = 0; c < channels; c++) sum += element(image, s->sizes, place, channels, c) * w[k * channels + c];
    }
    return sum;
}

/* h and c after one step of an image. */
static void step_image(const lstmrt_step *step, const float *x, const float *h, const float *c, float *h_next, float *c_next)
{
    lstmrt_windows own = WINDOWS;
    for (size_t axis = 0; axis < 3; axis++)
        own.sizes[axis] = own.counts[axis], own.strides[axis] = own.dilations[axis] = 1, own.before[axis] = (own.kernel[axis] - 1) / 2;
    for (size_t i = 0; i < product_of(WINDOWS.counts) * FILTERS; i++) {
        const size_t place = i / FILTERS, filter = i % FILTERS;
        const size_t at[] = {place / own.counts[2] / own.counts[1], place / own.counts[2] % own.counts[1], place % own.counts[2]};
        double z[4];
        for (size_t gate = 0; gate < 4; gate++) {
            const size_t row = gate * FILTERS + filter;
            const float *w = step->weights[0].data + row * step->weights[0].cols, *r = step->weights[1].data + row * step->weights[1].cols;
            z[gate] = convolved(w, x, &WINDOWS, at, CHANNELS) + convolved(r, h, &own, at, FILTERS) + step->weights[2].data[row];
        }
        const double kept = reference_activate(step->activations[0], z[2]) * (double)c[i];
        const double next = kept + reference_activate(step->activations[0], z[0]) * reference_activate(step->activations[1], z[3]);
        c_next[i] = (float)next;
        h_next[i] = (float)(reference_activate(step->activations[0], z[1]) * reference_activate(step->activations[2], next));
    }
}

static void check_close(const char *isa, const char *what, size_t t, const float *found, const float *wanted, size_t n)
{
    for (size_t i = 0; i < n; i++)
        CHECK(fabsf(found[i] - wanted[i]) < 2e-6f, "%s: %s %zu at time %zu: %.9g is not %.9g", isa, what, i, t, found[i], wanted[i]);
}

static void check_sequence(const char *isa, const builder *b, const arrays *a, size_t row)
{
    const lstmrt_step *step = &b->steps[0];
    const size_t width = b->values[step->outputs[0]].width, image = b->values[step->inputs[0]].width;
    float h[256], c[256], h_next[256], c_next[256], zeros[256] = {0};
    REQUIRE(width <= COUNT(h));
    memcpy(h, (float *)a->inputs[1].data + row * width, width * sizeof *h);
    memcpy(c, (float *)a->inputs[2].data + row * width, width * sizeof *c);
    bool started = false;
    for (size_t i = 0; i < TIME; i++) {
        const size_t t = TIME - 1 - i, at = row * TIME + t;
        if (((uint8_t *)a->inputs[3].data)[at]) {
            step_image(step, (float *)a->inputs[0].data + at * image, h, c, h_next, c_next);
            memcpy(h, h_next, width * sizeof *h);
            memcpy(c, c_next, width * sizeof *c);
            started = true;
        }
        check_close(isa, "y", t, (float *)a->outputs[0].data + at * width, started ? h : zeros, width);
    }
    check_close(isa, "h", 0, (float *)a->outputs[1].data + row * width, h, width);
    check_close(isa, "c", 0, (float *)a->outputs[2].data + row * width, c, width);
}

static void test_results(const lstmrt_kernels *kernels)
{
    builder b = program();
    lstmrt_model *model = model_of(&b, kernels->name);
    for (int trial = 0; trial < 4; trial++) {
        arrays a = arrays_for(&b, BATCH, TIME);
        CHECK(lstmrt_run(model, a.inputs, a.outputs, BATCH, TIME, 1) == LSTMRT_OK, "%s", kernels->name);
        for (size_t row = 0; row < BATCH; row++) check_sequence(kernels->name, &b, &a, row);
        arrays_free(&a);
    }
    lstmrt_model_free(model);
    builder_free(&b);
}

/* X(what it does to program()). */
#define FAULTS(X)                                                        \
    X(step->windows.sizes[1]++)                                          \
    X(step->windows.sizes[2] = 0)                                        \
    X(step->windows.counts[0]++)                                         \
    X(step->windows.counts[1] = UINT32_MAX)                              \
    X(step->windows.kernel[2]--)                                         \
    X(step->windows.kernel[0] = 0)                                       \
    X(step->windows.strides[0] = 0)                                      \
    X(step->windows.dilations[1] = UINT32_MAX)                           \
    X(step->windows.before[1] = UINT32_MAX)                              \
    X(step->weights[0].cols--)                                           \
    X(step->weights[0].data = NULL)                                      \
    X(step->weights[1].rows--)                                           \
    X(step->weights[1].rows = 3)                                         \
    X(step->weights[1].cols++)                                           \
    X(step->weights[1].data = NULL)                                      \
    X(step->weights[2].cols--)                                           \
    X(step->inputs[0] = -1)                                              \
    X(step->inputs[0] = step->inputs[2])                                 \
    X(step->inputs[1] = step->inputs[4])                                 \
    X(step->inputs[4] = step->inputs[3])                                 \
    X(b.values[step->inputs[2]].width--)                                 \
    X(b.values[step->inputs[4]].rows = LSTMRT_ROWS_BATCH)                \
    X(b.values[step->outputs[0]].rows = LSTMRT_ROWS_BATCH)               \
    X(b.values[step->outputs[1]].rows = LSTMRT_ROWS_BATCH_TIME)          \
    X(b.values[step->outputs[2]].width--)

static void test_faults(void)
{
#define X(damage)                                                        \
    {                                                                    \
        builder b = program();                                           \
        lstmrt_step *step = &b.steps[0];                                 \
        damage;                                                          \
        const lstmrt_program damaged = program_of(&b);                   \
        lstmrt_model *model;                                             \
        CHECK(lstmrt_model_new(&damaged, "scalar", &model) == LSTMRT_BAD_PROGRAM, #damage); \
        lstmrt_model_free(model);                                        \
        builder_free(&b);                                                \
    }
    FAULTS(X)
#undef X
}

/* Any windows: what is taken for a model runs, and reads and writes nothing that is not its own (run it with sanitizers). */
static void test_any_windows(void)
{
    static const uint32_t ODD[] = {0, 1, 2, 3, 5, 7, 8, 64, 1000, INT32_MAX, UINT32_MAX};
    builder b = program();
    size_t taken = 0;
    for (int i = 0; i < FUZZED; i++) {
        lstmrt_windows *windows = &b.steps[0].windows;
        *windows = WINDOWS;
        uint32_t *all[] = {windows->sizes, windows->counts, windows->kernel, windows->strides, windows->dilations, windows->before};
        for (size_t n = 1 + random_below(3); n > 0; n--)
            all[random_below(COUNT(all))][random_below(3)] = ODD[random_below(COUNT(ODD))];
        const lstmrt_program damaged = program_of(&b);
        lstmrt_model *model;
        if (lstmrt_model_new(&damaged, NULL, &model)) continue;
        arrays a = arrays_for(&b, 1, 2);
        CHECK(lstmrt_run(model, a.inputs, a.outputs, 1, 2, 1) == LSTMRT_OK, "sound windows");
        taken++;
        arrays_free(&a);
        lstmrt_model_free(model);
    }
    CHECK(taken > 500, "%zu models", taken);
    builder_free(&b);
}

int main(void)
{
    FOR_EACH_ISA(kernels) test_results(kernels);
    test_faults();
    test_any_windows();
    return finish("test_images");
}
