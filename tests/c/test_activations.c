/* Accuracy of every activation function on every instruction set, denormals flushed as in a run.
 *
 * Without arguments a sample of all floats; with "exhaustive", tanh and sigmoid for all 2^32, in two threads.
 * Prints the worst error of each in ULP of the exact result, over inputs and results that are normal numbers.
 */
#include "harness.h"
#include "reference.h"

#include <pthread.h>

enum { CHUNK = 4096, MOST_ISAS = 8 };

static const double SMALLEST_NORMAL = 0x1p-126;

/* How far a result may be from the exact one: `ulps` of it, or `absolute` times max(1, |x|), whichever is more. */
typedef struct {
    lstmrt_function function;
    double ulps, absolute;
} bound;

static const bound BOUNDS[] = {
    {LSTMRT_IDENTITY, 0, 0},
    {LSTMRT_SIGMOID, 4, 0},
    {LSTMRT_TANH, 4, 0},
    {LSTMRT_RELU, 0, 0},
    {LSTMRT_AFFINE, 1, 0x1p-23}, /* a x and b may cancel */
    {LSTMRT_LEAKY_RELU, 1, 0},
    {LSTMRT_THRESHOLDED_RELU, 0, 0},
    {LSTMRT_SCALED_TANH, 6, 0},
    {LSTMRT_HARD_SIGMOID, 1, 0x1p-23},
    {LSTMRT_ELU, 5, 0},
    {LSTMRT_SELU, 6, 0},
    {LSTMRT_SOFTSIGN, 2, 0},
    {LSTMRT_SOFTPLUS, 4, 0},
    {LSTMRT_EXP, 4, 0x1p-125},  /* half the result is flushed */
    {LSTMRT_SWISH, 6, 0x1p-125}, /* sigmoid x is flushed before it meets x, and so below */
    {LSTMRT_GELU, 4, 0x1p-22},   /* libm's erfc has few correct bits far out */
    {LSTMRT_GELU_TANH, 4, 0x1p-22}, /* 1 + tanh cancels */
    {LSTMRT_SQRT, 1, 0},
    {LSTMRT_LOG, 2, 0},
    {LSTMRT_ERF, 2, 0x1p-125},
    {LSTMRT_MISH, 8, 0x1p-125},
    {LSTMRT_CLIP, 0, 0},
};

_Static_assert(COUNT(BOUNDS) == LSTMRT_ACTIVATION_COUNT, "every activation has a bound");

static lstmrt_activation with_parameters(lstmrt_function function)
{
    if (function == LSTMRT_CLIP) return (lstmrt_activation){function, -0.75f, 1.25f};
    if (function == LSTMRT_SELU) return (lstmrt_activation){function, 1.67326324f, 1.05070098f};
    return (lstmrt_activation){function, 0.3f, 0.6f};
}

/* ---- the tables of this machine ---- */

static const lstmrt_kernels *tables[MOST_ISAS];
static size_t n_tables;

static void find_tables(void)
{
    FOR_EACH_ISA(kernels) {
        REQUIRE(n_tables < MOST_ISAS);
        tables[n_tables++] = kernels;
    }
}

/* ---- one function over a range of floats ---- */

typedef struct {
    const bound *bound;
    uint64_t first, count, step; /* bit patterns first + i step, i < count */
    double worst[MOST_ISAS];     /* ULP */
    unsigned long outside[MOST_ISAS];
    float example[MOST_ISAS];
} sweep;

static bool is_normal(double x) { return fabs(x) >= SMALLEST_NORMAL && fabs(x) <= 0x1.fffffep127; }

/* What is denormal may be flushed: x before, which then is 0 (see judge), the result after. Infinite results may be reached a little late. */
static bool within(const bound *b, double x, double got, double want)
{
    const double error = fabs(got - want), relative = b->ulps * ulp(want);
    if (isnan(want) || isnan(got)) return isnan(want) && isnan(got);
    if (fabs(want) > 0x1.fffffep127) return fabs(got) > 0x1.fffff0p127 && (got > 0) == (want > 0);
    if (!is_normal(want)) return error <= SMALLEST_NORMAL;
    if (fabs(x) < SMALLEST_NORMAL) return error <= relative + 2 * SMALLEST_NORMAL;
    return error <= fmax(relative, isinf(x) ? 0 : b->absolute * fmax(1, fabs(x)));
}

static void judge(sweep *s, size_t table, float x, float got, double want)
{
    const double error = fabs((double)got - want);
    if (is_normal(x) && is_normal(want) && error > s->bound->absolute * fmax(1, fabs((double)x)))
        s->worst[table] = fmax(s->worst[table], error / ulp(want));
    const lstmrt_activation activation = with_parameters(s->bound->function);
    const bool as_zero = fabsf(x) < SMALLEST_NORMAL && within(s->bound, 0, got, reference_activate(activation, copysign(0, x)));
    if (!as_zero && !within(s->bound, x, got, want) && s->outside[table]++ == 0) s->example[table] = x;
}

