/* What differs between operating systems and CPUs: memory, a lock, a clock, the floating-point state. */
#ifndef LSTMRT_OS_H
#define LSTMRT_OS_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

enum { LSTMRT_ALIGNMENT = 64 };

/* `size` zeroed bytes on a 64-byte boundary, or NULL. Size 0 gives a pointer that is not NULL and holds nothing. */
void *lstmrt_allocate(size_t size);
/* Zeroed room for `count` things of `size` bytes; NULL too where the product does not fit a size_t. */
void *lstmrt_allocate_array(size_t count, size_t size);
void lstmrt_release(void *memory); /* NULL is allowed */

/* For tests only, and not while another thread allocates: every allocation goes through `allocate`, which gives
 * `size` bytes (not zero, and a multiple of 64) on a 64-byte boundary or NULL; NULL, NULL restores the system's. */
typedef void *(*lstmrt_allocate_function)(size_t size);
typedef void (*lstmrt_release_function)(void *memory);
void lstmrt_set_allocator(lstmrt_allocate_function allocate, lstmrt_release_function release);

/* The process's one lock, of what changes in models, for a few instructions each time. A child of fork finds it free,
 * whatever the parent's other threads were doing. */
void lstmrt_lock(void);
void lstmrt_unlock(void);

/* Processors that this process may run on; bytes of a core's second-level cache, 1 MiB where the system does not say. */
size_t lstmrt_cpu_count(void);
size_t lstmrt_cache_size(void);

/* The processor that the calling thread is on, -1 where the system does not say. */
int lstmrt_cpu_here(void);
/* Lets a thread run on all processors that the calling thread may run on but this one, where there are others. */
void lstmrt_thread_keep_off(pthread_t thread, int cpu);

/* Nanoseconds since some fixed moment; never goes backwards. */
int64_t lstmrt_clock(void);
/* Nanoseconds that the calling thread has had a processor. */
int64_t lstmrt_thread_clock(void);

/* The calling thread's floating-point state. Flushing makes denormals zero, as operands and as results, where the
 * CPU can (x86, AArch64), and puts rounding to nearest and masks exceptions; restore the state before returning. */
typedef uint64_t lstmrt_fp_state;

lstmrt_fp_state lstmrt_fp_flush_denormals(void);
void lstmrt_fp_restore(lstmrt_fp_state state);

#endif
