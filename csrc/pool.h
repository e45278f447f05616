/* Threads that share the work of one call.
 *
 * A call opens a *region*: the pool's threads wake up, and spin between the *sections* that the call then runs, each of
 * them one job cut into parts. Part 0 is the caller's; part p is thread p's, the same one in every section, so that it
 * finds its slice of the weights in its own cache. A thread that is not there in time (still waking up, or off its
 * core) loses its part to the caller, so that a section waits only for work that is under way; where a thread loses its
 * core in the midst of that, the pool rests for a while. There is one pool in a process and one region at a time: a
 * caller that finds it open works alone. Results do not depend on who did what.
 */
#ifndef LSTMRT_POOL_H
#define LSTMRT_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LSTMRT_MOST_THREADS = 64 };

/* Does part `part` of `parts`. */
typedef void lstmrt_job(const void *argument, size_t part, size_t parts);

/* Opens a region for up to `wanted` threads, the caller among them; says how many there may be: 1 where the pool is
 * taken, and then nothing is to be closed. Threads are made when they are first wanted, and sleep between regions. */
size_t lstmrt_pool_open(size_t wanted);
void lstmrt_pool_close(void);

/* One section of the open region, by the caller that opened it: job(argument, part, parts) for every part, all done
 * when it returns; fewer, larger parts where the pool rests. A single part is the caller's, in no region too. */
void lstmrt_pool_run(lstmrt_job *job, const void *argument, size_t parts);

/* For a part that cannot go on before others have done something: waits until `holds(argument)`. Where that takes far longer
 * than `longest`, what the part itself took for the like, others have the cores: part 0, the caller's, waits on and the pool
 * rests; other parts are told false, and should return. */
typedef bool lstmrt_condition(const void *argument);
bool lstmrt_pool_await(lstmrt_condition *holds, const void *argument, size_t part, int64_t longest);

/* Whether it does now; to be asked inside a region. */
bool lstmrt_pool_rests(void);
/* It never will: for tests, which are about what threads share however busy the machine is. Before the first region. */
void lstmrt_pool_keep_awake(void);

/* Whether the cores of a caller and of the threads were far from each other when last measured, less than a second ago: at the
 * end of a region. */
bool lstmrt_pool_is_far(void);

/* Calls under way in this process, counted by the two below. */
void lstmrt_calls_begin(void);
size_t lstmrt_calls(void);
void lstmrt_calls_end(void);

#endif
