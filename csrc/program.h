/* What a model is made of. A step of a program becomes a *layer*: checked, its weights packed. A *workspace* holds
 * the values of one run; a *state* the h and c of every recurrent layer.
 *
 * A layer kind is two functions: prepare checks a step and packs its weights, run computes its outputs in a
 * workspace. They are listed by operator in layers.c.
 */
#ifndef LSTMRT_PROGRAM_H
#define LSTMRT_PROGRAM_H

#include <stdatomic.h>

#include "arena.h"
#include "os.h"
#include "pool.h"
#include "reduced.h"

/* Rows of input parts computed at once: few enough to stay near, enough for the weights to serve many. A multiple
 * of the rows of every kernel's tiles. */
enum { LSTMRT_HOISTED_ROWS = 48 };

/* Time steps of one sequence whose input parts are computed while as many others run: both have room among those rows. */
enum { LSTMRT_AHEAD_STEPS = 16 };

/* Rows of an attention whose scores are there at once: a multiple of the rows of the kernels' tiles. */
enum { LSTMRT_SCORED_ROWS = 12 };

/* Rows from which on it pays to lay keys out in panels, and threads that share an attention at most. */
enum { LSTMRT_MANY_QUERIES = 8, LSTMRT_MOST_SCORERS = 8 };

/* Rows of a convolution whose windows are there at once, and threads that share one at most. */
enum { LSTMRT_WINDOW_ROWS = 48, LSTMRT_MOST_WINDOWS = 8 };

typedef struct lstmrt_layer lstmrt_layer;
typedef struct lstmrt_gather_run lstmrt_gather_run; /* see gather.c */
typedef struct lstmrt_workspace lstmrt_workspace;
typedef struct lstmrt_recurrence lstmrt_recurrence; /* recurrent.h */

/* h and c before and after a step, rows `stride` floats apart; started says which rows have had a valid step. Layers that
 * run at once advance theirs: cells share no cache line. */
typedef struct {
    _Alignas(LSTMRT_ALIGNMENT) float *h, *c, *h_next, *c_next;
    uint8_t *started;
    size_t stride;
} lstmrt_cell;

/* Rows of a cell that are advanced together, and where their states go. */
typedef struct {
    float *gates; /* their input parts, which reduced weights' products are added to; stride 0: one row for all */
    const float *h, *c;
    float *h_next, *c_next;
    float *z, *reset_h; /* between the halves of a GRU */
    size_t gates_stride, stride, rows;
    size_t inputs; /* of h that products run over: none where all of h is zero */
    const lstmrt_ahead *ahead; /* what a single row takes along, or NULL */
} lstmrt_cell_rows;

/* Advances rows of a cell, the units of `panels`, by one step. */
typedef void lstmrt_cell_step(const lstmrt_layer *layer, const lstmrt_workspace *workspace, const lstmrt_cell_rows *rows,
                              lstmrt_panels panels);

