/* Streams that come and go in a batch make the ids that a decoder of their own makes. */
#include "programs.h"

enum { VOCABULARY = 29, WINDOW = 5, MOST_TEXT = 24, STREAMS = 4, JOBS = 15, EVENTS = 2 * STREAMS + 3 };

static const int64_t NO_HURRY = INT64_MAX / 2;

/* A prompt, how it is to be continued, and what came of it in the batch. */
typedef struct {
    lstmrt_decode_options options;
    int64_t prompt[MOST_TEXT], made[MOST_TEXT], eos;
    size_t n_prompt, n_made, most_made, slot;
    bool running, dropped;
} job;

static void random_job(job *j, lstmrt_decode_mode mode, bool plain)
{
    *j = (job){.n_prompt = 1 + random_below(MOST_TEXT), .most_made = 1 + random_below(MOST_TEXT)};
    for (size_t i = 0; i < j->n_prompt; i++) j->prompt[i] = (int64_t)random_below(VOCABULARY);
    j->eos = (int64_t)random_below(VOCABULARY);
    j->options = (lstmrt_decode_options){
        .mode = mode,
        .window = WINDOW,
        .pad_id = 2,
        .do_sample = !plain && random_below(2) == 0,
        .seed = random_below(1000),
        .temperature = 3,
        .top_p = 0.9,
        .repetition_penalty = plain || random_below(2) == 0 ? 1 : 1.6,
        .eos_ids = &j->eos,
        .n_eos_ids = random_below(2),
    };
}

/* Whether the ids are those of a decoder alone: all of them, or of a stream that was dropped as many as it had. */
static bool as_alone(lstmrt_model *model, const job *j)
{
    lstmrt_decoder *decoder;
    int64_t alone[MOST_TEXT];
    size_t taken, n = 0;
    bool ended;
    REQUIRE(lstmrt_decoder_new(model, &j->options, &decoder) == LSTMRT_OK);
    REQUIRE(lstmrt_decoder_prompt(decoder, j->prompt, j->n_prompt, NO_HURRY, &taken) == LSTMRT_OK);
    REQUIRE(lstmrt_decoder_next(decoder, alone, j->most_made, NO_HURRY, &n, &ended) == LSTMRT_OK);
    lstmrt_decoder_free(decoder);
    return (j->dropped ? j->n_made <= n : j->n_made == n) && memcmp(alone, j->made, j->n_made * sizeof *alone) == 0;
}

static void add(lstmrt_batch *batch, job *j)
{
    REQUIRE(lstmrt_batch_add(batch, &j->options, j->prompt, j->n_prompt, j->most_made, &j->slot) == LSTMRT_OK);
    REQUIRE(j->slot < STREAMS);
    j->running = true;
}

static void drop(lstmrt_batch *batch, job *j)
{
    REQUIRE(lstmrt_batch_drop(batch, j->slot) == LSTMRT_OK);
    j->running = false;
    j->dropped = true;
}

static job *running_in(job *jobs, size_t slot)
{
    for (size_t i = 0; i < JOBS; i++)
        if (jobs[i].running && jobs[i].slot == slot) return &jobs[i];
    return NULL;
}

static void take_events(job *jobs, const lstmrt_event *events, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        job *j = running_in(jobs, events[i].slot);
        REQUIRE(j);
        if (events[i].id == LSTMRT_ENDED)
            j->running = false;
        else
            j->made[j->n_made++] = events[i].id;
    }
}

static size_t count_running(const job *jobs)
{
    size_t n = 0;
    for (size_t i = 0; i < JOBS; i++) n += jobs[i].running;
    return n;
}

static void test_streams(const lstmrt_kernels *kernels, lstmrt_model *model, lstmrt_decode_mode mode, bool plain)
{
    job jobs[JOBS];
    for (size_t i = 0; i < JOBS; i++) random_job(&jobs[i], mode, plain);
    lstmrt_batch *batch;
    REQUIRE(lstmrt_batch_new(model, &jobs[0].options, STREAMS, &batch) == LSTMRT_OK);
    for (size_t next = 0; next < JOBS || count_running(jobs) > 0;) {
        while (next < JOBS && count_running(jobs) < STREAMS && random_below(3) > 0) add(batch, &jobs[next++]);
        job *victim = running_in(jobs, random_below(STREAMS));
        if (victim && random_below(12) == 0) drop(batch, victim);
        lstmrt_event events[EVENTS];
        size_t made;
        const int64_t budget = random_below(3) == 0 ? 1 : NO_HURRY;
        REQUIRE(lstmrt_batch_next(batch, 1 + random_below(4), events, EVENTS, budget, &made) == LSTMRT_OK);
        take_events(jobs, events, made);
    }
    lstmrt_batch_free(batch);
    for (size_t i = 0; i < JOBS; i++)
        CHECK(as_alone(model, &jobs[i]), "%s mode %d: stream %zu is not what it is alone", kernels->name, (int)mode, i);
}

