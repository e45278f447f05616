/* The one inner loop: weights streamed from memory into register sums. Everything with weights is built on it.
 *
 * A *tile* is a few panels by a few rows, small enough for its sums to live in registers. Its shape changes how often
 * weights and x are loaded, never a sum's order: a row has the same bits whatever tile it falls into.
 */

#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 32")
#endif

/* Says that x may change here: compilers would keep totals in the registers that sums need, and spill sums. */
#define LEAVE_IN_MEMORY(x) __asm__("" : "+m"(x))

enum { MOST_ROWS = 8 }; /* of any tile: FOR_TILES has as many cases */

/* Rows that fit beside `vectors` vectors of a tile. */
#define TILE_ROWS(vectors) (ROWS_IN_REGISTERS(vectors) < MOST_ROWS ? ROWS_IN_REGISTERS(vectors) : MOST_ROWS)
#define ROWS_IN_REGISTERS(vectors) ((VEC_REGISTERS - 1) / ((vectors) + 1)) /* sums, an x of each row, one weight */

/* Adds to total[p][v][r] the products of x[r][0..inputs-1] with vector v of panel p, for `panels` panels of `vectors`
 * vectors that stand `panel_size` floats apart, and `rows` rows. All three are constants where this is called. */
VEC_INLINE void stream(int panels, int vectors, int rows, const float *weights, size_t panel_size, const float *x,
                       size_t x_stride, size_t inputs, vf *total)
{
    size_t begin = 0;
    do { /* once without inputs too: adding 0 makes -0 to 0, as products of zeros do */
        const size_t end = inputs - begin < LSTMRT_BLOCK ? inputs : begin + LSTMRT_BLOCK;
        vf sum[VEC_REGISTERS];
        UNROLL for (int i = 0; i < panels * vectors * rows; i++) sum[i] = v_set1(0.0f);
        for (size_t k = begin; k < end; k++) {
            vf xk[MOST_ROWS];
            UNROLL for (int r = 0; r < rows; r++) xk[r] = v_set1(x[(size_t)r * x_stride + k]);
            UNROLL for (int j = 0; j < panels * vectors; j++) {
                const float *w = weights + (size_t)(j / vectors) * panel_size;
                vf wk = v_load(w + (k * (size_t)vectors + (size_t)(j % vectors)) * VEC_WIDTH);
                if (rows > 1) wk = v_hold(wk);
                UNROLL for (int r = 0; r < rows; r++) sum[j * rows + r] = v_fma(xk[r], wk, sum[j * rows + r]);
            }
        }
        LEAVE_IN_MEMORY(*(vf(*)[VEC_REGISTERS])total);
        UNROLL for (int i = 0; i < panels * vectors * rows; i++) total[i] = v_add(total[i], sum[i]);
        LEAVE_IN_MEMORY(*(vf(*)[VEC_REGISTERS])total);
        begin += LSTMRT_BLOCK;
    } while (begin < inputs);
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

/* Calls TILE(args, panels, rows, panel, row), with panels and rows constant, until every panel of args->panels has met
 * every row. `group` panels of `vectors` vectors fill the registers beside several rows, twice as many beside few, where
 * more sums hide the latency of the additions; panels that are left over go one by one. Rows are dealt out evenly:
 * 9 as 5 and 4, since 6 and 3 would load the weights for 3 as often as for 6. A panel meets all rows while it is near. */
#define FOR_TILES(TILE, args, group, vectors, n_rows)                                                               \
    for (size_t left_ = (args)->panels.end - (args)->panels.begin, take_; left_ > 0; left_ -= take_) {              \
        const bool few_ = (n_rows) <= TILE_ROWS(2 * (group) * (vectors));                                           \
        take_ = few_ && left_ >= 2 * (group) ? 2 * (group) : left_ >= (group) ? (group) : 1;                        \
        const size_t panel_ = (args)->panels.backward ? (args)->panels.begin + left_ - take_                        \
                                                      : (args)->panels.end - left_;                                 \
        if (take_ == 2 * (group)) FOR_ROWS(TILE, args, 2 * (group), TILE_ROWS(2 * (group) * (vectors)), panel_, n_rows) \
        else if (take_ == (group)) FOR_ROWS(TILE, args, group, TILE_ROWS((group) * (vectors)), panel_, n_rows)      \
        else FOR_ROWS(TILE, args, 1, TILE_ROWS(vectors), panel_, n_rows)                                            \
    }

#define FOR_ROWS(TILE, args, panels, most, panel, n_rows)                                                           \
    for (size_t row_ = 0, tiles_ = ((n_rows) + (most)-1) / (most), rows_; row_ < (n_rows); row_ += rows_, tiles_--) { \
        rows_ = ((n_rows)-row_ + tiles_ - 1) / tiles_;                                                              \
        switch (rows_) {                                                                                            \
            ROWS_CASE(TILE, args, panels, most, panel, 1)                                                           \
            ROWS_CASE(TILE, args, panels, most, panel, 2)                                                           \
            ROWS_CASE(TILE, args, panels, most, panel, 3)                                                           \
            ROWS_CASE(TILE, args, panels, most, panel, 4)                                                           \
            ROWS_CASE(TILE, args, panels, most, panel, 5)                                                           \
            ROWS_CASE(TILE, args, panels, most, panel, 6)                                                           \
            ROWS_CASE(TILE, args, panels, most, panel, 7)                                                           \
            ROWS_CASE(TILE, args, panels, most, panel, 8)                                                           \
        }                                                                                                           \
    }

/* Compiles to nothing where a tile never has that many rows. */
#define ROWS_CASE(TILE, args, panels, most, panel, rows) \
    case rows:                                           \
        if (rows <= (most)) TILE(args, panels, rows, panel, row_); \
        break;
