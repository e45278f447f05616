/* One allocation, handed out in pieces. What is placed is placed twice: first to measure, then for real. */
#ifndef LSTMRT_ARENA_H
#define LSTMRT_ARENA_H

#include "lstmrt.h"

typedef struct {
    char *memory; /* NULL while measuring */
    size_t capacity, used; /* used is SIZE_MAX once a size has overflowed */
} lstmrt_arena;

/* Room for count things of `size` bytes, on a 64-byte boundary; NULL while measuring. */
void *lstmrt_arena_take(lstmrt_arena *arena, size_t count, size_t size);

/* Calls `place(owner)`, which takes what it needs from the arena, twice: measuring, and then in memory that suffices:
 * what there is, unzeroed, where it does. After a failure nothing is placed. */
lstmrt_status lstmrt_arena_fill(lstmrt_arena *arena, void (*place)(void *owner), void *owner);
void lstmrt_arena_free(lstmrt_arena *arena);

/* a * b and a + b, SIZE_MAX where that does not fit. */
static inline size_t lstmrt_size_product(size_t a, size_t b) { return b != 0 && a > SIZE_MAX / b ? SIZE_MAX : a * b; }
static inline size_t lstmrt_size_sum(size_t a, size_t b) { return a > SIZE_MAX - b ? SIZE_MAX : a + b; }

#endif
