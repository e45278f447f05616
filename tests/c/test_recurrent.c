/* Whole recurrent steps through lstmrt_run, random in every option and size, against ONNX's formulas in double,
 * written over ONNX's own weight layouts. And: a sequence step by step has the bits of the whole run. */
#include "programs.h"
#include "reference.h"

enum { TRIALS = 400, MOST_HIDDEN = 40 };

typedef struct {
    lstmrt_step step;
    size_t batch, time, inputs, hidden;
    bool time_major;
    const float *x;     /* (batch, time, inputs) or (time, batch, inputs); NULL where a table is looked up */
    const int64_t *ids; /* (batch, time) or (time, batch) */
    const int64_t *lengths;
    const float *h0, *c0;
    const uint8_t *mask;
    double *y, *y_h, *y_c;
} problem;

static size_t row_at(const problem *p, size_t t, size_t b)
{
    return p->time_major ? t * p->batch + b : b * p->time + t;
}

/* X W^T + Wb + Rb of one gate's unit, the input part of a step. For a table those are its entries. */
static double input_part(const problem *p, size_t row, size_t gate, size_t unit, bool with_recurrent_bias)
{
    const size_t column = gate * p->hidden + unit, gates = gates_of(p->step.op);
    const lstmrt_weight *w = p->step.weights;
    if (p->ids) return w[4].data[(size_t)p->ids[row] * gates * p->hidden + column];
    double sum = 0;
    for (size_t k = 0; k < p->inputs; k++) sum += (double)p->x[row * p->inputs + k] * w[0].data[column * p->inputs + k];
    if (w[2].data) sum += w[2].data[column];
    if (w[2].data && with_recurrent_bias) sum += w[2].data[gates * p->hidden + column];
    return sum;
}

/* h R^T of one gate's unit. */
static double recurrent_part(const problem *p, const double *h, size_t gate, size_t unit)
{
    double sum = 0;
    for (size_t k = 0; k < p->hidden; k++)
        sum += h[k] * p->step.weights[1].data[(gate * p->hidden + unit) * p->hidden + k];
    return sum;
}

static double activate(const problem *p, size_t function, double x)
{
    const double clip = p->step.clip > 0 ? (double)p->step.clip : INFINITY;
    return reference_activate(p->step.activations[function], reference_clip(clip, x));
}

static void lstm_step(const problem *p, size_t row, double *h, double *c)
{
    double next[MOST_HIDDEN];
    for (size_t u = 0; u < p->hidden; u++) {
        double z[4], peephole[3] = {0, 0, 0};
        for (size_t gate = 0; gate < 4; gate++)
            z[gate] = input_part(p, row, gate, u, true) + recurrent_part(p, h, gate, u);
        for (size_t gate = 0; gate < 3 && p->step.weights[3].data; gate++)
            peephole[gate] = p->step.weights[3].data[gate * p->hidden + u];
        const double i = activate(p, 0, z[0] + peephole[0] * c[u]);
        const double f = p->step.input_forget ? 1 - i : activate(p, 0, z[2] + peephole[2] * c[u]);
        c[u] = f * c[u] + i * activate(p, 1, z[3]);
        next[u] = activate(p, 0, z[1] + peephole[1] * c[u]) * reference_activate(p->step.activations[2], c[u]);
    }
    memcpy(h, next, p->hidden * sizeof *h);
}

static void gru_step(const problem *p, size_t row, double *h)
{
    double z[MOST_HIDDEN], r[MOST_HIDDEN], reset_h[MOST_HIDDEN], next[MOST_HIDDEN];
    for (size_t u = 0; u < p->hidden; u++) {
        z[u] = activate(p, 0, input_part(p, row, 0, u, true) + recurrent_part(p, h, 0, u));
        r[u] = activate(p, 0, input_part(p, row, 1, u, true) + recurrent_part(p, h, 1, u));
        reset_h[u] = r[u] * h[u];
    }
    const float *bias = p->step.weights[2].data;
    for (size_t u = 0; u < p->hidden; u++) {
        const double recurrent_bias = bias ? bias[5 * p->hidden + u] : 0;
        const double n = p->step.linear_before_reset
                             ? input_part(p, row, 2, u, false) + r[u] * (recurrent_part(p, h, 2, u) + recurrent_bias)
                             : input_part(p, row, 2, u, true) + recurrent_part(p, reset_h, 2, u);
        next[u] = (1 - z[u]) * activate(p, 1, n) + z[u] * h[u];
    }
    memcpy(h, next, p->hidden * sizeof *h);
}

