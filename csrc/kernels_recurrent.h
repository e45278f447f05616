/* The fused steps of recurrent cells: product with the recurrent weights, bias, activations and state update, all in
 * registers. Formulas stand with the arguments in kernels.h. */

enum { LSTM_I, LSTM_O, LSTM_F, LSTM_C, LSTM_GATES };

VEC_INLINE bool is_plain(lstmrt_activation f, lstmrt_activation g, float clip)
{
    return f.function == LSTMRT_SIGMOID && g.function == LSTMRT_TANH && clip == INFINITY;
}

VEC_INLINE bool lstm_is_plain(const lstmrt_lstm_args *a)
{
    return is_plain(a->f, a->g, a->clip) && a->activation_h.function == LSTMRT_TANH && !a->input_forget &&
           !a->peepholes;
}

/* One vector of hidden units of one row, from its gate sums z[gate * pitch]: the cell that nearly all models have. Its
 * five activations are fractions that are divided once for c' and once for h', which is faster and rounds less often. */
VEC_INLINE void lstm_unit_plain(const lstmrt_lstm_args *a, const vf *z, size_t pitch, size_t unit, size_t row)
{
    const size_t at = row * a->stride + unit;
    vf unused;
    const v_fraction i = v_sigmoid_fraction(z[LSTM_I * pitch], &unused), g = v_tanh_fraction(z[LSTM_C * pitch]);
    const v_fraction f = v_sigmoid_fraction(z[LSTM_F * pitch], &unused), o = v_sigmoid_fraction(z[LSTM_O * pitch], &unused);
    const vf kept = v_mul(f.n, v_load(a->c + at)), added = v_mul(i.n, g.n), d = v_mul(i.d, g.d);
    const vf c_next = v_div(v_fma(kept, d, v_mul(f.d, added)), v_mul(f.d, d));
    const v_fraction h = v_tanh_fraction(c_next);
    v_store(a->c_next + at, c_next);
    v_store(a->h_next + at, v_div(v_mul(o.n, h.n), v_mul(o.d, h.d)));
}

/* The same with any activations, clip, peepholes and coupled gates. */
VEC_INLINE void lstm_unit(const lstmrt_lstm_args *a, const vf *z, size_t pitch, size_t unit, size_t row)
{
    const size_t at = row * a->stride + unit;
    const vf c = v_load(a->c + at);
    vf zi = z[LSTM_I * pitch], zo = z[LSTM_O * pitch], zf = z[LSTM_F * pitch];
    const float *peephole = a->peepholes ? a->peepholes + 3 * unit : NULL;
    if (peephole) {
        zi = v_fma(v_load(peephole), c, zi);
        zf = v_fma(v_load(peephole + 2 * VEC_WIDTH), c, zf);
    }
    const vf i = v_activate(a->f, v_clip(a->clip, zi));
    const vf f = a->input_forget ? v_sub(v_set1(1.0f), i) : v_activate(a->f, v_clip(a->clip, zf));
    const vf g = v_activate(a->g, v_clip(a->clip, z[LSTM_C * pitch]));
    const vf c_next = v_fma(f, c, v_mul(i, g));
    if (peephole) zo = v_fma(v_load(peephole + VEC_WIDTH), c_next, zo);
    const vf o = v_activate(a->f, v_clip(a->clip, zo));
    v_store(a->c_next + at, c_next);
    v_store(a->h_next + at, v_mul(o, v_activate(a->activation_h, c_next)));
}

static __attribute__((noinline)) void lstm_end(const lstmrt_lstm_args *a, const vf *z, size_t panels, size_t rows,
                                               size_t panel, size_t row)
{
    const bool plain = lstm_is_plain(a);
    for (size_t p = 0; p < panels; p++)
        for (size_t r = 0; r < rows; r++) {
            const vf *sums = z + p * LSTM_GATES * rows + r;
            if (plain)
                lstm_unit_plain(a, sums, rows, (panel + p) * VEC_WIDTH, row + r);
            else
                lstm_unit(a, sums, rows, (panel + p) * VEC_WIDTH, row + r);
        }
}

