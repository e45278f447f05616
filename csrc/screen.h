/* Greedy choice from a large output layer with a quarter of the bytes: whole-number rows bound every output, and the few
 * that can still be the largest are computed exactly. The index is that of computing all and taking argmax, always;
 * docs/NUMERICS.md has the proof. Several rows share each weight that is read, and threads the panels of weights. */
#ifndef LSTMRT_SCREEN_H
#define LSTMRT_SCREEN_H

#include "reduced.h"
#include "program.h"

/* A row that is chosen for. Of every output |exact - y| <= slope norm + slack. */
typedef struct {
    float norm, slack;
    bool bounded;   /* false: nothing can be said of this row */
    float *y;       /* the outputs: bounded ones, and those computed exactly */
    uint32_t *left; /* vectors of outputs that can still be the largest */
    size_t n_left;  /* SIZE_MAX: it is not bounded, or too many are left */
} lstmrt_screen_row;

/* Memory of one caller, and how its last choices went. */
typedef struct {
    lstmrt_arena arena;
    lstmrt_screen_row *rows; /* `most` of them, looked at together */
    float *y;
    void *quantized; /* the rows that come in, and their scales */
    float *scales;
    uint32_t *left;
    size_t most;
    size_t *best, n_best;
    const lstmrt_screen *screen;
} lstmrt_screen_scratch;

/* Whether choosing from a layer's outputs is faster with a screen, and one is possible: a large enough dense layer without
 * an activation. */
bool lstmrt_screen_fits(const lstmrt_isa *isa, const lstmrt_layer *layer);

lstmrt_status lstmrt_screen_new(const lstmrt_isa *isa, const lstmrt_layer *layer, lstmrt_screen **screen);
void lstmrt_screen_free(lstmrt_screen *screen);

/* For up to `rows` rows. Closing a scratch of zeros does nothing. */
lstmrt_status lstmrt_screen_open(const lstmrt_screen *screen, size_t rows, lstmrt_screen_scratch *scratch);
void lstmrt_screen_close(lstmrt_screen_scratch *scratch);

/* The argmax of the layer's outputs for each of `rows` rows of x, in the scratch; by the threads that the workspace's call
 * has. The caller has flushed denormals. */
const size_t *lstmrt_screen_argmax(lstmrt_screen_scratch *scratch, const lstmrt_workspace *workspace, const float *x,
                                   size_t x_stride, size_t rows);

#endif