static void rnn_step(const problem *p, size_t row, double *h)
{
    double next[MOST_HIDDEN];
    for (size_t u = 0; u < p->hidden; u++)
        next[u] = activate(p, 0, input_part(p, row, 0, u, true) + recurrent_part(p, h, 0, u));
    memcpy(h, next, p->hidden * sizeof *h);
}

static bool is_valid(const problem *p, size_t t, size_t b)
{
    return (!p->lengths || (int64_t)t < p->lengths[b]) && (!p->mask || p->mask[row_at(p, t, b)]);
}

static void solve_sequence(const problem *p, size_t b)
{
    double h[MOST_HIDDEN] = {0}, c[MOST_HIDDEN] = {0}, shown[MOST_HIDDEN] = {0};
    const double zeros[MOST_HIDDEN] = {0};
    const size_t bytes = p->hidden * sizeof *h;
    for (size_t u = 0; u < p->hidden; u++) {
        if (p->h0) h[u] = p->h0[b * p->hidden + u];
        if (p->c0) c[u] = p->c0[b * p->hidden + u];
    }
    for (size_t i = 0; i < p->time; i++) {
        const size_t t = p->step.reverse ? p->time - 1 - i : i, row = row_at(p, t, b);
        const bool valid = is_valid(p, t, b);
        if (valid && p->step.op == LSTMRT_OP_LSTM) lstm_step(p, row, h, c);
        if (valid && p->step.op == LSTMRT_OP_GRU) gru_step(p, row, h);
        if (valid && p->step.op == LSTMRT_OP_RNN) rnn_step(p, row, h);
        if (valid) memcpy(shown, h, bytes);
        const bool past_end = p->lengths && (int64_t)t >= p->lengths[b];
        const bool zero = past_end || (!valid && p->step.zero_masked_output);
        memcpy(p->y + row * p->hidden, zero ? zeros : shown, bytes);
    }
    const bool empty = p->lengths && p->lengths[b] == 0;
    memcpy(p->y_h + b * p->hidden, empty ? zeros : h, bytes);
    memcpy(p->y_c + b * p->hidden, empty ? zeros : c, bytes);
}

/* ---- random problems ---- */

/* One of the first `n`: the first two stay in [0, 1], as gates must for states to stay small. */
static lstmrt_activation random_activation(size_t n)
{
    static const lstmrt_function FUNCTIONS[] = {LSTMRT_SIGMOID, LSTMRT_HARD_SIGMOID, LSTMRT_TANH, LSTMRT_SOFTSIGN};
    return (lstmrt_activation){FUNCTIONS[random_below(n)], 0.2f, 0.5f};
}

static bool coin(void) { return random_below(2); }

typedef struct {
    builder b;
    bool table;
    int32_t lengths, h0, c0, mask; /* places among the inputs, or -1 */
} random_program;

static int32_t optional_input(random_program *r, size_t place, lstmrt_dtype dtype, lstmrt_rows rows, size_t width)
{
    if (coin()) return -1;
    last_step(&r->b)->inputs[place] = add_input(&r->b, dtype, rows, width);
    return (int32_t)r->b.n_inputs - 1;
}

static void choose_options(lstmrt_step *step)
{
    step->activations[0] = random_activation(step->op == LSTMRT_OP_RNN ? 4 : 2);
    for (size_t i = 1; i < LSTMRT_MAX_GATE_FUNCTIONS; i++) step->activations[i] = random_activation(4);
    step->clip = random_below(3) ? 0 : 0.9f;
    step->reverse = coin();
    step->linear_before_reset = step->op == LSTMRT_OP_GRU && coin();
    step->input_forget = step->op == LSTMRT_OP_LSTM && coin();
    step->zero_masked_output = coin();
}

