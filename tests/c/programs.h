/* Small random programs for the C tests, built a value and a step at a time. */
#ifndef PROGRAMS_H
#define PROGRAMS_H

#include "harness.h"

enum { MOST_VALUES = 80, MOST_STEPS = 64, MOST_PORTS = 16, MOST_ARRAYS = 64 };
enum { SOURCE = 4 }; /* steps of every run's source */

typedef struct {
    lstmrt_value values[MOST_VALUES];
    lstmrt_step steps[MOST_STEPS];
    int32_t inputs[MOST_PORTS], outputs[MOST_PORTS];
    size_t n_values, n_steps, n_inputs, n_outputs;
    float *arrays[MOST_ARRAYS]; /* the weights */
    size_t n_arrays;
    lstmrt_precision precision;
} builder;

static inline int32_t add_value(builder *b, lstmrt_dtype dtype, lstmrt_rows rows, size_t width)
{
    REQUIRE(b->n_values < MOST_VALUES);
    b->values[b->n_values] = (lstmrt_value){dtype, rows, (uint32_t)width, LSTMRT_ACROSS_NOTHING};
    return (int32_t)b->n_values++;
}

static inline int32_t add_input(builder *b, lstmrt_dtype dtype, lstmrt_rows rows, size_t width)
{
    REQUIRE(b->n_inputs < MOST_PORTS);
    return b->inputs[b->n_inputs++] = add_value(b, dtype, rows, width);
}

static inline int32_t add_output(builder *b, int32_t value)
{
    REQUIRE(b->n_outputs < MOST_PORTS);
    return b->outputs[b->n_outputs++] = value;
}

static inline lstmrt_step *add_step(builder *b, lstmrt_op op)
{
    REQUIRE(b->n_steps < MOST_STEPS);
    lstmrt_step *step = &b->steps[b->n_steps++];
    *step = (lstmrt_step){.op = op};
    for (size_t i = 0; i < LSTMRT_MAX_INPUTS; i++) step->inputs[i] = -1;
    for (size_t i = 0; i < LSTMRT_MAX_OUTPUTS; i++) step->outputs[i] = -1;
    return step;
}

static inline lstmrt_weight random_weight(builder *b, size_t rows, size_t cols, float scale)
{
    REQUIRE(b->n_arrays < MOST_ARRAYS);
    float *data = b->arrays[b->n_arrays++] = malloc(rows * cols * sizeof *data);
    REQUIRE(data);
    fill_random(data, rows * cols, scale);
    return (lstmrt_weight){.data = data, .rows = rows, .cols = cols};
}

/* A step of one input and one output, which gets `rows` and `width`; its output. */
static inline int32_t add_simple(builder *b, lstmrt_op op, int32_t x, lstmrt_rows rows, size_t width)
{
    lstmrt_step *step = add_step(b, op);
    step->inputs[0] = x;
    return step->outputs[0] = add_value(b, LSTMRT_F32, rows, width);
}

static inline lstmrt_step *last_step(builder *b) { return &b->steps[b->n_steps - 1]; }

static inline lstmrt_rows rows_of(const builder *b, int32_t value) { return b->values[value].rows; }

static inline size_t width_of(const builder *b, int32_t value) { return b->values[value].width; }

static inline int32_t add_dense(builder *b, int32_t x, size_t width, lstmrt_function function)
{
    const int32_t y = add_simple(b, LSTMRT_OP_DENSE, x, rows_of(b, x), width);
    last_step(b)->weights[0] = random_weight(b, width_of(b, x), width, 0.5f);
    last_step(b)->weights[1] = random_weight(b, 1, width, 0.5f);
    last_step(b)->activations[0].function = function;
    return y;
}

static inline int32_t add_embedding(builder *b, int32_t ids, size_t vocabulary, size_t width)
{
    const int32_t y = add_simple(b, LSTMRT_OP_EMBEDDING, ids, rows_of(b, ids), width);
    last_step(b)->weights[0] = random_weight(b, vocabulary, width, 1);
    return y;
}

static inline size_t gates_of(lstmrt_op op) { return op == LSTMRT_OP_LSTM ? 4 : op == LSTMRT_OP_GRU ? 3 : 1; }

/* A recurrent step with ONNX's usual activations; its y. R is small enough for rounding errors to die out. */
static inline int32_t add_recurrent(builder *b, lstmrt_op op, int32_t x, size_t hidden)
{
    const size_t gates = gates_of(op);
    const int32_t y = add_simple(b, op, x, rows_of(b, x), hidden);
    lstmrt_step *step = last_step(b);
    step->weights[0] = random_weight(b, gates * hidden, width_of(b, x), 0.6f);
    step->weights[1] = random_weight(b, gates * hidden, hidden, 0.8f / sqrtf((float)hidden));
    step->weights[2] = random_weight(b, 1, 2 * gates * hidden, 0.6f);
    step->activations[0].function = op == LSTMRT_OP_RNN ? LSTMRT_TANH : LSTMRT_SIGMOID;
    step->activations[1].function = LSTMRT_TANH;
    step->activations[2].function = LSTMRT_TANH;
    return y;
}

