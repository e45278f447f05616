/* Products of two activations: rows that stand as they were made, not in panels. A *tile* is a few rows by a few keys, or by
 * a few vectors of columns, as many as the registers hold sums for; it changes no sum's order. */

enum { KEYS = 4, COLUMNS = 4 }; /* of a tile beside several rows; v_reduce_add_each takes as many */
enum { PANEL_ROWS = 4 };

VEC_INLINE vf load_lanes(const float *p, size_t lanes) { return lanes == VEC_WIDTH ? v_load(p) : v_load_n(p, lanes); }

/* One vector's part of each score: products, or with `additive` the column's products with tanh of the sums. */
VEC_INLINE void scores_vector(const lstmrt_scores_args *a, bool additive, int keys, int rows, size_t key, size_t row,
                              size_t i, size_t lanes, vf *sum)
{
    vf q[MOST_ROWS];
    const vf column = additive ? load_lanes(a->column + i, lanes) : v_set1(0.0f);
    UNROLL for (int r = 0; r < rows; r++) q[r] = load_lanes(a->q + (row + (size_t)r) * a->q_stride + i, lanes);
    UNROLL for (int j = 0; j < keys; j++) {
        const vf k = load_lanes(a->k + (key + (size_t)j) * a->k_stride + i, lanes);
        UNROLL for (int r = 0; r < rows; r++) {
            const vf factor = additive ? v_tanh(v_add(q[r], k)) : q[r];
            sum[j * rows + r] = v_fma(factor, additive ? column : k, sum[j * rows + r]);
        }
    }
}

VEC_INLINE void scores_tile(const lstmrt_scores_args *a, bool additive, int keys, int rows, size_t key, size_t row)
{
    vf total[VEC_REGISTERS];
    UNROLL for (int j = 0; j < keys * rows; j++) total[j] = v_set1(0.0f);
    for (size_t begin = 0; begin < a->width; begin += LSTMRT_BLOCK * VEC_WIDTH) {
        const size_t rest = a->width - begin, end = begin + (rest < LSTMRT_BLOCK * VEC_WIDTH ? rest : LSTMRT_BLOCK * VEC_WIDTH);
        vf sum[VEC_REGISTERS];
        size_t i = begin;
        UNROLL for (int j = 0; j < keys * rows; j++) sum[j] = v_set1(0.0f);
        for (; i + VEC_WIDTH <= end; i += VEC_WIDTH) scores_vector(a, additive, keys, rows, key, row, i, VEC_WIDTH, sum);
        if (i < end) scores_vector(a, additive, keys, rows, key, row, i, end - i, sum);
        LEAVE_IN_MEMORY(*(vf(*)[VEC_REGISTERS])total);
        UNROLL for (int j = 0; j < keys * rows; j++) total[j] = v_add(total[j], sum[j]);
        LEAVE_IN_MEMORY(*(vf(*)[VEC_REGISTERS])total);
    }
    for (int r = 0; r < rows; r++) {
        vf of_keys[KEYS];
        float scores[KEYS];
        UNROLL for (int j = 0; j < KEYS; j++) of_keys[j] = j < keys ? total[j * rows + r] : v_set1(0.0f);
        v_reduce_add_each(of_keys, scores);
        for (int j = 0; j < keys; j++) a->y[(row + (size_t)r) * a->y_stride + key + (size_t)j] = a->scale * scores[j];
    }
}

/* Sums of every VEC_WIDTH-th column from `lane` on: what that lane has in scores_tile, for a vector of keys. */
VEC_INLINE void panel_sums(const lstmrt_scores_args *a, int rows, const float *panel, size_t row, size_t lane, vf *total)
{
    UNROLL for (int r = 0; r < rows; r++) total[r] = v_set1(0.0f);
    for (size_t begin = lane; begin < a->width; begin += LSTMRT_BLOCK * VEC_WIDTH) {
        const size_t rest = a->width - begin, end = begin + (rest < LSTMRT_BLOCK * VEC_WIDTH ? rest : LSTMRT_BLOCK * VEC_WIDTH);
        vf sum[PANEL_ROWS];
        UNROLL for (int r = 0; r < rows; r++) sum[r] = v_set1(0.0f);
        for (size_t i = begin; i < end; i += VEC_WIDTH) {
            const vf k = v_hold(v_load(panel + i * VEC_WIDTH));
            UNROLL for (int r = 0; r < rows; r++)
                sum[r] = v_fma(v_set1(a->q[(row + (size_t)r) * a->q_stride + i]), k, sum[r]);
        }
        UNROLL for (int r = 0; r < rows; r++) total[r] = v_add(total[r], sum[r]);
    }
}

/* A vector of keys by a few rows. Lanes' sums are added as v_reduce_add_each adds lanes: the halves of a vector of 16, then
 * neighbours, then neighbouring pairs and so on. */
