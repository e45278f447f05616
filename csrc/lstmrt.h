/* lstmrt: fused LSTM, GRU and RNN inference. The one public header.
 *
 * A model is an immutable program of steps with packed weights; any number of threads may run it at once.
 * A state or a decoder belongs to one caller. No function prints, exits or aborts; each says how it went
 * by its status, and after any status but LSTMRT_OK its outputs are unspecified and nothing is leaked.
 * All arrays are dense and row-major; weights are in ONNX's layouts and gate orders (LSTM i,o,f,c; GRU z,r,h).
 */
#ifndef LSTMRT_H
#define LSTMRT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum {
#define X(name, text) LSTMRT_##name,
#include "status.def"
#undef X
    LSTMRT_STATUS_COUNT
} lstmrt_status;

const char *lstmrt_status_text(lstmrt_status status);

/* ---- precisions and instruction sets ---- */

/* Of weights; states and sums are floats in each. */
typedef enum { LSTMRT_PRECISION_F32, LSTMRT_PRECISION_BF16, LSTMRT_PRECISION_INT8 } lstmrt_precision;

/* Name of the i-th instruction set with kernels of its own for a precision, slowest first, or NULL past the last; whether
 * this CPU and its OS run it. */
const char *lstmrt_isa_name(lstmrt_precision precision, size_t i, bool *supported);

/* ---- what this machine can do: the limits that benchmarks are held against ---- */

/* Bytes a second that the calling thread's core reads of `bytes` of memory again and again, and operations a second of its
 * multiply-adds for weights of a precision, with instruction set `isa` (NULL: the best): the best of the pieces of
 * `budget` nanoseconds. int8 counts products of single bytes, where the set has them: rows of two take twice as many. */
lstmrt_status lstmrt_probe_read(const char *isa, size_t bytes, int64_t budget, double *rate);
lstmrt_status lstmrt_probe_fma(const char *isa, lstmrt_precision precision, int64_t budget, double *rate);

/* ---- programs ---- */

typedef enum { LSTMRT_F32, LSTMRT_I64, LSTMRT_BOOL } lstmrt_dtype;

/* Which rows a value has, outermost axis first. Source is the time of another sequence, of a length of its own. ONE is a single
 * row, whatever the batch. */
typedef enum {
    LSTMRT_ROWS_BATCH,
    LSTMRT_ROWS_BATCH_TIME,
    LSTMRT_ROWS_TIME_BATCH,
    LSTMRT_ROWS_BATCH_SOURCE,
    LSTMRT_ROWS_ONE
} lstmrt_rows;

/* What the width of a value is multiplied by: 1, or the length of a sequence. */
typedef enum { LSTMRT_ACROSS_NOTHING, LSTMRT_ACROSS_TIME, LSTMRT_ACROSS_SOURCE } lstmrt_across;

/* A value is a matrix rows x width; width is 1 for the ids and masks of most steps. Only an output can go across a sequence. */
typedef struct {
    lstmrt_dtype dtype;
    lstmrt_rows rows;
    uint32_t width;
    lstmrt_across across;
} lstmrt_value;

/* X(name, formula): ONNX's activation functions, then Keras's further ones. a = alpha, b = beta. */
#define LSTMRT_ACTIVATIONS(X)                                   \
    X(IDENTITY, "x")                                            \
    X(SIGMOID, "1 / (1 + e^-x)")                                \
    X(TANH, "tanh x")                                           \
    X(RELU, "max(0, x)")                                        \
    X(AFFINE, "a x + b")                                        \
    X(LEAKY_RELU, "x if x >= 0 else a x")                       \
    X(THRESHOLDED_RELU, "x if x > a else 0")                    \
    X(SCALED_TANH, "a tanh(b x)")                               \
    X(HARD_SIGMOID, "min(1, max(0, a x + b))")                  \
    X(ELU, "x if x >= 0 else a (e^x - 1)")                      \
    X(SELU, "b x if x > 0 else b a (e^x - 1)")                  \
    X(SOFTSIGN, "x / (1 + |x|)")                                \
    X(SOFTPLUS, "log(1 + e^x)")                                 \
    X(EXP, "e^x")                                               \
    X(SWISH, "x / (1 + e^-x)")                                  \
    X(GELU, "x / 2 (1 + erf(x / sqrt 2))")                      \
    X(GELU_TANH, "x / 2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))") \
    X(SQRT, "sqrt x")                                           \
    X(LOG, "log x")                                             \
    X(ERF, "erf x")                                             \
    X(MISH, "x tanh(log(1 + e^x))")                             \
    X(CLIP, "min(b, max(a, x))")

