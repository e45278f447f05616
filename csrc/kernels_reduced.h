/* What the kernels of reduced weights share: tiles of panels by rows, as kernels_register_tiles.h has them. */

/* Rows that fit beside `vectors` vectors of a tile whose rows and sums take `parts` registers each where one would do;
 * a weight takes two. */
#define REDUCED_ROWS(vectors, row_parts, sum_parts) \
    CAPPED_ROWS((VEC_REGISTERS - 2) / ((row_parts) + (vectors) * (sum_parts)))
#define CAPPED_ROWS(rows) ((rows) < MOST_ROWS ? (rows) : MOST_ROWS)

/* Panels [*panel, *panel + returned) come next, where `left` of them are to be computed yet: pairs of whole panels where
 * there are few rows, whose sums alone would wait for each other. */
VEC_INLINE size_t reduced_next(const lstmrt_reduced_product_args *a, bool few, size_t left, size_t *panel)
{
    const size_t whole = a->vectors / LSTMRT_DENSE_VECTORS;
    const size_t end = a->panels.backward ? a->panels.begin + left : a->panels.end - left + 2; /* of a pair */
    const size_t taken = few && left >= 2 && end <= whole ? 2 : 1;
    *panel = a->panels.backward ? a->panels.begin + left - taken : a->panels.end - left;
    return taken;
}

/* Calls TILE_v(a, panels, rows, panel, row), for panels of v vectors and with panels and rows constant, until every panel
 * has met every row: of pairs of panels up to `few` rows at a time, of one panel up to `most`. */
#define REDUCED_TILES(TILE, a, few, most)                                                                   \
    for (size_t left_ = (a)->panels.end - (a)->panels.begin, taken_, panel_; left_ > 0; left_ -= taken_) { \
        taken_ = reduced_next(a, (a)->rows <= (few), left_, &panel_);                                       \
        const size_t vectors_ = (a)->vectors - panel_ * LSTMRT_DENSE_VECTORS;                               \
        if (taken_ == 2) FOR_ROWS(TILE##_4, a, 2, few, panel_, (a)->rows)                                   \
        else if (vectors_ >= 4) FOR_ROWS(TILE##_4, a, 1, most, panel_, (a)->rows)                           \
        else if (vectors_ == 3) FOR_ROWS(TILE##_3, a, 1, most, panel_, (a)->rows)                           \
        else if (vectors_ == 2) FOR_ROWS(TILE##_2, a, 1, most, panel_, (a)->rows)                           \
        else FOR_ROWS(TILE##_1, a, 1, most, panel_, (a)->rows)                                              \
    }

enum { REDUCED_CHAINS = VEC_REGISTERS > 16 ? 16 : 8 }; /* of a probe: as in kernels_probe.h */

/* Where the outputs of a row stand, a vector after the other. */
typedef struct {
    size_t unit, gate;
} reduced_place;

VEC_INLINE reduced_place reduced_first(const lstmrt_reduced_product_args *a, size_t vector)
{
    return (reduced_place){vector / a->gates, vector % a->gates};
}

VEC_INLINE size_t reduced_at(const lstmrt_reduced_product_args *a, reduced_place *place)
{
    const size_t at = place->unit * a->pitch + place->gate * VEC_WIDTH;
    if (++place->gate == a->gates) place->unit++, place->gate = 0;
    return at;
}

/* Whether y = activation(clip(z)) is z itself, as it is most often. */
VEC_INLINE bool reduced_plain(const lstmrt_reduced_product_args *a)
{
    return a->activation.function == LSTMRT_IDENTITY && a->clip == INFINITY;
}

/* y of vectors [vector, vector + vectors) and rows [row, row + rows) from their sums total[v][r]. Not inlined, like the
 * end of every kernel: the sums pass through memory once, and the code stays small. */
static __attribute__((noinline)) void reduced_end(const lstmrt_reduced_product_args *a, const vf *total, size_t vectors,
                                                  size_t rows, size_t vector, size_t row)
{
    const bool plain = reduced_plain(a);
    const size_t init_stride = a->init_stride, y_stride = a->y_stride;
    const float *x_scales = a->x_scales, *scales = a->scales;
    reduced_place place = reduced_first(a, vector);
    for (size_t v = 0; v < vectors; v++) {
        const size_t at = reduced_at(a, &place);
        const float *init = a->init + row * init_stride + at;
        float *y = a->y + row * y_stride + at;
        for (size_t r = 0; r < rows; r++, init += init_stride, y += y_stride) {
            vf scale = v_set1(1.0f);
            if (scales) scale = v_mul(v_load(scales + (vector + v) * VEC_WIDTH), v_set1(x_scales[row + r]));
            const vf z = v_fma(scale, total[v * rows + r], v_load(init));
            v_store(y, plain ? z : v_activate(a->activation, v_clip(a->clip, z)));
        }
    }
}
