/* Linked into the other tests by `make emulated`: the whole core finds AMX on machines without it, and its int8 products run on
 * the tiles of tiles.h. */
#define _GNU_SOURCE /* names of registers */
#include "harness.h"

#include "cpu.h"

#if LSTMRT_AMX

#include "tiles.h"

bool __wrap_lstmrt_cpu_has_amx(void); /* the linker's name for what takes the place of lstmrt_cpu_has_amx */

bool __wrap_lstmrt_cpu_has_amx(void)
{
    if (!lstmrt_cpu_has_avx512_vnni()) return false;
    tiles_begin();
    return true;
}

static void __attribute__((destructor)) tell(void) { printf("  tile instructions emulated: %lu\n", tiles_run); }

#endif
