/* The fused steps of recurrent cells: product with the recurrent weights, bias, activations and state update, all in
 * registers. Formulas stand with the arguments in kernels.h. */

/* Calls UNIT(a, sums, pitch, unit, row) for each vector of units and row of a tile. */
#define FOR_UNITS(UNIT, a, z, gates, panels, rows, panel, row)                                      \
    for (size_t p_ = 0; p_ < (panels); p_++)                                                        \
        for (size_t r_ = 0, unit_ = ((panel) + p_) * VEC_WIDTH; r_ < (rows); r_++)                  \
            UNIT(a, (z) + p_ * (gates) * (rows) + r_, rows, unit_, (row) + r_);

enum { LSTM_I, LSTM_O, LSTM_F, LSTM_C, LSTM_GATES };

VEC_INLINE bool is_plain(lstmrt_activation f, lstmrt_activation g, float clip)
{
    return f.function == LSTMRT_SIGMOID && g.function == LSTMRT_TANH && clip == INFINITY;
}

VEC_INLINE bool lstm_is_plain(const lstmrt_lstm_args *a)
{
    return is_plain(a->f, a->g, a->clip) && a->activation_h.function == LSTMRT_TANH && !a->input_forget;
}

enum { PEEPHOLE_I, PEEPHOLE_O, PEEPHOLE_F, PEEPHOLES };

/* z plus a gate's peephole weights times c, where there are any. */
VEC_INLINE vf lstm_peek(const lstmrt_lstm_args *a, int gate, size_t unit, vf c, vf z)
{
    return a->peepholes ? v_fma(v_load(a->peepholes + PEEPHOLES * unit + (size_t)gate * VEC_WIDTH), c, z) : z;
}

/* c', and then h, of one vector of hidden units of one row from its gate sums z[gate * pitch]: the cell that nearly all
 * models have. Its five activations are fractions that are divided once for c' and once for h', which is faster and rounds
 * less often. */
VEC_INLINE void lstm_unit_c(const lstmrt_lstm_args *a, const vf *z, size_t pitch, size_t unit, size_t row)
{
    const size_t at = row * a->stride + unit;
    const vf c = v_load(a->c + at);
    vf unused;
    const v_fraction i = v_sigmoid_fraction(lstm_peek(a, PEEPHOLE_I, unit, c, z[LSTM_I * pitch]), &unused);
    const v_fraction f = v_sigmoid_fraction(lstm_peek(a, PEEPHOLE_F, unit, c, z[LSTM_F * pitch]), &unused);
    const v_fraction g = v_tanh_fraction(z[LSTM_C * pitch]);
    const vf kept = v_mul(f.n, c), added = v_mul(i.n, g.n), d = v_mul(i.d, g.d);
    v_store(a->c_next + at, v_div(v_fma(kept, d, v_mul(f.d, added)), v_mul(f.d, d)));
}

VEC_INLINE void lstm_unit_h(const lstmrt_lstm_args *a, const vf *z, size_t pitch, size_t unit, size_t row)
{
    const size_t at = row * a->stride + unit;
    const vf c_next = v_load(a->c_next + at);
    vf unused;
    const v_fraction o = v_sigmoid_fraction(lstm_peek(a, PEEPHOLE_O, unit, c_next, z[LSTM_O * pitch]), &unused);
    const v_fraction h = v_tanh_fraction(c_next);
    v_store(a->h_next + at, v_div(v_mul(o.n, h.n), v_mul(o.d, h.d)));
}

