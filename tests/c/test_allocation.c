/* Memory: nothing is allocated per run, step or token once warm; whichever allocation fails, the status says so and
 * nothing is leaked. */
#include "programs.h"

enum { BATCH = 3, TIME = 7, VOCABULARY = 23 };

static const int64_t PROMPT[] = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5};
enum { PROMPT_LENGTH = COUNT(PROMPT), NEW_IDS = 20 };

static const int64_t NO_HURRY = INT64_MAX / 2;

static lstmrt_decode_options options_for(lstmrt_decode_mode mode)
{
    return (lstmrt_decode_options){
        .mode = mode, .window = 6, .max_length = PROMPT_LENGTH + NEW_IDS, .do_sample = true, .seed = 7,
        .temperature = 0.8, .top_p = 0.9, .top_k = 11, .repetition_penalty = 1.2,
    };
}

static lstmrt_status decode(lstmrt_decoder *decoder, size_t n)
{
    int64_t ids[NEW_IDS];
    size_t taken = 0, made = 0;
    bool ended = false;
    lstmrt_status status = LSTMRT_OK;
    if (n == 0) return lstmrt_decoder_prompt(decoder, PROMPT, PROMPT_LENGTH, NO_HURRY, &taken);
    for (size_t done = 0; !status && !ended && done < n; done += made)
        status = lstmrt_decoder_next(decoder, ids, n - done, NO_HURRY, &made, &ended);
    return status;
}

static lstmrt_status add_stream(lstmrt_batch *batch, lstmrt_decode_mode mode, size_t most_made)
{
    const lstmrt_decode_options options = options_for(mode);
    size_t slot;
    return lstmrt_batch_add(batch, &options, PROMPT, PROMPT_LENGTH, most_made, &slot);
}

static lstmrt_status decode_batch(lstmrt_batch *batch, size_t steps)
{
    lstmrt_event events[2 * NEW_IDS];
    size_t made;
    return lstmrt_batch_next(batch, steps, events, COUNT(events), NO_HURRY, &made);
}

/* ---- nothing while warm ---- */

static void test_runs(void)
{
    builder b = everything();
    lstmrt_model *model = model_of(&b, "scalar");
    arrays large = arrays_for(&b, BATCH, TIME), small = arrays_for(&b, 1, 2);
    REQUIRE(lstmrt_run(model, large.inputs, large.outputs, BATCH, TIME, SOURCE) == LSTMRT_OK);
    const long warm = allocations;
    for (int i = 0; i < 5; i++) {
        REQUIRE(lstmrt_run(model, small.inputs, small.outputs, 1, 2, SOURCE) == LSTMRT_OK);
        REQUIRE(lstmrt_run(model, large.inputs, large.outputs, BATCH, TIME, SOURCE) == LSTMRT_OK);
    }
    CHECK(allocations == warm, "runs allocated %ld times", allocations - warm);
    arrays_free(&large);
    arrays_free(&small);
    lstmrt_model_free(model);
    builder_free(&b);
    CHECK(allocations_alive == 0, "%ld allocations leak", allocations_alive);
}

static void test_steps(void)
{
    builder b = language_model(LSTMRT_OP_LSTM, VOCABULARY, 5, 9);
    lstmrt_model *model = model_of(&b, "scalar");
    arrays a = arrays_for(&b, BATCH, 1);
    lstmrt_state *state;
    REQUIRE(lstmrt_state_new(model, BATCH, &state) == LSTMRT_OK);
    REQUIRE(lstmrt_step_run(model, state, a.inputs, a.outputs) == LSTMRT_OK);
    const long warm = allocations;
    for (int i = 0; i < 50; i++) REQUIRE(lstmrt_step_run(model, state, a.inputs, a.outputs) == LSTMRT_OK);
    lstmrt_state_reset(state);
    CHECK(allocations == warm, "steps allocated %ld times", allocations - warm);
    lstmrt_state_free(state);
    arrays_free(&a);
    lstmrt_model_free(model);
    builder_free(&b);
    CHECK(allocations_alive == 0, "%ld allocations leak", allocations_alive);
}

static void test_tokens(lstmrt_decode_mode mode)
{
    builder b = language_model(LSTMRT_OP_GRU, VOCABULARY, 5, 9);
    lstmrt_model *model = model_of(&b, "scalar");
    const lstmrt_decode_options options = options_for(mode);
    lstmrt_decoder *decoder;
    REQUIRE(lstmrt_decoder_new(model, &options, &decoder) == LSTMRT_OK);
    const long warm = allocations;
    REQUIRE(decode(decoder, 0) == LSTMRT_OK);
    REQUIRE(decode(decoder, NEW_IDS) == LSTMRT_OK);
    CHECK(allocations == warm, "mode %d: prompt and tokens allocated %ld times", (int)mode, allocations - warm);
    lstmrt_decoder_free(decoder);
    lstmrt_model_free(model);
    builder_free(&b);
    CHECK(allocations_alive == 0, "%ld allocations leak", allocations_alive);
}

