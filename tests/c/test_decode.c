/* The token loop in every mode against the plain loop: run the window, or the whole text, again for each token. */
#include "programs.h"

enum { VOCABULARY = 29, WINDOW = 6, NEW_IDS = 25, MOST_TEXT = 64, PAD = 2 };

static const int64_t NO_HURRY = INT64_MAX / 2;

static const lstmrt_decode_options GREEDY = {
    .window = WINDOW, .max_length = MOST_TEXT, .pad_id = PAD, .repetition_penalty = 1};

typedef struct {
    int64_t ids[MOST_TEXT];
    size_t n;
} text;

static text prompt_of(size_t n)
{
    text t = {.n = n};
    for (size_t i = 0; i < n; i++) t.ids[i] = (int64_t)random_below(VOCABULARY);
    return t;
}

/* ---- the plain loop ---- */

/* The ids that a mode runs for the next token. */
static text tokens_to_run(const lstmrt_decode_options *options, const text *t)
{
    if (options->mode == LSTMRT_DECODE_STATEFUL || options->mode == LSTMRT_DECODE_GROWING) return *t;
    const size_t kept = t->n < WINDOW ? t->n : WINDOW, padding = WINDOW - kept;
    text window = {.n = WINDOW};
    for (size_t i = 0; i < WINDOW; i++) window.ids[i] = PAD;
    memcpy(window.ids + (options->pad_right ? 0 : padding), t->ids + t->n - kept, kept * sizeof *t->ids);
    return window;
}

/* The largest of the logits after the repetition penalty of transformers. */
static int64_t choose(const lstmrt_decode_options *options, const text *seen, const float *logits)
{
    double scores[VOCABULARY];
    size_t best = 0;
    for (size_t i = 0; i < VOCABULARY; i++) scores[i] = logits[i];
    for (size_t i = 0; i < seen->n; i++) {
        const float logit = logits[seen->ids[i]];
        scores[seen->ids[i]] = logit > 0 ? logit / options->repetition_penalty : logit * options->repetition_penalty;
    }
    for (size_t i = 1; i < VOCABULARY; i++)
        if (scores[i] > scores[best]) best = i;
    return (int64_t)best;
}

static int64_t plain_next(lstmrt_model *model, const lstmrt_decode_options *options, const text *t)
{
    text run = tokens_to_run(options, t);
    float logits[VOCABULARY];
    const lstmrt_buffer in = {run.ids, run.n * sizeof *run.ids}, out = {logits, sizeof logits};
    REQUIRE(lstmrt_run(model, &in, &out, 1, run.n, SOURCE) == LSTMRT_OK);
    return choose(options, t, logits);
}

static text plain_continuation(lstmrt_model *model, const lstmrt_decode_options *options, text t, size_t n)
{
    text made = {.n = n};
    for (size_t i = 0; i < n; i++) {
        made.ids[i] = plain_next(model, options, &t);
        t.ids[t.n++] = made.ids[i];
    }
    return made;
}

/* ---- the decoder ---- */

static lstmrt_decoder *decoder_new(lstmrt_model *model, const lstmrt_decode_options *options)
{
    lstmrt_decoder *decoder;
    REQUIRE(lstmrt_decoder_new(model, options, &decoder) == LSTMRT_OK);
    return decoder;
}

static void give_prompt(lstmrt_decoder *decoder, const text *t, int64_t budget)
{
    size_t taken = 0;
    for (size_t done = 0; done < t->n; done += taken) {
        REQUIRE(lstmrt_decoder_prompt(decoder, t->ids + done, t->n - done, budget, &taken) == LSTMRT_OK);
        REQUIRE(taken <= t->n - done);
    }
}

/* Up to `n` ids, `at_once` a call. */
static text continuation(lstmrt_decoder *decoder, size_t n, size_t at_once, int64_t budget, bool *ended)
{
    text t = {0};
    *ended = false;
    while (t.n < n && !*ended) {
        const size_t wanted = n - t.n < at_once ? n - t.n : at_once;
        size_t made = 0;
        REQUIRE(lstmrt_decoder_next(decoder, t.ids + t.n, wanted, budget, &made, ended) == LSTMRT_OK);
        REQUIRE(made <= wanted && (made > 0 || *ended));
        t.n += made;
    }
    return t;
}

static text decode(lstmrt_model *model, const lstmrt_decode_options *options, const text *prompt, size_t n,
                   size_t at_once, int64_t budget, bool *ended)
{
    lstmrt_decoder *decoder = decoder_new(model, options);
    give_prompt(decoder, prompt, budget);
    const text t = continuation(decoder, n, at_once, budget, ended);
    lstmrt_decoder_free(decoder);
    return t;
}

