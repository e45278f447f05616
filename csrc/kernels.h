/* The table of kernels that each instruction set exports, and the arguments that kernels take.
 *
 * Strides and widths count floats. A *vector* is `width` floats of the table. Matrices with weights are packed into
 * *panels*: a panel holds, for k = 0..inputs-1, the weights of input k for a few vectors of outputs side by side, so
 * that a kernel reads memory once, front to back. Rows of results are padded to whole vectors: kernels write the
 * padding too, and no kernel reads another's padding. Every sum over k runs in blocks of LSTMRT_BLOCK, block sums
 * added in order, whatever the number of rows: a row's bits do not depend on its neighbours.
 */
#ifndef LSTMRT_KERNELS_H
#define LSTMRT_KERNELS_H

#include "lstmrt.h"

enum {
    LSTMRT_BLOCK = 32,       /* terms summed in one chain: near sqrt(inputs), where the rounding error is least */
    LSTMRT_PAD = 16,         /* rows are padded to this many floats: the widest vector, and a cache line */
    LSTMRT_AHEAD_ROWS = 8,   /* of an item of work ahead: as many as the multiply-adds that a step leaves unused */
    LSTMRT_DENSE_VECTORS = 4 /* vectors in a panel of a dense matrix; its last panel may have fewer */
};

/* Which panels a call computes: begin <= panel < end, the last ones first where `backward`. Threads share a layer by its
 * panels; sweeps back and forth find the weights that were read last still in the cache. */
typedef struct {
    size_t begin, end;
    bool backward;
} lstmrt_panels;

/* Work ahead: y = init + x W, the input parts of later time steps, which steps of a single row compute while they wait for
 * weights (kernels_ahead.h), where a table `takes_ahead`. The vectors are dealt out to the panels of a step's matrix, and items
 * of those that a panel has are taken in their order whenever a step computes it. */
typedef struct {
    size_t vector, input, row; /* where the next item begins */
    size_t end;                /* the vector behind the panel's last one */
} lstmrt_ahead_place;

typedef struct {
    const float *x;           /* LSTMRT_AHEAD_ROWS rows at a time: inputs x rows */
    const float *init;        /* one row, the bias, for all */
    const float *weights;     /* panels of LSTMRT_DENSE_VECTORS vectors */
    float *y;                 /* rows x vectors */
    lstmrt_ahead_place *next; /* for each panel */
    size_t y_stride;
    size_t rows, inputs, vectors; /* rows: a multiple of LSTMRT_AHEAD_ROWS; inputs > 0 */
} lstmrt_ahead;

/* Computes what steps have left to do for these panels. */
typedef struct {
    const lstmrt_ahead *ahead;
    lstmrt_panels panels;
} lstmrt_ahead_rest_args;

/* y = activation(clip(init + x W)): also the plain RNN's step, and every input part. */
typedef struct {
    const float *x;       /* rows x inputs */
    const float *init;    /* rows x vectors; stride 0: one row, the bias, for all */
    const float *weights; /* panels of LSTMRT_DENSE_VECTORS vectors */
    float *y;             /* rows x vectors */
    size_t x_stride, init_stride, y_stride;
    size_t rows, inputs, vectors; /* `vectors` are a whole row's; the last panel has what is left of them */
    lstmrt_panels panels;
    const lstmrt_ahead *ahead; /* or NULL */
    float clip; /* INFINITY: none */
    lstmrt_activation activation;
} lstmrt_dense_args;

/* In the steps of cells `inputs` says over how many of h's elements the product with R runs: all of them, or none, where
 * the product is in `gates` already, as another kernel has computed it. */

/* One step of `rows` LSTM cells; panels of 4 vectors (i, o, f, c) for each vector of hidden units. A last panel of so few
 * units that two or all four gates fit into a vector side by side, each in its half or quarter, has `rest_vectors`.
 *   i = f(Zi + Pi C)   f = f(Zf + Pf C)   C' = f C + i g(Zc)   o = f(Zo + Po C')   h' = o h(C')
 * where f and g clip their input (h does not, as in onnxruntime), and Z = gates + h R^T. */
