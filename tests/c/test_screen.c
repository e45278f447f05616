/* The greedy screen against computing every output: the same index always, however odd the rows are. */
#include "programs.h"
#include "screen.h"

enum { INPUTS = 131, OUTPUTS = 2049, ROWS = 37 };

/* ---- output layers ---- */

typedef struct {
    lstmrt_model *model;
    const lstmrt_layer *layer;
    lstmrt_screen *screen;
    lstmrt_screen_scratch scratch;
    lstmrt_workspace *workspace;
} screened;

static screened screened_new(const char *isa, float *weights, float *bias)
{
    builder b = {0};
    const int32_t x = add_input(&b, LSTMRT_F32, LSTMRT_ROWS_BATCH, INPUTS);
    add_output(&b, add_simple(&b, LSTMRT_OP_DENSE, x, LSTMRT_ROWS_BATCH, OUTPUTS));
    last_step(&b)->weights[0] = (lstmrt_weight){.data = weights, .rows = INPUTS, .cols = OUTPUTS};
    last_step(&b)->weights[1] = (lstmrt_weight){.data = bias, .rows = 1, .cols = OUTPUTS};
    screened s = {.model = model_of(&b, isa)};
    s.layer = &s.model->layers[0];
    const lstmrt_isa *set;
    REQUIRE(lstmrt_isa_find(isa, &set) == LSTMRT_OK);
    REQUIRE(lstmrt_screen_fits(set, s.layer) || set->f32->width == 1);
    REQUIRE(lstmrt_screen_new(set, s.layer, &s.screen) == LSTMRT_OK);
    REQUIRE(lstmrt_screen_open(s.screen, ROWS, &s.scratch) == LSTMRT_OK);
    REQUIRE(lstmrt_workspace_new(s.model, &s.workspace) == LSTMRT_OK);
    builder_free(&b);
    return s;
}

static void screened_free(screened *s)
{
    lstmrt_workspace_free(s->workspace);
    lstmrt_screen_close(&s->scratch);
    lstmrt_screen_free(s->screen);
    lstmrt_model_free(s->model);
}

/* The argmax of the outputs that the model itself computes. */
static size_t plain_argmax(const screened *s, const float *x)
{
    static float y[OUTPUTS];
    const lstmrt_buffer in = {(void *)(uintptr_t)x, INPUTS * sizeof *x}, out = {y, sizeof y};
    REQUIRE(lstmrt_run(s->model, &in, &out, 1, 1, SOURCE) == LSTMRT_OK);
    size_t best = 0;
    for (size_t i = 0; i < OUTPUTS; i++) {
        if (isnan(y[i])) return i;
        if (y[i] > y[best]) best = i;
    }
    return best;
}

/* Of `rows` rows at once, as a call with `threads` threads. */
static void check_rows(screened *s, const float *x, size_t rows, size_t threads, const char *isa, const char *what)
{
    const lstmrt_fp_state was = lstmrt_fp_flush_denormals();
    lstmrt_model_set_threads(s->model, threads);
    lstmrt_call_begin(s->workspace, ROWS);
    const size_t *best = lstmrt_screen_argmax(&s->scratch, s->workspace, x, INPUTS, rows);
    lstmrt_call_end(s->workspace);
    lstmrt_fp_restore(was);
    for (size_t row = 0; row < rows; row++) {
        const size_t want = plain_argmax(s, x + row * INPUTS);
        CHECK(best[row] == want, "%s, %s, row %zu of %zu, %zu threads: %zu is not %zu", isa, what, row, rows, threads,
              best[row], want);
    }
}

/* ---- what may be in them ---- */

static float *column(float *weights, size_t j) { return weights + j; }

static void copy_column(float *weights, size_t from, size_t to)
{
    for (size_t k = 0; k < INPUTS; k++) column(weights, to)[k * OUTPUTS] = column(weights, from)[k * OUTPUTS];
}

static void scale_column(float *weights, size_t j, float by)
{
    for (size_t k = 0; k < INPUTS; k++) column(weights, j)[k * OUTPUTS] *= by;
}

/* Adds the last bit to one weight: two outputs that only rounding can part. */
static void nudge_column(float *weights, size_t j)
{
    float *weight = &column(weights, j)[random_below(INPUTS) * OUTPUTS];
    *weight = nextafterf(*weight, random_below(2) ? INFINITY : -INFINITY);
}

static void equal_columns(float *weights, float *bias)
{
    for (int i = 0; i < 300; i++) {
        const size_t from = random_below(OUTPUTS), to = random_below(OUTPUTS);
        copy_column(weights, from, to);
        bias[to] = bias[from];
        if (random_below(2)) nudge_column(weights, to);
    }
}

static void nearly_all_equal(float *weights, float *bias)
{
    for (size_t j = 1; j < OUTPUTS; j++) {
        copy_column(weights, 0, j);
        bias[j] = bias[0];
        if (random_below(3) == 0) nudge_column(weights, j);
    }
}

