/* A *tile* is a few panels by a few rows, small enough for its sums to live in registers. Its shape changes how often
 * weights and x are loaded, never a sum's order: a row has the same bits whatever tile it falls into. */

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

/* Calls TILE(args, panels, rows, panel, row), with panels and rows constant, until every panel of `range` has met every
 * row. `group` panels of `vectors` vectors fill the registers beside several rows, twice as many beside few, where
 * more sums hide the latency of the additions; panels that are left over go one by one. Rows are dealt out evenly:
 * 9 as 5 and 4, since 6 and 3 would load the weights for 3 as often as for 6. A panel meets all rows while it is near. */
#define FOR_TILES(TILE, args, range, group, vectors, n_rows)                                                        \
    for (size_t left_ = (range).end - (range).begin, take_; left_ > 0; left_ -= take_) {                            \
        const bool few_ = (n_rows) <= TILE_ROWS(2 * (group) * (vectors));                                           \
        take_ = few_ && left_ >= 2 * (group) ? 2 * (group) : left_ >= (group) ? (group) : 1;                        \
        const size_t panel_ = (range).backward ? (range).begin + left_ - take_ : (range).end - left_;               \
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
