/* Products with weights in whole numbers. See lstmrt_reduced_rows_args and lstmrt_reduced_product_args. */

#include "vec_int8.h"

enum {
    INT8_ROWS = REDUCED_ROWS(LSTMRT_DENSE_VECTORS, INT8_HALVES, INT8_HALVES),
    INT8_FEW = REDUCED_ROWS(2 * LSTMRT_DENSE_VECTORS, INT8_HALVES, INT8_HALVES)
};

/* A float plus this holds the nearest whole number in its low bits. */
static const float INT8_ROUND = 0x1.8p23f;

/* Quantized inputs [begin, end) of a row of `inputs`; returns their sum, which is exact: a block's fits 24 bits. */
VEC_INLINE float int8_quantize_block(const float *x, size_t inputs, void *row, size_t pad, size_t begin, size_t end,
                                     vf inverse)
{
    const vf round = v_set1(INT8_ROUND);
    vf sum = v_set1(0.0f);
    for (size_t i = begin; i < end; i += VEC_WIDTH) {
        const size_t left = inputs > i ? inputs - i : 0;
        const vf v = left >= VEC_WIDTH ? v_load(x + i) : v_load_n(x + i, left);
        const vf t = v_add(v_mul(v, inverse), round);
        i_store(row, pad, i, t);
        sum = v_add(sum, v_sub(t, round));
    }
    return v_reduce_add(sum);
}

static void int8_quantize_row(const float *x, size_t inputs, char *row, float *scale)
{
    vf most = v_set1(0.0f), odd = v_set1(0.0f); /* x - x is NaN for NaN and for infinities */
    for (size_t i = 0; i < inputs; i += VEC_WIDTH) {
        const vf v = inputs - i >= VEC_WIDTH ? v_load(x + i) : v_load_n(x + i, inputs - i);
        most = v_max(most, v_abs(v));
        odd = v_add(odd, v_sub(v, v));
    }
    const float largest = v_reduce_max(most);
    const bool finite = !isnan(v_reduce_add(odd)), any = finite && largest > LSTMRT_INT8_SMALLEST;
    const vf inverse = v_set1(any ? LSTMRT_INT8_LARGEST / largest : 0.0f);
    *scale = any ? largest / LSTMRT_INT8_LARGEST : finite ? 0.0f : NAN;

    const size_t pad = lstmrt_reduced_padded(inputs);
    for (size_t begin = 0, block = 0; begin < pad; begin += LSTMRT_INT8_BLOCK, block++) {
        const size_t end = pad - begin < LSTMRT_INT8_BLOCK ? pad : begin + LSTMRT_INT8_BLOCK;
        const float sum = int8_quantize_block(x, inputs, row, pad, begin, end, inverse);
        const int32_t offset = any ? INT8_OFFSET * (int32_t)sum : 0;
        memcpy(row + 2 * pad + block * sizeof offset, &offset, sizeof offset);
    }
}

static void kernel_int8_rows(const lstmrt_reduced_rows_args *a)
{
    const size_t bytes = lstmrt_reduced_row_bytes(a->inputs);
    for (size_t row = 0; row < a->rows; row++)
        int8_quantize_row(a->x + row * a->x_stride, a->inputs, (char *)a->reduced + row * bytes, a->scales + row);
}

/* Adds to total[p][v][r] the sums over groups [begin, end) of inputs, one block; panels, vectors and rows are constants
 * where this is called. */