static inline lstmrt_program program_of(const builder *b)
{
    return (lstmrt_program){b->values, b->n_values, b->steps,   b->n_steps,
                            b->inputs, b->n_inputs, b->outputs, b->n_outputs, b->precision};
}

static inline lstmrt_model *model_of(const builder *b, const char *isa)
{
    const lstmrt_program program = program_of(b);
    const lstmrt_isa *set;
    lstmrt_model *model;
    REQUIRE(lstmrt_isa_find(isa, &set) == LSTMRT_OK);
    REQUIRE(lstmrt_model_new(&program, isa, &model) == LSTMRT_OK);
    REQUIRE(strcmp(lstmrt_model_isa(model), lstmrt_isa_shown(set, b->precision)) == 0);
    return model;
}

static inline void builder_free(builder *b)
{
    for (size_t i = 0; i < b->n_arrays; i++) free(b->arrays[i]);
}

/* ---- whole programs ---- */

/* ids -> embedding -> op -> op -> the last step -> logits: what a decoder takes. */
static inline builder language_model(lstmrt_op op, size_t vocabulary, size_t width, size_t hidden)
{
    builder b = {0};
    const int32_t ids = add_input(&b, LSTMRT_I64, LSTMRT_ROWS_BATCH_TIME, 1);
    int32_t x = add_embedding(&b, ids, vocabulary, width);
    x = add_recurrent(&b, op, x, hidden);
    x = add_recurrent(&b, op, x, hidden + 2);
    x = add_simple(&b, LSTMRT_OP_LAST, x, LSTMRT_ROWS_BATCH, hidden + 2);
    add_output(&b, add_dense(&b, x, vocabulary, LSTMRT_IDENTITY));
    return b;
}

/* Attention of `q` to `k`, two heads of it, with all that it can have; its sums. */
static inline int32_t add_attention(builder *b, int32_t q, int32_t k, int32_t q_mask, int32_t k_mask)
{
    const int32_t y = add_simple(b, LSTMRT_OP_ATTENTION, q, rows_of(b, q), width_of(b, k));
    lstmrt_step *step = last_step(b);
    step->inputs[1] = step->inputs[2] = k, step->inputs[3] = q_mask, step->inputs[4] = k_mask;
    step->constant = 2, step->scale = 0.7f, step->hidden = -1e9f, step->causal = true;
    step->weights[0] = random_weight(b, 1, width_of(b, q) / 2, 1);
    const int32_t weights = step->outputs[1] = add_value(b, LSTMRT_F32, rows_of(b, q), 2);
    b->values[weights].across = rows_of(b, k) == LSTMRT_ROWS_BATCH_SOURCE ? LSTMRT_ACROSS_SOURCE : LSTMRT_ACROSS_TIME;
    add_output(b, weights);
    return y;
}

/* What looks at all steps of a sequence, from values (batch x time), masks of them, and those of a source. */
static inline void add_time(builder *b, int32_t x, int32_t mask)
{
    const lstmrt_rows bt = LSTMRT_ROWS_BATCH_TIME, rb = LSTMRT_ROWS_BATCH;
    const size_t width = width_of(b, x);
    const int32_t source = add_input(b, LSTMRT_F32, LSTMRT_ROWS_BATCH_SOURCE, width);
    const int32_t shown = add_input(b, LSTMRT_BOOL, LSTMRT_ROWS_BATCH_SOURCE, 1);
    int32_t v = add_attention(b, x, source, mask, shown);
    v = add_attention(b, v, v, mask, mask);
    v = add_simple(b, LSTMRT_OP_TIME_SOFTMAX, v, bt, width);
    const int32_t most = add_simple(b, LSTMRT_OP_TIME_MAX, v, rb, width);
    const int32_t mean = add_simple(b, LSTMRT_OP_TIME_MEAN, v, rb, width);
    const int32_t numbers = add_simple(b, LSTMRT_OP_CAST, mask, bt, 1);
    add_output(b, add_simple(b, LSTMRT_OP_TIME_SUM, v, rb, width));
    last_step(b)->inputs[1] = numbers;
    v = add_simple(b, LSTMRT_OP_MUL, v, bt, width);
    last_step(b)->inputs[1] = numbers;
    v = add_simple(b, LSTMRT_OP_SUB, v, bt, width);
    last_step(b)->inputs[1] = most;
    add_output(b, v);
    const int32_t single = add_dense(b, most, 1, LSTMRT_IDENTITY);
    v = add_simple(b, LSTMRT_OP_ADD, mean, rb, width);
    last_step(b)->inputs[1] = single;
    add_output(b, v);
}