typedef enum {
#define X(name, formula) LSTMRT_##name,
    LSTMRT_ACTIVATIONS(X)
#undef X
    LSTMRT_ACTIVATION_COUNT
} lstmrt_function;

typedef struct {
    lstmrt_function function;
    float alpha, beta;
} lstmrt_activation;

/* X(name, inputs, outputs, weights). Inputs and outputs in parentheses may be left out (-1), weights too (NULL). */
#define LSTMRT_OPS(X)                                                                                         \
    X(DENSE, "x", "y", "W (inputs, width), (b (width))")          /* y = activation(x W + b) */               \
    X(CONV, "x", "y", "W (inputs, filters), (b (filters))")       /* y = activation(part W + b) */            \
    X(EMBEDDING, "ids", "y", "table (vocabulary, part)")          /* a part for each id; negative ids count from the end */ \
    X(LSTM, "x, (lengths), (h0), (c0), (mask)", "(y), (h), (c)",                                              \
      "W (4 hidden, inputs), R (4 hidden, hidden), (B (8 hidden)), (P (3 hidden)), (table)")                  \
    X(GRU, "x, (lengths), (h0), -, (mask)", "(y), (h)", "W (3 hidden, inputs), R, (B), -, (table)")           \
    X(RNN, "x, (lengths), (h0), -, (mask)", "(y), (h)", "W (hidden, inputs), R, (B), -, (table)")             \
    X(CONV_LSTM, "x, -, (h0), (c0), (mask)", "(y), (h), (c)",                                                 \
      "W (4 filters, window of x), R (4 filters, window of h), (B (4 filters))")                              \
    X(ACTIVATE, "x", "y", "")                                                                                 \
    X(SOFTMAX, "x", "y", "")                                      /* over each row, or `constant` elements of it */ \
    X(LOG_SOFTMAX, "x", "y", "")                                  /* the logarithms of these */               \
    X(ADD, "a, (b)", "y", "(row (width))")                        /* see LSTMRT_OP_ADD below */               \
    X(SUB, "a, (b)", "y", "(row (width))")                                                                    \
    X(MUL, "a, (b)", "y", "(row (width))")                                                                    \
    X(DIV, "a, (b)", "y", "(row (width))")                                                                    \
    X(MAX, "a, (b)", "y", "(row (width))")                        /* either where one is a NaN */             \
    X(LESS, "a, (b)", "y", "(row (width))")                       /* 1 where a < b, else 0 */                 \
    X(LAYER_NORM, "x", "y", "scale (part), (shift (part))")       /* over each part of a row, see epsilon */  \
    X(CONCAT, "a, b, ...", "y", "")                               /* side by side */                          \
    X(COLUMNS, "x", "y", "")                                      /* the width of y from column `constant` */ \
    X(GATHER, "a, b, ...", "y", "")                               /* elements of these, or ids, see indices */ \
    X(RESHAPE, "x", "y", "")                                      /* the same elements in other rows */       \
    X(WHERE, "mask, (a), (b)", "y", "(a (width)), (b (width))")   /* a where the mask is not 0, else b */     \
    X(MATMUL, "a, (b)", "y", "(row)")                             /* matrices in rows, `constant` within */   \
    X(TOPK, "x", "values, places", "")                            /* the largest of `constant` elements, in order */ \
    X(FIRST, "x", "y", "")                                        /* the row at time 0 */                     \
    X(LAST, "x", "y", "")                                         /* the row at time T-1 */                   \
    X(REVERSE, "x", "y", "")                                      /* time runs backwards */                   \
    X(SWAP, "x", "y", "")                                         /* batch x time <-> time x batch */         \
    X(NOT_EQUAL, "ids", "mask", "")                               /* ids != constant */                       \
    X(CAST, "mask or ids", "y", "")                               /* 1 where the mask is set, else 0 */       \
    X(TIME_SOFTMAX, "x", "y", "")                                 /* of each column of a sequence */          \
    X(TIME_SUM, "x, (weights)", "y", "")                          /* of rows, each times its weight */        \
    X(TIME_MEAN, "x", "y", "")                                                                                \
    X(TIME_MAX, "x", "y", "")                                                                                 \
    X(ATTENTION, "q, k, v, (q mask), (k mask)", "y, (weights)", "(column (width / heads))")

