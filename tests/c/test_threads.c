/* Several threads on one model: each gets the bits that one thread alone gets. Run it with the thread sanitizer too. */
#include "programs.h"

#include <pthread.h>

#include "pool.h"

enum { THREADS = 4, ROUNDS = 40, SIZES = 3, STEPS = 12, VOCABULARY = 23 };

static const size_t BATCHES[SIZES] = {1, 3, 8}, TIMES[SIZES] = {9, 4, 2};

typedef struct {
    builder b;
    lstmrt_model *model;
} subject;

/* What all threads share, with the outputs of one thread alone. */
static subject whole, stepped;
static arrays whole_alone[SIZES], stepped_alone;

typedef struct {
    size_t number;
    unsigned long wrong; /* outputs or statuses */
} worker;

/* The inputs of `from`, and outputs of one's own. */
static arrays borrow(const builder *b, const arrays *from, size_t batch, size_t time)
{
    arrays a = *from;
    for (size_t i = 0; i < a.n_outputs; i++) a.outputs[i] = array_for(b->values[b->outputs[i]], batch, time);
    return a;
}

static unsigned long compare_and_free(arrays *a, const arrays *want)
{
    unsigned long wrong = 0;
    for (size_t i = 0; i < a->n_outputs; i++) {
        wrong += memcmp(a->outputs[i].data, want->outputs[i].data, a->outputs[i].bytes) != 0;
        free(a->outputs[i].data);
    }
    return wrong;
}

static unsigned long run_whole(size_t size)
{
    arrays a = borrow(&whole.b, &whole_alone[size], BATCHES[size], TIMES[size]);
    const lstmrt_status status = lstmrt_run(whole.model, a.inputs, a.outputs, BATCHES[size], TIMES[size], SOURCE);
    return (status != LSTMRT_OK) + compare_and_free(&a, &whole_alone[size]);
}

/* The same input STEPS times: what comes out last. */
static lstmrt_status run_steps(arrays *a)
{
    lstmrt_state *state;
    lstmrt_status status = lstmrt_state_new(stepped.model, 1, &state);
    for (int i = 0; !status && i < STEPS; i++) status = lstmrt_step_run(stepped.model, state, a->inputs, a->outputs);
    lstmrt_state_free(state);
    return status;
}

static void *work(void *argument)
{
    worker *w = argument;
    for (size_t round = 0; round < ROUNDS; round++) {
        w->wrong += run_whole((round + w->number) % SIZES);
        arrays a = borrow(&stepped.b, &stepped_alone, 1, 1);
        w->wrong += run_steps(&a) != LSTMRT_OK;
        w->wrong += compare_and_free(&a, &stepped_alone);
    }
    return NULL;
}

static void test_threads(void)
{
    pthread_t threads[THREADS];
    worker workers[THREADS];
    for (size_t i = 0; i < THREADS; i++) {
        workers[i] = (worker){.number = i};
        REQUIRE(pthread_create(&threads[i], NULL, work, &workers[i]) == 0);
    }
    for (size_t i = 0; i < THREADS; i++) {
        REQUIRE(pthread_join(threads[i], NULL) == 0);
        CHECK(workers[i].wrong == 0, "thread %zu: %lu results are not those of one thread", i, workers[i].wrong);
    }
}

static void write_tokens(lstmrt_model *model, int64_t *ids, size_t n)
{
    const lstmrt_decode_options options = {
        .mode = LSTMRT_DECODE_STAGGERED, .window = 6, .do_sample = true, .seed = 7, .temperature = 1, .top_p = 1,
        .repetition_penalty = 1};
    const int64_t prompt[] = {3, 1, 2};
    lstmrt_decoder *decoder;
    size_t taken, made = 0;
    bool ended = false;
    REQUIRE(lstmrt_decoder_new(model, &options, &decoder) == LSTMRT_OK);
    REQUIRE(lstmrt_decoder_prompt(decoder, prompt, COUNT(prompt), INT64_MAX / 2, &taken) == LSTMRT_OK);
    REQUIRE(lstmrt_decoder_next(decoder, ids, n, INT64_MAX / 2, &made, &ended) == LSTMRT_OK && made == n);
    lstmrt_decoder_free(decoder);
}