struct lstmrt_layer {
    lstmrt_step step; /* without its weights */
    size_t inputs;    /* width of x; MATMUL: of b */
    size_t width;     /* width of y; hidden units of a recurrent layer; floats of a row of its states */
    size_t places;    /* of an image, a row of states: each has `filters` of them, `pitch` apart; 1 where it is none */
    size_t filters, pitch;
    size_t h_inputs;  /* of h that go into a place: the width, or a window */
    /* dense: y = x W + bias; recurrent: gates = x W + bias, gates side by side for each vector of units */
    float *x_weights, *x_bias;
    lstmrt_reduced_matrix x_reduced; /* in place of x_weights, where the model's precision is reduced, or `dynamic` */
    bool dynamic; /* weights are bytes, and what they are multiplied with is quantized in each call */
    size_t gate_vectors; /* vectors in a row of gates */
    size_t rest_vectors; /* LSTM: of those, how many the last panel has, where its gates share them; else 0 */
    size_t x_panels, h_panels; /* panels of x_weights and of h_weights, or of the reduced ones; see gru.c */
    size_t gates_stride; /* floats between rows of gates, and of the table */
    float *table;        /* vocabulary rows: of an embedding, or of gates */
    void *reduced_table; /* an embedding's, in place of `table`: int8_t or bf16 */
    float *table_scales; /* int8: one for each row */
    size_t vocabulary;
    float *h_weights;           /* recurrent weights; of z and r alone in a GRU without linear_before_reset */
    float *h_candidate_weights; /* that GRU's gate h */
    lstmrt_reduced_matrix h_reduced, h_candidate_reduced; /* in place of these two; of every GRU z and r, and h */
    float *h_bias;              /* GRU with linear_before_reset: Rb of gate h */
    float *peepholes;
    float *row;    /* ADD ... DIV: the constant row; LAYER_NORM: scale, then shift; ATTENTION: the column */
    lstmrt_gather_run *runs;
    size_t n_runs;
    lstmrt_windows h_windows; /* CONV_LSTM */
    size_t cell;   /* recurrent: its place among the states' cells */
    bool skips_zeros;     /* recurrent: products with an h of zeros can be left out, as no weight makes them NaN */
    bool goes_ahead;      /* recurrent: steps of a single row compute input parts of later ones (ahead.c) */
    bool pairs_with_next; /* recurrent, and so is the next layer, which reads nothing of this one: both may run at once */
    size_t stack; /* recurrent: layers from this one on that can run as a wave (wave.c), or 0 */
    lstmrt_cell_step *phases[2]; /* recurrent: one step; the second, or NULL, needs all panels of the first */
};

struct lstmrt_state {
    const lstmrt_model *model;
    size_t batch;
    lstmrt_cell *cells; /* one for each recurrent layer */
    lstmrt_arena arena;
};

/* Where a value is in a run: rows `stride` elements apart. */
typedef struct {
    void *data;
    size_t stride;
} lstmrt_slot;

struct lstmrt_workspace {
    const lstmrt_model *model;
    size_t batch, time, source;
    size_t threads; /* that share this call's work, 1 where it has no region of the pool */
    size_t distance; /* between their cores, as a factor of what depends on it; see share.c */
    bool backward;  /* the next sweep over the weights; see lstmrt_panels */
    size_t moved;   /* a step takes the state of row r + moved to row r */
    size_t begun;   /* the last rows, whose state before a step is zero */
    lstmrt_slot *slots; /* one for each value */
    lstmrt_arena arena;
    float *x_rows;      /* inputs of a few time steps, time first or as lstmrt_ahead has them */
    float *gates;       /* their input parts */
    lstmrt_ahead_place *ahead_next; /* for each panel of a recurrent layer */
    float *z, *reset_h; /* between the halves of a GRU */
    float *scores;      /* of LSTMRT_SCORED_ROWS rows with the steps of a sequence, `scores_stride` apart, for each scorer */
    size_t scores_stride, scorers;
    float *key_panels;  /* of a sequence's keys */
    float *windows;     /* LSTMRT_WINDOW_ROWS rows of a convolution, and of their gates, for each thread that shares it */
    size_t window_floats, window_sharers; /* of a thread's */
    void *reduced_rows; /* what reduced weights are multiplied with: `most_rows` rows, their scales and zeros */
    float *reduced_scales;
    int32_t *reduced_zeros;
    lstmrt_quantum *quanta; /* of x, one for each sequence: a dynamic layer's; row r of what is multiplied next has number */
    size_t n_quanta;        /* r % n_quanta, or with none one of its own */
    size_t most_rows;
    lstmrt_state *state;     /* what recurrent layers read and advance: `own`, or the caller's */
    lstmrt_state own;
    lstmrt_workspace *beside; /* for layers that run at the same time: the same values, each scratch of its own */
    lstmrt_slot *part_slots;  /* where a wave's layer finds parts of its values */
    lstmrt_recurrence *runs;  /* one for each recurrent layer: those of a wave */
    lstmrt_workspace *next;   /* in the model's list of idle ones */
};

typedef struct lstmrt_screen lstmrt_screen; /* screen.h */

