/* Products with bf16 weights. See lstmrt_reduced_rows_args and lstmrt_reduced_product_args. */

#include "vec_bf16.h"

enum {
    BF16_MAX_ROWS = VEC_REGISTERS >= 32 ? 6 : 2,
    BF16_SUMS = LSTMRT_DENSE_VECTORS * BF16_MAX_ROWS, /* as many as any tile has */
    BF16_PAIRS = LSTMRT_BLOCK / 2
};

static void kernel_bf16_rows(const lstmrt_reduced_rows_args *a)
{
    const size_t pad = lstmrt_reduced_padded(a->inputs), bytes = lstmrt_reduced_row_bytes(a->inputs);
    for (size_t row = 0; row < a->rows; row++) {
        const float *x = a->x + row * a->x_stride;
        char *to = (char *)a->reduced + row * bytes;
        for (size_t i = 0; i < pad; i += VEC_WIDTH) {
            const size_t left = a->inputs > i ? a->inputs - i : 0;
            b_split(to, pad, i, left >= VEC_WIDTH ? v_load(x + i) : v_load_n(x + i, left));
        }
    }
}

static __attribute__((noinline)) void bf16_end(const lstmrt_reduced_product_args *a, const vf *total, size_t vectors,
                                               size_t rows, size_t vector, size_t row)
{
    for (size_t v = 0; v < vectors; v++, vector++) {
        const size_t at = vector / a->gates * a->pitch + vector % a->gates * VEC_WIDTH;
        for (size_t r = 0; r < rows; r++) {
            const vf z = v_add(v_load(a->init + (row + r) * a->init_stride + at), total[v * rows + r]);
            v_store(a->y + (row + r) * a->y_stride + at, v_activate(a->activation, v_clip(a->clip, z)));
        }
    }
}

/* Adds to total[p][v][r] the sum over pairs [begin, end) of inputs, one block; panels, vectors, rows and whole are
 * constants where this is called. */
VEC_INLINE void bf16_block(int panels, int vectors, int rows, bool whole, const uint16_t *weights, size_t panel_size,
                           const char *x, size_t row_bytes, size_t pad, size_t begin, size_t end, vf *total)
{
    vf sum[BF16_SUMS];
    UNROLL for (int i = 0; i < panels * vectors * rows; i++) sum[i] = v_set1(0.0f);
    for (size_t pair = begin; pair < end; pair++) {
        vx_bf16 xs[BF16_MAX_ROWS];
        UNROLL for (int r = 0; r < rows; r++) xs[r] = b_pair(x + (size_t)r * row_bytes, pad, pair);
        UNROLL for (int p = 0; p < panels; p++)
            UNROLL for (int v = 0; v < vectors; v++) {
                const size_t at = (pair * (size_t)vectors + (size_t)v) * 2 * VEC_WIDTH;
                const vw_bf16 w = b_weights(weights + (size_t)p * panel_size + at);
                UNROLL for (int r = 0; r < rows; r++) {
                    const int i = (p * vectors + v) * rows + r;
                    sum[i] = b_dot(sum[i], w, xs[r], whole);
                }
            }
    }
    UNROLL for (int i = 0; i < panels * vectors * rows; i++) total[i] = v_add(total[i], sum[i]);
}

VEC_INLINE void bf16_tile(const lstmrt_reduced_product_args *a, int panels, int vectors, int rows, bool whole, size_t panel,
                          size_t row)
{
    const size_t pad = lstmrt_reduced_padded(a->inputs), row_bytes = lstmrt_reduced_row_bytes(a->inputs);
    const size_t pairs = (a->inputs + 1) / 2, panel_size = pairs * 2 * LSTMRT_DENSE_VECTORS * VEC_WIDTH;
    vf total[BF16_SUMS];
    UNROLL for (int i = 0; i < panels * vectors * rows; i++) total[i] = v_set1(0.0f);
    for (size_t begin = 0; begin < pairs; begin += BF16_PAIRS)
        bf16_block(panels, vectors, rows, whole, (const uint16_t *)a->weights + panel * panel_size, panel_size,
                   (const char *)a->x + row * row_bytes, row_bytes, pad, begin,
                   pairs - begin < BF16_PAIRS ? pairs : begin + BF16_PAIRS, total);
    bf16_end(a, total, (size_t)(panels * vectors), (size_t)rows, panel * LSTMRT_DENSE_VECTORS, row);
}

#define BF16_WHOLE(a, panels, vectors, rows, panel, row) bf16_tile(a, panels, vectors, rows, true, panel, row)
#define BF16_ROUNDED(a, panels, vectors, rows, panel, row) bf16_tile(a, panels, vectors, rows, false, panel, row)

static void kernel_bf16_product(const lstmrt_reduced_product_args *a)
{
    if (a->whole || BF16_ALWAYS_WHOLE) {
        REDUCED_TILES(BF16_WHOLE, a, BF16_MAX_ROWS)
    } else {
        REDUCED_TILES(BF16_ROUNDED, a, BF16_MAX_ROWS)
    }
}

const lstmrt_reduced_kernels LSTMRT_TABLE(bf16, VEC_ISA) = {
    .group = 2,
    .rows = kernel_bf16_rows,
    .product = kernel_bf16_product,
};