static random_program random_recurrent(void)
{
    static const lstmrt_op OPS[] = {LSTMRT_OP_LSTM, LSTMRT_OP_GRU, LSTMRT_OP_RNN};
    random_program r = {.table = random_below(3) == 0, .c0 = -1};
    const lstmrt_op op = OPS[random_below(3)];
    const lstmrt_rows rows = coin() ? LSTMRT_ROWS_BATCH_TIME : LSTMRT_ROWS_TIME_BATCH;
    const size_t hidden = 1 + random_below(MOST_HIDDEN), inputs = random_below(4) ? 1 + random_below(20) : 150;
    const int32_t x = r.table ? add_input(&r.b, LSTMRT_I64, rows, 1) : add_input(&r.b, LSTMRT_F32, rows, inputs);
    const int32_t y = add_recurrent(&r.b, op, x, hidden);
    lstmrt_step *step = last_step(&r.b);
    choose_options(step);
    if (r.table) {
        step->weights[0] = (lstmrt_weight){0};
        step->weights[4] = random_weight(&r.b, 11, gates_of(op) * hidden, 1);
    }
    if (r.table ? !step->linear_before_reset : coin()) step->weights[2] = (lstmrt_weight){0};
    if (op == LSTMRT_OP_LSTM && coin()) step->weights[3] = random_weight(&r.b, 1, 3 * hidden, 0.6f);
    r.lengths = optional_input(&r, 1, LSTMRT_I64, LSTMRT_ROWS_BATCH, 1);
    r.h0 = optional_input(&r, 2, LSTMRT_F32, LSTMRT_ROWS_BATCH, hidden);
    if (op == LSTMRT_OP_LSTM) r.c0 = optional_input(&r, 3, LSTMRT_F32, LSTMRT_ROWS_BATCH, hidden);
    r.mask = optional_input(&r, 4, LSTMRT_BOOL, coin() ? rows : LSTMRT_ROWS_BATCH_TIME, 1);
    add_output(&r.b, y);
    for (size_t i = 1; i <= (op == LSTMRT_OP_LSTM ? 2 : 1); i++)
        add_output(&r.b, step->outputs[i] = add_value(&r.b, LSTMRT_F32, LSTMRT_ROWS_BATCH, hidden));
    return r;
}

static const void *given(const arrays *a, int32_t place) { return place < 0 ? NULL : a->inputs[place].data; }

/* The mask in the rows of x, whichever way it was given. */
static uint8_t *mask_like_x(const random_program *r, const arrays *a, const problem *p)
{
    const uint8_t *mask = given(a, r->mask);
    if (!mask) return NULL;
    const bool time_major = rows_of(&r->b, r->b.inputs[r->mask]) == LSTMRT_ROWS_TIME_BATCH;
    uint8_t *turned = malloc(p->batch * p->time);
    REQUIRE(turned);
    for (size_t t = 0; t < p->time; t++)
        for (size_t b = 0; b < p->batch; b++)
            turned[row_at(p, t, b)] = mask[time_major ? t * p->batch + b : b * p->time + t];
    return turned;
}

static void check_output(const lstmrt_kernels *kernels, const problem *p, const char *what, const lstmrt_buffer *got,
                         const double *want)
{
    const float *values = got->data;
    for (size_t i = 0; i < got->bytes / sizeof *values; i++)
        CHECK(near(values[i], want[i], 2e-5),
              "%s op %d, %s[%zu] is %.9g, not %.9g (batch %zu, time %zu, inputs %zu, hidden %zu)", kernels->name,
              (int)p->step.op, what, i, values[i], want[i], p->batch, p->time, p->inputs, p->hidden);
}

