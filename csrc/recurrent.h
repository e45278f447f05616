/* A run of a recurrent layer, block by block of time steps, so that others can run between the blocks. */
#ifndef LSTMRT_RECURRENT_H
#define LSTMRT_RECURRENT_H

#include "program.h"

/* What says which time steps count. */
typedef struct {
    const lstmrt_workspace *workspace;
    const int64_t *lengths;
    const uint8_t *mask;
    const lstmrt_value *mask_value;
    size_t mask_stride;
} lstmrt_validity;

struct lstmrt_recurrence {
    _Alignas(LSTMRT_ALIGNMENT) const lstmrt_layer *layer; /* as those that run at once share no cache line */
    lstmrt_workspace *workspace;
    lstmrt_cell *cell;
    lstmrt_validity validity;
    size_t steps; /* in all */
    size_t begun; /* as many of the last rows have an h of zeros */
    size_t done;  /* time steps, in the order they run in */
    lstmrt_ahead ahead; /* the input parts of the next block, while its rows are not 0 */
};

/* Whether the states, mask and outputs of a step go together with its x, which fits; rows of states have `width` elements. */
bool lstmrt_states_fit(const lstmrt_model *model, const lstmrt_step *step, size_t width);
bool lstmrt_all_finite(const lstmrt_weight *weight);
/* Vectors of an LSTM's last panel, where its gates share them; else 0. */
size_t lstmrt_rest_vectors(size_t hidden, size_t width);

/* The most time steps that a block can have. */
size_t lstmrt_recurrence_most(const lstmrt_workspace *workspace);
/* Checks lengths and takes the initial states. */
lstmrt_status lstmrt_recurrence_begin(const lstmrt_layer *layer, lstmrt_workspace *workspace, lstmrt_recurrence *run);
/* Runs the next `steps` time steps. `next` steps of the block after them may be prepared meanwhile: their inputs must be
 * there, and neither block may have more than LSTMRT_AHEAD_STEPS. 0: none. */
lstmrt_status lstmrt_recurrence_block(lstmrt_recurrence *run, size_t steps, size_t next);
/* One time step: whether states change in it, all of their rows, and what follows when these have (NULL: none has). */
bool lstmrt_recurrence_moves(const lstmrt_recurrence *run, size_t t);
lstmrt_cell_rows lstmrt_recurrence_rows(const lstmrt_recurrence *run);
void lstmrt_recurrence_settle(lstmrt_recurrence *run, size_t t, const lstmrt_cell_rows *rows);
/* Gives the last states, once all time steps are done. */
void lstmrt_recurrence_finish(const lstmrt_recurrence *run);

#endif
