/* Products of weights that are bytes with rows that become bytes as they come. See lstmrt_reduced_kernels. */

enum {
    BYTES_ROWS = REDUCED_ROWS(LSTMRT_DENSE_VECTORS, 1, 1),
    BYTES_FEW = REDUCED_ROWS(2 * LSTMRT_DENSE_VECTORS, 1, 1)
};

static void kernel_bytes_range(const lstmrt_reduced_range_args *a)
{
    vf high = v_set1(0.0f), low = v_set1(0.0f), odd = v_set1(0.0f); /* `low` turned round; x - x is NaN where x is odd */
    for (size_t row = 0; row < a->rows; row++)
        for (size_t i = 0; i < a->inputs; i += VEC_WIDTH) {
            const float *x = a->x + row * a->x_stride + i;
            const vf v = a->inputs - i >= VEC_WIDTH ? v_load(x) : v_load_n(x, a->inputs - i);
            high = v_max(high, v);
            low = v_max(low, v_sub(v_set1(0.0f), v));
            odd = v_add(odd, v_sub(v, v));
        }
    *a->quantum = lstmrt_quantum_of(-v_reduce_max(low), v_reduce_max(high) + v_reduce_add(odd));
}

/* x^ = round(x / scale) + zero within [0, 255]; behind the row stands the sum of x^ - zero, which is exact in a float. */
static void bytes_quantize_row(const float *x, size_t inputs, char *row, lstmrt_quantum quantum)
{
    const vf round = v_set1(INT8_ROUND), scale = v_set1(quantum.scale), zero = v_set1((float)quantum.zero);
    const vf least = v_sub(v_set1(0.0f), zero), most = v_add(v_set1(LSTMRT_BYTES_LARGEST), least);
    const size_t pad = lstmrt_reduced_padded(inputs);
    vf sum = v_set1(0.0f);
    for (size_t i = 0; i < pad; i += VEC_WIDTH) {
        const size_t left = inputs > i ? inputs - i : 0;
        const vf v = left >= VEC_WIDTH ? v_load(x + i) : v_load_n(x + i, left);
        const vf whole = v_sub(v_add(v_max(least, v_min(most, v_div(v, scale))), round), round);
        i_store_bytes(row, i, v_add(v_add(whole, zero), round));
        sum = v_add(sum, whole);
    }
    const float total = v_reduce_add(sum);
    const int32_t stored = isnan(total) ? 0 : (int32_t)total;
    memcpy(row + 2 * pad, &stored, sizeof stored);
}

static void kernel_bytes_rows(const lstmrt_reduced_rows_args *a)
{
    const size_t bytes = lstmrt_reduced_row_bytes(a->inputs);
    for (size_t row = 0; row < a->rows; row++) {
        const float *x = a->x + row * a->x_stride;
        lstmrt_quantum quantum;
        if (a->n_quanta > 0)
            quantum = a->quanta[row % a->n_quanta];
        else
            kernel_bytes_range(&(lstmrt_reduced_range_args){x, &quantum, a->x_stride, 1, a->inputs});
        bytes_quantize_row(x, a->inputs, (char *)a->reduced + row * bytes, quantum);
        a->scales[row] = quantum.scale;
        a->zeros[row] = quantum.zero;
    }
}

/* y from the sums of x^ q: those of (x^ - x zero) (q - zero), times both scales, but for clip and activation. The product is
 * rounded before it is added, so that every instruction set has the same bits. */
static __attribute__((noinline)) void bytes_end(const lstmrt_reduced_product_args *a, const vi *sum, size_t vectors,
                                                size_t rows, size_t vector, size_t row)
{
    const size_t row_bytes = lstmrt_reduced_row_bytes(a->inputs), sum_at = 2 * lstmrt_reduced_padded(a->inputs);
    for (size_t r = 0; r < rows; r++) {
        const float *init = a->init + (row + r) * a->init_stride;
        float *y = a->y + (row + r) * a->y_stride;
        int32_t x_sum;
        memcpy(&x_sum, (const char *)a->x + (row + r) * row_bytes + sum_at, sizeof x_sum);
        const vi x_zero = i_set1(a->x_zeros[row + r]), of_row = i_set1(a->zero * x_sum);
        const vf x_scale = v_set1(a->x_scales[row + r]);
        reduced_place place = reduced_first(a, vector);
        for (size_t v = 0; v < vectors; v++) {
            const size_t at = reduced_at(a, &place), first = (vector + v) * VEC_WIDTH;
            const vi of_both = i_add(i_mul(i_load(a->sums + first), x_zero), of_row);
            const vf product = v_mul(i_to_float(i_sub(sum[v * rows + r], of_both)), v_mul(x_scale, v_load(a->scales + first)));
            v_store(y + at, v_add(v_load(init + at), product));
        }
    }
}

