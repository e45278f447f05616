/* What differs between systems: memory, the clock, the floating-point state, and the list of instruction sets. */
#include "programs.h"

#include <fenv.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

static void test_allocation(void)
{
    static const size_t SIZES[] = {0, 1, 63, 64, 65, 100000};
    for (size_t i = 0; i < COUNT(SIZES); i++) {
        unsigned char *memory = lstmrt_allocate(SIZES[i]);
        REQUIRE(memory != NULL);
        CHECK((uintptr_t)memory % LSTMRT_ALIGNMENT == 0, "%zu bytes are not aligned", SIZES[i]);
        for (size_t j = 0; j < SIZES[i]; j++) CHECK(memory[j] == 0, "byte %zu of %zu is not 0", j, SIZES[i]);
        lstmrt_release(memory);
    }
    lstmrt_release(NULL);
    CHECK(lstmrt_allocate(SIZE_MAX) == NULL, "all of memory");
    CHECK(lstmrt_allocate_array(SIZE_MAX / 2, 3) == NULL, "a product that overflows");
    CHECK(lstmrt_allocate_array(SIZE_MAX / 4 + 1, 4) == NULL, "a product that overflows to 0");
}

static void test_clock(void)
{
    const int64_t before = lstmrt_clock();
    int64_t after = before;
    while (after == before) after = lstmrt_clock();
    CHECK(after > before, "the clock goes backwards");
    const int64_t cpu = lstmrt_thread_clock(), start = lstmrt_clock();
    usleep(20 * 1000);
    CHECK(lstmrt_thread_clock() - cpu < lstmrt_clock() - start, "a thread that sleeps has a processor");
}

static atomic_bool forked_enough;

static void *keep_locking(void *unused)
{
    while (!atomic_load(&forked_enough)) {
        lstmrt_lock();
        lstmrt_unlock();
    }
    return unused;
}

/* A child gets the lock whatever another thread did with it. One that waits for ever is ended by its alarm. */
static void test_lock_and_fork(void)
{
    pthread_t thread;
    REQUIRE(pthread_create(&thread, NULL, keep_locking, NULL) == 0);
    for (int i = 0; i < 100; i++) {
        const pid_t child = fork();
        REQUIRE(child >= 0);
        if (child == 0) {
            alarm(20);
            lstmrt_lock();
            lstmrt_unlock();
            _exit(0);
        }
        int status;
        REQUIRE(waitpid(child, &status, 0) == child);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "child %d: status %d", i, status);
    }
    atomic_store(&forked_enough, true);
    REQUIRE(pthread_join(thread, NULL) == 0);
}

static float half_of(float x)
{
    volatile float kept = x;
    return kept * 0.5f;
}

static bool flushes(void) { return half_of(0x1p-126f) == 0; }

static void test_flushing(void)
{
    CHECK(!flushes(), "denormals are flushed from the start");
    const lstmrt_fp_state state = lstmrt_fp_flush_denormals();
    const bool inside = flushes();
    lstmrt_fp_restore(state);
    CHECK(!flushes(), "denormals stay flushed");
#if defined(__x86_64__) || defined(__aarch64__)
    CHECK(inside, "denormals are not flushed");
#else
    (void)inside;
#endif
}

/* The caller's rounding and flags survive a run, and do not change its results. */
static void test_callers_state(void)
{
    builder b = everything();
    lstmrt_model *model = model_of(&b, "scalar");
    arrays a = arrays_for(&b, 2, 3), again = a;
    for (size_t i = 0; i < a.n_outputs; i++) again.outputs[i] = array_for(b.values[b.outputs[i]], 2, 3);
    REQUIRE(lstmrt_run(model, a.inputs, a.outputs, 2, 3, SOURCE) == LSTMRT_OK);
    REQUIRE(fesetround(FE_UPWARD) == 0);
    feclearexcept(FE_ALL_EXCEPT);
    const lstmrt_status status = lstmrt_run(model, again.inputs, again.outputs, 2, 3, SOURCE);
    CHECK(fegetround() == FE_UPWARD, "the rounding mode is not the caller's");
    REQUIRE(fesetround(FE_TONEAREST) == 0);
    CHECK(status == LSTMRT_OK && !flushes(), "a run that rounds upward");
    for (size_t i = 0; i < a.n_outputs; i++) {
        CHECK(memcmp(a.outputs[i].data, again.outputs[i].data, a.outputs[i].bytes) == 0, "output %zu was rounded", i);
        free(again.outputs[i].data);
    }
    arrays_free(&a);
    lstmrt_model_free(model);
    builder_free(&b);
}

static void test_isas(void)
{
    bool supported = false;
    const lstmrt_isa *best = NULL, *named = NULL;
    const lstmrt_kernels *last = NULL;
    for (lstmrt_precision precision = LSTMRT_PRECISION_F32; precision <= LSTMRT_PRECISION_INT8; precision++) {
        const char *first = lstmrt_isa_name(precision, 0, &supported);
        CHECK(strcmp(first, "scalar") == 0 && supported, "scalar code comes first, everywhere");
        CHECK(lstmrt_isa_name(precision, 100, &supported) == NULL, "there is no 100th");
    }
    CHECK(lstmrt_isa_find("", &named) == LSTMRT_UNKNOWN_ISA && !named, "no name");
    FOR_EACH_ISA(kernels) last = kernels;
    CHECK(lstmrt_isa_find(NULL, &best) == LSTMRT_OK && best->f32 == last, "the best is the last supported");
    CHECK(strcmp(lstmrt_isa_shown(best, LSTMRT_PRECISION_F32), last->name) == 0, "and is called so");
}

static void test_status_texts(void)
{
    for (int i = 0; i < LSTMRT_STATUS_COUNT; i++)
        for (int j = 0; j < i; j++)
            CHECK(strcmp(lstmrt_status_text((lstmrt_status)i), lstmrt_status_text((lstmrt_status)j)) != 0,
                  "statuses %d and %d read alike", j, i);
    CHECK(strcmp(lstmrt_status_text(LSTMRT_STATUS_COUNT), "no status") == 0, "a status past the last");
}

int main(void)
{
    test_allocation();
    test_clock();
    if (!getenv("EMULATED")) test_lock_and_fork(); /* user-mode qemu aborts in the child of a fork that had threads */
    test_flushing();
    test_callers_state();
    test_isas();
    test_status_texts();
    return finish("test_os");
}
