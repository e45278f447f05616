/* Token choice: the random stream, the distribution, every option, odd logits, allocation. */
#include "harness.h"
#include "sample.h"

enum { DRAWS = 100000, VOCABULARY = 1000 };

static const lstmrt_decode_options SAMPLING = {
    .do_sample = true, .seed = 42, .temperature = 1, .top_p = 1, .repetition_penalty = 1};

static lstmrt_sampler sampler_new(lstmrt_decode_options options, size_t vocabulary)
{
    lstmrt_sampler sampler;
    REQUIRE(lstmrt_sampler_init(&sampler, &options, vocabulary) == LSTMRT_OK);
    return sampler;
}

/* Which share of DRAWS draws each of `n` ids got. */
static void shares_of(lstmrt_decode_options options, const float *logits, size_t n, double *shares)
{
    lstmrt_sampler sampler = sampler_new(options, n);
    for (size_t i = 0; i < n; i++) shares[i] = 0;
    for (int i = 0; i < DRAWS; i++) {
        const size_t id = lstmrt_choose(&sampler, logits);
        REQUIRE(id < n);
        shares[id]++;
    }
    for (size_t i = 0; i < n; i++) shares[i] /= DRAWS;
    lstmrt_sampler_free(&sampler);
}

/* Checks the shares against `want`, within five standard deviations; what cannot come never comes. */
static void check_shares(const char *what, lstmrt_decode_options options, const float *logits, const double *want,
                         size_t n)
{
    double shares[16];
    REQUIRE(n <= 16);
    shares_of(options, logits, n, shares);
    for (size_t i = 0; i < n; i++)
        CHECK(fabs(shares[i] - want[i]) <= 5 * sqrt(want[i] * (1 - want[i]) / DRAWS),
              "%s: id %zu came %g, not %g", what, i, shares[i], want[i]);
}

/* Equal logits show the uniform numbers themselves. These are xoshiro256** seeded by splitmix64(42), computed by an
 * independent Python implementation whose splitmix64 gives the published 6457827717110365317 for seed 1234567. */
static void test_random_stream(void)
{
    static const size_t WANT[] = {83, 378, 680, 924, 991, 769, 719, 850};
    static const float LOGITS[VOCABULARY] = {0};
    lstmrt_sampler sampler = sampler_new(SAMPLING, VOCABULARY);
    for (size_t i = 0; i < COUNT(WANT); i++) {
        const size_t id = lstmrt_choose(&sampler, LOGITS);
        CHECK(id == WANT[i], "draw %zu is %zu, not %zu", i, id, WANT[i]);
    }
    lstmrt_sampler_free(&sampler);
}

static void test_distribution(void)
{
    const float logits[] = {logf(1), logf(2), -800, logf(4), logf(3)};
    const double plain[] = {0.1, 0.2, 0, 0.4, 0.3};
    check_shares("softmax", SAMPLING, logits, plain, 5);

    lstmrt_decode_options options = SAMPLING;
    options.temperature = 0.5; /* squares the odds */
    check_shares("temperature", options, logits, (double[]){1 / 30., 4 / 30., 0, 16 / 30., 9 / 30.}, 5);

    options = SAMPLING;
    options.top_k = 2;
    check_shares("top_k", options, logits, (double[]){0, 0, 0, 4 / 7., 3 / 7.}, 5);
    options.top_k = 5;
    check_shares("top_k of all", options, logits, plain, 5);
    options.top_k = 99;
    check_shares("top_k above the vocabulary", options, logits, plain, 5);

    options = SAMPLING;
    options.top_p = 0.69;
    check_shares("top_p", options, logits, (double[]){0, 0, 0, 4 / 7., 3 / 7.}, 5);
    options.top_p = 0.71;
    check_shares("top_p, one more", options, logits, (double[]){0, 2 / 9., 0, 4 / 9., 3 / 9.}, 5);
    options.top_p = 1e-300;
    check_shares("top_p of nothing keeps one", options, logits, (double[]){0, 0, 0, 1, 0}, 5);
    options.top_k = 3;
    options.top_p = 4 / 9. + 0.01; /* of what top_k left */
    check_shares("top_k, then top_p", options, logits, (double[]){0, 0, 0, 4 / 7., 3 / 7.}, 5);
}

