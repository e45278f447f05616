/* The pool of threads: every part of every section is done once and seen by all, whoever calls, also after a fork; and
 * nobody spins when nobody works. Run it with the thread sanitizer too. */
#include "harness.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <time.h>

#include "pool.h"

enum { MOST_PARTS = 5, SECTIONS = 2000, CALLERS = 3, REGIONS = 40 };

/* Plain memory: a part adds to its own number what the part beside it had after the section before. */
typedef struct {
    long before[MOST_PARTS], after[MOST_PARTS];
} ring;

static void ring_part(const void *argument, size_t part, size_t parts)
{
    ring *r = *(ring *const *)argument;
    for (size_t i = part; i < MOST_PARTS; i += parts) r->after[i] = 3 * r->before[(i + 1) % MOST_PARTS] + (long)i;
}

/* `sections` of them in a region of up to `threads`; a caller without one works alone. */
static ring run_ring(size_t threads, int sections)
{
    ring r = {0}, *shared = &r;
    const size_t parts = lstmrt_pool_open(threads);
    for (int i = 0; i < sections; i++) {
        if (parts > 1)
            lstmrt_pool_run(ring_part, &shared, parts);
        else
            ring_part(&shared, 0, 1);
        for (int j = 0; j < MOST_PARTS; j++) r.before[j] = r.after[j] % 1000003;
    }
    if (parts > 1) lstmrt_pool_close();
    return r;
}

static bool same(const ring *a, const ring *b) { return memcmp(a, b, sizeof *a) == 0; }

static void test_sections(void)
{
    const ring alone = run_ring(1, SECTIONS);
    for (size_t threads = 2; threads <= MOST_PARTS; threads++) {
        const ring shared = run_ring(threads, SECTIONS);
        CHECK(same(&alone, &shared), "%zu threads: other results than one", threads);
    }
}

static void *call(void *wrong)
{
    const ring alone = run_ring(1, 50);
    for (int i = 0; i < REGIONS; i++) {
        const ring shared = run_ring(2 + (size_t)i % (MOST_PARTS - 1), 50);
        *(int *)wrong += !same(&alone, &shared);
    }
    return NULL;
}

static void test_callers(void)
{
    pthread_t threads[CALLERS];
    int wrong[CALLERS] = {0};
    for (int i = 0; i < CALLERS; i++) REQUIRE(pthread_create(&threads[i], NULL, call, &wrong[i]) == 0);
    for (int i = 0; i < CALLERS; i++) {
        REQUIRE(pthread_join(threads[i], NULL) == 0);
        CHECK(wrong[i] == 0, "caller %d: %d regions with other results", i, wrong[i]);
    }
}

static void test_one_region(void)
{
    REQUIRE(lstmrt_pool_open(2) == 2);
    CHECK(lstmrt_pool_open(2) == 1, "a second region was opened");
    lstmrt_pool_close();
    REQUIRE(lstmrt_pool_open(3) == 3);
    lstmrt_pool_close();
    CHECK(lstmrt_pool_open(1) == 1 && lstmrt_pool_open(0) == 1, "a region of one thread");
}

/* What parts that wait for each other share. */
typedef struct {
    atomic_bool begun, left, done;
} waiting;

static bool never(const void *argument) { return !argument; }

static bool is_done(const void *argument) { return atomic_load(&((const waiting *)argument)->done); }

/* Part 1 gives up waiting for what nobody does, and then does what part 0 waits for; both take as long as a lost core. */
static void waiting_part(const void *argument, size_t part, size_t parts)
{
    waiting *w = *(waiting *const *)argument;
    (void)parts;
    if (part == 1) {
        atomic_store(&w->begun, true);
        atomic_store(&w->left, !lstmrt_pool_await(never, w, part, 1000));
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
        atomic_store(&w->done, true);
        return;
    }
    for (int i = 0; i < 1000 && !atomic_load(&w->begun); i++) nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    if (atomic_load(&w->begun)) CHECK(lstmrt_pool_await(is_done, w, part, 1000) && is_done(w), "the caller left a part alone");
}

static void test_waiting(void)
{
    waiting w = {0}, *shared = &w;
    REQUIRE(lstmrt_pool_open(2) == 2);
    lstmrt_pool_run(waiting_part, &shared, 2);
    CHECK(atomic_load(&w.left) && is_done(&w), "a part waits for ever");
    CHECK(lstmrt_pool_rests(), "threads that are as late as this one do not rest");
    lstmrt_pool_close();
}

/* A child has none of its parent's threads and makes its own. */
static void test_fork(void)
{
    const ring alone = run_ring(1, 100);
    const pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        const ring shared = run_ring(MOST_PARTS, 100);
        _exit(same(&alone, &shared) ? 0 : 1);
    }
    int status;
    REQUIRE(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child of a fork: status %d", status);
}

static atomic_bool forked, job_in_child;

/* Part 0 forks while the others are offered, and makes threads in the child. */
static void forking_part(const void *argument, size_t part, size_t parts)
{
    if (part > 0) {
        if (atomic_load(&forked)) atomic_store(&job_in_child, true);
        return;
    }
    (void)parts;
    pid_t *child = *(pid_t *const *)argument;
    *child = fork();
    if (*child != 0) return;
    atomic_store(&forked, true);
    const bool opened = lstmrt_pool_open(MOST_PARTS) == MOST_PARTS;
    nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL); /* for its threads to look about */
    lstmrt_pool_close();
    const ring alone = run_ring(1, 100), shared = run_ring(MOST_PARTS, 100);
    _exit(opened && same(&alone, &shared) && !atomic_load(&job_in_child) ? 0 : 1);
}

/* Nor does the child do what was left of its parent's section. */
static void test_fork_in_section(void)
{
    pid_t child = -1, *shared = &child;
    for (int i = 0; i < 5; i++) {
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL); /* threads that sleep leave their parts on offer */
        const size_t parts = lstmrt_pool_open(MOST_PARTS);
        REQUIRE(parts == MOST_PARTS);
        lstmrt_pool_run(forking_part, &shared, parts);
        lstmrt_pool_close();
        int status;
        REQUIRE(child > 0 && waitpid(child, &status, 0) == child);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "a fork in a section: status %d", status);
    }
}

static double process_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void test_idle(void)
{
    run_ring(MOST_PARTS, 100);
    nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL); /* to fall asleep in */
    const double before = process_seconds();
    nanosleep(&(struct timespec){.tv_nsec = 200000000}, NULL);
    CHECK(process_seconds() - before < 0.1, "threads used %.0f ms of 200 while nobody called",
          (process_seconds() - before) * 1e3);
}

int main(void)
{
    test_sections();
    test_callers();
    test_one_region();
    if (!getenv("EMULATED")) { /* user-mode qemu aborts in the child of a fork that had threads */
        test_fork();
        test_fork_in_section();
    }
    test_idle();
    test_waiting();
    return finish("test_pool");
}