/* Both, with any activations, clip, peepholes and coupled gates. */
VEC_INLINE void lstm_unit(const lstmrt_lstm_args *a, const vf *z, size_t pitch, size_t unit, size_t row)
{
    const size_t at = row * a->stride + unit;
    const vf c = v_load(a->c + at);
    const vf zi = lstm_peek(a, PEEPHOLE_I, unit, c, z[LSTM_I * pitch]);
    const vf zf = lstm_peek(a, PEEPHOLE_F, unit, c, z[LSTM_F * pitch]);
    const vf i = v_activate(a->f, v_clip(a->clip, zi));
    const vf f = a->input_forget ? v_sub(v_set1(1.0f), i) : v_activate(a->f, v_clip(a->clip, zf));
    const vf g = v_activate(a->g, v_clip(a->clip, z[LSTM_C * pitch]));
    const vf c_next = v_fma(f, c, v_mul(i, g));
    const vf o = v_activate(a->f, v_clip(a->clip, lstm_peek(a, PEEPHOLE_O, unit, c_next, z[LSTM_O * pitch])));
    v_store(a->c_next + at, c_next);
    v_store(a->h_next + at, v_mul(o, v_activate(a->activation_h, c_next)));
}

/* All c' first: the way from sums to h is long, and halves of it leave room for more units to be under way at once. */
static __attribute__((noinline)) void lstm_end(const lstmrt_lstm_args *a, const vf *z, size_t panels, size_t rows,
                                               size_t panel, size_t row)
{
    if (lstm_is_plain(a)) {
        FOR_UNITS(lstm_unit_c, a, z, LSTM_GATES, panels, rows, panel, row)
        FOR_UNITS(lstm_unit_h, a, z, LSTM_GATES, panels, rows, panel, row)
    } else {
        FOR_UNITS(lstm_unit, a, z, LSTM_GATES, panels, rows, panel, row)
    }
}

VEC_INLINE void lstm_tile(const lstmrt_lstm_args *a, int panels, int rows, size_t panel, size_t row)
{
    const size_t pitch = LSTM_GATES * VEC_WIDTH, panel_size = a->inputs * pitch;
    vf z[VEC_REGISTERS];
    stream_begin(panels, LSTM_GATES, rows, a->gates + row * a->gates_stride + panel * pitch, pitch, a->gates_stride, z);
    stream(panels, LSTM_GATES, rows, a->weights + panel * panel_size, panel_size, a->h + row * a->h_stride, a->h_stride,
           a->inputs, a->ahead, panel, z);
    lstm_end(a, z, (size_t)panels, (size_t)rows, panel, row);
}

/* The last panel, where `sharing` gates stand in each vector. */
VEC_INLINE void lstm_rest_tile(const lstmrt_lstm_args *a, int sharing, int rows, size_t panel, size_t row)
{
    const int vectors = LSTM_GATES / sharing;
    const size_t pitch = LSTM_GATES * VEC_WIDTH, at = panel * pitch;
    vf z[VEC_REGISTERS], apart[VEC_REGISTERS];
    stream_begin(1, vectors, rows, a->gates + row * a->gates_stride + at, 0, a->gates_stride, z);
    stream(1, vectors, rows, a->weights + at * a->inputs, 0, a->h + row * a->h_stride, a->h_stride, a->inputs,
           a->ahead, panel, z);
    for (int gate = 0; gate < LSTM_GATES; gate++)
        for (int r = 0; r < rows; r++) {
            const float *sums = (const float *)(z + gate / sharing * rows + r);
            apart[gate * rows + r] = v_load(sums + gate % sharing * (VEC_WIDTH / sharing));
        }
    lstm_end(a, apart, 1, (size_t)rows, panel, row);
}

#define LSTM_REST_2(a, panels, rows, panel, row) lstm_rest_tile(a, 2, rows, panel, row)
#define LSTM_REST_4(a, panels, rows, panel, row) lstm_rest_tile(a, 4, rows, panel, row)

static void lstm_rest(const lstmrt_lstm_args *a)
{
    if (a->rest_vectors == 2) FOR_ROWS(LSTM_REST_2, a, 1, TILE_ROWS(LSTM_GATES), a->rest_panel, a->rows)
    if (a->rest_vectors == 1) FOR_ROWS(LSTM_REST_4, a, 1, TILE_ROWS(LSTM_GATES), a->rest_panel, a->rows)
}