/* What works on the elements of rows, from values with a single one. */
static inline void add_elements(builder *b)
{
    const lstmrt_rows one = LSTMRT_ROWS_ONE;
    const int32_t x = add_input(b, LSTMRT_F32, one, 24), ids = add_input(b, LSTMRT_I64, one, 4);
    const int32_t table = add_simple(b, LSTMRT_OP_EMBEDDING, ids, one, 12);
    last_step(b)->weights[0] = random_weight(b, 11, 3, 1);
    const int32_t products = add_simple(b, LSTMRT_OP_MATMUL, x, one, 16); /* two of (4, 3) by (3, 2) */
    last_step(b)->inputs[1] = table, last_step(b)->constant = 3;
    const int32_t by_constants = add_simple(b, LSTMRT_OP_MATMUL, x, one, 16);
    last_step(b)->weights[0] = random_weight(b, 1, 12, 1), last_step(b)->constant = 3;
    int32_t v = add_simple(b, LSTMRT_OP_WHERE, products, one, 16);
    last_step(b)->inputs[2] = by_constants, last_step(b)->weights[0] = random_weight(b, 1, 16, 1);
    v = add_simple(b, LSTMRT_OP_LOG_SOFTMAX, v, one, 16);
    last_step(b)->constant = 4;
    add_output(b, add_simple(b, LSTMRT_OP_TOPK, v, one, 6)); /* three of each eight */
    last_step(b)->outputs[1] = add_value(b, LSTMRT_I64, one, 6), last_step(b)->constant = 8;
    add_output(b, add_simple(b, LSTMRT_OP_RESHAPE, v, one, 16));
}

/* Every operator and every optional input, output and weight: nothing here is left out. */
static inline builder everything(void)
{
    enum { F = 5, VOCABULARY = 11, HIDDEN = 7 };
    const lstmrt_rows bt = LSTMRT_ROWS_BATCH_TIME, tb = LSTMRT_ROWS_TIME_BATCH, rb = LSTMRT_ROWS_BATCH;
    builder b = {0};
    const int32_t x = add_input(&b, LSTMRT_F32, bt, F), ids = add_input(&b, LSTMRT_I64, bt, 1);
    const int32_t lengths = add_input(&b, LSTMRT_I64, rb, 1);
    const int32_t h0 = add_input(&b, LSTMRT_F32, rb, HIDDEN), c0 = add_input(&b, LSTMRT_F32, rb, HIDDEN);

    lstmrt_step *step = add_step(&b, LSTMRT_OP_NOT_EQUAL);
    step->inputs[0] = ids;
    const int32_t mask = step->outputs[0] = add_value(&b, LSTMRT_BOOL, bt, 1);

    const int32_t y = add_recurrent(&b, LSTMRT_OP_LSTM, x, HIDDEN);
    step = last_step(&b);
    step->inputs[1] = lengths, step->inputs[2] = h0, step->inputs[3] = c0, step->inputs[4] = mask;
    step->outputs[1] = add_value(&b, LSTMRT_F32, rb, HIDDEN);
    step->outputs[2] = add_value(&b, LSTMRT_F32, rb, HIDDEN);
    step->weights[3] = random_weight(&b, 1, 3 * HIDDEN, 0.6f);
    add_output(&b, step->outputs[1]);
    add_output(&b, step->outputs[2]);

    const int32_t z = add_recurrent(&b, LSTMRT_OP_GRU, add_embedding(&b, ids, VOCABULARY, F), HIDDEN);
    last_step(&b)->reverse = true;
    const int32_t w = add_recurrent(&b, LSTMRT_OP_GRU, ids, HIDDEN);
    step = last_step(&b);
    step->linear_before_reset = true;
    step->weights[0] = (lstmrt_weight){0};
    step->weights[4] = random_weight(&b, VOCABULARY, 3 * HIDDEN, 0.6f);

    step = add_step(&b, LSTMRT_OP_CONCAT);
    step->inputs[0] = y, step->inputs[1] = z, step->inputs[2] = w;
    const int32_t all = step->outputs[0] = add_value(&b, LSTMRT_F32, bt, 3 * HIDDEN);
    int32_t v = all;
    for (lstmrt_op op = LSTMRT_OP_ADD; op <= LSTMRT_OP_DIV; op++) {
        v = add_simple(&b, op, v, bt, 3 * HIDDEN);
        last_step(&b)->weights[0] = random_weight(&b, 1, 3 * HIDDEN, 2);
        v = add_simple(&b, op == LSTMRT_OP_DIV ? LSTMRT_OP_ADD : op, v, bt, 3 * HIDDEN);
        last_step(&b)->inputs[1] = all;
    }
    v = add_simple(&b, LSTMRT_OP_LAYER_NORM, v, bt, 3 * HIDDEN);
    step = last_step(&b);
    step->weights[0] = random_weight(&b, 1, 3 * HIDDEN, 1), step->weights[1] = random_weight(&b, 1, 3 * HIDDEN, 1);
    step->epsilon = 1e-3f;
    v = add_simple(&b, LSTMRT_OP_COLUMNS, v, bt, 3 * HIDDEN - 2);
    last_step(&b)->constant = 1;
    v = add_simple(&b, LSTMRT_OP_REVERSE, v, bt, 3 * HIDDEN - 2);
    v = add_simple(&b, LSTMRT_OP_SWAP, v, tb, 3 * HIDDEN - 2);
    v = add_recurrent(&b, LSTMRT_OP_RNN, v, HIDDEN);
    v = add_simple(&b, LSTMRT_OP_ACTIVATE, v, tb, HIDDEN);
    last_step(&b)->activations[0].function = LSTMRT_SOFTPLUS;
    add_output(&b, add_simple(&b, LSTMRT_OP_FIRST, v, rb, HIDDEN));
    v = add_simple(&b, LSTMRT_OP_LAST, v, rb, HIDDEN);
    v = add_dense(&b, v, VOCABULARY, LSTMRT_RELU);
    add_output(&b, add_simple(&b, LSTMRT_OP_SOFTMAX, v, rb, VOCABULARY));
    add_time(&b, add_dense(&b, x, 6, LSTMRT_TANH), mask);
    add_elements(&b);
    return b;
}

