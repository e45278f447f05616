/* What the decoders of one text and of several share. Layers up to the last recurrent one are the *body* of a program, those
 * after it its *head*. */
#ifndef LSTMRT_DECODE_H
#define LSTMRT_DECODE_H

#include "program.h"
#include "sample.h"
#include "screen.h"

typedef struct {
    size_t head_begin; /* the first layer of the head */
    size_t head_end;   /* after its last: a final softmax, which changes no order, is left out */
    int32_t logits;    /* the value that is chosen from */
} lstmrt_decode_plan;

/* Whether a model can be decoded in a mode with these options. */
lstmrt_status lstmrt_decode_check(const lstmrt_model *model, const lstmrt_decode_options *options);
lstmrt_decode_plan lstmrt_decode_plan_of(const lstmrt_model *model);

/* Copies a row of each value that the head reads from the body's workspace to a row of the head's. */
void lstmrt_cross(const lstmrt_decode_plan *plan, const lstmrt_workspace *body, size_t body_row,
                  const lstmrt_workspace *head, size_t head_row);

/* Opens a scratch for greedy choice for up to `rows` rows through the model's screen where the output layer is large enough
 * for one and the last of the head; else it stays one of zeros, whose `screen` is NULL. */
lstmrt_status lstmrt_decode_open_screen(lstmrt_model *model, const lstmrt_decode_plan *plan, size_t rows,
                                        lstmrt_screen_scratch *scratch);

/* One text's way of choosing its next id, and what ends it. */
typedef struct {
    const lstmrt_kernels *kernels;
    lstmrt_sampler sampler;
    bool plain; /* argmax of the logits as they are: a screen will do */
    int64_t *ending;
    size_t n_ending;
} lstmrt_chooser;

/* Close it also after a failure; closing a chooser of zeros does nothing. */
lstmrt_status lstmrt_chooser_open(lstmrt_chooser *chooser, const lstmrt_model *model, const lstmrt_decode_plan *plan,
                                  const lstmrt_decode_options *options);
void lstmrt_chooser_close(lstmrt_chooser *chooser);
int64_t lstmrt_chooser_choose(lstmrt_chooser *chooser, const float *logits);
bool lstmrt_chooser_ends(const lstmrt_chooser *chooser, int64_t id);

#endif
