/* The one inner loop: weights streamed from memory into register sums. Everything with weights is built on it. */

#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 32")
#endif

enum { STREAM_SUMS = 4 * (VEC_MAX_ROWS > 2 ? VEC_MAX_ROWS : 2) }; /* as many as any tile has */

/* Adds to total[p][v][r] the products of x[r][0..inputs-1] with vector v of panel p, for `panels` panels of `vectors`
 * vectors that stand `panel_size` floats apart, and `rows` rows. All three are constants where this is called, so
 * that the sums live in registers; two panels at a time hide the latency of the additions where there is one row. */
VEC_INLINE void stream(int panels, int vectors, int rows, const float *weights, size_t panel_size, const float *x,
                       size_t x_stride, size_t inputs, vf *total)
{
    for (size_t begin = 0; begin < inputs; begin += LSTMRT_BLOCK) {
        const size_t end = inputs - begin < LSTMRT_BLOCK ? inputs : begin + LSTMRT_BLOCK;
        vf sum[STREAM_SUMS];
        UNROLL for (int i = 0; i < panels * vectors * rows; i++) sum[i] = v_set1(0.0f);
        for (size_t k = begin; k < end; k++) {
            vf xk[VEC_MAX_ROWS];
            UNROLL for (int r = 0; r < rows; r++) xk[r] = v_set1(x[(size_t)r * x_stride + k]);
            UNROLL for (int p = 0; p < panels; p++) {
                const float *w = weights + (size_t)p * panel_size + k * (size_t)(vectors * VEC_WIDTH);
                UNROLL for (int v = 0; v < vectors; v++) {
                    const vf wk = v_load(w + v * VEC_WIDTH);
                    UNROLL for (int r = 0; r < rows; r++) {
                        const int i = (p * vectors + v) * rows + r;
                        sum[i] = v_fma(xk[r], wk, sum[i]);
                    }
                }
            }
        }
        UNROLL for (int i = 0; i < panels * vectors * rows; i++) total[i] = v_add(total[i], sum[i]);
    }
}

/* total[p][v][r] = from[r][p][v], the `vectors` vectors that a panel's sums start at; `pitch` floats a panel. */
VEC_INLINE void stream_begin(int panels, int vectors, int rows, const float *from, size_t pitch, size_t stride,
                             vf *total)
{
    UNROLL for (int p = 0; p < panels; p++)
        UNROLL for (int v = 0; v < vectors; v++)
            UNROLL for (int r = 0; r < rows; r++)
                total[(p * vectors + v) * rows + r] =
                    v_load(from + (size_t)r * stride + (size_t)p * pitch + (size_t)(v * VEC_WIDTH));
}

/* TILE(args, panels, rows, panel, row) for every panel and row: pairs of panels where there is a single row, else as
 * many rows at a time as registers hold; a panel is read by all rows while it is near. */
#define FOR_TILES(TILE, args, n_panels, n_rows)                                                         \
    do {                                                                                                \
        size_t panel_ = 0;                                                                              \
        if ((n_rows) == 1)                                                                              \
            for (; panel_ + 2 <= (n_panels); panel_ += 2) TILE((args), 2, 1, panel_, 0);                \
        for (; panel_ < (n_panels); panel_++)                                                           \
            for (size_t row_ = 0; row_ < (n_rows); row_ += VEC_MAX_ROWS)                                \
                FOR_ROWS(TILE, (args), panel_, row_, (n_rows) - row_);                                  \
    } while (0)

#define FOR_ROWS(TILE, args, panel, row, left)                                                          \
    switch (left) {                                                                                     \
    case 1: TILE(args, 1, 1, panel, row); break;                                                        \
    FOR_ROWS_BETWEEN(TILE, args, panel, row)                                                             \
    default: TILE(args, 1, VEC_MAX_ROWS, panel, row);                                                   \
    }

#if VEC_MAX_ROWS == 6
#define FOR_ROWS_BETWEEN(TILE, args, panel, row)                                                         \
    case 2: TILE(args, 1, 2, panel, row); break;                                                        \
    case 3: TILE(args, 1, 3, panel, row); break;                                                        \
    case 4: TILE(args, 1, 4, panel, row); break;                                                        \
    case 5: TILE(args, 1, 5, panel, row); break;
#elif VEC_MAX_ROWS == 3
#define FOR_ROWS_BETWEEN(TILE, args, panel, row)                                                         \
    case 2: TILE(args, 1, 2, panel, row); break;
#else
#define FOR_ROWS_BETWEEN(TILE, args, panel, row)
#endif
