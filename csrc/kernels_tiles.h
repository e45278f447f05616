/* The int8 product of several rows by AMX's tiles: 16 lines of 64 bytes each, 16 rows by 64 inputs of x, 16 groups of inputs
 * by 16 outputs of weights, just as VNNI has them packed, or 16 rows by 16 outputs of sums. Sums are exact and added up
 * block by block, so that y has VNNI's bits, and VNNI takes what is too few rows: by the cycles that both instructions
 * take, 8 rows are four times as fast in tiles that are half empty, 2 no faster, and tiles have their fixed costs.
 *
 * A call configures the tiles and releases them before it returns: no thread keeps any.
 */

#include "vec_int8.h"

enum {
    TILE_LINES = 16,
    TILE_FEWEST = 8, /* rows */
    TILE_BYTES = 64, /* of a line: inputs of x, or a vector of outputs */
    TILE_SUMS = 4,
    TILES_BLOCK = LSTMRT_INT8_BLOCK / TILE_BYTES /* tiles of x that a block of inputs has */
};

/* Tiles 0 to 3 are sums: of low and of high bytes for one vector of outputs, then for the next. Instructions name tiles,
 * and compilers want them as literals. */
#define X_LOW 4
#define X_HIGH 5
#define W_FIRST 6
#define W_SECOND 7

/* Adds the products of two tiles of x and one of weights. */
#define TILE_DOTS(low_sums, high_sums, low, high, weights) \
    do {                                                   \
        _tile_dpbsud(low_sums, low, weights);              \
        _tile_dpbsud(high_sums, high, weights);            \
    } while (0)

typedef struct {
    uint8_t palette, start, zeros[14];
    uint16_t bytes[16];
    uint8_t lines[16];
} tile_config;

/* How rows and panels are cut into tiles. */
typedef struct {
    size_t groups, pad, row_bytes; /* of inputs; of a row */
    size_t rows, depth;            /* rows and groups in a tile */
    size_t whole, steps;           /* tiles with groups of their own; these and the tail */
} tile_cut;

static tile_cut tile_cut_of(size_t rows, size_t inputs)
{
    const size_t groups = (inputs + INT8_GROUP - 1) / INT8_GROUP, depth = groups < TILE_LINES ? groups : TILE_LINES;
    const size_t tiles = (rows + TILE_LINES - 1) / TILE_LINES;
    return (tile_cut){
        .groups = groups,
        .pad = lstmrt_reduced_padded(inputs),
        .row_bytes = lstmrt_reduced_row_bytes(inputs),
        .rows = (rows + tiles - 1) / tiles, /* 17 as 9 and 8: fewer lines take no longer */
        .depth = depth,
        .whole = groups / depth,
        .steps = groups / depth + (groups % depth > 0),
    };
}

/* The tail: inputs that are left over meet the last 16 groups of the weights, of which the first have been multiplied before.
 * So they stand once more at the end of their row, low bytes and high bytes, with zeros in the places of those groups. */
static void add_tail(const tile_cut *cut, char *row)
{
    const size_t from = cut->whole * TILE_BYTES, left = cut->groups * INT8_GROUP - from;
    char *tail = row + cut->row_bytes - INT8_HALVES * TILE_BYTES;
    for (size_t half = 0; half < INT8_HALVES; half++, tail += TILE_BYTES) {
        memset(tail, 0, TILE_BYTES - left);
        memcpy(tail + TILE_BYTES - left, row + half * cut->pad + from, left);
    }
}

static void kernel_tiles_rows(const lstmrt_reduced_rows_args *a)
{
    lstmrt_int8_avx512_vnni.rows(a);
    if (a->rows == 0 || a->inputs == 0) return;
    const tile_cut cut = tile_cut_of(a->rows, a->inputs);
    for (size_t row = 0; row < a->rows && cut.steps > cut.whole; row++)
        add_tail(&cut, (char *)a->reduced + row * cut.row_bytes);
}

static void configure_tiles(size_t rows, size_t depth)
{
    tile_config config = {.palette = 1};
    for (int tile = 0; tile < 8; tile++) {
        config.bytes[tile] = tile == X_LOW || tile == X_HIGH ? (uint16_t)(depth * INT8_GROUP) : TILE_BYTES;
        config.lines[tile] = tile == W_FIRST || tile == W_SECOND ? (uint8_t)depth : (uint8_t)rows;
    }
    LEAVE_IN_MEMORY(config); /* gcc's intrinsic says that it reads a pointer there */
    _tile_loadconfig(&config);
}

static void zero_sums(void)
{
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
}

VEC_INLINE void store_sums(int vectors, int32_t (*sums)[TILE_LINES][VEC_WIDTH])
{
    _tile_stored(0, sums[0], TILE_BYTES);
    _tile_stored(1, sums[1], TILE_BYTES);
    if (vectors == 1) return;
    _tile_stored(2, sums[2], TILE_BYTES);
    _tile_stored(3, sums[3], TILE_BYTES);
}

/* Sums of a tile's rows over tiles [begin, end) of x, one block, for one or two vectors of outputs; weights of one group and the
 * next are `pitch` bytes apart. */
VEC_INLINE void tile_sums(int vectors, const tile_cut *cut, const char *x, const int8_t *weights, size_t pitch,
                          size_t begin, size_t end, int32_t (*sums)[TILE_LINES][VEC_WIDTH])
{
    zero_sums();
    for (size_t step = begin; step < end; step++) {
        const bool whole = step < cut->whole;
        const char *low = x + (whole ? step * TILE_BYTES : cut->row_bytes - INT8_HALVES * TILE_BYTES);
        const int8_t *w = weights + (whole ? step * TILE_LINES : cut->groups - TILE_LINES) * pitch;
        _tile_loadd(X_LOW, low, cut->row_bytes);
        _tile_loadd(X_HIGH, low + (whole ? cut->pad : TILE_BYTES), cut->row_bytes);
        _tile_loadd(W_FIRST, w, pitch);
        TILE_DOTS(0, 1, X_LOW, X_HIGH, W_FIRST);
        if (vectors == 1) continue;
        _tile_loadd(W_SECOND, w + TILE_BYTES, pitch);
        TILE_DOTS(2, 3, X_LOW, X_HIGH, W_SECOND);
    }
    store_sums(vectors, sums);
}