static void huge_norms(float *weights, float *bias)
{
    static const float SCALES[] = {0x1p20f, 0x1p59f, 0x1p61f, 0x1p90f, 0x1p125f, 0x1p-60f, 0x1p-120f, 0x1p-140f};
    for (int i = 0; i < 40; i++) scale_column(weights, random_below(OUTPUTS), SCALES[random_below(COUNT(SCALES))]);
    bias[random_below(OUTPUTS)] = 0x1p100f;
    bias[random_below(OUTPUTS)] = -0x1p100f;
}

static void not_finite(float *weights, float *bias)
{
    static const float ODD[] = {NAN, INFINITY, -INFINITY};
    for (size_t i = 0; i < random_below(5); i++)
        column(weights, random_below(OUTPUTS))[random_below(INPUTS) * OUTPUTS] = ODD[random_below(COUNT(ODD))];
    for (size_t i = 0; i < random_below(3); i++) bias[random_below(OUTPUTS)] = ODD[random_below(COUNT(ODD))];
}

static void denormal(float *weights, float *bias)
{
    for (size_t i = 0; i < INPUTS * OUTPUTS; i++) weights[i] *= 0x1p-130f;
    for (size_t j = 0; j < OUTPUTS; j++) bias[j] *= random_below(2) ? 0x1p-130f : 0;
}

static void one_large_weight(float *weights, float *bias)
{
    (void)bias;
    for (size_t j = 0; j < OUTPUTS; j++) column(weights, j)[random_below(INPUTS) * OUTPUTS] = 300;
}

static void only_bias(float *weights, float *bias)
{
    (void)bias;
    fill(weights, INPUTS * OUTPUTS, 0);
}

static void all_minus_infinity(float *weights, float *bias)
{
    (void)weights;
    fill(bias, OUTPUTS, -INFINITY);
}

static void plain(float *weights, float *bias) { (void)weights, (void)bias; }

static const struct {
    const char *name;
    void (*spoil)(float *weights, float *bias);
} KINDS[] = {
    {"random", plain},           {"equal columns", equal_columns}, {"nearly all equal", nearly_all_equal},
    {"huge norms", huge_norms},  {"not finite", not_finite},       {"denormal", denormal},
    {"one large", one_large_weight}, {"only bias", only_bias},     {"all -inf", all_minus_infinity},
};

static void spoil_row(float *x, int trial)
{
    static const float ODD[] = {NAN, INFINITY, -INFINITY, 3e38f, 1e-39f, 0.0f};
    static const float SCALES[] = {1, 1, 1e-20f, 1e20f, 1e-38f, 1e-33f, 3e37f, 0};
    fill_random(x, INPUTS, SCALES[trial % (int)COUNT(SCALES)]);
    if (trial % 3 == 2) x[random_below(INPUTS)] = ODD[random_below(COUNT(ODD))];
    if (trial % 5 == 4) /* as sparse as a saturated state */
        for (size_t k = 0; k < INPUTS; k++) x[k] = random_below(20) ? 0 : 1;
}

static void test_kind(const char *isa, size_t kind)
{
    static float weights[INPUTS * OUTPUTS], bias[OUTPUTS], x[ROWS * INPUTS];
    fill_random(weights, COUNT(weights), 0.3f);
    fill_random(bias, COUNT(bias), 1);
    KINDS[kind].spoil(weights, bias);
    screened s = screened_new(isa, weights, bias);
    for (int trial = 0; trial < 60;) {
        const size_t rows = trial < 20 ? 1 : 1 + random_below(ROWS);
        for (size_t row = 0; row < rows; row++) spoil_row(x + row * INPUTS, trial++);
        check_rows(&s, x, rows, 1 + random_below(3), isa, KINDS[kind].name);
    }
    screened_free(&s);
}

/* On ordinary rows it does screen: few vectors are left. */
static void test_screens(const char *isa)
{
    static float weights[INPUTS * OUTPUTS], bias[OUTPUTS], x[INPUTS];
    fill_random(weights, COUNT(weights), 0.3f);
    fill_random(bias, COUNT(bias), 1);
    screened s = screened_new(isa, weights, bias);
    size_t left = 0;
    for (int trial = 0; trial < 20; trial++) {
        fill_random(x, INPUTS, 1);
        check_rows(&s, x, 1, 1, isa, "ordinary");
        REQUIRE(s.scratch.rows[0].n_left != SIZE_MAX);
        left += s.scratch.rows[0].n_left;
    }
    CHECK(left < 20 * 40, "%s: %zu vectors left in 20 rows", isa, left);
    screened_free(&s);
}

/* ---- decoding ---- */