/* Any number of threads in a call gives the bits of one. Large enough for each section to be shared, int8 weights too. */
static void test_shared_calls(const char *isa, lstmrt_precision precision)
{
    static const struct {
        lstmrt_op op;
        size_t hidden;
        bool linear_before_reset;
    } CELLS[] = {{LSTMRT_OP_LSTM, 233, false}, {LSTMRT_OP_GRU, 233, false}, {LSTMRT_OP_GRU, 233, true},
                 {LSTMRT_OP_RNN, 467, false}};
    enum { BATCH = 7, TIME = 17, TOKENS = 24 };
    for (size_t i = 0; i < COUNT(CELLS); i++) {
        builder b = language_model(CELLS[i].op, VOCABULARY, 31, CELLS[i].hidden);
        b.steps[1].linear_before_reset = CELLS[i].linear_before_reset;
        b.precision = precision;
        lstmrt_model *model = model_of(&b, isa);
        arrays a = arrays_for(&b, BATCH, TIME);
        lstmrt_model_set_threads(model, 1);
        REQUIRE(lstmrt_run(model, a.inputs, a.outputs, BATCH, TIME, SOURCE) == LSTMRT_OK);
        int64_t want[TOKENS];
        write_tokens(model, want, TOKENS);
        for (size_t threads = 2; threads <= 5; threads += 3) {
            arrays shared = borrow(&b, &a, BATCH, TIME);
            lstmrt_model_set_threads(model, threads);
            REQUIRE(lstmrt_run(model, shared.inputs, shared.outputs, BATCH, TIME, SOURCE) == LSTMRT_OK);
            CHECK(compare_and_free(&shared, &a) == 0, "%s: %zu threads have other bits than one", isa, threads);
            int64_t got[TOKENS];
            write_tokens(model, got, TOKENS);
            CHECK(memcmp(got, want, sizeof got) == 0, "%s: %zu threads write another text", isa, threads);
        }
        arrays_free(&a);
        lstmrt_model_free(model);
        builder_free(&b);
    }
}

/* Two directions of a layer run at once; both statuses count. */
static void test_pairs(const lstmrt_kernels *kernels)
{
    enum { HIDDEN = 130, BATCH = 2, TIME = 70 };
    builder b = {0};
    const int32_t x = add_input(&b, LSTMRT_F32, LSTMRT_ROWS_BATCH_TIME, 40);
    for (int i = 0; i < 3; i++) {
        add_output(&b, add_recurrent(&b, i == 1 ? LSTMRT_OP_GRU : LSTMRT_OP_LSTM, x, (size_t)(HIDDEN + i)));
        last_step(&b)->reverse = i == 1;
    }
    lstmrt_model *model = model_of(&b, kernels->name);
    arrays a = arrays_for(&b, BATCH, TIME);
    lstmrt_model_set_threads(model, 1);
    REQUIRE(lstmrt_run(model, a.inputs, a.outputs, BATCH, TIME, SOURCE) == LSTMRT_OK);
    for (size_t threads = 2; threads <= 4; threads++) {
        lstmrt_model_set_threads(model, threads);
        for (int round = 0; round < 5; round++) {
            arrays shared = borrow(&b, &a, BATCH, TIME);
            REQUIRE(lstmrt_run(model, shared.inputs, shared.outputs, BATCH, TIME, SOURCE) == LSTMRT_OK);
            CHECK(compare_and_free(&shared, &a) == 0, "%s: layers at once on %zu threads have other bits", kernels->name,
                  threads);
        }
    }
    arrays_free(&a);
    lstmrt_model_free(model);
    builder_free(&b);
}

/* Three recurrent layers that follow one another with what may stand between them, from initial states to the last ones; with
 * lengths and a mask, or without; the third may begin with the last state of the second, and has to wait for it. */