static void test_random(const lstmrt_kernels *kernels)
{
    random_program r = random_recurrent();
    const builder *b = &r.b;
    problem p = {
        .step = b->steps[0], .batch = 1 + random_below(7), .time = random_below(5) ? 1 + random_below(9) : 70,
        .inputs = width_of(b, b->inputs[0]), .hidden = width_of(b, b->outputs[0]),
        .time_major = rows_of(b, b->inputs[0]) == LSTMRT_ROWS_TIME_BATCH,
    };
    arrays a = arrays_for(b, p.batch, p.time);
    p.x = r.table ? NULL : given(&a, 0);
    p.ids = r.table ? given(&a, 0) : NULL;
    p.lengths = given(&a, r.lengths), p.h0 = given(&a, r.h0), p.c0 = given(&a, r.c0);
    uint8_t *mask = mask_like_x(&r, &a, &p);
    p.mask = mask;
    p.y = malloc(p.batch * p.time * p.hidden * sizeof *p.y);
    p.y_h = malloc(p.batch * p.hidden * sizeof *p.y_h);
    p.y_c = malloc(p.batch * p.hidden * sizeof *p.y_c);
    REQUIRE(p.y && p.y_h && p.y_c);
    for (size_t i = 0; i < p.batch; i++) solve_sequence(&p, i);

    lstmrt_model *model = model_of(b, kernels->name);
    CHECK(lstmrt_run(model, a.inputs, a.outputs, p.batch, p.time, SOURCE) == LSTMRT_OK, "run");
    check_output(kernels, &p, "y", &a.outputs[0], p.y);
    check_output(kernels, &p, "y_h", &a.outputs[1], p.y_h);
    if (b->n_outputs == 3) check_output(kernels, &p, "y_c", &a.outputs[2], p.y_c);
    lstmrt_model_free(model);
    free(mask), free(p.y), free(p.y_h), free(p.y_c);
    arrays_free(&a);
    builder_free(&r.b);
}

/* ---- step by step ---- */

/* With an infinite recurrent weight, `infinite`, products with the zeros that a run begins with are NaN. */
static void test_steps(const lstmrt_kernels *kernels, lstmrt_op op, bool linear_before_reset, size_t batch, bool infinite)
{
    enum { TIME = 41, FEATURES = 6, HIDDEN = 19, WIDTH = 5 }; /* more steps than two blocks have */
    builder b = {0};
    const int32_t x = add_input(&b, LSTMRT_F32, LSTMRT_ROWS_BATCH_TIME, FEATURES);
    const int32_t y = add_recurrent(&b, op, x, HIDDEN);
    last_step(&b)->linear_before_reset = linear_before_reset;
    if (infinite) ((float *)last_step(&b)->weights[1].data)[HIDDEN] = INFINITY;
    add_output(&b, add_dense(&b, add_recurrent(&b, op, y, HIDDEN + 1), WIDTH, LSTMRT_TANH));
    lstmrt_model *model = model_of(&b, kernels->name);
    CHECK(lstmrt_model_steppable(model), "a stack of forward layers is steppable");
    arrays whole = arrays_for(&b, batch, TIME), one = arrays_for(&b, batch, 1);
    REQUIRE(lstmrt_run(model, whole.inputs, whole.outputs, batch, TIME, SOURCE) == LSTMRT_OK);

    lstmrt_state *state, *copy;
    REQUIRE(lstmrt_state_new(model, batch, &state) == LSTMRT_OK);
    for (size_t t = 0; t < 2 * TIME; t++) { /* twice, with a reset between */
        if (t == TIME) lstmrt_state_reset(state);
        if (t % 4 == 2) { /* going on with a copy changes nothing */
            REQUIRE(lstmrt_state_copy(state, &copy) == LSTMRT_OK);
            lstmrt_state_free(state);
            state = copy;
        }
        const size_t at = t % TIME, row = FEATURES * sizeof(float), out = WIDTH * sizeof(float);
        for (size_t i = 0; i < batch; i++)
            memcpy((char *)one.inputs[0].data + i * row, (char *)whole.inputs[0].data + (i * TIME + at) * row, row);
        REQUIRE(lstmrt_step_run(model, state, one.inputs, one.outputs) == LSTMRT_OK);
        for (size_t i = 0; i < batch; i++) {
            const char *got = (char *)one.outputs[0].data + i * out;
            const char *want = (char *)whole.outputs[0].data + (i * TIME + at) * out;
            CHECK(memcmp(got, want, out) == 0, "%s op %d, batch %zu: step %zu has other bits than the run",
                  kernels->name, (int)op, batch, at);
        }
    }
    lstmrt_state_free(state);
    arrays_free(&whole);
    arrays_free(&one);
    lstmrt_model_free(model);
    builder_free(&b);
}