typedef struct {
    const float *gates;     /* rows x panels x [i o f c], the last like R's: bias + input part */
    const float *weights;   /* R */
    const float *peepholes; /* panels x [i o f], or NULL */
    const float *h, *c;     /* rows x inputs, rows x hidden, stride `stride` like the next two */
    float *h_next, *c_next;
    size_t gates_stride, h_stride, stride;
    size_t rows, inputs;
    lstmrt_panels panels;
    const lstmrt_ahead *ahead; /* or NULL */
    size_t rest_panel, rest_vectors; /* the last panel and its vectors, 1 or 2; 0: it is like the others */
    float clip;
    bool input_forget; /* f = 1 - i */
    lstmrt_activation f, g, activation_h;
} lstmrt_lstm_args;

/* One step of `rows` GRU cells with linear_before_reset; panels of 3 vectors (z, r, h).
 *   z = f(Zz)   r = f(Zr)   n = g(Gh + r (h Rh^T + bias))   h' = (1 - z) n + z h */
typedef struct {
    const float *gates;   /* rows x panels x [z r h] */
    const float *weights; /* R */
    const float *bias;    /* Rb of gate h; bias_stride 0: one row for all */
    const float *h;
    float *h_next;
    size_t gates_stride, bias_stride, stride;
    size_t rows, inputs;
    lstmrt_panels panels;
    const lstmrt_ahead *ahead; /* or NULL */
    float clip;
    lstmrt_activation f, g;
} lstmrt_gru_args;

/* The same step without linear_before_reset, first half: z and r h; panels of 2 vectors (z, r). */
typedef struct {
    const float *gates;   /* rows x panels x [z r h] */
    const float *weights; /* R of z and r */
    const float *h;
    float *z, *reset_h;
    size_t gates_stride, stride;
    size_t rows, inputs;
    lstmrt_panels panels;
    const lstmrt_ahead *ahead; /* or NULL */
    float clip;
    lstmrt_activation f;
} lstmrt_gru_gates_args;

/* The second half: n = g(Gh + (r h) Rh^T), h' = (1 - z) n + z h; panels of 1 vector. */
typedef struct {
    const float *gates;   /* rows x panels x [z r h] */
    const float *weights; /* R of h */
    const float *h, *z, *reset_h;
    float *h_next;
    size_t gates_stride, stride;
    size_t rows, inputs;
    lstmrt_panels panels;
    const lstmrt_ahead *ahead; /* or NULL */
    float clip;
    lstmrt_activation g;
} lstmrt_gru_candidate_args;

/* y = activation(x), row by row; x may be y. */
typedef struct {
    const float *x;
    float *y;
    size_t x_stride, y_stride, rows, width;
    lstmrt_activation activation;
} lstmrt_activate_args;

/* y = a (op) b; b_stride 0: one row for all; y may be a or b. op is LSTMRT_OP_ADD, SUB, MUL, DIV, MAX or LESS. */
typedef struct {
    const float *a, *b;
    float *y;
    size_t a_stride, b_stride, y_stride, rows, width;
    lstmrt_op op;
    bool b_single; /* rows of b have one element, for all of a row of a */
} lstmrt_combine_args;

/* y = e^(x - max x) / sum, over each row, or the logarithm of that; x may be y. */
typedef struct {
    const float *x;
    float *y;
    size_t x_stride, y_stride, rows, width;
    bool log;
} lstmrt_softmax_args;

/* y[r][s] = scale (q[r] . k[s]) or, with a column, scale times the sum of column tanh(q[r] + k[s]). Each lane of a vector
 * is a sum of its own, in blocks of LSTMRT_BLOCK vectors. Panels have these sums in vectors of their own, and no column. */
typedef struct {
    const float *q;      /* rows x width */
    const float *k;      /* steps x width */
    const float *panels; /* k once more, a vector of keys side by side for each of its columns; or NULL */
    const float *column; /* (width), or NULL */
    float *y;            /* rows x steps */
    size_t q_stride, k_stride, y_stride;
    size_t rows, steps, width;
    float scale;
} lstmrt_scores_args;

