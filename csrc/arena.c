#include "arena.h"

#include "os.h"

void *lstmrt_arena_take(lstmrt_arena *arena, size_t count, size_t size)
{
    const size_t offset = arena->used;
    const size_t padded = lstmrt_size_sum(lstmrt_size_product(count, size), LSTMRT_ALIGNMENT - 1);
    arena->used = padded == SIZE_MAX ? SIZE_MAX : lstmrt_size_sum(offset, padded & ~(size_t)(LSTMRT_ALIGNMENT - 1));
    return arena->memory ? arena->memory + offset : NULL;
}

/* Starts over with at least arena->used bytes. */
static lstmrt_status open_measured(lstmrt_arena *arena)
{
    const size_t needed = arena->used;
    if (needed > PTRDIFF_MAX) return LSTMRT_OUT_OF_MEMORY;
    if (needed > arena->capacity || !arena->memory) {
        lstmrt_arena_free(arena);
        arena->memory = lstmrt_allocate(needed);
        if (!arena->memory) return LSTMRT_OUT_OF_MEMORY;
        arena->capacity = needed;
    }
    arena->used = 0;
    return LSTMRT_OK;
}

lstmrt_status lstmrt_arena_fill(lstmrt_arena *arena, void (*place)(void *owner), void *owner)
{
    char *const memory = arena->memory;
    arena->memory = NULL;
    arena->used = 0;
    place(owner);
    arena->memory = memory;
    const lstmrt_status status = open_measured(arena);
    if (!status) place(owner);
    return status;
}

void lstmrt_arena_free(lstmrt_arena *arena)
{
    lstmrt_release(arena->memory);
    *arena = (lstmrt_arena){0};
}
