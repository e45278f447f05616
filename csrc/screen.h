/* Greedy choice from a large output layer with a quarter of the bytes: whole-number rows bound every output, and the few
 * that can still be the largest are computed exactly. The index is that of computing all and taking argmax, always;
 * docs/NUMERICS.md has the proof. */
#ifndef LSTMRT_SCREEN_H
#define LSTMRT_SCREEN_H

#include "reduced.h"
#include "program.h"

/* Memory of one caller, and how its last choice went. */
typedef struct {
    lstmrt_arena arena;
    float *y;        /* the outputs: bounded ones, and those computed exactly */
    void *quantized; /* the row that comes in */
    uint32_t *left;  /* vectors of outputs that can still be the largest */
    size_t n_left;   /* SIZE_MAX: the screen was skipped, or left too many */
    const lstmrt_screen *screen;
} lstmrt_screen_scratch;

/* Whether choosing from a layer's outputs is faster with a screen, and one is possible: a large enough dense layer without
 * an activation. */
bool lstmrt_screen_fits(const lstmrt_isa *isa, const lstmrt_layer *layer);

lstmrt_status lstmrt_screen_new(const lstmrt_isa *isa, const lstmrt_layer *layer, lstmrt_screen **screen);
void lstmrt_screen_free(lstmrt_screen *screen);

/* Closing a scratch of zeros does nothing. */
lstmrt_status lstmrt_screen_open(const lstmrt_screen *screen, lstmrt_screen_scratch *scratch);
void lstmrt_screen_close(lstmrt_screen_scratch *scratch);

/* The argmax of the layer's outputs for the row x. The caller has flushed denormals. */
size_t lstmrt_screen_argmax(lstmrt_screen_scratch *scratch, const float *x);

#endif