static void test_streams(lstmrt_decode_mode mode)
{
    builder b = language_model(LSTMRT_OP_LSTM, VOCABULARY, 5, 9);
    lstmrt_model *model = model_of(&b, "scalar");
    const lstmrt_decode_options options = options_for(mode);
    lstmrt_batch *batch;
    REQUIRE(lstmrt_batch_new(model, &options, 3, &batch) == LSTMRT_OK);
    for (size_t i = 0; i < 3; i++) {
        REQUIRE(add_stream(batch, mode, 3 + i) == LSTMRT_OK);
        const long warm = allocations;
        REQUIRE(decode_batch(batch, i < 2 ? 1 : NEW_IDS) == LSTMRT_OK);
        CHECK(allocations == warm, "mode %d: streams allocated %ld times", (int)mode, allocations - warm);
    }
    lstmrt_batch_free(batch);
    lstmrt_model_free(model);
    builder_free(&b);
    CHECK(allocations_alive == 0, "%ld allocations leak", allocations_alive);
}

/* ---- the n-th allocation fails ---- */

static lstmrt_status run_everything(const builder *b)
{
    const lstmrt_program program = program_of(b);
    lstmrt_model *model;
    lstmrt_status status = lstmrt_model_new(&program, NULL, &model);
    CHECK((status == LSTMRT_OK) == (model != NULL), "a model where there is none, or none where there is one");
    if (status) return status;
    arrays a = arrays_for(b, BATCH, TIME);
    status = lstmrt_run(model, a.inputs, a.outputs, BATCH, TIME, SOURCE);
    arrays_free(&a);
    lstmrt_model_free(model);
    return status;
}

static lstmrt_status step_with_copy(lstmrt_model *model, const builder *b)
{
    lstmrt_state *state, *copy = NULL;
    lstmrt_status status = lstmrt_state_new(model, BATCH, &state);
    if (status) return status;
    arrays a = arrays_for(b, BATCH, 1);
    status = lstmrt_step_run(model, state, a.inputs, a.outputs);
    if (!status) status = lstmrt_state_copy(state, &copy);
    if (!status) status = lstmrt_step_run(model, copy, a.inputs, a.outputs);
    lstmrt_state_free(copy);
    lstmrt_state_free(state);
    arrays_free(&a);
    return status;
}

static lstmrt_status decode_in_every_mode(lstmrt_model *model)
{
    for (lstmrt_decode_mode mode = 0; mode <= LSTMRT_DECODE_GROWING; mode++) {
        const lstmrt_decode_options options = options_for(mode);
        lstmrt_decoder *decoder;
        lstmrt_status status = lstmrt_decoder_new(model, &options, &decoder);
        if (status) return status;
        status = decode(decoder, 0);
        if (!status) status = decode(decoder, NEW_IDS);
        lstmrt_decoder_free(decoder);
        if (status) return status;
    }
    return LSTMRT_OK;
}

static lstmrt_status decode_streams(lstmrt_model *model)
{
    const lstmrt_decode_options options = options_for(LSTMRT_DECODE_STAGGERED);
    lstmrt_batch *batch;
    lstmrt_status status = lstmrt_batch_new(model, &options, 2, &batch);
    if (status) return status;
    for (size_t i = 0; i < 2 && !status; i++) {
        status = add_stream(batch, LSTMRT_DECODE_STAGGERED, NEW_IDS);
        if (!status) status = decode_batch(batch, 2);
    }
    lstmrt_batch_free(batch);
    return status;
}

static lstmrt_status step_and_decode(const builder *b)
{
    const lstmrt_program program = program_of(b);
    lstmrt_model *model;
    lstmrt_status status = lstmrt_model_new(&program, NULL, &model);
    if (status) return status;
    status = step_with_copy(model, b);
    if (!status) status = decode_in_every_mode(model);
    if (!status) status = decode_streams(model);
    lstmrt_model_free(model);
    return status;
}

static void test_failures(const char *what, const builder *b, lstmrt_status (*scenario)(const builder *))
{
    lstmrt_status status = LSTMRT_OUT_OF_MEMORY;
    long n = 0;
    for (; status == LSTMRT_OUT_OF_MEMORY; n++) {
        REQUIRE(n < 1000);
        allocations_until_failure = n;
        status = scenario(b);
        CHECK(allocations_alive == 0, "%s: %ld allocations leak where number %ld fails", what, allocations_alive, n);
    }
    allocations_until_failure = -1;
    CHECK(status == LSTMRT_OK, "%s: %s", what, lstmrt_status_text(status));
    printf("  %s: %ld allocations, each failed once\n", what, n - 1);
}

int main(void)
{
    lstmrt_set_allocator(counting_allocate, counting_release);
    test_runs();
    test_steps();
    for (lstmrt_decode_mode mode = 0; mode <= LSTMRT_DECODE_GROWING; mode++) test_tokens(mode);
    test_streams(LSTMRT_DECODE_STATEFUL);
    test_streams(LSTMRT_DECODE_STAGGERED);

    builder all = everything(), lstm = language_model(LSTMRT_OP_LSTM, VOCABULARY, 5, 9);
    for (lstmrt_precision precision = LSTMRT_PRECISION_F32; precision <= LSTMRT_PRECISION_INT8; precision++) {
        all.precision = lstm.precision = precision;
        test_failures("run", &all, run_everything);
        test_failures("steps and tokens", &lstm, step_and_decode);
    }
    builder_free(&all);
    builder_free(&lstm);
    return finish("test_allocation");
}