VEC_INLINE void lstm_tile(const lstmrt_lstm_args *a, int panels, int rows, size_t panel, size_t row)
{
    const size_t pitch = LSTM_GATES * VEC_WIDTH, panel_size = a->inputs * pitch;
    vf z[VEC_REGISTERS];
    stream_begin(panels, LSTM_GATES, rows, a->gates + row * a->gates_stride + panel * pitch, pitch, a->gates_stride, z);
    stream(panels, LSTM_GATES, rows, a->weights + panel * panel_size, panel_size, a->h + row * a->stride, a->stride,
           a->inputs, z);
    lstm_end(a, z, (size_t)panels, (size_t)rows, panel, row);
}

static void kernel_lstm(const lstmrt_lstm_args *a)
{
    FOR_TILES(lstm_tile, a, 1, LSTM_GATES, a->rows)
}

enum { GRU_Z, GRU_R, GRU_H, GRU_GATES };

/* (1 - z) n + z h, as n + z (h - n) would lose h where z is 1. */
VEC_INLINE vf gru_blend(vf z, vf n, vf h) { return v_fma(z, h, v_mul(v_sub(v_set1(1.0f), z), n)); }

/* h' of one vector of units from its three sums: of gates z and r, and of gate h, input and recurrent part apart. */
VEC_INLINE vf gru_unit(const lstmrt_gru_args *a, vf zz, vf zr, vf input_h, vf recurrent_h, vf h)
{
    const vf update = v_activate(a->f, v_clip(a->clip, zz)), reset = v_activate(a->f, v_clip(a->clip, zr));
    const vf n = v_activate(a->g, v_clip(a->clip, v_fma(reset, recurrent_h, input_h)));
    return gru_blend(update, n, h);
}

/* The same for the cell that nearly all models have, with one division less. */
VEC_INLINE vf gru_unit_plain(vf zz, vf zr, vf input_h, vf recurrent_h, vf h)
{
    vf unused, rest;
    const v_fraction r = v_sigmoid_fraction(zr, &unused), z = v_sigmoid_fraction(zz, &rest);
    const v_fraction n = v_tanh_fraction(v_fma(v_div(r.n, r.d), recurrent_h, input_h));
    return v_div(v_fma(v_mul(z.n, h), n.d, v_mul(rest, n.n)), v_mul(z.d, n.d));
}

static __attribute__((noinline)) void gru_end(const lstmrt_gru_args *a, const vf *z, size_t panels, size_t rows,
                                              size_t panel, size_t row)
{
    const bool plain = is_plain(a->f, a->g, a->clip);
    for (size_t p = 0; p < panels; p++)
        for (size_t r = 0; r < rows; r++) {
            const vf *sum = z + p * GRU_GATES * rows + r;
            const size_t unit = (panel + p) * VEC_WIDTH, at = (row + r) * a->stride + unit;
            const vf input_h = v_load(a->gates + (row + r) * a->gates_stride + GRU_GATES * unit + GRU_H * VEC_WIDTH);
            const vf recurrent_h = v_add(sum[GRU_H * rows], v_load(a->bias + (row + r) * a->bias_stride + unit));
            const vf zz = sum[GRU_Z * rows], zr = sum[GRU_R * rows], h = v_load(a->h + at);
            v_store(a->h_next + at, plain ? gru_unit_plain(zz, zr, input_h, recurrent_h, h)
                                          : gru_unit(a, zz, zr, input_h, recurrent_h, h));
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
           a->inputs, z);
    gru_end(a, z, (size_t)panels, (size_t)rows, panel, row);
}

static void kernel_gru(const lstmrt_gru_args *a)
{
    FOR_TILES(gru_tile, a, 1, GRU_GATES, a->rows)
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
           z);
    gru_gates_end(a, z, (size_t)panels, (size_t)rows, panel, row);
}

static void kernel_gru_gates(const lstmrt_gru_gates_args *a)
{
    FOR_TILES(gru_gates_tile, a, 2, 2, a->rows)
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
           a->inputs, z);
    gru_candidate_end(a, z, (size_t)panels, (size_t)rows, panel, row);
}

static void kernel_gru_candidate(const lstmrt_gru_candidate_args *a)
{
    FOR_TILES(gru_candidate_tile, a, 4, 1, a->rows)
}