struct lstmrt_model {
    const lstmrt_isa *isa;
    const lstmrt_kernels *kernels; /* isa->f32 */
    lstmrt_precision precision;
    lstmrt_value *values;
    size_t n_values;
    lstmrt_layer *layers;
    size_t n_layers, n_cells;
    int32_t *inputs, *outputs;
    size_t n_inputs, n_outputs;
    bool steppable;
    bool dynamic;   /* a layer is */
    size_t threads; /* at most in a call; 0: as many as there are idle processors */
    size_t processors;
    size_t weights; /* floats that a time step of one row streams */
    size_t attended[LSTMRT_ACROSS_SOURCE + 1]; /* and of each step that attentions look at, by whose steps they are */
    size_t cache;    /* floats that a core's own one holds */
    size_t n_beside; /* layers that may run beside another */
    bool sweeps;    /* back and forth: the weights do not fit into a core's cache */
    _Atomic(lstmrt_workspace *) last; /* idle: the one that was last given back, or NULL */
    /* Under the lock; all else is fixed once the model is made. */
    lstmrt_workspace *idle; /* others */
    lstmrt_screen *screen; /* of the output layer, made by the first decoder that wants it */
};

/* layers.c */
lstmrt_status lstmrt_layer_prepare(const lstmrt_model *model, const lstmrt_step *step, lstmrt_layer *layer);
lstmrt_status lstmrt_layer_run(const lstmrt_layer *layer, lstmrt_workspace *workspace);
void lstmrt_layer_free(lstmrt_layer *layer);
bool lstmrt_layer_steppable(const lstmrt_layer *layer);
bool lstmrt_op_recurrent(lstmrt_op op);
bool lstmrt_op_has_states(lstmrt_op op); /* these, and recurrent ones of images */
bool lstmrt_op_mixes_time(lstmrt_op op);
bool lstmrt_op_rowwise(lstmrt_op op);
/* Floats that a time step of the layer streams, for any number of rows. */
size_t lstmrt_layer_weights(const lstmrt_model *model, const lstmrt_layer *layer);
/* Floats that it multiplies in one, where so many rows go in, and so many states. */
size_t lstmrt_layer_products(const lstmrt_model *model, const lstmrt_layer *layer, size_t x_rows, size_t h_rows);

/* The value named by inputs[i] or outputs[i] of a step, or NULL where it is absent. */
static inline const lstmrt_value *lstmrt_input(const lstmrt_model *model, const lstmrt_step *step, size_t i)
{
    return step->inputs[i] < 0 ? NULL : &model->values[step->inputs[i]];
}

static inline const lstmrt_value *lstmrt_output(const lstmrt_model *model, const lstmrt_step *step, size_t i)
{
    return step->outputs[i] < 0 ? NULL : &model->values[step->outputs[i]];
}

static inline const lstmrt_slot *lstmrt_input_slot(const lstmrt_layer *layer, const lstmrt_workspace *workspace, size_t i)
{
    return layer->step.inputs[i] < 0 ? NULL : &workspace->slots[layer->step.inputs[i]];
}

static inline const lstmrt_slot *lstmrt_output_slot(const lstmrt_layer *layer, const lstmrt_workspace *workspace, size_t i)
{
    return layer->step.outputs[i] < 0 ? NULL : &workspace->slots[layer->step.outputs[i]];
}

/* Whether a value is there and is of this kind; rows < 0: any rows, width 0: any width. */
bool lstmrt_value_is(const lstmrt_value *value, lstmrt_dtype dtype, int rows, size_t width);
bool lstmrt_weight_is(const lstmrt_weight *weight, size_t rows, size_t cols);
bool lstmrt_bytes_are(const lstmrt_weight *weight, size_t rows, size_t cols);

/* Whether it has a row for each time step of each sequence. */
static inline bool lstmrt_over_time(const lstmrt_value *value)
{
    return value && (value->rows == LSTMRT_ROWS_BATCH_TIME || value->rows == LSTMRT_ROWS_TIME_BATCH);
}