/* A tile's rows from `row` on, of which the first `done` have their y, and one or two vectors of outputs from `vector` on. */
VEC_INLINE void tile_rows(int vectors, const lstmrt_reduced_product_args *a, const tile_cut *cut, const int8_t *weights,
                          size_t pitch, size_t vector, size_t row, size_t done)
{
    const char *x = (const char *)a->x + row * cut->row_bytes, *offsets = x + INT8_HALVES * cut->pad;
    const size_t left = cut->rows - done;
    int32_t sums[TILE_SUMS][TILE_LINES][VEC_WIDTH];
    vf total[2 * TILE_LINES];
    for (size_t i = 0; i < (size_t)vectors * left; i++) total[i] = v_set1(0.0f);
    for (size_t begin = 0; begin < cut->steps; begin += TILES_BLOCK, offsets += sizeof(int32_t)) {
        const size_t end = cut->steps - begin < TILES_BLOCK ? cut->steps : begin + TILES_BLOCK;
        tile_sums(vectors, cut, x, weights, pitch, begin, end, sums);
        for (size_t v = 0; v < (size_t)vectors; v++)
            for (size_t r = 0; r < left; r++) {
                int32_t offset;
                memcpy(&offset, offsets + (done + r) * cut->row_bytes, sizeof offset);
                const vi low = i_load(sums[2 * v][done + r]), high = i_load(sums[2 * v + 1][done + r]);
                total[v * left + r] = v_add(total[v * left + r], i_to_float(i_total(low, high, offset)));
            }
    }
    reduced_end(a, total, (size_t)vectors, left, vector, row + done);
}

/* All tiles have as many rows, so that the last may hold some that are done: y may be init, and is not computed twice. */
static void tile_panel(const lstmrt_reduced_product_args *a, const tile_cut *cut, size_t panel)
{
    const size_t first = panel * LSTMRT_DENSE_VECTORS, left = a->vectors - first;
    const size_t vectors = left < LSTMRT_DENSE_VECTORS ? left : LSTMRT_DENSE_VECTORS, pitch = vectors * TILE_BYTES;
    const int8_t *weights = (const int8_t *)a->weights + first * cut->groups * TILE_BYTES;
    for (size_t v = 0; v < vectors; v += 2)
        for (size_t row = 0; row < a->rows; row += cut->rows) {
            const size_t done = a->rows - row < cut->rows ? cut->rows - (a->rows - row) : 0;
            if (vectors - v > 1)
                tile_rows(2, a, cut, weights + v * TILE_BYTES, pitch, first + v, row - done, done);
            else
                tile_rows(1, a, cut, weights + v * TILE_BYTES, pitch, first + v, row - done, done);
        }
}

static void kernel_tiles_product(const lstmrt_reduced_product_args *a)
{
    if (a->rows < TILE_FEWEST || a->inputs == 0) {
        lstmrt_int8_avx512_vnni.product(a);
        return;
    }
    const tile_cut cut = tile_cut_of(a->rows, a->inputs);
    configure_tiles(cut.rows, cut.depth);
    for (size_t i = a->panels.begin; i < a->panels.end; i++)
        tile_panel(a, &cut, a->panels.backward ? a->panels.begin + a->panels.end - 1 - i : i);
    _tile_release();
}

/* As int8's probe: every other turn adds 1 for each group of inputs. */
static void kernel_tiles_probe(const lstmrt_probe_fma_args *a)
{
    int32_t sums[TILE_SUMS][TILE_LINES][VEC_WIDTH];
    memset(sums, 1, sizeof sums); /* bytes of 1 */
    for (size_t i = 0; i < VEC_WIDTH; i++) sums[1][0][i] = 1;
    LEAVE_IN_MEMORY(sums);
    configure_tiles(TILE_LINES, TILE_LINES);
    zero_sums();
    _tile_zero(X_LOW);
    _tile_loadd(X_HIGH, sums[1], 0);
    _tile_loadd(W_FIRST, sums[0], TILE_BYTES);
    for (size_t turn = 0; turn < a->turns; turn++) {
        if (turn % 2 == 0) {
            TILE_DOTS(0, 1, X_LOW, X_LOW, W_FIRST);
            TILE_DOTS(2, 3, X_LOW, X_LOW, W_FIRST);
        } else {
            TILE_DOTS(0, 1, X_HIGH, X_HIGH, W_FIRST);
            TILE_DOTS(2, 3, X_HIGH, X_HIGH, W_FIRST);
        }
    }
    store_sums(2, sums);
    _tile_release();
    vf total = v_set1(0.0f);
    for (size_t i = 0; i < TILE_SUMS * TILE_LINES; i++)
        total = v_add(total, i_to_float(i_load(sums[i / TILE_LINES][i % TILE_LINES])));
    *a->sum = v_reduce_add(total);
    *a->operations = 2 * a->turns * TILE_SUMS * TILE_LINES * VEC_WIDTH * TILE_BYTES;
}

const lstmrt_reduced_kernels LSTMRT_TABLE(int8, VEC_ISA) = {
    .group = INT8_GROUP,
    .offset = INT8_OFFSET,
    .rows = kernel_tiles_rows,
    .product = kernel_tiles_product,
    .probe = kernel_tiles_probe,
};
