/* Products with bf16 weights. See lstmrt_reduced_rows_args and lstmrt_reduced_product_args. */

#include "vec_bf16.h"

enum {
    BF16_ROWS = REDUCED_ROWS(LSTMRT_DENSE_VECTORS, BF16_PARTS, 1),
    BF16_FEW = REDUCED_ROWS(2 * LSTMRT_DENSE_VECTORS, BF16_PARTS, 1)
};

static void kernel_bf16_rows(const lstmrt_reduced_rows_args *a)
{
    const size_t pad = lstmrt_reduced_padded(a->inputs), bytes = lstmrt_reduced_row_bytes(a->inputs);
    for (size_t row = 0; row < a->rows; row++) {
        const float *x = a->x + row * a->x_stride;
        char *to = (char *)a->reduced + row * bytes;
        for (size_t i = 0; i < pad; i += VEC_WIDTH) {
            const size_t left = a->inputs > i ? a->inputs - i : 0;
            b_store(to, i, left >= VEC_WIDTH ? v_load(x + i) : v_load_n(x + i, left));
        }
    }
}

/* sum[p][v][r] in one chain each: what blocks would save is nothing beside the rounding of the weights. */
VEC_INLINE void bf16_tile(const lstmrt_reduced_product_args *a, int panels, int vectors, int rows, size_t panel, size_t row)
{
    const size_t row_bytes = lstmrt_reduced_row_bytes(a->inputs), pairs = (a->inputs + 1) / 2;
    const size_t panel_size = pairs * 2 * LSTMRT_DENSE_VECTORS * VEC_WIDTH;
    const uint16_t *weights = (const uint16_t *)a->weights + panel * panel_size;
    const char *x = (const char *)a->x + row * row_bytes;
    vf sum[VEC_REGISTERS];
    UNROLL for (int i = 0; i < panels * vectors * rows; i++) sum[i] = v_set1(0.0f);
    for (size_t pair = 0; pair < pairs; pair++) {
        vx_bf16 xs[MOST_ROWS];
        UNROLL for (int r = 0; r < rows; r++) xs[r] = b_pair(x + (size_t)r * row_bytes, pair);
        UNROLL for (int j = 0; j < panels * vectors; j++) {
            const size_t at = (pair * (size_t)vectors + (size_t)(j % vectors)) * 2 * VEC_WIDTH;
            const vw_bf16 w = b_weights(weights + (size_t)(j / vectors) * panel_size + at);
            UNROLL for (int r = 0; r < rows; r++) sum[j * rows + r] = b_dot(sum[j * rows + r], w, xs[r]);
        }
    }
    reduced_end(a, sum, (size_t)(panels * vectors), (size_t)rows, panel * LSTMRT_DENSE_VECTORS, row);
}

#define BF16_TILE_1(a, panels, rows, panel, row) bf16_tile(a, panels, 1, rows, panel, row)
#define BF16_TILE_2(a, panels, rows, panel, row) bf16_tile(a, panels, 2, rows, panel, row)
#define BF16_TILE_3(a, panels, rows, panel, row) bf16_tile(a, panels, 3, rows, panel, row)
#define BF16_TILE_4(a, panels, rows, panel, row) bf16_tile(a, panels, 4, rows, panel, row)

static void kernel_bf16_product(const lstmrt_reduced_product_args *a)
{
    REDUCED_TILES(BF16_TILE, a, BF16_FEW, BF16_ROWS)
}

/* Every turn adds 1 1 + 1 1. */
static void kernel_bf16_probe(const lstmrt_probe_fma_args *a)
{
    uint16_t ones[2 * VEC_WIDTH];
    float row[VEC_WIDTH + 1]; /* a vector of inputs, from the first or the second on */
    for (int i = 0; i < 2 * VEC_WIDTH; i++) ones[i] = 0x3f80;
    for (size_t i = 0; i < 2; i++) b_store((char *)row, i, v_set1(1.0f));
    LEAVE_IN_MEMORY(ones);
    LEAVE_IN_MEMORY(row);
    const vw_bf16 w = b_weights(ones);
    const vx_bf16 x = b_pair((const char *)row, 0);
    vf sum[REDUCED_CHAINS];
    UNROLL for (int i = 0; i < REDUCED_CHAINS; i++) sum[i] = v_set1(0.0f);
    for (size_t turn = 0; turn < a->turns; turn++)
        UNROLL for (int i = 0; i < REDUCED_CHAINS; i++) sum[i] = b_dot(sum[i], w, x);
    UNROLL for (int i = 1; i < REDUCED_CHAINS; i++) sum[0] = v_add(sum[0], sum[i]);
    *a->sum = v_reduce_add(sum[0]);
    *a->operations = 2 * a->turns * REDUCED_CHAINS * 2 * VEC_WIDTH;
}

const lstmrt_reduced_kernels LSTMRT_TABLE(bf16, VEC_ISA) = {
    .group = 2,
    .rows = kernel_bf16_rows,
    .product = kernel_bf16_product,
    .probe = kernel_bf16_probe,
};
