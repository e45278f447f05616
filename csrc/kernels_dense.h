/* y = activation(clip(init + x W)). See lstmrt_dense_args. */

/* Not inlined, like the end of every kernel here: the sums pass through memory once, and the code stays small. */
static __attribute__((noinline)) void dense_end(const lstmrt_dense_args *a, const vf *total, size_t vectors,
                                                size_t rows, size_t column, size_t row)
{
    const bool plain = a->activation.function == LSTMRT_IDENTITY && a->clip == INFINITY;
    for (size_t r = 0; r < rows; r++)
        for (size_t v = 0; v < vectors; v++) {
            const vf y = total[v * rows + r];
            v_store(a->y + (row + r) * a->y_stride + column + v * VEC_WIDTH,
                    plain ? y : v_activate(a->activation, v_clip(a->clip, y)));
        }
}

VEC_INLINE void dense_tile(const lstmrt_dense_args *a, int panels, int vectors, int rows, size_t panel, size_t row)
{
    const size_t pitch = LSTMRT_DENSE_VECTORS * VEC_WIDTH, panel_size = a->inputs * pitch, column = panel * pitch;
    vf total[VEC_REGISTERS];
    stream_begin(panels, vectors, rows, a->init + row * a->init_stride + column, pitch, a->init_stride, total);
    stream(panels, vectors, rows, a->weights + panel * panel_size, panel_size,
           a->x + row * a->x_stride, a->x_stride, a->inputs, a->ahead, panel, total);
    dense_end(a, total, (size_t)(panels * vectors), (size_t)rows, column, row);
}

#define DENSE_TILE(a, panels, rows, panel, row) dense_tile(a, panels, LSTMRT_DENSE_VECTORS, rows, panel, row)
#define DENSE_TILE_1(a, panels, rows, panel, row) dense_tile(a, panels, 1, rows, panel, row)
#define DENSE_TILE_2(a, panels, rows, panel, row) dense_tile(a, panels, 2, rows, panel, row)
#define DENSE_TILE_3(a, panels, rows, panel, row) dense_tile(a, panels, 3, rows, panel, row)

/* The last panel, of `vectors` < LSTMRT_DENSE_VECTORS vectors. */
static void dense_rest(const lstmrt_dense_args *a, size_t panel, size_t vectors)
{
    if (vectors == 1) FOR_ROWS(DENSE_TILE_1, a, 1, TILE_ROWS(1), panel, a->rows)
    if (vectors == 2) FOR_ROWS(DENSE_TILE_2, a, 1, TILE_ROWS(2), panel, a->rows)
    if (vectors == 3) FOR_ROWS(DENSE_TILE_3, a, 1, TILE_ROWS(3), panel, a->rows)
}

static void kernel_dense(const lstmrt_dense_args *a)
{
    lstmrt_panels whole = a->panels;
    const size_t rest = a->vectors / LSTMRT_DENSE_VECTORS; /* the panel that is not whole, if there is one */
    const bool has_rest = a->panels.begin <= rest && rest < a->panels.end;
    if (has_rest) whole.end = rest;
    if (has_rest && a->panels.backward) dense_rest(a, rest, a->vectors % LSTMRT_DENSE_VECTORS);
    FOR_TILES(DENSE_TILE, a, whole, 1, LSTMRT_DENSE_VECTORS, a->rows)
    if (has_rest && !a->panels.backward) dense_rest(a, rest, a->vectors % LSTMRT_DENSE_VECTORS);
}
