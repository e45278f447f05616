#define _POSIX_C_SOURCE 200809L /* -std=c11 hides sched_yield and sigfillset otherwise */

#include "pool.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>

#include "os.h"

enum {
    SPIN_NS = 50 * 1000, /* how long a thread spins for the next section before it sleeps: a wake-up costs as much */
    SPINS_A_LOOK = 64,   /* turns between two looks at the clock */
    LATE_NS = 100 * 1000, /* a part that takes this and four times the caller's longest says that its thread lost its core */
    LOOK_NS = 200 * 1000, /* between two looks at how long the caller has had a core */
    LOST_NS = 500 * 1000, /* it has lost this much beyond one nanosecond in LOST_SHARE: others want the cores */
    LOST_SHARE = 8,
    MEASURED_NS = 1000 * 1000 * 1000, /* for so long a measured distance counts */
    FAR_NS = 500,        /* from a caller to a thread and back, about twice what it is where they share a cache */
    PING_NS = 20 * 1000, /* a thread that takes this is not there */
    PINGS = 5,
    SHORTEST_REST_NS = 20 * 1000 * 1000, LONGEST_REST_NS = 50 * SHORTEST_REST_NS
};

/* What has become of one part, told with the section's number so that a late thread cannot mistake another's for it. */
enum { OFFERED, CLAIMED, DONE, STATES };

typedef struct {
    _Alignas(64) atomic_uint_fast64_t state; /* section * STATES + one of the above */
    pthread_t thread;
    atomic_bool asleep;                      /* its thread, which waits for `wake` */
    pthread_cond_t wake;
} part_state;

