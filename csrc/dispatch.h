/* The kernel tables this build has, and the choice among them. */
#ifndef LSTMRT_DISPATCH_H
#define LSTMRT_DISPATCH_H

#include "kernels.h"
#include "lstmrt.h"

/* The table called `name`, or for NULL the fastest this CPU runs.
 * UNKNOWN_ISA: this build has no such table; UNSUPPORTED_ISA: this CPU cannot run it. */
lstmrt_status lstmrt_kernels_find(const char *name, const lstmrt_kernels **kernels);

#endif