static void test_limits(lstmrt_model *model)
{
    job j;
    random_job(&j, LSTMRT_DECODE_STATEFUL, false);
    lstmrt_batch *batch;
    lstmrt_event events[2];
    size_t slot, made;
    CHECK(lstmrt_batch_new(model, &j.options, 0, &batch) == LSTMRT_BAD_ARGUMENT && !batch, "a batch of none");
    lstmrt_decode_options again = j.options;
    again.mode = LSTMRT_DECODE_WINDOW;
    CHECK(lstmrt_batch_new(model, &again, 1, &batch) == LSTMRT_BAD_ARGUMENT && !batch, "windows run again");
    REQUIRE(lstmrt_batch_new(model, &j.options, 1, &batch) == LSTMRT_OK);
    CHECK(lstmrt_batch_next(batch, 1, events, 2, NO_HURRY, &made) == LSTMRT_OK && made == 0, "ids of no stream");
    CHECK(lstmrt_batch_next(batch, 1, events, 1, NO_HURRY, &made) == LSTMRT_BAD_ARGUMENT, "no room for events");
    CHECK(lstmrt_batch_add(batch, &j.options, j.prompt, 0, 1, &slot) == LSTMRT_BAD_ARGUMENT, "an empty prompt");
    CHECK(lstmrt_batch_add(batch, &j.options, j.prompt, 1, 0, &slot) == LSTMRT_BAD_ARGUMENT, "no ids wanted");
    CHECK(lstmrt_batch_drop(batch, 0) == LSTMRT_BAD_ARGUMENT, "no stream to drop");
    again = j.options;
    again.repetition_penalty = 0;
    CHECK(lstmrt_batch_add(batch, &again, j.prompt, 1, 1, &slot) == LSTMRT_BAD_ARGUMENT, "a penalty of zero");
    add(batch, &j);
    CHECK(lstmrt_batch_add(batch, &j.options, j.prompt, 1, 1, &slot) == LSTMRT_BAD_ARGUMENT, "more than fit");
    drop(batch, &j);
    j.prompt[0] = VOCABULARY;
    add(batch, &j);
    CHECK(lstmrt_batch_next(batch, 1, events, 2, NO_HURRY, &made) == LSTMRT_ID_OUT_OF_RANGE, "an id that is none");
    lstmrt_batch_free(batch);
}

/* An output layer that greedy streams go to through the screen, others past it. */
static void test_screened(const lstmrt_kernels *kernels)
{
    builder b = language_model(LSTMRT_OP_GRU, 4001, 5, 67);
    lstmrt_model *model = model_of(&b, kernels->name);
    for (int plain = 0; plain < 2; plain++) test_streams(kernels, model, LSTMRT_DECODE_STATEFUL, plain);
    lstmrt_model_free(model);
    builder_free(&b);
}

int main(void)
{
    static const lstmrt_op OPS[] = {LSTMRT_OP_LSTM, LSTMRT_OP_GRU, LSTMRT_OP_RNN};
    FOR_EACH_ISA(kernels) test_screened(kernels);
    FOR_EACH_ISA(kernels)
    for (size_t i = 0; i < COUNT(OPS); i++) {
        builder b = language_model(OPS[i], VOCABULARY, 5, 13);
        lstmrt_model *model = model_of(&b, kernels->name);
        for (int trial = 0; trial < 5; trial++) {
            test_streams(kernels, model, LSTMRT_DECODE_STATEFUL, false);
            test_streams(kernels, model, LSTMRT_DECODE_STAGGERED, false);
        }
        test_limits(model);
        lstmrt_model_free(model);
        builder_free(&b);
    }
    return finish("test_batch");
}