static void *run_sweep(void *argument)
{
    sweep *s = argument;
    static _Thread_local float x[CHUNK], y[CHUNK];
    static _Thread_local double want[CHUNK];
    const lstmrt_activation activation = with_parameters(s->bound->function);
    for (uint64_t done = 0; done < s->count; done += CHUNK) {
        const size_t n = s->count - done < CHUNK ? (size_t)(s->count - done) : CHUNK;
        for (size_t i = 0; i < n; i++) {
            const uint32_t bits = (uint32_t)(s->first + (done + i) * s->step);
            memcpy(&x[i], &bits, sizeof bits);
            want[i] = reference_activate(activation, x[i]);
        }
        for (size_t t = 0; t < n_tables; t++) {
            const lstmrt_fp_state state = lstmrt_fp_flush_denormals();
            tables[t]->activate(&(lstmrt_activate_args){x, y, n, n, 1, n, activation});
            lstmrt_fp_restore(state);
            for (size_t i = 0; i < n; i++) judge(s, t, x[i], y[i], want[i]);
        }
    }
    return NULL;
}

static const char *const NAMES[] = {
#define X(name, formula) #name,
    LSTMRT_ACTIVATIONS(X)
#undef X
};

static void report(const sweep *s)
{
    for (size_t t = 0; t < n_tables; t++) {
        const char *function = NAMES[s->bound->function], *isa = tables[t]->name;
        printf("  %-16s %-7s worst %.3g ULP\n", function, isa, s->worst[t]);
        CHECK(s->outside[t] == 0, "%s %s: %lu results out of bounds, as at %.9g (%a)", function, isa, s->outside[t],
              s->example[t], s->example[t]);
    }
}

/* A prime step reaches every binade and, over 2^32 / step samples, no pattern of low bits. */
static void sample(const bound *b)
{
    const uint64_t step = 65521;
    sweep s = {.bound = b, .count = (UINT64_C(1) << 32) / step, .step = step};
    run_sweep(&s);
    report(&s);
}

static void exhaust(const bound *b)
{
    const uint64_t half = UINT64_C(1) << 31;
    sweep positive = {.bound = b, .count = half, .step = 1};
    sweep negative = {.bound = b, .first = half, .count = half, .step = 1};
    pthread_t thread;
    REQUIRE(pthread_create(&thread, NULL, run_sweep, &positive) == 0);
    run_sweep(&negative);
    REQUIRE(pthread_join(thread, NULL) == 0);
    report(&positive);
    report(&negative);
}

/* ---- values where formulas break ---- */

static void test_special(const bound *b)
{
    static const float SPECIAL[] = {NAN,   INFINITY,  0.0f,    0x1p-126f, 0x1p-149f, 0.5f,     1,       1.5f,
                                    0.75f, 15,        17.4f,   87.3f,     87.4f,     88.7f,    88.8f,   103.9f,
                                    104,   0x1p+24f,  3.4e38f, 0x1p-24f,  0x1p-12f,  0.34657f, 0.3466f, 9.01f};
    sweep s = {.bound = b};
    const lstmrt_activation activation = with_parameters(b->function);
    for (size_t i = 0; i < 2 * COUNT(SPECIAL); i++) {
        const float x = i % 2 ? -SPECIAL[i / 2] : SPECIAL[i / 2];
        for (size_t t = 0; t < n_tables; t++) {
            float y = 77;
            tables[t]->activate(&(lstmrt_activate_args){&x, &y, 1, 1, 1, 1, activation});
            judge(&s, t, x, y, reference_activate(activation, x));
        }
    }
    report(&s);
}

/* An odd function keeps the sign of zero. */
static void test_signed_zero(void)
{
    const float x[2] = {0.0f, -0.0f};
    for (size_t t = 0; t < n_tables; t++) {
        float y[2] = {77, 77};
        tables[t]->activate(&(lstmrt_activate_args){x, y, 2, 2, 1, 2, with_parameters(LSTMRT_TANH)});
        CHECK(y[0] == 0 && y[1] == 0 && !signbit(y[0]) && signbit(y[1]), "%s tanh of zeros", tables[t]->name);
    }
}

int main(int argc, char **argv)
{
    find_tables();
    if (argc == 2 && strcmp(argv[1], "exhaustive") == 0) {
        exhaust(&BOUNDS[LSTMRT_TANH]);
        exhaust(&BOUNDS[LSTMRT_SIGMOID]);
        return finish("test_activations exhaustive");
    }
    puts("all floats, sampled:");
    for (size_t i = 0; i < COUNT(BOUNDS); i++) sample(&BOUNDS[i]);
    puts("special values:");
    for (size_t i = 0; i < COUNT(BOUNDS); i++) test_special(&BOUNDS[i]);
    test_signed_zero();
    return finish("test_activations");
}
