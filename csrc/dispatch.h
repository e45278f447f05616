/* The instruction sets this build has, and the choice among them. */
#ifndef LSTMRT_DISPATCH_H
#define LSTMRT_DISPATCH_H

#include "kernels.h"
#include "lstmrt.h"

/* A set without kernels of its own for a precision has those of the set it extends. */
typedef struct {
    const char *name;
    bool (*supported)(void);
    const lstmrt_kernels *f32;
    const lstmrt_reduced_kernels *int8, *bf16;
    const lstmrt_reduced_kernels *bytes; /* of weights that are bytes in a program of any precision */
} lstmrt_isa;

/* The set called `name`, or for NULL the fastest this CPU runs.
 * UNKNOWN_ISA: this build has no such set; UNSUPPORTED_ISA: this CPU cannot run it. */
lstmrt_status lstmrt_isa_find(const char *name, const lstmrt_isa **isa);

/* Whether this CPU runs the code for AMX, and gets from it what VNNI gets: tried once a process, as few machines that
 * lstmrt is made on have AMX. */
bool lstmrt_amx_works(void);
/* The second half of that. */
bool lstmrt_amx_agrees(void);

/* The name of the slowest set with the same kernels for this precision. */
const char *lstmrt_isa_shown(const lstmrt_isa *isa, lstmrt_precision precision);

#endif