VEC_INLINE void int8_block(int panels, int vectors, int rows, const int8_t *weights, size_t panel_size, const char *x,
                           size_t row_bytes, size_t pad, size_t begin, size_t end, vf *total)
{
    const size_t offset_at = 2 * pad + begin / (LSTMRT_INT8_BLOCK / INT8_GROUP) * sizeof(int32_t);
    const int n = panels * vectors * rows;
    vi sum[VEC_REGISTERS]; /* of the first halves, then of the second */
    UNROLL for (int i = 0; i < INT8_HALVES * n; i++) sum[i] = i_zero();
    for (size_t group = begin; group < end; group++) {
        vi xs[INT8_HALVES * MOST_ROWS];
        UNROLL for (int i = 0; i < INT8_HALVES * rows; i++) {
            int32_t word;
            memcpy(&word, x + (size_t)(i % rows) * row_bytes + (size_t)(i / rows) * pad + group * sizeof word, sizeof word);
            xs[i] = i_set1(word);
        }
        UNROLL for (int j = 0; j < panels * vectors; j++) {
            const size_t at = (group * (size_t)vectors + (size_t)(j % vectors)) * INT8_GROUP * VEC_WIDTH;
            const vw w = i_weights(weights + (size_t)(j / vectors) * panel_size + at);
            UNROLL for (int i = 0; i < INT8_HALVES * rows; i++) {
                const int to = (i / rows) * n + j * rows + i % rows;
                sum[to] = i_dot(sum[to], w, xs[i]);
            }
        }
    }
    LEAVE_IN_MEMORY(*(vf(*)[VEC_REGISTERS])total);
    UNROLL for (int i = 0; i < n; i++) {
        int32_t offset;
        memcpy(&offset, x + (size_t)(i % rows) * row_bytes + offset_at, sizeof offset);
        total[i] = v_add(total[i], i_to_float(i_total(sum[i], sum[(INT8_HALVES - 1) * n + i], offset)));
    }
    LEAVE_IN_MEMORY(*(vf(*)[VEC_REGISTERS])total);
}

VEC_INLINE void int8_tile(const lstmrt_reduced_product_args *a, int panels, int vectors, int rows, size_t panel,
                          size_t row)
{
    enum { BLOCK = LSTMRT_INT8_BLOCK / INT8_GROUP };
    const size_t pad = lstmrt_reduced_padded(a->inputs), row_bytes = lstmrt_reduced_row_bytes(a->inputs);
    const size_t groups = (a->inputs + INT8_GROUP - 1) / INT8_GROUP;
    const size_t panel_size = groups * INT8_GROUP * LSTMRT_DENSE_VECTORS * VEC_WIDTH;
    vf total[VEC_REGISTERS];
    UNROLL for (int i = 0; i < panels * vectors * rows; i++) total[i] = v_set1(0.0f);
    for (size_t begin = 0; begin < groups; begin += BLOCK)
        int8_block(panels, vectors, rows, (const int8_t *)a->weights + panel * panel_size, panel_size,
                   (const char *)a->x + row * row_bytes, row_bytes, pad, begin,
                   groups - begin < BLOCK ? groups : begin + BLOCK, total);
    reduced_end(a, total, (size_t)(panels * vectors), (size_t)rows, panel * LSTMRT_DENSE_VECTORS, row);
}

#define INT8_TILE_1(a, panels, rows, panel, row) int8_tile(a, panels, 1, rows, panel, row)
#define INT8_TILE_2(a, panels, rows, panel, row) int8_tile(a, panels, 2, rows, panel, row)
#define INT8_TILE_3(a, panels, rows, panel, row) int8_tile(a, panels, 3, rows, panel, row)
#define INT8_TILE_4(a, panels, rows, panel, row) int8_tile(a, panels, 4, rows, panel, row)

static void kernel_int8_product(const lstmrt_reduced_product_args *a)
{
    REDUCED_TILES(INT8_TILE, a, INT8_FEW, INT8_ROWS)
}

/* Whole-number multiply-adds of one part of a row each: every other turn adds 1. */
static void kernel_int8_probe(const lstmrt_probe_fma_args *a)
{
    int8_t ones[INT8_GROUP * VEC_WIDTH];
    memset(ones, 1, sizeof ones);
    LEAVE_IN_MEMORY(ones);
    const vw w = i_weights(ones);
    vi sum[REDUCED_CHAINS];
    UNROLL for (int i = 0; i < REDUCED_CHAINS; i++) sum[i] = i_zero();
    for (size_t turn = 0; turn < a->turns; turn++) {
        const vi x = i_set1((int32_t)(turn & 1));
        UNROLL for (int i = 0; i < REDUCED_CHAINS; i++) sum[i] = i_dot(sum[i], w, x);
    }
    vf total = v_set1(0.0f);
    UNROLL for (int i = 0; i < REDUCED_CHAINS; i++) total = v_add(total, i_to_float(sum[i]));
    *a->sum = v_reduce_add(total);
    *a->operations = 2 * a->turns * REDUCED_CHAINS * INT8_GROUP * VEC_WIDTH;
}

const lstmrt_reduced_kernels LSTMRT_TABLE(int8, VEC_ISA) = {
    .group = INT8_GROUP,
    .offset = INT8_OFFSET,
    .rows = kernel_int8_rows,
    .product = kernel_int8_product,
    .probe = kernel_int8_probe,
};