static builder stack(lstmrt_rows rows, bool ragged, bool waits)
{
    enum { WIDTH = 33, HIDDEN = 93 };
    builder b = {0};
    const lstmrt_rows rb = LSTMRT_ROWS_BATCH;
    const int32_t lengths = ragged ? add_input(&b, LSTMRT_I64, rb, 1) : -1;
    const int32_t mask = ragged ? add_input(&b, LSTMRT_BOOL, rows, 1) : -1;
    const int32_t sequence = add_input(&b, LSTMRT_F32, rb, HIDDEN + 2);
    int32_t x = add_input(&b, LSTMRT_F32, rows, WIDTH), state = -1;
    for (size_t i = 0; i < 3; i++) {
        const size_t hidden = waits && i == 2 ? HIDDEN + 1 : HIDDEN + i;
        x = add_recurrent(&b, i == 1 ? LSTMRT_OP_GRU : LSTMRT_OP_LSTM, x, hidden);
        lstmrt_step *step = last_step(&b);
        step->inputs[1] = lengths, step->inputs[4] = mask, step->zero_masked_output = i == 2;
        step->inputs[2] = i == 1 ? -1 : waits && i == 2 ? state : add_input(&b, LSTMRT_F32, rb, hidden);
        state = step->outputs[1] = add_output(&b, add_value(&b, LSTMRT_F32, rb, hidden));
        if (i == 0) add_output(&b, x);
        if (i == 0) x = add_dense(&b, x, 40, LSTMRT_TANH);
        if (i != 1) continue;
        x = add_simple(&b, LSTMRT_OP_LAYER_NORM, x, rows, hidden);
        last_step(&b)->weights[0] = random_weight(&b, 1, hidden, 1);
        const int32_t single = add_dense(&b, x, 1, LSTMRT_RELU);
        x = add_simple(&b, LSTMRT_OP_CONCAT, x, rows, hidden + 1);
        last_step(&b)->inputs[1] = single;
        x = add_simple(&b, LSTMRT_OP_MUL, x, rows, HIDDEN + 2);
        last_step(&b)->inputs[1] = sequence;
    }
    add_output(&b, x);
    return b;
}

/* What one thread makes of a call, two to four do. They run another one first, lest what is read too early, or never written,
 * be what the thread alone left there. Where the sequences have `lengths`, these are the first input. Releases the builder. */
static void expect_same_bits(builder *b, bool lengths, size_t batch, size_t time, const char *isa, size_t number)
{
    lstmrt_model *model = model_of(b, isa);
    arrays a = arrays_for(b, batch, time), other = arrays_for(b, batch, time);
    for (size_t i = 0; lengths && i < batch; i++) ((int64_t *)a.inputs[0].data)[i] = (int64_t)random_below(1 + time);
    lstmrt_model_set_threads(model, 1);
    REQUIRE(lstmrt_run(model, a.inputs, a.outputs, batch, time, SOURCE) == LSTMRT_OK);
    for (size_t threads = 2; threads <= 4; threads++) {
        lstmrt_model_set_threads(model, 1);
        REQUIRE(lstmrt_run(model, other.inputs, other.outputs, batch, time, SOURCE) == LSTMRT_OK);
        lstmrt_model_set_threads(model, threads);
        arrays shared = borrow(b, &a, batch, time);
        REQUIRE(lstmrt_run(model, shared.inputs, shared.outputs, batch, time, SOURCE) == LSTMRT_OK);
        CHECK(compare_and_free(&shared, &a) == 0, "%s: %zu threads give other bits, case %zu", isa, threads, number);
    }
    arrays_free(&other);
    arrays_free(&a);
    lstmrt_model_free(model);
    builder_free(b);
}

/* Layers that follow one another run at once, a block of time steps apart. */
static void test_stacks(const char *isa, lstmrt_precision precision)
{
    static const size_t SHAPES[][2] = {{1, 97}, {3, 62}, {60, 7}}; /* batch, time */
    for (size_t i = 0; i < 8 * COUNT(SHAPES); i++) {
        const size_t batch = SHAPES[i / 8][0], time = SHAPES[i / 8][1];
        builder b = stack(i % 2 ? LSTMRT_ROWS_BATCH_TIME : LSTMRT_ROWS_TIME_BATCH, i & 2, i & 4);
        b.precision = precision;
        expect_same_bits(&b, i & 2, batch, time, isa, i);
    }
}