static void test_ties(void)
{
    const float logits[] = {1, 3, 3, 1, 3, 3};
    lstmrt_decode_options options = SAMPLING;
    options.top_k = 3;
    check_shares("ties in top_k", options, logits, (double[]){0, 1 / 3., 1 / 3., 0, 1 / 3., 0}, 6);
    options = SAMPLING;
    options.top_p = 0.4;
    check_shares("ties in top_p", options, logits, (double[]){0, 0.5, 0.5, 0, 0, 0}, 6);
}

static void test_odd_logits(void)
{
    const float some[] = {NAN, 0, -INFINITY, 0, NAN};
    check_shares("NaN and -inf", SAMPLING, some, (double[]){0, 0.5, 0, 0.5, 0}, 5);
    const float infinite[] = {INFINITY, 3.4e38f, NAN, INFINITY};
    check_shares("+inf", SAMPLING, infinite, (double[]){0.5, 0, 0, 0.5}, 4);
    const float none[] = {NAN, -INFINITY, NAN};
    check_shares("nothing above -inf", SAMPLING, none, (double[]){1 / 3., 1 / 3., 1 / 3.}, 3);
    const float far[] = {-3.4e38f, 3.4e38f};
    lstmrt_decode_options options = SAMPLING;
    options.temperature = 1e-300;
    check_shares("far apart, cold", options, far, (double[]){0, 1}, 2);
}

/* transformers' rule, each id once however often it was seen. */
static void test_repetition_penalty(void)
{
    const float logits[] = {logf(8), -logf(2), logf(2), -logf(8)}; /* odds 8, 1/2, 2, 1/8 */
    lstmrt_decode_options options = SAMPLING;
    options.repetition_penalty = 3;
    lstmrt_sampler sampler = sampler_new(options, 4);
    const int64_t seen[] = {0, 0, 1, 0, -1, 4, INT64_MAX, INT64_MIN};
    for (size_t i = 0; i < COUNT(seen); i++) lstmrt_sampler_see(&sampler, seen[i]);
    double counts[4] = {0}, odds[] = {2, 1 / 8., 2, 1 / 8.}, total = 4.25;
    for (int i = 0; i < DRAWS; i++) counts[lstmrt_choose(&sampler, logits)]++;
    for (size_t i = 0; i < 4; i++) {
        const double want = odds[i] / total;
        CHECK(fabs(counts[i] / DRAWS - want) <= 5 * sqrt(want * (1 - want) / DRAWS), "penalty: id %zu", i);
    }
    lstmrt_sampler_free(&sampler);
}

static void test_greedy(void)
{
    lstmrt_decode_options options = {.repetition_penalty = 2};
    lstmrt_sampler sampler = sampler_new(options, 4);
    const float logits[] = {1, 3, 3, 2};
    CHECK(lstmrt_choose(&sampler, logits) == 1, "the lowest index of the largest");
    lstmrt_sampler_see(&sampler, 1);
    CHECK(lstmrt_choose(&sampler, logits) == 2, "the penalty moves it");
    lstmrt_sampler_see(&sampler, 2);
    CHECK(lstmrt_choose(&sampler, logits) == 3, "and again");
    CHECK(lstmrt_choose(&sampler, (float[]){1, NAN, 5, NAN}) == 1, "the first NaN wins");
    lstmrt_sampler_free(&sampler);
}

static size_t count_above(const float *logits, size_t n, float than)
{
    size_t count = 0;
    for (size_t i = 0; i < n; i++) count += logits[i] > than;
    return count;
}

/* What comes is always among the k largest, for a vocabulary that a heap has to work on. */
static void test_large_vocabulary(void)
{
    float logits[VOCABULARY];
    lstmrt_decode_options options = SAMPLING;
    options.temperature = 100;
    for (size_t k = 1; k < 40; k += 7) {
        options.top_k = k;
        lstmrt_sampler sampler = sampler_new(options, VOCABULARY);
        for (int trial = 0; trial < 200; trial++) {
            fill_random(logits, VOCABULARY, 5);
            const size_t id = lstmrt_choose(&sampler, logits);
            CHECK(count_above(logits, VOCABULARY, logits[id]) < k, "id %zu is not among the best %zu", id, k);
        }
        lstmrt_sampler_free(&sampler);
    }
}