static void kernel_lstm(const lstmrt_lstm_args *a)
{
    lstmrt_panels whole = a->panels;
    const bool has_rest = a->rest_vectors > 0 && a->panels.begin <= a->rest_panel && a->rest_panel < a->panels.end;
    if (has_rest) whole.end = a->rest_panel;
    if (has_rest && a->panels.backward) lstm_rest(a);
    FOR_TILES(lstm_tile, a, whole, 1, LSTM_GATES, a->rows)
    if (has_rest && !a->panels.backward) lstm_rest(a);
}

enum { GRU_Z, GRU_R, GRU_H, GRU_GATES };

/* (1 - z) n + z h, as n + z (h - n) would lose h where z is 1. */
VEC_INLINE vf gru_blend(vf z, vf n, vf h) { return v_fma(z, h, v_mul(v_sub(v_set1(1.0f), z), n)); }

/* The two summands of gate h, which r weighs: of the input, and of h. */
VEC_INLINE vf gru_input_h(const lstmrt_gru_args *a, size_t unit, size_t row)
{
    return v_load(a->gates + row * a->gates_stride + GRU_GATES * unit + GRU_H * VEC_WIDTH);
}

VEC_INLINE vf gru_recurrent_h(const lstmrt_gru_args *a, vf sum, size_t unit, size_t row)
{
    return v_add(sum, v_load(a->bias + row * a->bias_stride + unit));
}

/* Gate h's sum for the cell that nearly all models have, left in place of the recurrent one; then h', with one division
 * less than three functions have. */
VEC_INLINE void gru_unit_n(const lstmrt_gru_args *a, vf *z, size_t pitch, size_t unit, size_t row)
{
    vf unused;
    const v_fraction r = v_sigmoid_fraction(z[GRU_R * pitch], &unused);
    z[GRU_H * pitch] = v_fma(v_div(r.n, r.d), gru_recurrent_h(a, z[GRU_H * pitch], unit, row), gru_input_h(a, unit, row));
}

VEC_INLINE void gru_unit_h(const lstmrt_gru_args *a, vf *sum, size_t pitch, size_t unit, size_t row)
{
    const size_t at = row * a->stride + unit;
    vf rest;
    const v_fraction z = v_sigmoid_fraction(sum[GRU_Z * pitch], &rest), n = v_tanh_fraction(sum[GRU_H * pitch]);
    const vf kept = v_mul(z.n, v_load(a->h + at));
    v_store(a->h_next + at, v_div(v_fma(kept, n.d, v_mul(rest, n.n)), v_mul(z.d, n.d)));
}

/* Both, with any activations and clip. */
VEC_INLINE void gru_unit(const lstmrt_gru_args *a, vf *z, size_t pitch, size_t unit, size_t row)
{
    const size_t at = row * a->stride + unit;
    const vf update = v_activate(a->f, v_clip(a->clip, z[GRU_Z * pitch]));
    const vf reset = v_activate(a->f, v_clip(a->clip, z[GRU_R * pitch]));
    const vf sum = v_fma(reset, gru_recurrent_h(a, z[GRU_H * pitch], unit, row), gru_input_h(a, unit, row));
    v_store(a->h_next + at, gru_blend(update, v_activate(a->g, v_clip(a->clip, sum)), v_load(a->h + at)));
}

static __attribute__((noinline)) void gru_end(const lstmrt_gru_args *a, vf *z, size_t panels, size_t rows, size_t panel,
                                              size_t row)
{
    if (is_plain(a->f, a->g, a->clip)) {
        FOR_UNITS(gru_unit_n, a, z, GRU_GATES, panels, rows, panel, row)
        FOR_UNITS(gru_unit_h, a, z, GRU_GATES, panels, rows, panel, row)
    } else {
        FOR_UNITS(gru_unit, a, z, GRU_GATES, panels, rows, panel, row)
    }
}