VEC_INLINE void panel_tile(const lstmrt_scores_args *a, int rows, size_t key, size_t row)
{
    enum { SUMS = VEC_WIDTH > 8 ? VEC_WIDTH / 2 : VEC_WIDTH, LEVELS = 4 };
    const float *panel = a->panels + key * a->width;
    const size_t left = a->steps - key;
    vf of_level[LEVELS][PANEL_ROWS];
    int level = 0;
    UNROLL for (int lane = 0; lane < SUMS; lane++) {
        vf sum[PANEL_ROWS], half[PANEL_ROWS];
        panel_sums(a, rows, panel, row, (size_t)lane, sum);
        if (SUMS < VEC_WIDTH) panel_sums(a, rows, panel, row, (size_t)(lane + SUMS), half);
        UNROLL for (int r = 0; SUMS < VEC_WIDTH && r < rows; r++) sum[r] = v_add(sum[r], half[r]);
        level = 0;
        UNROLL for (int known = 0; known < LEVELS; known++) { /* one for each of the ones that `lane` ends with */
            const int ones = (2 << known) - 1;
            if ((lane & ones) != ones) continue;
            UNROLL for (int r = 0; r < rows; r++) sum[r] = v_add(of_level[known][r], sum[r]);
            level = known + 1;
        }
        UNROLL for (int r = 0; r < rows; r++) of_level[level][r] = sum[r];
    }
    UNROLL for (int r = 0; r < rows; r++)
        v_store_n(a->y + (row + (size_t)r) * a->y_stride + key, v_mul(v_set1(a->scale), of_level[level][r]),
                  left < VEC_WIDTH ? left : VEC_WIDTH);
}

#define PANEL_TILE(a, panels, rows, key, row) panel_tile(a, rows, key, row)

#define PRODUCTS_TILE(a, keys, rows, key, row) scores_tile(a, false, keys, rows, key, row)

static void kernel_scores(const lstmrt_scores_args *a)
{
    size_t key = 0;
    if (a->panels) {
        for (; key < a->steps; key += VEC_WIDTH) FOR_ROWS(PANEL_TILE, a, 1, PANEL_ROWS, key, a->rows)
        return;
    }
    if (a->column) {
        for (; key < a->steps; key++)
            for (size_t row = 0; row < a->rows; row++) scores_tile(a, true, 1, 1, key, row);
        return;
    }
    for (; key + KEYS <= a->steps; key += KEYS) FOR_ROWS(PRODUCTS_TILE, a, KEYS, TILE_ROWS(KEYS), key, a->rows)
    for (; key < a->steps; key++) FOR_ROWS(PRODUCTS_TILE, a, 1, TILE_ROWS(KEYS), key, a->rows)
}

/* `vectors` vectors of columns from `column` on, the last of them with `lanes` lanes. */
VEC_INLINE void mix_tile(const lstmrt_mix_args *a, int vectors, int rows, size_t column, size_t row, size_t lanes)
{
    vf total[VEC_REGISTERS];
    UNROLL for (int j = 0; j < vectors * rows; j++) total[j] = v_set1(0.0f);
    for (size_t begin = 0; begin < a->steps; begin += LSTMRT_BLOCK) {
        const size_t end = a->steps - begin < LSTMRT_BLOCK ? a->steps : begin + LSTMRT_BLOCK;
        vf sum[VEC_REGISTERS];
        UNROLL for (int j = 0; j < vectors * rows; j++) sum[j] = v_set1(0.0f);
        for (size_t s = begin; s < end; s++) {
            vf w[MOST_ROWS];
            UNROLL for (int r = 0; r < rows; r++) w[r] = v_set1(a->w[(row + (size_t)r) * a->w_stride + s]);
            UNROLL for (int j = 0; j < vectors; j++) {
                const float *from = a->x + s * a->x_stride + column + (size_t)(j * VEC_WIDTH);
                const vf x = load_lanes(from, j < vectors - 1 ? VEC_WIDTH : lanes);
                UNROLL for (int r = 0; r < rows; r++) sum[j * rows + r] = v_fma(w[r], x, sum[j * rows + r]);
            }
        }
        LEAVE_IN_MEMORY(*(vf(*)[VEC_REGISTERS])total);
        UNROLL for (int j = 0; j < vectors * rows; j++) total[j] = v_add(total[j], sum[j]);
        LEAVE_IN_MEMORY(*(vf(*)[VEC_REGISTERS])total);
    }
    for (int r = 0; r < rows; r++)
        for (int j = 0; j < vectors; j++)
            v_store_n(a->y + (row + (size_t)r) * a->y_stride + column + (size_t)(j * VEC_WIDTH), total[j * rows + r],
                      j < vectors - 1 ? VEC_WIDTH : lanes);
}

#define MIX_TILE(a, vectors, rows, column, row) mix_tile(a, vectors, rows, column, row, VEC_WIDTH)
#define MIX_TAIL(a, vectors, rows, column, row) mix_tile(a, vectors, rows, column, row, (a)->width - (column))

static void kernel_mix(const lstmrt_mix_args *a)
{
    size_t column = 0;
    for (; column + COLUMNS * VEC_WIDTH <= a->width; column += COLUMNS * VEC_WIDTH)
        FOR_ROWS(MIX_TILE, a, COLUMNS, TILE_ROWS(COLUMNS), column, a->rows)
    for (; column + VEC_WIDTH <= a->width; column += VEC_WIDTH) FOR_ROWS(MIX_TILE, a, 1, TILE_ROWS(COLUMNS), column, a->rows)
    if (column < a->width) FOR_ROWS(MIX_TAIL, a, 1, TILE_ROWS(COLUMNS), column, a->rows)
}