static struct {
    _Alignas(64) atomic_uint_fast64_t section; /* the newest one; published after the three below and the parts' states */
    lstmrt_job *job;
    const void *argument;
    size_t parts;
    _Alignas(64) atomic_bool taken; /* a region is open */
    atomic_uint_fast64_t region;    /* odd while one is open */
    atomic_size_t members, calls;
    atomic_int_fast64_t far_until;
    part_state part[LSTMRT_MOST_THREADS];
    pthread_mutex_t lock; /* of falling asleep */
    /* What whoever has taken the pool may change. */
    size_t workers;        /* threads that exist beside the callers */
    bool forks_watched;
    int kept_off;           /* the processor that they keep off, or -1 */
    int64_t measured;       /* when their distance was */
    int64_t longest;        /* part of the caller's own in this region */
    int64_t looked, looked_cpu, lost; /* the last look at the caller, its time on a core until then, and what it lost */
    bool restless;
    int64_t rest, rest_end; /* other programs want the processors: callers work alone until then */
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void spin_once(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static bool region_is_open(void) { return atomic_load(&pool.region) % 2 == 1; }

static bool is_wanted(size_t number) { return region_is_open() && number < atomic_load(&pool.members); }

/* Until a section other than `seen` comes; false where none came within SPIN_NS, or the region closed. */
static bool spin_for_section(uint_fast64_t seen, size_t number)
{
    const int64_t deadline = lstmrt_clock() + SPIN_NS;
    do {
        for (int i = 0; i < SPINS_A_LOOK; i++) {
            if (atomic_load_explicit(&pool.section, memory_order_acquire) != seen) return true;
            spin_once();
        }
    } while (is_wanted(number) && lstmrt_clock() < deadline);
    return false;
}

/* Until a section other than `seen` is there in a region that wants this thread. */
static void sleep_for_section(uint_fast64_t seen, size_t number)
{
    part_state *own = &pool.part[number];
    (void)pthread_mutex_lock(&pool.lock);
    for (;;) {
        atomic_store(&own->asleep, true); /* before looking: who posts a section looks the other way round */
        if (is_wanted(number) && atomic_load(&pool.section) != seen) break;
        pthread_cond_wait(&own->wake, &pool.lock);
    }
    atomic_store(&own->asleep, false);
    (void)pthread_mutex_unlock(&pool.lock);
}

/* Takes a part that is offered; only one of its thread and the caller gets it. */
static bool claim(size_t part, uint_fast64_t section)
{
    uint_fast64_t offered = section * STATES + OFFERED;
    return atomic_compare_exchange_strong(&pool.part[part].state, &offered, section * STATES + CLAIMED);
}

static void *worker(void *argument)
{
    const size_t number = (size_t)(uintptr_t)argument;
    uint_fast64_t seen = 0;
    (void)lstmrt_fp_flush_denormals(); /* this thread does nothing else */
    for (;;) {
        if (!spin_for_section(seen, number)) sleep_for_section(seen, number);
        seen = atomic_load_explicit(&pool.section, memory_order_acquire);
        if (!claim(number, seen)) continue;
        pool.job(pool.argument, number, pool.parts);
        atomic_store_explicit(&pool.part[number].state, seen * STATES + DONE, memory_order_release);
    }
    return NULL;
}

static void wake_if_asleep(size_t number)
{
    if (!atomic_load(&pool.part[number].asleep)) return;
    (void)pthread_mutex_lock(&pool.lock);
    if (atomic_exchange(&pool.part[number].asleep, false)) pthread_cond_signal(&pool.part[number].wake);
    (void)pthread_mutex_unlock(&pool.lock);
}

/* A child of fork has none of the threads. Of a section that another thread's call had open, or was just opening, parts may
 * still be offered: its number and the next one are passed over, lest new threads take them. */
static void forget_threads(void)
{
    pool.workers = 0;
    atomic_fetch_add(&pool.section, 2);
    atomic_store(&pool.taken, false);
    atomic_store(&pool.region, 0);
    atomic_store(&pool.calls, 0);
    (void)pthread_mutex_init(&pool.lock, NULL);
}

static bool make_thread(size_t number, const pthread_attr_t *attributes)
{
    part_state *own = &pool.part[number];
    atomic_store(&own->asleep, false);
    return pthread_cond_init(&own->wake, NULL) == 0 &&
           pthread_create(&own->thread, attributes, worker, (void *)(uintptr_t)number) == 0;
}

/* All signals but those of a thread's own faults, which end a process that blocks them before its handlers can tell. */
static sigset_t others_signals(void)
{
    static const int FAULTS[] = {SIGILL, SIGFPE, SIGSEGV, SIGBUS};
    sigset_t set;
    sigfillset(&set);
    for (size_t i = 0; i < sizeof FAULTS / sizeof *FAULTS; i++) sigdelset(&set, FAULTS[i]);
    return set;
}

/* Makes threads up to number `wanted` - 1, signals blocked: those are for the program's own threads. The caller has
 * taken the pool. Returns how many threads there are with the caller. */
static size_t make_threads(size_t wanted)
{
    if (!pool.forks_watched) pool.forks_watched = pthread_atfork(NULL, NULL, forget_threads) == 0;
    const sigset_t blocked = others_signals();
    sigset_t before;
    if (!pool.forks_watched || pthread_sigmask(SIG_SETMASK, &blocked, &before)) return 1;
    pthread_attr_t attributes;
    pool.kept_off = -1;
    if (pthread_attr_init(&attributes) == 0) {
        pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
        while (pool.workers + 1 < wanted && make_thread(pool.workers + 1, &attributes)) pool.workers++;
        pthread_attr_destroy(&attributes);
    }
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return pool.workers + 1 < wanted ? pool.workers + 1 : wanted;
}

/* Systems may wake a thread on the processor of the one that wakes it, to leave others idle: there it would take the
 * caller's time, and do nothing in it that the caller could not. */
static void keep_off_caller(void)
{
    const int here = lstmrt_cpu_here();
    if (here == pool.kept_off) return;
    pool.kept_off = here;
    for (size_t number = 1; number <= pool.workers; number++) lstmrt_thread_keep_off(pool.part[number].thread, here);
}

size_t lstmrt_pool_open(size_t wanted)
{
    if (wanted > LSTMRT_MOST_THREADS) wanted = LSTMRT_MOST_THREADS;
    if (wanted < 2 || atomic_exchange(&pool.taken, true)) return 1;
    const size_t threads = pool.workers + 1 < wanted ? make_threads(wanted) : wanted;
    if (threads < 2) {
        atomic_store(&pool.taken, false);
        return 1;
    }
    keep_off_caller();
    pool.longest = 0;
    pool.looked = lstmrt_clock();
    pool.looked_cpu = lstmrt_thread_clock();
    atomic_store(&pool.members, threads);
    atomic_fetch_add(&pool.region, 1);
    return threads;
}

/* A thread that has lost its core costs milliseconds, a hundred times what it can save: the pool rests, twice as long
 * where that happens again soon after. */
static void rest(int64_t now)
{
    const bool again = pool.rest > 0 && now < pool.rest_end + 4 * pool.rest;
    pool.rest = !again ? SHORTEST_REST_NS : pool.rest < LONGEST_REST_NS / 2 ? 2 * pool.rest : LONGEST_REST_NS;
    pool.rest_end = pool.restless ? 0 : now + pool.rest;
}

/* Where other programs keep the cores busy, the system puts a thread that wakes up on the caller's core. */
static void look_at_caller(int64_t now)
{
    const int64_t cpu = lstmrt_thread_clock(), time = now - pool.looked, lost = time - (cpu - pool.looked_cpu);
    pool.looked = now;
    pool.looked_cpu = cpu;
    pool.lost += lost - time / LOST_SHARE;
    if (pool.lost > LOST_NS) rest(now);
    if (pool.lost > LOST_NS || pool.lost < 0) pool.lost = 0;
}

/* Spins until it holds; false where that takes far longer than `longest`. */
static bool spin_until(lstmrt_condition *holds, const void *argument, int64_t longest)
{
    for (int i = 0; i < SPINS_A_LOOK; i++) {
        if (holds(argument)) return true;
        spin_once();
    }
    const int64_t late = lstmrt_clock() + LATE_NS + 3 * longest;
    while (!holds(argument)) {
        if (lstmrt_clock() >= late) return false;
        spin_once();
    }
    return true;
}

bool lstmrt_pool_await(lstmrt_condition *holds, const void *argument, size_t part, int64_t longest)
{
    if (spin_until(holds, argument, longest)) return true;
    if (part > 0) return false;
    while (!holds(argument)) (void)sched_yield();
    rest(lstmrt_clock());
    return true;
}

typedef struct {
    size_t part;
    uint_fast64_t section;
} awaited_part;

static bool is_done(const void *argument)
{
    const awaited_part *of = argument;
    return atomic_load_explicit(&pool.part[of->part].state, memory_order_acquire) == of->section * STATES + DONE;
}

bool lstmrt_pool_rests(void) { return lstmrt_clock() < pool.rest_end; }

void lstmrt_pool_run(lstmrt_job *job, const void *argument, size_t parts)
{
    if (parts < 2) {
        job(argument, 0, 1);
        return;
    }
    const int64_t start = lstmrt_clock();
    if (start - pool.looked > LOOK_NS) look_at_caller(start);
    if (start < pool.rest_end) {
        job(argument, 0, 1);
        return;
    }
    const uint_fast64_t section = atomic_load(&pool.section) + 1;
    pool.job = job;
    pool.argument = argument;
    pool.parts = parts;
    for (size_t part = 1; part < parts; part++)
        atomic_store_explicit(&pool.part[part].state, section * STATES + OFFERED, memory_order_relaxed);
    atomic_store(&pool.section, section);
    for (size_t part = 1; part < parts; part++) wake_if_asleep(part);
    job(argument, 0, parts);
    const int64_t own = lstmrt_clock() - start;
    if (own > pool.longest) pool.longest = own;
    for (size_t part = 1; part < parts; part++)
        if (claim(part, section))
            job(argument, part, parts);
        else
            (void)lstmrt_pool_await(is_done, &(awaited_part){part, section}, 0, pool.longest);
}

static void ping_part(const void *argument, size_t part, size_t parts)
{
    atomic_bool *answered = *(atomic_bool *const *)argument;
    const int64_t deadline = lstmrt_clock() + PING_NS;
    (void)parts;
    if (part > 0) atomic_store(answered, true);
    while (!atomic_load(answered) && lstmrt_clock() < deadline) spin_once();
}

/* Cores of one machine may be three times as far from each other as others, and where those of a virtual machine are changes.
 * A thread that is not there at the end of a region was too far to be woken for it. */
static void measure_distance(int64_t now)
{
    int64_t least = PING_NS, taken = 0;
    for (int i = 0; i < PINGS && taken < PING_NS; i++) {
        atomic_bool answered = false, *const argument = &answered;
        const int64_t start = lstmrt_clock();
        lstmrt_pool_run(ping_part, &argument, 2);
        taken = lstmrt_clock() - start;
        if (taken < least) least = taken;
    }
    pool.measured = now;
    atomic_store(&pool.far_until, least > FAR_NS ? now + MEASURED_NS : 0);
}

bool lstmrt_pool_is_far(void) { return lstmrt_clock() < atomic_load_explicit(&pool.far_until, memory_order_relaxed); }

void lstmrt_pool_close(void)
{
    const int64_t now = lstmrt_clock();
    if (!lstmrt_pool_rests() && now - pool.measured > MEASURED_NS) measure_distance(now);
    atomic_fetch_add(&pool.region, 1);
    if (!lstmrt_pool_rests()) look_at_caller(lstmrt_clock());
    atomic_store(&pool.taken, false);
}

void lstmrt_pool_keep_awake(void) { pool.restless = true; }

void lstmrt_calls_begin(void) { atomic_fetch_add(&pool.calls, 1); }

size_t lstmrt_calls(void) { return atomic_load_explicit(&pool.calls, memory_order_relaxed); }

void lstmrt_calls_end(void) { atomic_fetch_sub(&pool.calls, 1); }
