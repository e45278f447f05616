/* What the kernels of reduced weights share: in which order panels are computed, and how many rows at once. */

/* Panels [*panel, *panel + returned) come next, where `left` of them are to be computed yet: pairs of whole panels where
 * there is a single row, whose sums alone would wait for each other. */
VEC_INLINE size_t reduced_next(const lstmrt_reduced_product_args *a, size_t left, size_t *panel)
{
    const size_t whole = a->vectors / LSTMRT_DENSE_VECTORS;
    const size_t end = a->panels.backward ? a->panels.begin + left : a->panels.end - left + 2; /* of a pair */
    const size_t taken = a->rows == 1 && left >= 2 && end <= whole ? 2 : 1;
    *panel = a->panels.backward ? a->panels.begin + left - taken : a->panels.end - left;
    return taken;
}

/* Calls TILE(a, panels, vectors, rows, panel, row), whose numbers are constants, until every panel has met every row:
 * `most` rows at a time, then two, then one; rows of a last panel with fewer vectors one by one. */
#define REDUCED_TILES(TILE, a, most)                                                                                  \
    for (size_t left_ = (a)->panels.end - (a)->panels.begin, taken_, panel_; left_ > 0; left_ -= taken_) {           \
        taken_ = reduced_next(a, left_, &panel_);                                                                     \
        const size_t vectors_ = (a)->vectors - panel_ * LSTMRT_DENSE_VECTORS;                                         \
        size_t row_ = 0;                                                                                              \
        if (taken_ == 2) {                                                                                            \
            TILE(a, 2, LSTMRT_DENSE_VECTORS, 1, panel_, row_);                                                        \
            continue;                                                                                                 \
        }                                                                                                             \
        if (vectors_ >= LSTMRT_DENSE_VECTORS) {                                                                       \
            for (; row_ + (most) <= (a)->rows; row_ += (most)) TILE(a, 1, LSTMRT_DENSE_VECTORS, most, panel_, row_); \
            for (; row_ + 2 <= (a)->rows; row_ += 2) TILE(a, 1, LSTMRT_DENSE_VECTORS, 2, panel_, row_);               \
            for (; row_ < (a)->rows; row_++) TILE(a, 1, LSTMRT_DENSE_VECTORS, 1, panel_, row_);                       \
        }                                                                                                             \
        for (; row_ < (a)->rows; row_++) {                                                                            \
            if (vectors_ == 1) TILE(a, 1, 1, 1, panel_, row_);                                                        \
            if (vectors_ == 2) TILE(a, 1, 2, 1, panel_, row_);                                                        \
            if (vectors_ == 3) TILE(a, 1, 3, 1, panel_, row_);                                                        \
        }                                                                                                             \
    }