/* y[r] = sum of w[r][s] x[s] over s */
typedef struct {
    const float *w; /* rows x steps */
    const float *x; /* steps x width */
    float *y;       /* rows x width */
    size_t w_stride, x_stride, y_stride;
    size_t rows, steps, width;
} lstmrt_mix_args;

/* *index = NumPy's argmax: the first NaN if there is one, else the lowest index of the largest. width > 0. */
typedef struct {
    const float *x;
    size_t width;
    size_t *index;
} lstmrt_argmax_args;

/* For benchmarks. *sum = the sum of x, `passes` times; width is a multiple of 256. */
typedef struct {
    const float *x;
    size_t width, passes;
    float *sum;
} lstmrt_probe_read_args;

/* For benchmarks: `turns` times as many multiply-adds as keep the core busy; *operations counts both halves of each. */
typedef struct {
    size_t turns;
    float *sum;
    size_t *operations;
} lstmrt_probe_fma_args;

/* Of outputs that may be as far from y as slopes norm + slack: the largest lower bound (-INFINITY where there is none),
 * and the first vector that has it. */
typedef struct {
    const float *y, *slopes; /* vectors */
    float norm, slack;
    size_t vectors;
    float *largest;
    size_t *vector;
} lstmrt_screen_lower_args;

/* The first `most` vectors with an output whose upper bound is not below the threshold. */
typedef struct {
    const float *y, *slopes; /* vectors */
    float norm, slack, threshold;
    size_t vectors, most;
    uint32_t *left;
    size_t *n;
} lstmrt_screen_left_args;

/* One vector of y = init + x W, with the bits of the dense kernel. */
typedef struct {
    const float *x;
    const float *init;
    const float *weights; /* of input 0 */
    float *y;
    size_t pitch, inputs; /* floats between the weights of one input and the next */
} lstmrt_dense_vector_args;

/* ---- products with reduced weights ----
 *
 * int8: a weight is scale q, q in [-127, 127], with one scale for each output; a row x of floats is scale x^, whole
 * numbers x^ in [-LSTMRT_INT8_LARGEST, LSTMRT_INT8_LARGEST] with one scale for each row. Sums of q x^ over a block of
 * LSTMRT_INT8_BLOCK inputs are exact, so that they are the same on every instruction set.
 * bf16: weights are the upper halves of floats, rounded to nearest, and so are rows where an instruction multiplies bf16
 * with bf16; sums are floats, each one chain.
 * bytes: a weight is scale (q - zero), q a signed byte, as a model's file has it; a row is scale (x^ - zero), x^ in
 * [0, LSTMRT_BYTES_LARGEST], with a quantum of its own or one that is given. Sums over all inputs are exact. */
enum {
    LSTMRT_INT8_LARGEST = 8191,
    LSTMRT_INT8_BLOCK = 2048, /* 127 * 8191 * 2048 < 2^31 */
    LSTMRT_BYTES_LARGEST = 255,
    LSTMRT_BYTES_INPUTS = 1 << 15 /* at most: 255 * 255 * 2^15 < 2^31 */
};

/* What unsigned bytes x^ stand for: scale (x^ - zero). */
typedef struct {
    float scale;
    int32_t zero;
} lstmrt_quantum;

/* The quantum of numbers in [low, high], low <= 0 <= high: that of ONNX's DynamicQuantizeLinear. Its scale is NaN where the
 * range is not finite. */
static inline lstmrt_quantum lstmrt_quantum_of(float low, float high)
{
    const float round = 0x1.8p23f, range = high - low; /* a float plus `round` is rounded to a whole number */
    if (!(range <= 0x1.fffffep127f)) return (lstmrt_quantum){range - range, 0};
    const float scale = range / LSTMRT_BYTES_LARGEST;
    if (!(scale > 0.0f)) return (lstmrt_quantum){1.0f, 0};
    const float zero = -low / scale, most = LSTMRT_BYTES_LARGEST;
    return (lstmrt_quantum){scale, (int32_t)((zero < most ? zero : most) + round - round)};
}

/* *quantum = that of all of x, zero included. bytes alone. */
typedef struct {
    const float *x; /* rows x inputs */
    lstmrt_quantum *quantum;
    size_t x_stride, rows, inputs;
} lstmrt_reduced_range_args;