typedef enum {
#define X(name, inputs, outputs, weights) LSTMRT_OP_##name,
    LSTMRT_OPS(X)
#undef X
    LSTMRT_OP_COUNT
} lstmrt_op;

/* W and R of an LSTM may be bytes instead of floats, both of them: then x and h are rounded to bytes, with one scale and zero
 * point for all that a call gives of a sequence of x (its time steps before its length), and for each h: ONNX Runtime's
 * DynamicQuantizeLSTM, each sequence by itself. So may W of a dense layer, then as (width, inputs). */
typedef struct {
    const float *data; /* NULL: absent, or bytes */
    size_t rows, cols; /* a vector has rows = 1 */
    const int8_t *bytes; /* a weight is scale (byte - zero) */
    const float *scales; /* one for each row */
    int32_t zero;        /* in [-128, 127] */
} lstmrt_weight;

enum { LSTMRT_MAX_INPUTS = 8, LSTMRT_MAX_OUTPUTS = 3, LSTMRT_MAX_WEIGHTS = 5, LSTMRT_MAX_GATE_FUNCTIONS = 3, LSTMRT_IMAGE_AXES = 3 };

/* Windows over images whose elements stand side by side with those of all channels of a place. Along each axis: places of an
 * image, windows, places of a window, how far windows are apart, and places of one window, and places in front of the first,
 * which are 0, like those behind the last. An image of fewer axes has sizes of 1 in front. */
typedef struct {
    uint32_t sizes[LSTMRT_IMAGE_AXES], counts[LSTMRT_IMAGE_AXES], kernel[LSTMRT_IMAGE_AXES];
    uint32_t strides[LSTMRT_IMAGE_AXES], dilations[LSTMRT_IMAGE_AXES], before[LSTMRT_IMAGE_AXES];
} lstmrt_windows;

/* One step of a program. Values are named by their index; -1 is absent. A recurrent step whose weight 4, a table, is there
 * takes ids for x: they name rows (vocabulary, inputs) that are multiplied with W when the model is made, or, without W,
 * rows (vocabulary, gates hidden) of input parts with the biases in. Those need no B, but a GRU with linear_before_reset
 * keeps its B, of which it uses the recurrent part of gate h alone. Where x has a row for each sequence, not for each of its
 * time steps, the layer takes one step.
 *
 * The b of ADD, SUB, MUL, DIV, MAX and LESS has a's rows, or one for each sequence, and a's width, or 1; or it is a constant row.
 *
 * ATTENTION: for each row of q the softmax, over the rows of k of its sequence, of their scores; y the sum of the rows of v
 * so weighted. q and k in `constant` heads side by side, v too: each is an attention of its own. A score is scale (q . k) or,
 * with a column, scale times the sum of column tanh(q + k). It is `hidden` where a mask is not set or, if causal, where k is
 * later than q. The weights are (rows of q, heads, length of k).
 *
 * MATMUL: a row of a is some matrices (rows, constant), one after the other, a row of b, or the constant row, as many
 * (constant, columns), and one of y their products.
 *
 * TOPK: of each `constant` elements of a row as many as the outputs have room for: NaN before numbers, of equal ones the first.
 *
 * CONV_LSTM: a row of x is an image, and one of y, h and c, the states, an image of filters at the windows of x. Each place of
 * these is an LSTM whose inputs are a window of x and one, of as many places, around its own of h.
 *
 * CONV: a row of x is some parts of `inputs` elements, the windows, and a row of y what a dense layer makes of each. Filters are
 * a multiple of 16. */