static inline size_t lstmrt_item_size(lstmrt_dtype dtype)
{
    return dtype == LSTMRT_F32 ? sizeof(float) : dtype == LSTMRT_I64 ? sizeof(int64_t) : sizeof(uint8_t);
}

/* How many rows of a value a sequence has in a workspace, how many there are in all, and the width of one; the row of
 * (time t, sequence b). */
static inline size_t lstmrt_length_of(const lstmrt_value *value, const lstmrt_workspace *workspace)
{
    switch (value->rows) {
    case LSTMRT_ROWS_ONE:
    case LSTMRT_ROWS_BATCH: return 1;
    case LSTMRT_ROWS_BATCH_SOURCE: return workspace->source;
    default: return workspace->time;
    }
}

static inline size_t lstmrt_rows_of(const lstmrt_value *value, const lstmrt_workspace *workspace)
{
    return value->rows == LSTMRT_ROWS_ONE ? 1 : lstmrt_size_product(workspace->batch, lstmrt_length_of(value, workspace));
}

static inline size_t lstmrt_width_of(const lstmrt_value *value, const lstmrt_workspace *workspace)
{
    const lstmrt_across across = value->across;
    const size_t length = across == LSTMRT_ACROSS_TIME ? workspace->time : across == LSTMRT_ACROSS_SOURCE ? workspace->source : 1;
    return lstmrt_size_product(value->width, length);
}

static inline size_t lstmrt_row_at(const lstmrt_value *value, const lstmrt_workspace *workspace, size_t t, size_t b)
{
    switch (value->rows) {
    case LSTMRT_ROWS_BATCH_TIME: return b * workspace->time + t;
    case LSTMRT_ROWS_TIME_BATCH: return t * workspace->batch + b;
    case LSTMRT_ROWS_BATCH_SOURCE: return b * workspace->source + t;
    case LSTMRT_ROWS_ONE: return 0;
    default: return b;
    }
}

/* The rows of sequence b of a value of floats, `stride` floats apart. */
typedef struct {
    float *first;
    size_t stride, count;
} lstmrt_rows_view;

lstmrt_rows_view lstmrt_sequence(const lstmrt_value *value, const lstmrt_slot *slot, const lstmrt_workspace *workspace,
                                 size_t b);

/* Of whose steps an attention's keys are. */
lstmrt_across lstmrt_attention_across(const lstmrt_model *model, const lstmrt_step *step);

/* Windows of an image, `pitch` floats from place to place: number `at` to `to`, channels side by side. */
bool lstmrt_windows_sound(const lstmrt_windows *windows);
size_t lstmrt_windows_size(const uint32_t *along); /* of all axes */
void lstmrt_windows_take(const lstmrt_windows *windows, const float *image, size_t pitch, size_t channels, size_t at, float *to);
/* Floats that a thread needs for rows of a layer's windows and of their gates. */
size_t lstmrt_conv_lstm_scratch(const lstmrt_layer *layer);

/* Layer kinds: dense.c, conv_lstm.c, gather.c, flat.c, rows.c, normalize.c, recurrent.c, pooling.c, attention.c. */
typedef lstmrt_status lstmrt_prepare(const lstmrt_model *model, const lstmrt_step *step, lstmrt_layer *layer);
typedef lstmrt_status lstmrt_run_layer(const lstmrt_layer *layer, lstmrt_workspace *workspace);
lstmrt_prepare lstmrt_dense_prepare, lstmrt_conv_prepare, lstmrt_gather_prepare, lstmrt_embedding_prepare,
    lstmrt_reshape_prepare, lstmrt_where_prepare, lstmrt_matmul_prepare, lstmrt_topk_prepare,
    lstmrt_recurrent_prepare, lstmrt_conv_lstm_prepare, lstmrt_rowwise_prepare, lstmrt_softmax_prepare,
    lstmrt_combine_prepare, lstmrt_layer_norm_prepare, lstmrt_concat_prepare, lstmrt_columns_prepare,
    lstmrt_time_prepare, lstmrt_not_equal_prepare, lstmrt_cast_prepare, lstmrt_time_softmax_prepare,
    lstmrt_pooling_prepare, lstmrt_attention_prepare;