/* ---- arrays for the inputs and outputs of a run ---- */

typedef struct {
    lstmrt_buffer inputs[MOST_PORTS], outputs[MOST_PORTS];
    size_t n_inputs, n_outputs;
} arrays;

static inline lstmrt_buffer array_for(lstmrt_value value, size_t batch, size_t time)
{
    const size_t item = value.dtype == LSTMRT_F32 ? sizeof(float) : value.dtype == LSTMRT_I64 ? sizeof(int64_t) : 1;
    const size_t lengths[] = {[LSTMRT_ROWS_BATCH] = 1, [LSTMRT_ROWS_BATCH_TIME] = time, [LSTMRT_ROWS_TIME_BATCH] = time,
                              [LSTMRT_ROWS_BATCH_SOURCE] = SOURCE};
    const size_t rows = value.rows == LSTMRT_ROWS_ONE ? 1 : batch * lengths[value.rows];
    const size_t across[] = {1, time, SOURCE};
    const size_t bytes = rows * value.width * across[value.across] * item;
    void *data = malloc(bytes);
    REQUIRE(data);
    memset(data, 0x55, bytes);
    return (lstmrt_buffer){data, bytes};
}

/* Features in (-1, 1), ids and lengths in [0, min(time, 10)], masks of 0 and 1; outputs hold rubbish. */
static inline arrays arrays_for(const builder *b, size_t batch, size_t time)
{
    arrays a = {.n_inputs = b->n_inputs, .n_outputs = b->n_outputs};
    for (size_t i = 0; i < b->n_inputs; i++) {
        const lstmrt_value value = b->values[b->inputs[i]];
        const lstmrt_buffer buffer = a.inputs[i] = array_for(value, batch, time);
        if (value.dtype == LSTMRT_F32) fill_random(buffer.data, buffer.bytes / sizeof(float), 1);
        for (size_t j = 0; value.dtype == LSTMRT_I64 && j < buffer.bytes / sizeof(int64_t); j++)
            ((int64_t *)buffer.data)[j] = (int64_t)random_below(1 + (time < 10 ? time : 10));
        for (size_t j = 0; value.dtype == LSTMRT_BOOL && j < buffer.bytes; j++)
            ((uint8_t *)buffer.data)[j] = random_below(3) > 0;
    }
    for (size_t i = 0; i < b->n_outputs; i++) a.outputs[i] = array_for(b->values[b->outputs[i]], batch, time);
    return a;
}

static inline void arrays_free(arrays *a)
{
    for (size_t i = 0; i < a->n_inputs; i++) free(a->inputs[i].data);
    for (size_t i = 0; i < a->n_outputs; i++) free(a->outputs[i].data);
}

#endif