typedef struct {
    lstmrt_op op;
    int32_t inputs[LSTMRT_MAX_INPUTS];
    int32_t outputs[LSTMRT_MAX_OUTPUTS];
    lstmrt_weight weights[LSTMRT_MAX_WEIGHTS];
    lstmrt_activation activations[LSTMRT_MAX_GATE_FUNCTIONS]; /* recurrent: ONNX's f, g, h; else the first one */
    float clip;              /* pre-activations are clipped to [-clip, clip]; 0: not at all */
    float epsilon;           /* LAYER_NORM: y = (x - mean) / sqrt(variance + epsilon) scale + shift */
    float scale, hidden;     /* ATTENTION */
    int64_t constant;        /* NOT_EQUAL, COLUMNS, SOFTMAX, MATMUL, TOPK; ATTENTION: heads */
    lstmrt_windows windows;  /* CONV_LSTM: of x */
    const int32_t *indices;  /* GATHER: of each element of y, in the inputs' rows put side by side; -1: 0 */
    size_t n_indices;
    bool causal;             /* ATTENTION */
    bool reverse;            /* recurrent: from the last step to the first; y stays at its time */
    bool linear_before_reset;/* GRU */
    bool input_forget;       /* LSTM: f = 1 - i */
    bool zero_masked_output; /* y at a masked step is 0; else it repeats the step before, 0 before the first valid */
} lstmrt_step;

typedef struct {
    const lstmrt_value *values;
    size_t n_values;
    const lstmrt_step *steps;
    size_t n_steps;
    const int32_t *inputs; /* values the caller gives, in the order of its buffers */
    size_t n_inputs;
    const int32_t *outputs; /* values the caller gets; each must be made by a step */
    size_t n_outputs;
    lstmrt_precision precision;
} lstmrt_program;

typedef struct lstmrt_model lstmrt_model;

/* Checks the program whole and packs its weights for the instruction set `isa` (NULL: the best one this CPU has).
 * Nothing of `program` is referred to afterwards. */
lstmrt_status lstmrt_model_new(const lstmrt_program *program, const char *isa, lstmrt_model **model);
void lstmrt_model_free(lstmrt_model *model);
const char *lstmrt_model_isa(const lstmrt_model *model);
bool lstmrt_model_steppable(const lstmrt_model *model);
/* The threads that one call may use, before the first call; 0, as it is made: as many as there are processors that no
 * other call is using. Only calls that are long enough for it use more than one. Results do not depend on it. */
void lstmrt_model_set_threads(lstmrt_model *model, size_t threads);

/* Caller's arrays, in the program's order: rows x width of float, int64_t, or one-byte bools.
 * `bytes` is checked against the shape, so that no wrong size is ever read or written. */
typedef struct {
    void *data;
    size_t bytes;
} lstmrt_buffer;

/* Runs `batch` sequences of `time` steps each; those of source rows have `source`, 1 where there are none. Thread-safe;
 * reuses the model's idle workspaces. */
lstmrt_status lstmrt_run(lstmrt_model *model, const lstmrt_buffer *inputs, const lstmrt_buffer *outputs,
                         size_t batch, size_t time, size_t source);

/* Whether such a run, or such a step, is over before another thread of the program, if it waited, would have begun. */
bool lstmrt_run_is_brief(const lstmrt_model *model, size_t batch, size_t time, size_t source);

/* ---- states: h and c of every recurrent step, for `batch` rows ---- */

typedef struct lstmrt_state lstmrt_state;

lstmrt_status lstmrt_state_new(lstmrt_model *model, size_t batch, lstmrt_state **state);
lstmrt_status lstmrt_state_copy(const lstmrt_state *state, lstmrt_state **copy);
void lstmrt_state_reset(lstmrt_state *state); /* to zero */
void lstmrt_state_free(lstmrt_state *state);

/* One time step of all rows: a run with time = 1 that starts from `state` and leaves the new one in it. */
lstmrt_status lstmrt_step_run(lstmrt_model *model, lstmrt_state *state, const lstmrt_buffer *inputs,
                              const lstmrt_buffer *outputs);

/* ---- decoding: the token loop ---- */

typedef enum {
    LSTMRT_DECODE_STATEFUL,  /* carries states; each token is one step */
    LSTMRT_DECODE_STAGGERED, /* a window from a zero state for each token, all windows advanced together */
    LSTMRT_DECODE_WINDOW,    /* runs the window again for each token */
    LSTMRT_DECODE_GROWING    /* runs the whole text again for each token */
} lstmrt_decode_mode;