VEC_INLINE void gru_tile(const lstmrt_gru_args *a, int panels, int rows, size_t panel, size_t row)
{
    const size_t pitch = GRU_GATES * VEC_WIDTH, panel_size = a->inputs * pitch;
    vf z[VEC_REGISTERS];
    stream_begin(panels, GRU_GATES, rows, a->gates + row * a->gates_stride + panel * pitch, pitch, a->gates_stride, z);
    UNROLL for (int p = 0; p < panels; p++)
        UNROLL for (int r = 0; r < rows; r++) z[(p * GRU_GATES + GRU_H) * rows + r] = v_set1(0.0f);
    stream(panels, GRU_GATES, rows, a->weights + panel * panel_size, panel_size, a->h + row * a->stride, a->stride,
           a->inputs, a->ahead, panel, z);
    gru_end(a, z, (size_t)panels, (size_t)rows, panel, row);
}

static void kernel_gru(const lstmrt_gru_args *a)
{
    FOR_TILES(gru_tile, a, a->panels, 1, GRU_GATES, a->rows)
}

static __attribute__((noinline)) void gru_gates_end(const lstmrt_gru_gates_args *a, const vf *z, size_t panels,
                                                    size_t rows, size_t panel, size_t row)
{
    for (size_t p = 0; p < panels; p++)
        for (size_t r = 0; r < rows; r++) {
            const vf *sum = z + p * 2 * rows + r;
            const size_t at = (row + r) * a->stride + (panel + p) * VEC_WIDTH;
            const vf reset = v_activate(a->f, v_clip(a->clip, sum[GRU_R * rows]));
            v_store(a->z + at, v_activate(a->f, v_clip(a->clip, sum[GRU_Z * rows])));
            v_store(a->reset_h + at, v_mul(reset, v_load(a->h + at)));
        }
}

VEC_INLINE void gru_gates_tile(const lstmrt_gru_gates_args *a, int panels, int rows, size_t panel, size_t row)
{
    const size_t pitch = GRU_GATES * VEC_WIDTH, panel_size = a->inputs * 2 * VEC_WIDTH;
    vf z[VEC_REGISTERS];
    stream_begin(panels, 2, rows, a->gates + row * a->gates_stride + panel * pitch, pitch, a->gates_stride, z);
    stream(panels, 2, rows, a->weights + panel * panel_size, panel_size, a->h + row * a->stride, a->stride, a->inputs,
           a->ahead, panel, z);
    gru_gates_end(a, z, (size_t)panels, (size_t)rows, panel, row);
}

static void kernel_gru_gates(const lstmrt_gru_gates_args *a)
{
    FOR_TILES(gru_gates_tile, a, a->panels, 2, 2, a->rows)
}

static __attribute__((noinline)) void gru_candidate_end(const lstmrt_gru_candidate_args *a, const vf *z,
                                                        size_t panels, size_t rows, size_t panel, size_t row)
{
    for (size_t p = 0; p < panels; p++)
        for (size_t r = 0; r < rows; r++) {
            const size_t at = (row + r) * a->stride + (panel + p) * VEC_WIDTH;
            const vf n = v_activate(a->g, v_clip(a->clip, z[p * rows + r]));
            v_store(a->h_next + at, gru_blend(v_load(a->z + at), n, v_load(a->h + at)));
        }
}

VEC_INLINE void gru_candidate_tile(const lstmrt_gru_candidate_args *a, int panels, int rows, size_t panel, size_t row)
{
    const size_t pitch = GRU_GATES * VEC_WIDTH, panel_size = a->inputs * VEC_WIDTH;
    vf z[VEC_REGISTERS];
    stream_begin(panels, 1, rows, a->gates + row * a->gates_stride + panel * pitch + GRU_H * VEC_WIDTH, pitch,
                 a->gates_stride, z);
    stream(panels, 1, rows, a->weights + panel * panel_size, panel_size, a->reset_h + row * a->stride, a->stride,
           a->inputs, a->ahead, panel, z);
    gru_candidate_end(a, z, (size_t)panels, (size_t)rows, panel, row);
}

static void kernel_gru_candidate(const lstmrt_gru_candidate_args *a)
{
    FOR_TILES(gru_candidate_tile, a, a->panels, 4, 1, a->rows)
}