lstmrt_run_layer lstmrt_dense_run, lstmrt_conv_run, lstmrt_gather_compute, lstmrt_embedding_run, lstmrt_recurrent_run,
    lstmrt_conv_lstm_run, lstmrt_reshape_run, lstmrt_where_run, lstmrt_matmul_run, lstmrt_topk_run,
    lstmrt_activate_run, lstmrt_softmax_run,
    lstmrt_combine_run, lstmrt_layer_norm_run, lstmrt_concat_run, lstmrt_columns_run, lstmrt_time_run,
    lstmrt_not_equal_run, lstmrt_cast_run, lstmrt_time_softmax_run, lstmrt_pooling_run, lstmrt_attention_run;

/* Cells: lstm.c, gru.c, rnn.c. pack_recurrent packs R, B and P, and chooses what computes a step. */
typedef struct {
    int gates[4]; /* ONNX's order, which is also the packed one */
    size_t n_gates;
    lstmrt_status (*pack_recurrent)(const lstmrt_model *model, const lstmrt_step *step, lstmrt_layer *layer);
} lstmrt_cell_kind;

extern const lstmrt_cell_kind lstmrt_lstm_kind, lstmrt_gru_kind, lstmrt_rnn_kind;

/* y = rows of x through the layer's x_weights, x_bias and, if it is no recurrent layer, its activation; by the call's
 * threads together. */
void lstmrt_dense_share(const lstmrt_workspace *workspace, const lstmrt_layer *layer, const float *x, size_t x_stride,
                        size_t rows, float *y, size_t y_stride);
size_t lstmrt_dense_panels(size_t vectors);

/* Where row `id` of the layer's float32 table is; the other copies it, of any precision. Negative ids count from the end. */
lstmrt_status lstmrt_table_row(const lstmrt_layer *layer, int64_t id, float **at);
lstmrt_status lstmrt_table_lookup(const lstmrt_model *model, const lstmrt_layer *layer, int64_t id, size_t width,
                                  float *to);

/* ahead.c: input parts of at most LSTMRT_AHEAD_STEPS time steps to come, computed by as many before them. */
bool lstmrt_ahead_pays(const lstmrt_model *model, const lstmrt_layer *layer);
/* What steps take along as lstmrt_cell_rows.ahead: input parts of time steps [begin, begin + steps), to rows of `gates`. */
lstmrt_ahead lstmrt_ahead_begin(const lstmrt_layer *layer, lstmrt_workspace *workspace, size_t begin, size_t steps,
                                float *gates);
/* Computes what they have left of it. */
void lstmrt_ahead_finish(const lstmrt_layer *layer, const lstmrt_workspace *workspace, const lstmrt_ahead *ahead);

/* reduced.c */

/* Packs a matrix as lstmrt_pack_matrix does, or reduces it, as the model's precision says; one of bytes as it is. */
lstmrt_status lstmrt_pack_weights(const lstmrt_model *model, const lstmrt_weight *weight, size_t inputs, size_t k_stride,
                                  size_t j_stride, const lstmrt_columns *columns, size_t panel_vectors, float **packed,
                                  lstmrt_reduced_matrix *reduced);
/* As many floats as these weights take. */
size_t lstmrt_reduced_floats(const lstmrt_model *model, const lstmrt_layer *layer, size_t weights);
/* Takes up to workspace->most_rows rows of x, to be multiplied by the next ones; by one thread. For bytes row r has quantum
 * r % n_quanta of the workspace's or, with none, one of its own. */
void lstmrt_reduced_take(const lstmrt_workspace *workspace, const lstmrt_reduced_matrix *matrix, const float *x,
                         size_t stride, size_t rows, size_t n_quanta);