#define LSTMRT_INT8_SMALLEST 0x1p-100f /* rows with no larger element are zeros */

/* Inputs that a row is padded to, with zeros, and the bytes it then takes in the form that products read: an odd number of
 * cache lines, lest several rows that are read at once fight for the same places of a cache. */
static inline size_t lstmrt_reduced_padded(size_t inputs) { return (inputs + 15) & ~(size_t)15; }
static inline size_t lstmrt_reduced_row_bytes(size_t inputs) { return 4 * lstmrt_reduced_padded(inputs) | 64; }

/* Rows in the form that products read. int8, bytes: x = scale x^ within scale / 2; a row with a NaN or an infinity gets the
 * scale NaN. bf16 has no scales. */
typedef struct {
    const float *x; /* rows x inputs */
    void *reduced;  /* rows, lstmrt_reduced_row_bytes(inputs) apart */
    float *scales;  /* one for each row */
    size_t x_stride, rows, inputs;
    int32_t *zeros; /* bytes: one for each row */
    const lstmrt_quantum *quanta; /* bytes: row r has number r % n_quanta; with none each row has its own */
    size_t n_quanta;
} lstmrt_reduced_rows_args;

/* y = activation(clip(init + x W)). Vector v of a row of init and of y stands at (v / gates) pitch + (v % gates) vectors. */
typedef struct {
    const void *x; /* rows of the same table */
    const float *x_scales;
    const void *weights; /* panels of LSTMRT_DENSE_VECTORS vectors, each with the weights of `group` inputs at a time */
    const float *scales; /* int8, bytes: one for each output, by vectors; bf16: NULL */
    const int32_t *x_zeros, *sums; /* bytes: of rows; of each output's weights, by vectors */
    int32_t zero;                  /* bytes: of weights */
    const float *init;   /* init_stride 0: one row for all */
    float *y;
    size_t init_stride, y_stride;
    size_t rows, inputs, vectors;
    size_t gates, pitch;
    lstmrt_panels panels;
    float clip;
    lstmrt_activation activation;
} lstmrt_reduced_product_args;

/* The name of the tables of one kind for the instruction set `isa`. */
#define LSTMRT_TABLE_(kind, isa) lstmrt_##kind##_##isa
#define LSTMRT_TABLE(kind, isa) LSTMRT_TABLE_(kind, isa)

typedef struct {
    const char *name;
    size_t width;     /* floats in a vector */
    bool takes_ahead; /* whether steps compute what they are given as `ahead`; else they leave it */
#define X(kernel) void (*kernel)(const lstmrt_##kernel##_args *);
#include "kernels.def"
#undef X
} lstmrt_kernels;

extern const lstmrt_kernels lstmrt_kernels_scalar, lstmrt_kernels_neon, lstmrt_kernels_avx2, lstmrt_kernels_avx512;

typedef struct {
    size_t group; /* inputs whose weights stand side by side for each output */
    int offset;   /* int8: added to each weight */
    void (*range)(const lstmrt_reduced_range_args *); /* bytes alone */
    void (*rows)(const lstmrt_reduced_rows_args *);
    void (*product)(const lstmrt_reduced_product_args *);
    void (*probe)(const lstmrt_probe_fma_args *); /* its own products in place of float32's */
} lstmrt_reduced_kernels;

extern const lstmrt_reduced_kernels lstmrt_int8_scalar, lstmrt_int8_neon, lstmrt_int8_neon_dot, lstmrt_int8_avx2,
    lstmrt_int8_avx512, lstmrt_int8_avx512_vnni, lstmrt_int8_amx;
extern const lstmrt_reduced_kernels lstmrt_bytes_scalar, lstmrt_bytes_neon, lstmrt_bytes_avx2, lstmrt_bytes_avx512,
    lstmrt_bytes_avx512_vnni;
extern const lstmrt_reduced_kernels lstmrt_bf16_scalar, lstmrt_bf16_neon, lstmrt_bf16_avx2, lstmrt_bf16_avx512,
    lstmrt_bf16_avx512_bf16;

#endif