/* Neighbours of one step each, in a program whose sequences have more; and one of them beside a layer of all steps. */
static void test_pairs_of_one_step(const char *isa)
{
    enum { HIDDEN = 130, BATCH = 3, TIME = 40 };
    for (size_t i = 0; i < 2; i++) {
        builder b = {0};
        const int32_t single = add_input(&b, LSTMRT_F32, LSTMRT_ROWS_BATCH, 48);
        const int32_t x = add_input(&b, LSTMRT_F32, i ? LSTMRT_ROWS_BATCH_TIME : LSTMRT_ROWS_TIME_BATCH, 40);
        int32_t y = add_recurrent(&b, LSTMRT_OP_LSTM, x, HIDDEN);
        if (i) y = add_dense(&b, y, 20, LSTMRT_TANH);
        add_output(&b, y);
        add_output(&b, add_recurrent(&b, LSTMRT_OP_LSTM, single, HIDDEN + 1));
        add_output(&b, add_recurrent(&b, LSTMRT_OP_LSTM, single, HIDDEN));
        last_step(&b)->reverse = true;
        expect_same_bits(&b, false, BATCH, TIME, isa, i);
    }
}

/* Queries of an attention are shared, and have the bits that one query alone has. */
static void test_attention(const lstmrt_kernels *kernels)
{
    enum { WIDTH = 122, BATCH = 2, TIME = 151 };
    for (int i = 0; i < 4; i++) {
        const lstmrt_rows rows = i % 2 ? LSTMRT_ROWS_BATCH_TIME : LSTMRT_ROWS_TIME_BATCH;
        builder b = {0};
        const int32_t x = add_input(&b, LSTMRT_F32, rows, WIDTH), mask = add_input(&b, LSTMRT_BOOL, rows, 1);
        const int32_t y = add_attention(&b, x, x, mask, mask);
        if (i < 2) last_step(&b)->weights[0] = (lstmrt_weight){0};
        if (i != 1) last_step(&b)->outputs[1] = -1, b.n_outputs = 0; /* nobody reads the weights */
        add_output(&b, y);
        expect_same_bits(&b, false, BATCH, TIME, kernels->name, (size_t)i);
    }
}

/* Plain C takes minutes under the sanitizer of threads or an emulator, and shares work as the others do. */
static bool is_too_slow(const char *isa)
{
#if defined(__SANITIZE_THREAD__)
    const bool slowed = true;
#else
    const bool slowed = getenv("EMULATED") != NULL;
#endif
    return slowed && strcmp(isa, "scalar") == 0;
}

/* Each instruction set has its own kernels for a precision, or those of a slower one. */
static void test_shared_calls_everywhere(void)
{
    bool supported = false;
    const char *isa;
    for (lstmrt_precision precision = LSTMRT_PRECISION_F32; precision <= LSTMRT_PRECISION_INT8; precision++)
        for (size_t i = 0; (isa = lstmrt_isa_name(precision, i, &supported)) != NULL; i++)
            if (supported && !is_too_slow(isa)) {
                test_shared_calls(isa, precision);
                test_stacks(isa, precision);
            }
}

int main(void)
{
    lstmrt_pool_keep_awake();
    test_shared_calls_everywhere();
    FOR_EACH_ISA(kernels) {
        if (is_too_slow(kernels->name)) continue;
        whole.b = everything();
        whole.model = model_of(&whole.b, kernels->name);
        for (size_t i = 0; i < SIZES; i++) {
            whole_alone[i] = arrays_for(&whole.b, BATCHES[i], TIMES[i]);
            REQUIRE(!lstmrt_run(whole.model, whole_alone[i].inputs, whole_alone[i].outputs, BATCHES[i], TIMES[i], SOURCE));
        }
        stepped.b = language_model(LSTMRT_OP_LSTM, VOCABULARY, 5, 33);
        stepped.model = model_of(&stepped.b, kernels->name);
        stepped_alone = arrays_for(&stepped.b, 1, 1);
        REQUIRE(run_steps(&stepped_alone) == LSTMRT_OK);

        test_threads();
        test_pairs(kernels);
        test_pairs_of_one_step(kernels->name);
        test_attention(kernels);

        for (size_t i = 0; i < SIZES; i++) arrays_free(&whole_alone[i]);
        arrays_free(&stepped_alone);
        lstmrt_model_free(whole.model);
        lstmrt_model_free(stepped.model);
        builder_free(&whole.b);
        builder_free(&stepped.b);
    }
    return finish("test_threads");
}