static bool same(const text *a, const text *b)
{
    return a->n == b->n && memcmp(a->ids, b->ids, a->n * sizeof *a->ids) == 0;
}

/* ---- tests ---- */

static void test_mode(const lstmrt_kernels *kernels, lstmrt_model *model, lstmrt_decode_mode mode, bool pad_right,
                      double penalty)
{
    lstmrt_decode_options options = GREEDY;
    options.mode = mode;
    options.pad_right = pad_right;
    options.repetition_penalty = penalty;
    for (size_t n = 1; n <= 2 * WINDOW; n += 3) {
        const text prompt = prompt_of(n), want = plain_continuation(model, &options, prompt, NEW_IDS);
        bool ended;
        const text whole = decode(model, &options, &prompt, NEW_IDS, NEW_IDS, NO_HURRY, &ended);
        CHECK(same(&whole, &want) && !ended, "%s mode %d, prompt of %zu", kernels->name, (int)mode, n);
        const text single = decode(model, &options, &prompt, NEW_IDS, 1, NO_HURRY, &ended);
        CHECK(same(&single, &want) && !ended, "%s mode %d, prompt of %zu, id by id", kernels->name, (int)mode, n);
        const text hurried = decode(model, &options, &prompt, NEW_IDS, NEW_IDS, 1, &ended);
        CHECK(same(&hurried, &want) && !ended, "%s mode %d, prompt of %zu, in a hurry", kernels->name, (int)mode, n);
    }
}

/* The continuation stops before an id of eos_ids, and stays stopped. */
static void test_eos(const lstmrt_kernels *kernels, lstmrt_model *model, lstmrt_decode_mode mode)
{
    lstmrt_decode_options options = GREEDY;
    options.mode = mode;
    const text prompt = prompt_of(4), all = plain_continuation(model, &options, prompt, NEW_IDS);
    const int64_t eos[] = {VOCABULARY + 5, all.ids[7]};
    options.eos_ids = eos;
    options.n_eos_ids = 2;
    size_t first = 0;
    while (all.ids[first] != eos[1]) first++;
    bool ended;
    const text got = decode(model, &options, &prompt, NEW_IDS, NEW_IDS, NO_HURRY, &ended);
    CHECK(ended && got.n == first && memcmp(got.ids, all.ids, first * sizeof *all.ids) == 0,
          "%s mode %d: %zu ids before eos, not %zu", kernels->name, (int)mode, got.n, first);
}

static void test_max_length(lstmrt_model *model)
{
    lstmrt_decode_options options = GREEDY;
    options.mode = LSTMRT_DECODE_GROWING;
    options.max_length = 9;
    const text prompt = prompt_of(4);
    bool ended;
    const text got = decode(model, &options, &prompt, NEW_IDS, NEW_IDS, NO_HURRY, &ended);
    CHECK(ended && got.n == 5, "%zu ids where 5 have room", got.n);
}

/* One seed, one text; another seed, another; slices make no difference. */
static void test_sampling(lstmrt_model *model, lstmrt_decode_mode mode)
{
    lstmrt_decode_options options = GREEDY;
    options.mode = mode;
    options.do_sample = true;
    options.temperature = 5;
    options.top_p = 1;
    options.seed = 1;
    const text prompt = prompt_of(4);
    bool ended;
    const text one = decode(model, &options, &prompt, NEW_IDS, NEW_IDS, NO_HURRY, &ended);
    const text again = decode(model, &options, &prompt, NEW_IDS, 2, 1, &ended);
    options.seed = 2;
    const text other = decode(model, &options, &prompt, NEW_IDS, NEW_IDS, NO_HURRY, &ended);
    CHECK(same(&one, &again), "mode %d: one seed, two texts", (int)mode);
    CHECK(!same(&one, &other), "mode %d: two seeds, one text", (int)mode);
}

/* A softmax at the end changes nothing: tokens are drawn by the logits it was given. */
static void test_softmax(const lstmrt_kernels *kernels, lstmrt_model *model, const builder *b, lstmrt_decode_mode mode)
{
    builder with_softmax = *b; /* the same weights */
    const int32_t logits = with_softmax.outputs[0];
    with_softmax.outputs[0] =
        add_simple(&with_softmax, mode % 2 ? LSTMRT_OP_LOG_SOFTMAX : LSTMRT_OP_SOFTMAX, logits, rows_of(b, logits), width_of(b, logits));
    lstmrt_model *other = model_of(&with_softmax, kernels->name);
    lstmrt_decode_options options = GREEDY;
    options.mode = mode;
    options.do_sample = true;
    options.temperature = options.top_p = 1;
    const text prompt = prompt_of(9);
    bool ended;
    const text plain = decode(model, &options, &prompt, NEW_IDS, NEW_IDS, NO_HURRY, &ended);
    const text softened = decode(other, &options, &prompt, NEW_IDS, NEW_IDS, NO_HURRY, &ended);
    CHECK(same(&plain, &softened), "%s mode %d: a softmax changes the text", kernels->name, (int)mode);
    lstmrt_model_free(other);
}

