#define _GNU_SOURCE /* -std=c11 hides clock_gettime, posix_memalign and what Linux adds otherwise */

#include "os.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#if defined(__linux__)
#include <sched.h>
#endif

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

enum { HUGE_PAGE = 2 << 20 };

/* Weights that are streamed want few page table entries: large memory asks for huge pages, where the system has them. */
static void *system_allocate(size_t size)
{
    void *memory = NULL;
    const bool large = size >= HUGE_PAGE;
    if (posix_memalign(&memory, large ? HUGE_PAGE : LSTMRT_ALIGNMENT, size) != 0) return NULL;
#if defined(MADV_HUGEPAGE)
    if (large) (void)madvise(memory, size, MADV_HUGEPAGE);
#endif
    return memory;
}

static lstmrt_allocate_function allocate_function = system_allocate;
static lstmrt_release_function release_function = free;

void lstmrt_set_allocator(lstmrt_allocate_function allocate, lstmrt_release_function release)
{
    allocate_function = allocate ? allocate : system_allocate;
    release_function = release ? release : free;
}

void *lstmrt_allocate(size_t size)
{
    if (size > SIZE_MAX - LSTMRT_ALIGNMENT) return NULL;
    size_t rounded = (size + (size == 0) + LSTMRT_ALIGNMENT - 1) / LSTMRT_ALIGNMENT * LSTMRT_ALIGNMENT;
    void *memory = allocate_function(rounded);
    if (memory) memset(memory, 0, rounded);
    return memory;
}

void *lstmrt_allocate_array(size_t count, size_t size)
{
    if (size != 0 && count > SIZE_MAX / size) return NULL;
    return lstmrt_allocate(count * size);
}

void lstmrt_release(void *memory)
{
    if (memory) release_function(memory);
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t lock_is_ready = PTHREAD_ONCE_INIT;

/* A mutex that is unlocked by its locker alone cannot fail to lock. */
static void take_lock(void) { (void)pthread_mutex_lock(&lock); }

void lstmrt_unlock(void) { (void)pthread_mutex_unlock(&lock); }

static void hold_lock_while_forking(void) { (void)pthread_atfork(take_lock, lstmrt_unlock, lstmrt_unlock); }

void lstmrt_lock(void)
{
    (void)pthread_once(&lock_is_ready, hold_lock_while_forking);
    take_lock();
}

size_t lstmrt_cpu_count(void)
{
#if defined(__linux__)
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof allowed, &allowed) == 0) return (size_t)CPU_COUNT(&allowed);
#endif
    const long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (size_t)online : 1;
}

#if defined(__linux__)

int lstmrt_cpu_here(void) { return sched_getcpu(); }

void lstmrt_thread_keep_off(pthread_t thread, int cpu)
{
    cpu_set_t allowed;
    if (cpu < 0 || cpu >= CPU_SETSIZE || sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
    CPU_CLR(cpu, &allowed);
    if (CPU_COUNT(&allowed) > 0) (void)pthread_setaffinity_np(thread, sizeof allowed, &allowed);
}

#else

int lstmrt_cpu_here(void) { return -1; }

void lstmrt_thread_keep_off(pthread_t thread, int cpu) { (void)thread, (void)cpu; }

#endif

size_t lstmrt_cache_size(void)
{
#if defined(_SC_LEVEL2_CACHE_SIZE)
    const long bytes = sysconf(_SC_LEVEL2_CACHE_SIZE);
    if (bytes > 0) return (size_t)bytes;
#endif
    return (size_t)1 << 20;
}

static int64_t nanoseconds(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int64_t lstmrt_clock(void) { return nanoseconds(CLOCK_MONOTONIC); }

int64_t lstmrt_thread_clock(void) { return nanoseconds(CLOCK_THREAD_CPUTIME_ID); }

#if defined(__x86_64__)

enum {
    MXCSR_DENORMALS_ARE_ZERO = 1 << 6,
    MXCSR_EXCEPTIONS_MASKED = 0x3f << 7,
    MXCSR_FLUSH_TO_ZERO = 1 << 15,
};

lstmrt_fp_state lstmrt_fp_flush_denormals(void)
{
    lstmrt_fp_state state = _mm_getcsr();
    _mm_setcsr(MXCSR_DENORMALS_ARE_ZERO | MXCSR_EXCEPTIONS_MASKED | MXCSR_FLUSH_TO_ZERO);
    return state;
}

void lstmrt_fp_restore(lstmrt_fp_state state) { _mm_setcsr((unsigned)state); }

#elif defined(__aarch64__)

static const uint64_t FPCR_FLUSH_TO_ZERO = UINT64_C(1) << 24;

lstmrt_fp_state lstmrt_fp_flush_denormals(void)
{
    lstmrt_fp_state state;
    __asm__ volatile("mrs %0, fpcr" : "=r"(state));
    __asm__ volatile("msr fpcr, %0" : : "r"(FPCR_FLUSH_TO_ZERO));
    return state;
}

void lstmrt_fp_restore(lstmrt_fp_state state) { __asm__ volatile("msr fpcr, %0" : : "r"(state)); }

#else

lstmrt_fp_state lstmrt_fp_flush_denormals(void) { return 0; }

void lstmrt_fp_restore(lstmrt_fp_state state) { (void)state; }

#endif