/* The program must have one input of ids and one f32 output, the logits, or a softmax of them as the last step:
 * tokens are chosen by the logits. */
typedef struct {
    lstmrt_decode_mode mode;
    size_t window;     /* STAGGERED, WINDOW: tokens in a window, padded with pad_id */
    size_t max_length; /* GROWING: tokens of prompt and continuation together, at most */
    int64_t pad_id;
    bool pad_right;    /* WINDOW: padding after the text, not before it */
    bool do_sample;    /* false: greedy, and of the next five fields only repetition_penalty matters */
    uint64_t seed;
    double temperature, top_p;
    size_t top_k;      /* 0: all */
    double repetition_penalty; /* 1: none */
    const int64_t *eos_ids;
    size_t n_eos_ids;
} lstmrt_decode_options;

typedef struct lstmrt_decoder lstmrt_decoder;

/* Allocates all that decoding will need: the two calls after it allocate nothing. */
lstmrt_status lstmrt_decoder_new(lstmrt_model *model, const lstmrt_decode_options *options, lstmrt_decoder **decoder);
void lstmrt_decoder_free(lstmrt_decoder *decoder);

/* Both work until done or until about `budget` nanoseconds have passed, so that a caller can look up in between.
 * prompt: reads ids; *taken says how many, which may be 0 while padding is read. next: writes up to `n` new ids; *made
 * says how many; *ended is set when an id of eos_ids came (it is not written) or max_length is reached. */
lstmrt_status lstmrt_decoder_prompt(lstmrt_decoder *decoder, const int64_t *ids, size_t n, int64_t budget,
                                    size_t *taken);
lstmrt_status lstmrt_decoder_next(lstmrt_decoder *decoder, int64_t *ids, size_t n, int64_t budget, size_t *made,
                                  bool *ended);

/* ---- decoding several texts at once: each with the bits it would have alone ---- */

typedef struct lstmrt_batch lstmrt_batch;

/* Room for `streams` at a time. The mode of `options`, STATEFUL or STAGGERED, its window and pad_id are those of all. */
lstmrt_status lstmrt_batch_new(lstmrt_model *model, const lstmrt_decode_options *options, size_t streams,
                               lstmrt_batch **batch);
void lstmrt_batch_free(lstmrt_batch *batch);

/* Adds a stream that reads `ids`, n > 0, and makes `most_made` > 0 ids at most, chosen and ended as `options` say. *slot
 * is its number, below `streams`, until it ends or is dropped. BAD_ARGUMENT also where all slots are taken, or none is
 * called `slot`. */
lstmrt_status lstmrt_batch_add(lstmrt_batch *batch, const lstmrt_decode_options *options, const int64_t *ids, size_t n,
                               size_t most_made, size_t *slot);
lstmrt_status lstmrt_batch_drop(lstmrt_batch *batch, size_t slot);

enum { LSTMRT_ENDED = -1 };

/* A stream made `id`, or has ended: its slot is free. */
typedef struct {
    size_t slot;
    int64_t id;
} lstmrt_event;

/* All streams read or make an id a step, until there were `steps` steps in which ids were made, no stream is left,
 * `events` has no room for another step, or about `budget` nanoseconds have passed. `n`, the room, must be 2 `streams`
 * at least. Allocates nothing. After a failure the batch is good for nothing but lstmrt_batch_free. */
lstmrt_status lstmrt_batch_next(lstmrt_batch *batch, size_t steps, lstmrt_event *events, size_t n, int64_t budget,
                                size_t *made);

/* ---- choosing ids from logits that come from elsewhere ---- */

typedef struct lstmrt_picker lstmrt_picker;

/* Of `options` the fields from do_sample to repetition_penalty count. Picking allocates nothing. */
lstmrt_status lstmrt_picker_new(const lstmrt_decode_options *options, size_t vocabulary, lstmrt_picker **picker);
void lstmrt_picker_free(lstmrt_picker *picker);
void lstmrt_picker_see(lstmrt_picker *picker, int64_t id); /* the repetition penalty is for ids that were seen */
int64_t lstmrt_picker_pick(lstmrt_picker *picker, const float *logits); /* (vocabulary) */

#endif