/* What the dense kernel does, but with the rows that were taken. */
void lstmrt_reduced_dense(const lstmrt_workspace *workspace, const lstmrt_reduced_matrix *matrix,
                          const lstmrt_dense_args *args);
/* Adds their recurrent parts to gates [first, first + n) of `all`; `panels` are those of the matrix. */
void lstmrt_reduced_add_gates(const lstmrt_workspace *workspace, const lstmrt_reduced_matrix *matrix,
                              const lstmrt_cell_rows *rows, size_t first, size_t n,
                              size_t all, lstmrt_panels panels);
lstmrt_status lstmrt_reduce_table(const lstmrt_model *model, const lstmrt_weight *table, lstmrt_layer *layer);
void lstmrt_reduced_lookup(const lstmrt_model *model, const lstmrt_layer *layer, size_t row, float *to);

/* share.c: work that the threads of a call share. */

/* Panels [0, count) of a layer, or the part of them that is `part` of `parts`. */
lstmrt_panels lstmrt_panels_part(size_t count, size_t part, size_t parts, bool backward);
/* How many parts the work of `weights` floats, each for `rows` rows, is worth; job(argument, part, parts) for every one. */
size_t lstmrt_parts(const lstmrt_workspace *workspace, size_t weights, size_t rows);
void lstmrt_share(const lstmrt_workspace *workspace, size_t weights, size_t rows, lstmrt_job *job, const void *argument);
/* A call that runs the workspace so many times begins and ends: it gets threads if they save more than waking them costs. */
void lstmrt_call_begin(lstmrt_workspace *workspace, size_t runs);
void lstmrt_call_end(lstmrt_workspace *workspace);
/* Whether the states of a recurrent layer are zeros before a run. */
bool lstmrt_starts_from_zero(const lstmrt_workspace *workspace, const lstmrt_layer *layer);
/* What all time steps of a layer cost one thread, or all of the workspace's that share each of them. */
size_t lstmrt_cost_alone(const lstmrt_workspace *workspace, const lstmrt_layer *layer);
size_t lstmrt_cost_shared(const lstmrt_workspace *workspace, const lstmrt_layer *layer);
/* And what so many floats cost a thread that has not made them. */
size_t lstmrt_cost_exchanged(const lstmrt_workspace *workspace, size_t floats);

/* state.c */
lstmrt_status lstmrt_state_open(lstmrt_state *state, const lstmrt_model *model, size_t batch);
void lstmrt_state_close(lstmrt_state *state);
void lstmrt_state_reset_row(lstmrt_state *state, size_t row);
void lstmrt_state_move_row(lstmrt_state *state, size_t from, size_t to);

/* workspace.c */
lstmrt_status lstmrt_workspace_new(const lstmrt_model *model, lstmrt_workspace **workspace);
void lstmrt_workspace_free(lstmrt_workspace *workspace);
/* Gives every value that a step makes its place for these lengths; allocates only where it needs more than ever. */
lstmrt_status lstmrt_workspace_shape(lstmrt_workspace *workspace, size_t batch, size_t time, size_t source);
/* Runs layers [begin, end) from workspace->state. The caller has flushed denormals. */
lstmrt_status lstmrt_workspace_run(lstmrt_workspace *workspace, size_t begin, size_t end);
/* For threads that run layers of one call at once, one in each workspace: the caller's, without other threads to share
 * work with, and number i of those beside it. */
lstmrt_workspace lstmrt_workspace_alone(const lstmrt_workspace *workspace);
lstmrt_workspace *lstmrt_workspace_beside(const lstmrt_workspace *workspace, size_t i);

/* wave.c */
void lstmrt_wave_find(lstmrt_model *model);
/* How many of the `n` layers from `first` on should run at once, and what they cost then; 0 where that would take longer than
 * one after the other. The other runs them. */
size_t lstmrt_wave_length(const lstmrt_workspace *workspace, const lstmrt_layer *first, size_t n, size_t *cost);
size_t lstmrt_wave_run(lstmrt_workspace *workspace, const lstmrt_layer *first, size_t n, lstmrt_status *status);

#endif