static void test_bad_prompts(lstmrt_model *model, lstmrt_decode_mode mode)
{
    lstmrt_decode_options options = GREEDY;
    options.mode = mode;
    lstmrt_decoder *decoder = decoder_new(model, &options);
    const int64_t ids[] = {3, VOCABULARY};
    size_t taken, made;
    bool ended;
    int64_t id;
    lstmrt_status status = lstmrt_decoder_prompt(decoder, ids, 2, NO_HURRY, &taken);
    if (!status) status = lstmrt_decoder_next(decoder, &id, 1, NO_HURRY, &made, &ended); /* a window runs late */
    CHECK(status == LSTMRT_ID_OUT_OF_RANGE, "mode %d: %s", (int)mode, lstmrt_status_text(status));
    lstmrt_decoder_free(decoder);
}

static void test_bad_options(lstmrt_model *model)
{
    lstmrt_decode_options options[5];
    for (size_t i = 0; i < 5; i++) options[i] = GREEDY;
    options[0].mode = (lstmrt_decode_mode)4;
    options[1].mode = LSTMRT_DECODE_WINDOW, options[1].window = 0;
    options[2].mode = LSTMRT_DECODE_STAGGERED, options[2].window = 0;
    options[3].mode = LSTMRT_DECODE_GROWING, options[3].max_length = 0;
    options[4].repetition_penalty = 0;
    for (size_t i = 0; i < 5; i++) {
        lstmrt_decoder *decoder;
        const lstmrt_status status = lstmrt_decoder_new(model, &options[i], &decoder);
        CHECK(status == LSTMRT_BAD_ARGUMENT && !decoder, "options %zu: %s", i, lstmrt_status_text(status));
    }
}

/* Only a program of ids to logits can decode, and only a steppable one with states. */
static void test_bad_programs(void)
{
    builder b = everything();
    lstmrt_model *model = model_of(&b, "scalar");
    lstmrt_decoder *decoder;
    CHECK(lstmrt_decoder_new(model, &GREEDY, &decoder) != LSTMRT_OK && !decoder, "five inputs decode");
    lstmrt_model_free(model);
    builder_free(&b);

    b = language_model(LSTMRT_OP_LSTM, VOCABULARY, 5, 7);
    b.steps[1].reverse = true;
    model = model_of(&b, "scalar");
    lstmrt_decode_options options = GREEDY;
    for (lstmrt_decode_mode mode = 0; mode <= LSTMRT_DECODE_GROWING; mode++) {
        options.mode = mode;
        const bool carries = mode == LSTMRT_DECODE_STATEFUL || mode == LSTMRT_DECODE_STAGGERED;
        const lstmrt_status status = lstmrt_decoder_new(model, &options, &decoder);
        CHECK(status == (carries ? LSTMRT_NOT_STEPPABLE : LSTMRT_OK), "mode %d, reversed: %s", (int)mode,
              lstmrt_status_text(status));
        lstmrt_decoder_free(decoder);
    }
    lstmrt_model_free(model);
    builder_free(&b);
}

static void test_model(const lstmrt_kernels *kernels, lstmrt_op op)
{
    builder b = language_model(op, VOCABULARY, 5, 13);
    lstmrt_model *model = model_of(&b, kernels->name);
    for (lstmrt_decode_mode mode = 0; mode <= LSTMRT_DECODE_GROWING; mode++) {
        test_mode(kernels, model, mode, false, 1);
        test_mode(kernels, model, mode, false, 1.7);
        test_eos(kernels, model, mode);
        test_sampling(model, mode);
        test_softmax(kernels, model, &b, mode);
        test_bad_prompts(model, mode);
    }
    test_mode(kernels, model, LSTMRT_DECODE_WINDOW, true, 1);
    test_max_length(model);
    test_bad_options(model);
    lstmrt_model_free(model);
    builder_free(&b);
}

int main(void)
{
    FOR_EACH_ISA(kernels) {
        test_model(kernels, LSTMRT_OP_LSTM);
        test_model(kernels, LSTMRT_OP_GRU);
        test_model(kernels, LSTMRT_OP_RNN);
    }
    test_bad_programs();
    return finish("test_decode");
}