/* ---- denormals ---- */

static bool flushes(void)
{
    volatile float smallest = 0x1p-126f;
    return smallest * 0.5f == 0;
}

/* h = 2^-t, which no normal float holds from step 127 on. */
static builder decaying(size_t hidden)
{
    builder b = {0};
    const int32_t x = add_input(&b, LSTMRT_F32, LSTMRT_ROWS_TIME_BATCH, 1);
    const int32_t y = add_recurrent(&b, LSTMRT_OP_RNN, x, hidden);
    lstmrt_step *step = last_step(&b);
    step->weights[2].data = NULL;
    step->activations[0].function = LSTMRT_IDENTITY;
    for (size_t i = 0; i < hidden; i++) b.arrays[0][i] = 1;
    for (size_t i = 0; i < hidden * hidden; i++) b.arrays[1][i] = i % (hidden + 1) == 0 ? 0.5f : 0;
    add_output(&b, y);
    return b;
}

/* A call flushes denormals, and leaves the caller's floating-point state as it was: of the two that there are. */
static void test_denormals(const lstmrt_kernels *kernels)
{
    enum { HIDDEN = 19, TIME = 148, LAST_NORMAL = 126 };
    builder b = decaying(HIDDEN);
    lstmrt_model *model = model_of(&b, kernels->name);
    arrays a = arrays_for(&b, 1, TIME);
    float *x = a.inputs[0].data;
    const float *y = a.outputs[0].data;
    for (size_t t = 0; t < TIME; t++) x[t] = t == 0;
    for (int flushing = 0; flushing < 2; flushing++) {
        const lstmrt_fp_state own = lstmrt_fp_flush_denormals();
        if (!flushing) lstmrt_fp_restore(own);
        const bool before = flushes();
        REQUIRE(lstmrt_run(model, a.inputs, a.outputs, 1, TIME, SOURCE) == LSTMRT_OK);
        const bool after = flushes();
        if (flushing) lstmrt_fp_restore(own);
        CHECK(before == after, "%s: the caller's floating-point state has changed", kernels->name);
        for (size_t i = 0; i < HIDDEN; i++) {
            CHECK(y[LAST_NORMAL * HIDDEN + i] == 0x1p-126f, "%s: the smallest normal float is not kept", kernels->name);
#if defined(__x86_64__) || defined(__aarch64__)
            CHECK(y[(LAST_NORMAL + 1) * HIDDEN + i] == 0, "%s: a denormal is not flushed", kernels->name);
#endif
        }
    }
    arrays_free(&a);
    lstmrt_model_free(model);
    builder_free(&b);
}

int main(void)
{
    FOR_EACH_ISA(kernels) {
        test_denormals(kernels);
        for (int trial = 0; trial < TRIALS; trial++) test_random(kernels);
        for (size_t batch = 1; batch <= 8; batch++) {
            const bool infinite = batch == 3;
            test_steps(kernels, LSTMRT_OP_LSTM, false, batch, infinite);
            test_steps(kernels, LSTMRT_OP_GRU, false, batch, infinite);
            test_steps(kernels, LSTMRT_OP_GRU, true, batch, infinite);
            test_steps(kernels, LSTMRT_OP_RNN, false, batch, infinite);
        }
    }
    return finish("test_recurrent");
}