static void test_bad_options(void)
{
    static const double BAD[] = {0, -1, NAN, INFINITY};
    lstmrt_sampler sampler;
    for (size_t i = 0; i < COUNT(BAD); i++) {
        lstmrt_decode_options options[] = {SAMPLING, SAMPLING, SAMPLING};
        options[0].temperature = BAD[i];
        options[1].repetition_penalty = BAD[i];
        options[2].top_p = BAD[i];
        for (int j = 0; j < 3; j++) {
            CHECK(lstmrt_sampler_init(&sampler, &options[j], 3) == LSTMRT_BAD_ARGUMENT, "option %d = %g", j, BAD[i]);
            lstmrt_sampler_free(&sampler);
        }
    }
    CHECK(lstmrt_sampler_init(&sampler, &SAMPLING, 0) == LSTMRT_BAD_ARGUMENT, "no vocabulary");
    lstmrt_sampler_free(&sampler);
}

static void test_allocation(void)
{
    lstmrt_set_allocator(counting_allocate, counting_release);
    lstmrt_decode_options options = SAMPLING;
    options.repetition_penalty = 2;
    lstmrt_status status = LSTMRT_OUT_OF_MEMORY;
    for (long n = 0; status == LSTMRT_OUT_OF_MEMORY; n++) {
        REQUIRE(n < 10);
        lstmrt_sampler sampler;
        allocations_until_failure = n;
        status = lstmrt_sampler_init(&sampler, &options, VOCABULARY);
        CHECK((status == LSTMRT_OK) == (n == 3), "three allocations; with %ld: %s", n, lstmrt_status_text(status));
        lstmrt_sampler_free(&sampler);
        CHECK(allocations_alive == 0, "%ld allocations leak", allocations_alive);
    }
    allocations_until_failure = -1;
    lstmrt_set_allocator(NULL, NULL);
}

/* A picker is a sampler that stands alone: the same ids from the same options, and nothing allocated by picking. */
static void test_pickers(void)
{
    lstmrt_set_allocator(counting_allocate, counting_release);
    const float logits[] = {0, 1, 0.5f, 1, -2};
    lstmrt_decode_options options = SAMPLING;
    options.repetition_penalty = 1.5;
    lstmrt_sampler sampler = sampler_new(options, 5);
    lstmrt_picker *picker;
    REQUIRE(lstmrt_picker_new(&options, 5, &picker) == LSTMRT_OK);
    const long warm = allocations;
    for (int i = 0; i < 100; i++) {
        const int64_t want = (int64_t)lstmrt_choose(&sampler, logits), got = lstmrt_picker_pick(picker, logits);
        CHECK(got == want, "pick %d: %lld, expected %lld", i, (long long)got, (long long)want);
        lstmrt_sampler_see(&sampler, want);
        lstmrt_picker_see(picker, want);
    }
    CHECK(allocations == warm, "picking allocated %ld times", allocations - warm);
    lstmrt_sampler_free(&sampler);
    lstmrt_picker_free(picker);
    for (long n = 0; n < 4; n++) {
        allocations_until_failure = n;
        CHECK(lstmrt_picker_new(&options, 5, &picker) == LSTMRT_OUT_OF_MEMORY && !picker, "allocation %ld", n);
        allocations_until_failure = -1;
    }
    CHECK(lstmrt_picker_new(&options, 0, &picker) == LSTMRT_BAD_ARGUMENT && !picker, "an empty vocabulary");
    CHECK(allocations_alive == 0, "%ld allocations leak", allocations_alive);
    lstmrt_set_allocator(NULL, NULL);
}

int main(void)
{
    test_random_stream();
    test_distribution();
    test_ties();
    test_odd_logits();
    test_repetition_penalty();
    test_greedy();
    test_large_vocabulary();
    test_bad_options();
    test_allocation();
    test_pickers();
    return finish("test_sample");
}
