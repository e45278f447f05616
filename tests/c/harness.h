/* What the C tests share: checks that count, random numbers, and arrays that end at a page nobody may touch.
 *
 * A test program calls its tests and returns finish(), which prints how many checks ran and fails if any failed or
 * none ran. It comes before every system header, as it says which parts of them are wanted.
 */
#ifndef HARNESS_H
#define HARNESS_H

#define _DEFAULT_SOURCE /* mmap and its anonymous mappings */

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "dispatch.h"
#include "os.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

static _Atomic unsigned long checks_made, checks_failed; /* threads check too */

/* CHECK(condition, "what it was about %zu", ...): reports a failure and goes on. */
#define CHECK(condition, ...)                                                            \
    do {                                                                                 \
        checks_made++;                                                                   \
        if (!(condition) && checks_failed++ < 20) {                                      \
            fprintf(stderr, "%s:%d: %s fails: ", __FILE__, __LINE__, #condition);        \
            fprintf(stderr, __VA_ARGS__);                                                \
            fputc('\n', stderr);                                                         \
        }                                                                                \
    } while (0)

/* The same for what the test itself cannot go on without. */
#define REQUIRE(condition)                                                               \
    do {                                                                                 \
        checks_made++;                                                                   \
        if (!(condition)) {                                                              \
            fprintf(stderr, "%s:%d: %s fails\n", __FILE__, __LINE__, #condition);        \
            exit(1);                                                                     \
        }                                                                                \
    } while (0)

static inline int finish(const char *program)
{
    printf("%s: %lu checks, %lu failed\n", program, checks_made, checks_failed);
    return checks_failed > 0 || checks_made == 0;
}

/* ---- random numbers (xorshift64*) ---- */

static uint64_t random_state = 0x9e3779b97f4a7c15;

static inline uint64_t random_bits(void)
{
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return random_state * UINT64_C(0x2545f4914f6cdd1d);
}

static inline size_t random_below(size_t n) { return (size_t)(random_bits() >> 11) % n; }

/* In (-scale, scale). */
static inline float random_float(float scale)
{
    return ((float)(int32_t)(random_bits() >> 32) + 0.5f) * 0x1p-31f * scale;
}

static inline void fill_random(float *x, size_t n, float scale)
{
    for (size_t i = 0; i < n; i++) x[i] = random_float(scale);
}

static inline void fill(float *x, size_t n, float value)
{
    for (size_t i = 0; i < n; i++) x[i] = value;
}

/* ---- guarded arrays: a page without access behind the last float, canaries before the first ---- */

enum { GUARD_CANARIES = 16 };
static const uint32_t GUARD_CANARY = 0x7fa5a5a5; /* a NaN: whoever reads it shows it */

typedef struct {
    float *x;
    size_t n;
    void *mapping;
    size_t bytes;
} guarded;

static inline guarded guarded_new(size_t n)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), wanted = (n + GUARD_CANARIES) * sizeof(float);
    const size_t body = (wanted + page - 1) / page * page;
    guarded g = {.n = n, .bytes = body + page};
    g.mapping = mmap(NULL, g.bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(g.mapping != MAP_FAILED);
    REQUIRE(mprotect((char *)g.mapping + body, page, PROT_NONE) == 0);
    g.x = (float *)((char *)g.mapping + body) - n;
    for (int i = 1; i <= GUARD_CANARIES; i++) memcpy(g.x - i, &GUARD_CANARY, sizeof GUARD_CANARY);
    return g;
}

static inline guarded guarded_random(size_t n, float scale)
{
    guarded g = guarded_new(n);
    fill_random(g.x, n, scale);
    return g;
}

static inline void guarded_free(guarded g)
{
    for (int i = 1; i <= GUARD_CANARIES; i++)
        CHECK(memcmp(g.x - i, &GUARD_CANARY, sizeof GUARD_CANARY) == 0, "something wrote before an array");
    munmap(g.mapping, g.bytes);
}

/* ---- comparing ---- */

/* The distance between floats of x's size. */
static inline double ulp(double x)
{
    int exponent;
    frexp(x, &exponent);
    return ldexp(1, (exponent < -125 ? -125 : exponent) - 24);
}

/* got is want, within `tolerance`; equal infinities and NaNs are the same. */
static inline bool near(double got, double want, double tolerance)
{
    if (isnan(want) || isnan(got)) return isnan(want) && isnan(got);
    if (isinf(want) || isinf(got)) return want == got;
    return fabs(got - want) <= tolerance;
}

/* ---- every instruction set of this machine ---- */

/* for (each table) body, with `kernels` the table; the table found is the one asked for. */
static inline const lstmrt_kernels *isa_at(size_t *i)
{
    bool supported = false;
    const char *name;
    while ((name = lstmrt_isa_name(LSTMRT_PRECISION_F32, (*i)++, &supported)) != NULL) {
        if (!supported) continue;
        const lstmrt_isa *isa = NULL;
        REQUIRE(lstmrt_isa_find(name, &isa) == LSTMRT_OK);
        REQUIRE(strcmp(isa->f32->name, name) == 0);
        return isa->f32;
    }
    return NULL;
}

#define FOR_EACH_ISA(kernels) \
    for (size_t isa_ = 0, once_ = 1; once_; once_ = 0) \
        for (const lstmrt_kernels *kernels; (kernels = isa_at(&isa_)) != NULL;)

/* ---- a counting allocator that can fail ---- */

static long allocations, allocations_alive, allocations_until_failure = -1; /* -1: never */

static inline void *counting_allocate(size_t size)
{
    if (allocations_until_failure == 0) return NULL;
    if (allocations_until_failure > 0) allocations_until_failure--;
    void *memory = aligned_alloc(LSTMRT_ALIGNMENT, size);
    if (memory) {
        memset(memory, 0xa5, size);
        allocations++;
        allocations_alive++;
    }
    return memory;
}

static inline void counting_release(void *memory)
{
    allocations_alive--;
    free(memory);
}

#endif
