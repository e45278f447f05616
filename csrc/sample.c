#include "sample.h"

#include <math.h>

#include "os.h"

/* ---- random numbers ---- */

/* SplitMix64 (Steele, Lea and Flood 2014), which Blackman and Vigna recommend for seeding. */
static uint64_t split_mix(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static uint64_t rotate(uint64_t x, int bits) { return x << bits | x >> (64 - bits); }

/* xoshiro256** 1.0 (Blackman and Vigna 2018), its upper 53 bits as a double in [0, 1). */
static double uniform(uint64_t s[4])
{
    uint64_t result = rotate(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate(s[3], 45);
    return (double)(result >> 11) * 0x1p-53;
}

/* ---- e^x for x <= 0 ---- */

/* libm's exp differs between systems in its last bit; this one has additions and products alone. With x = n ln 2 + r,
 * |r| <= ln 2 / 2, the Taylor series to r^13 / 13! leaves out less than 2^-57 of the result. */
static double exp_portable(double x)
{
    static const double INVERSE_FACTORIALS[] = {
        1.0 / 6227020800, 1.0 / 479001600, 1.0 / 39916800, 1.0 / 3628800, 1.0 / 362880, 1.0 / 40320, 1.0 / 5040,
        1.0 / 720,        1.0 / 120,       1.0 / 24,       1.0 / 6,       0.5,          1.0,         1.0,
    };
    if (x < -700) /* below 1e-304, no draw can tell it from 0, and nothing here becomes denormal */
        return 0;
    double n = floor(x * 0x1.71547652b82fep+0 + 0.5);
    double r = (x - n * 0x1.62e42feep-1) - n * 0x1.a39ef35793c76p-33; /* ln 2; n times its upper part is exact */
    double sum = 0;
    for (size_t i = 0; i < sizeof INVERSE_FACTORIALS / sizeof INVERSE_FACTORIALS[0]; i++)
        sum = sum * r + INVERSE_FACTORIALS[i];
    return ldexp(sum, (int)n);
}

/* ---- the heap: order[0..n), whose root has the highest score, of equal ones the lowest index ---- */

static bool precedes(const lstmrt_sampler *sampler, uint32_t a, uint32_t b)
{
    double x = sampler->scores[a], y = sampler->scores[b];
    return x > y || (x == y && a < b);
}

static void sift_down(lstmrt_sampler *sampler, size_t root, size_t n)
{
    uint32_t *order = sampler->order, sinking = order[root];
    for (size_t child; (child = 2 * root + 1) < n; root = child) {
        if (child + 1 < n && precedes(sampler, order[child + 1], order[child])) child++;
        if (!precedes(sampler, order[child], sinking)) break;
        order[root] = order[child];
    }
    order[root] = sinking;
}

static void build_heap(lstmrt_sampler *sampler, size_t n)
{
    for (size_t root = n / 2; root-- > 0;) sift_down(sampler, root, n);
}

/* Takes the root out of a heap of n and puts it behind the n - 1 that are left. */
static uint32_t pop(lstmrt_sampler *sampler, size_t n)
{
    uint32_t *order = sampler->order, best = order[0];
    order[0] = order[n - 1];
    sift_down(sampler, 0, n - 1);
    return order[n - 1] = best;
}

/* The n - left ids popped last to first from order[left..n) become order[0..n - left). */
static size_t keep_popped(lstmrt_sampler *sampler, size_t left, size_t n)
{
    for (size_t i = left; i < n; i++) sampler->order[i - left] = sampler->order[i];
    return n - left;
}

/* ---- filters: each leaves its survivors in order[0..) and says how many ---- */

static size_t keep_best(lstmrt_sampler *sampler, size_t n, size_t k)
{
    build_heap(sampler, n);
    size_t left = n;
    while (n - left < k) pop(sampler, left--);
    return keep_popped(sampler, left, n);
}

/* Needs weights for scores. */
static size_t keep_mass(lstmrt_sampler *sampler, size_t n, double share)
{
    double total = 0, mass = 0;
    for (size_t i = 0; i < n; i++) total += sampler->scores[sampler->order[i]];
    build_heap(sampler, n);
    size_t left = n;
    do
        mass += sampler->scores[pop(sampler, left--)];
    while (left > 0 && mass < share * total);
    return keep_popped(sampler, left, n);
}

/* ---- choosing ---- */

/* Scores are the penalised logits. */
static void penalise(lstmrt_sampler *sampler, const float *logits)
{
    for (size_t i = 0; i < sampler->vocabulary; i++) {
        double logit = logits[i];
        if (sampler->seen && sampler->seen[i])
            logit = logit > 0 ? logit / sampler->repetition_penalty : logit * sampler->repetition_penalty;
        sampler->scores[i] = logit;
    }
}

static size_t argmax(const double *scores, size_t n)
{
    size_t best = 0;
    for (size_t i = 0; i < n; i++) {
        if (isnan(scores[i])) return i;
        if (scores[i] > scores[best]) best = i;
    }
    return best;
}

/* Scores become e^((score - largest) / temperature), 1 for the largest: so infinite ones never meet a subtraction
 * of themselves. */
static void scores_to_weights(lstmrt_sampler *sampler, size_t n)
{
    double largest = -INFINITY;
    for (size_t i = 0; i < n; i++)
        if (sampler->scores[sampler->order[i]] > largest) largest = sampler->scores[sampler->order[i]];
    for (size_t i = 0; i < n; i++) {
        double *score = &sampler->scores[sampler->order[i]];
        *score = *score == largest ? 1 : exp_portable((*score - largest) / sampler->temperature);
    }
}

/* The first id at which the running sum of weights passes a uniform share of their total. */
static size_t draw(lstmrt_sampler *sampler, size_t n)
{
    double total = 0, sum = 0;
    for (size_t i = 0; i < n; i++) total += sampler->scores[sampler->order[i]];
    double target = uniform(sampler->random) * total;
    size_t i = 0;
    while (i + 1 < n && (sum += sampler->scores[sampler->order[i]]) <= target) i++;
    return sampler->order[i];
}

static size_t sample(lstmrt_sampler *sampler)
{
    size_t n = sampler->vocabulary;
    for (size_t i = 0; i < n; i++) {
        sampler->order[i] = (uint32_t)i;
        if (isnan(sampler->scores[i])) sampler->scores[i] = -INFINITY;
    }
    if (sampler->top_k > 0 && sampler->top_k < n) n = keep_best(sampler, n, sampler->top_k);
    scores_to_weights(sampler, n);
    if (sampler->top_p < 1) n = keep_mass(sampler, n, sampler->top_p);
    return draw(sampler, n);
}

size_t lstmrt_choose(lstmrt_sampler *sampler, const float *logits)
{
    penalise(sampler, logits);
    return sampler->do_sample ? sample(sampler) : argmax(sampler->scores, sampler->vocabulary);
}

void lstmrt_sampler_see(lstmrt_sampler *sampler, int64_t id)
{
    if (sampler->seen && id >= 0 && (uint64_t)id < sampler->vocabulary) sampler->seen[id] = 1;
}

static bool positive(double x) { return x > 0 && isfinite(x); }

static bool options_fit(const lstmrt_decode_options *options)
{
    if (!positive(options->repetition_penalty)) return false;
    return !options->do_sample || (positive(options->temperature) && options->top_p > 0 && options->top_p <= 1);
}

lstmrt_status lstmrt_sampler_init(lstmrt_sampler *sampler, const lstmrt_decode_options *options, size_t vocabulary)
{
    *sampler = (lstmrt_sampler){
        .vocabulary = vocabulary,
        .do_sample = options->do_sample,
        .temperature = options->temperature,
        .top_p = options->top_p,
        .top_k = options->top_k,
        .repetition_penalty = options->repetition_penalty,
    };
    if (vocabulary == 0 || vocabulary > UINT32_MAX || !options_fit(options)) return LSTMRT_BAD_ARGUMENT;
    uint64_t seed = options->seed;
    for (int i = 0; i < 4; i++) sampler->random[i] = split_mix(&seed);
    bool penalises = options->repetition_penalty != 1;
    if (penalises && !(sampler->seen = lstmrt_allocate(vocabulary))) return LSTMRT_OUT_OF_MEMORY;
    if (!(sampler->scores = lstmrt_allocate_array(vocabulary, sizeof *sampler->scores))) return LSTMRT_OUT_OF_MEMORY;
    if (!(sampler->order = lstmrt_allocate_array(vocabulary, sizeof *sampler->order))) return LSTMRT_OUT_OF_MEMORY;
    return LSTMRT_OK;
}

void lstmrt_sampler_free(lstmrt_sampler *sampler)
{
    lstmrt_release(sampler->seen);
    lstmrt_release(sampler->scores);
    lstmrt_release(sampler->order);
}