/* A decoder that screens writes what a run for each token says. */
static void test_decoder(const char *isa, lstmrt_decode_mode mode, bool every_step)
{
    enum { WINDOW = 5, NEW_IDS = 12 };
    builder b = {0};
    const int32_t ids = add_input(&b, LSTMRT_I64, LSTMRT_ROWS_BATCH_TIME, 1);
    int32_t x = add_recurrent(&b, LSTMRT_OP_LSTM, add_embedding(&b, ids, OUTPUTS, 9), INPUTS);
    if (!every_step) x = add_simple(&b, LSTMRT_OP_LAST, x, LSTMRT_ROWS_BATCH, INPUTS);
    x = add_dense(&b, x, OUTPUTS, LSTMRT_IDENTITY);
    add_output(&b, add_simple(&b, LSTMRT_OP_SOFTMAX, x, rows_of(&b, x), OUTPUTS));
    lstmrt_model *model = model_of(&b, isa);
    const lstmrt_decode_options options = {
        .mode = mode, .window = WINDOW, .max_length = 64, .repetition_penalty = 1};
    lstmrt_decoder *decoder;
    REQUIRE(lstmrt_decoder_new(model, &options, &decoder) == LSTMRT_OK);
    int64_t text[WINDOW + NEW_IDS] = {5, 1, 2, 7, 3};
    size_t taken, made = 0;
    bool ended;
    REQUIRE(lstmrt_decoder_prompt(decoder, text, WINDOW, INT64_MAX / 2, &taken) == LSTMRT_OK && taken == WINDOW);
    CHECK(model->screen || model->kernels->width == 1, "%s mode %d: a decoder of a large output layer screens", isa,
          (int)mode);
    REQUIRE(lstmrt_decoder_next(decoder, text + WINDOW, NEW_IDS, INT64_MAX / 2, &made, &ended) == LSTMRT_OK);
    CHECK(made == NEW_IDS, "%s mode %d: %zu ids", isa, (int)mode, made);
    const bool windows = mode == LSTMRT_DECODE_WINDOW || mode == LSTMRT_DECODE_STAGGERED;
    static float y[(WINDOW + NEW_IDS) * OUTPUTS];
    for (size_t n = WINDOW; n < WINDOW + NEW_IDS; n++) {
        const size_t begin = windows ? n - WINDOW : 0, time = n - begin, rows = every_step ? time : 1;
        const lstmrt_buffer in = {text + begin, time * sizeof *text}, out = {y, rows * OUTPUTS * sizeof *y};
        REQUIRE(lstmrt_run(model, &in, &out, 1, time, SOURCE) == LSTMRT_OK);
        const float *row = y + (rows - 1) * OUTPUTS;
        size_t best = 0;
        for (size_t i = 0; i < OUTPUTS; i++)
            if (row[i] > row[best]) best = i;
        CHECK(text[n] == (int64_t)best, "%s mode %d, id %zu: %d is not %zu", isa, (int)mode, n, (int)text[n], best);
    }
    lstmrt_decoder_free(decoder);
    lstmrt_model_free(model);
    builder_free(&b);
}

/* Whichever allocation of a screen or its scratch fails, the status says so and nothing leaks. */
static void test_out_of_memory(const char *isa)
{
    static float weights[INPUTS * OUTPUTS], bias[OUTPUTS];
    fill_random(weights, COUNT(weights), 0.3f);
    screened s = screened_new(isa, weights, bias);
    lstmrt_status status = LSTMRT_OUT_OF_MEMORY;
    lstmrt_set_allocator(counting_allocate, counting_release);
    long failed = 0;
    for (; status; failed++) {
        lstmrt_screen *screen;
        lstmrt_screen_scratch scratch = {0};
        allocations_until_failure = failed;
        status = lstmrt_screen_new(s.model->isa, s.layer, &screen);
        if (!status) status = lstmrt_screen_open(screen, 3, &scratch);
        CHECK(status == LSTMRT_OK || status == LSTMRT_OUT_OF_MEMORY, "status %d", (int)status);
        lstmrt_screen_close(&scratch);
        lstmrt_screen_free(screen);
        CHECK(allocations_alive == 0, "%ld allocations leak", allocations_alive);
    }
    allocations_until_failure = -1;
    lstmrt_set_allocator(NULL, NULL);
    CHECK(failed > 6, "only %ld allocations", failed);
    screened_free(&s);
}

int main(void)
{
    bool supported = false;
    const char *isa;
    for (size_t i = 0; (isa = lstmrt_isa_name(LSTMRT_PRECISION_INT8, i, &supported)) != NULL; i++) {
        if (!supported) continue;
        for (size_t kind = 0; kind < COUNT(KINDS); kind++) test_kind(isa, kind);
        test_screens(isa);
        test_out_of_memory(isa);
        for (lstmrt_decode_mode mode = LSTMRT_DECODE_STATEFUL; mode <= LSTMRT_DECODE_GROWING; mode++)
            test_decoder(isa, mode, mode % 2);
    }
    return finish("test_screen");
}