/* What the dense kernel does last, of the same part of y. */
static __attribute__((noinline)) void bytes_activate(const lstmrt_reduced_product_args *a, size_t vectors, size_t rows,
                                                     size_t vector, size_t row)
{
    reduced_place place = reduced_first(a, vector);
    for (size_t v = 0; v < vectors; v++) {
        const size_t at = reduced_at(a, &place);
        for (size_t r = 0; r < rows; r++) {
            float *y = a->y + (row + r) * a->y_stride + at;
            v_store(y, v_activate(a->activation, v_clip(a->clip, v_load(y))));
        }
    }
}

VEC_INLINE void bytes_tile(const lstmrt_reduced_product_args *a, int panels, int vectors, int rows, size_t panel,
                           size_t row)
{
    const size_t row_bytes = lstmrt_reduced_row_bytes(a->inputs), groups = (a->inputs + BYTES_GROUP - 1) / BYTES_GROUP;
    const size_t panel_size = groups * BYTES_GROUP * LSTMRT_DENSE_VECTORS * VEC_WIDTH;
    const int8_t *weights = (const int8_t *)a->weights + panel * panel_size;
    const char *x = (const char *)a->x + row * row_bytes;
    const int n = panels * vectors * rows;
    vi sum[VEC_REGISTERS], total[VEC_REGISTERS]; /* in registers, and then in memory */
    UNROLL for (int i = 0; i < n; i++) sum[i] = i_zero();
    for (size_t group = 0; group < groups; group++) {
        vi xs[MOST_ROWS];
        UNROLL for (int r = 0; r < rows; r++) {
            int32_t word;
            memcpy(&word, x + (size_t)r * row_bytes + group * sizeof word, sizeof word);
            xs[r] = i_set1(word);
        }
        UNROLL for (int j = 0; j < panels * vectors; j++) {
            const size_t at = (group * (size_t)vectors + (size_t)(j % vectors)) * BYTES_GROUP * VEC_WIDTH;
            const vw w = i_weights(weights + (size_t)(j / vectors) * panel_size + at);
            UNROLL for (int r = 0; r < rows; r++) sum[j * rows + r] = i_dot_bytes(sum[j * rows + r], w, xs[r]);
        }
    }
    UNROLL for (int i = 0; i < n; i++) total[i] = sum[i];
    bytes_end(a, total, (size_t)(panels * vectors), (size_t)rows, panel * LSTMRT_DENSE_VECTORS, row);
    if (!reduced_plain(a)) bytes_activate(a, (size_t)(panels * vectors), (size_t)rows, panel * LSTMRT_DENSE_VECTORS, row);
}

#define BYTES_TILE_1(a, panels, rows, panel, row) bytes_tile(a, panels, 1, rows, panel, row)
#define BYTES_TILE_2(a, panels, rows, panel, row) bytes_tile(a, panels, 2, rows, panel, row)
#define BYTES_TILE_3(a, panels, rows, panel, row) bytes_tile(a, panels, 3, rows, panel, row)
#define BYTES_TILE_4(a, panels, rows, panel, row) bytes_tile(a, panels, 4, rows, panel, row)

static void kernel_bytes_product(const lstmrt_reduced_product_args *a)
{
    REDUCED_TILES(BYTES_TILE, a, BYTES_FEW, BYTES_ROWS)
}

const lstmrt_reduced_kernels LSTMRT_TABLE(bytes, VEC_ISA) = {
    .group = BYTES_GROUP,
    .range = kernel_bytes_range,
    .rows = kernel_bytes_rows,
    .product = kernel_bytes_product,
};
