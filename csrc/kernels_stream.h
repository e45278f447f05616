/* The one inner loop: weights streamed from memory into the register sums of a tile. Everything with weights is built on
 * it. */

/* The weights that vector j of a tile has for input k: panels stand `panel_size` floats apart. */
VEC_INLINE const float *stream_weight(int vectors, const float *weights, size_t panel_size, size_t k, int j)
{
    return weights + (size_t)(j / vectors) * panel_size + (k * (size_t)vectors + (size_t)(j % vectors)) * VEC_WIDTH;
}

/* Adds to sum[p][v][r] the product of x[r][k] with vector v of panel p, for `panels` panels of `vectors` vectors and `rows`
 * rows. All three are constants where this is called. */
VEC_INLINE void stream_multiply(int panels, int vectors, int rows, const float *weights, size_t panel_size,
                                const float *x, size_t x_stride, size_t k, vf *sum)
{
    vf xk[MOST_ROWS];
    UNROLL for (int r = 0; r < rows; r++) xk[r] = v_set1(x[(size_t)r * x_stride + k]);
    UNROLL for (int j = 0; j < panels * vectors; j++) {
        vf wk = v_load(stream_weight(vectors, weights, panel_size, k, j));
        if (rows > 1) wk = v_hold(wk);
        UNROLL for (int r = 0; r < rows; r++) sum[j * rows + r] = v_fma(xk[r], wk, sum[j * rows + r]);
    }
}

/* The same for inputs [begin, end) of a single row, and an item of work ahead; then what is left of the longer one. */
VEC_INLINE void stream_beside(int panels, int vectors, const float *weights, size_t panel_size, const float *x, size_t begin,
                              size_t end, const ahead_item *item, vf *sum)
{
    const size_t both = end - begin < item->inputs ? end - begin : item->inputs;
    vf other[LSTMRT_AHEAD_ROWS];
    ahead_begin(other);
    for (size_t k = 0; k < both; k++) {
        ahead_multiply(item, k, other);
        stream_multiply(panels, vectors, 1, weights, panel_size, x, 0, begin + k, sum);
    }
    for (size_t k = both; k < item->inputs; k++) ahead_multiply(item, k, other);
    ahead_end(item, other);
    for (size_t k = begin + both; k < end; k++) stream_multiply(panels, vectors, 1, weights, panel_size, x, 0, k, sum);
}

/* total[i] += sum[i], in memory: compilers would keep totals in registers, and spill sums. */
VEC_INLINE void stream_add(int n, const vf *sum, vf *total)
{
    LEAVE_IN_MEMORY(*(vf(*)[VEC_REGISTERS])total);
    UNROLL for (int i = 0; i < n; i++) total[i] = v_add(total[i], sum[i]);
    LEAVE_IN_MEMORY(*(vf(*)[VEC_REGISTERS])total);
}

/* Where a block ends, its sums go to the totals while the first input k of the next block is multiplied: additions and
 * stores one by one between multiplications, which would wait for them all otherwise. */
VEC_INLINE void stream_turn(int panels, int vectors, int rows, const float *weights, size_t panel_size, const float *x,
                            size_t x_stride, size_t k, vf *sum, vf *total)
{
    LEAVE_IN_MEMORY(*(vf(*)[VEC_REGISTERS])total);
    vf xk[MOST_ROWS];
    UNROLL for (int r = 0; r < rows; r++) xk[r] = v_set1(x[(size_t)r * x_stride + k]);
    UNROLL for (int j = 0; j < panels * vectors; j++) {
        const vf wk = v_hold(v_load(stream_weight(vectors, weights, panel_size, k, j)));
        UNROLL for (int i = j * rows; i < (j + 1) * rows; i++) {
            total[i] = v_add(total[i], sum[i]);
            sum[i] = v_fma(xk[i - j * rows], wk, v_set1(0.0f));
        }
    }
    LEAVE_IN_MEMORY(*(vf(*)[VEC_REGISTERS])total);
}

/* stream() for several rows. */
VEC_INLINE void stream_rows(int panels, int vectors, int rows, const float *weights, size_t panel_size, const float *x,
                            size_t x_stride, size_t inputs, vf *total)
{
    vf sum[VEC_REGISTERS];
    UNROLL for (int i = 0; i < panels * vectors * rows; i++) sum[i] = v_set1(0.0f);
    for (size_t k = 0, end = LSTMRT_BLOCK; k < inputs; end += LSTMRT_BLOCK) {
        if (k > 0) stream_turn(panels, vectors, rows, weights, panel_size, x, x_stride, k++, sum, total);
        for (; k < inputs && k < end; k++)
            stream_multiply(panels, vectors, rows, weights, panel_size, x, x_stride, k, sum);
    }
    stream_add(panels * vectors * rows, sum, total);
}

/* stream() for a single row, which takes along what is to be computed ahead. */
VEC_INLINE void stream_row(int panels, int vectors, const float *weights, size_t panel_size, const float *x, size_t inputs,
                           const lstmrt_ahead *ahead, size_t panel, vf *total)
{
    size_t begin = 0;
    do {
        const size_t end = inputs - begin < LSTMRT_BLOCK ? inputs : begin + LSTMRT_BLOCK;
        vf sum[VEC_REGISTERS];
        ahead_item item;
        UNROLL for (int i = 0; i < panels * vectors; i++) sum[i] = v_set1(0.0f);
        if (TAKES_AHEAD && ahead && ahead_take(ahead, panel, panel + (size_t)panels, &item))
            stream_beside(panels, vectors, weights, panel_size, x, begin, end, &item, sum);
        else
            for (size_t k = begin; k < end; k++)
                stream_multiply(panels, vectors, 1, weights, panel_size, x, 0, k, sum);
        stream_add(panels * vectors, sum, total);
        begin += LSTMRT_BLOCK;
    } while (begin < inputs);
}

/* Adds to total[p][v][r] the products of x[r][0..inputs-1]; without inputs zeros, as -0 becomes 0 by products of zeros too.
 * A single row takes along what is to be computed ahead for panels [panel, panel + panels), where `ahead` is not NULL. */
VEC_INLINE void stream(int panels, int vectors, int rows, const float *weights, size_t panel_size, const float *x,
                       size_t x_stride, size_t inputs, const lstmrt_ahead *ahead, size_t panel, vf *total)
{
    if (rows == 1)
        stream_row(panels, vectors, weights, panel_size, x, inputs, ahead, panel, total);
    else
        stream_rows(panels, vectors, rows, weights, panel_size, x, x_stride, inputs, total);
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
