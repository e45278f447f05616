/* Row by row, no weights. Tails shorter than a vector go through v_load_n and v_store_n. */

static void kernel_activate(const lstmrt_activate_args *a)
{
    for (size_t row = 0; row < a->rows; row++) {
        const float *x = a->x + row * a->x_stride;
        float *y = a->y + row * a->y_stride;
        size_t i = 0;
        for (; i + VEC_WIDTH <= a->width; i += VEC_WIDTH) v_store(y + i, v_activate(a->activation, v_load(x + i)));
        const size_t left = a->width - i;
        v_store_n(y + i, v_activate(a->activation, v_load_n(x + i, left)), left);
    }
}

VEC_INLINE vf v_combine(lstmrt_op op, vf a, vf b)
{
    switch (op) {
    case LSTMRT_OP_ADD: return v_add(a, b);
    case LSTMRT_OP_SUB: return v_sub(a, b);
    case LSTMRT_OP_MUL: return v_mul(a, b);
    case LSTMRT_OP_MAX: return v_max(a, b);
    case LSTMRT_OP_LESS: return v_select_lt(a, b, v_set1(1), v_set1(0));
    default: return v_div(a, b);
    }
}

static void kernel_combine(const lstmrt_combine_args *args)
{
    for (size_t row = 0; row < args->rows; row++) {
        const float *a = args->a + row * args->a_stride, *b = args->b + row * args->b_stride;
        float *y = args->y + row * args->y_stride;
        const vf single = v_set1(b[0]);
        size_t i = 0;
        for (; i + VEC_WIDTH <= args->width; i += VEC_WIDTH)
            v_store(y + i, v_combine(args->op, v_load(a + i), args->b_single ? single : v_load(b + i)));
        const size_t left = args->width - i;
        const vf last = args->b_single ? single : v_load_n(b + i, left);
        v_store_n(y + i, v_combine(args->op, v_load_n(a + i, left), last), left);
    }
}

/* The largest element; unspecified where there is a NaN. */
static float row_max(const float *x, size_t width)
{
    if (width < VEC_WIDTH) {
        float largest = x[0];
        for (size_t i = 1; i < width; i++) largest = x[i] > largest ? x[i] : largest;
        return largest;
    }
    vf largest = v_load(x);
    for (size_t i = VEC_WIDTH; i + VEC_WIDTH <= width; i += VEC_WIDTH) largest = v_max(largest, v_load(x + i));
    return v_reduce_max(v_max(largest, v_load(x + width - VEC_WIDTH)));
}

/* Of the exponentials of x - largest; `e`, where there is one, gets these. */
static float exponentials(const float *x, float *e, size_t width, vf largest)
{
    vf sums = v_set1(0.0f);
    size_t i = 0;
    for (; i + VEC_WIDTH <= width; i += VEC_WIDTH) {
        const vf exponential = v_exp(v_sub(v_load(x + i), largest));
        if (e) v_store(e + i, exponential);
        sums = v_add(sums, exponential);
    }
    float sum = v_reduce_add(sums);
    if (i < width) {
        float tail[VEC_WIDTH];
        v_store(tail, v_exp(v_sub(v_load_n(x + i, width - i), largest)));
        if (e) v_store_n(e + i, v_load(tail), width - i);
        for (size_t j = 0; j < width - i; j++) sum += tail[j];
    }
    return sum;
}

static void softmax_row(const float *x, float *y, size_t width)
{
    const vf scale = v_set1(exponentials(x, y, width, v_set1(row_max(x, width))));
    size_t i = 0;
    for (; i + VEC_WIDTH <= width; i += VEC_WIDTH) v_store(y + i, v_div(v_load(y + i), scale));
    v_store_n(y + i, v_div(v_load_n(y + i, width - i), scale), width - i);
}

static void log_softmax_row(const float *x, float *y, size_t width)
{
    const vf largest = v_set1(row_max(x, width)), log_sum = v_set1(logf(exponentials(x, NULL, width, largest)));
    size_t i = 0;
    for (; i + VEC_WIDTH <= width; i += VEC_WIDTH) v_store(y + i, v_sub(v_sub(v_load(x + i), largest), log_sum));
    v_store_n(y + i, v_sub(v_sub(v_load_n(x + i, width - i), largest), log_sum), width - i);
}

static void kernel_softmax(const lstmrt_softmax_args *a)
{
    for (size_t row = 0; row < a->rows; row++)
        (a->log ? log_softmax_row : softmax_row)(a->x + row * a->x_stride, a->y + row * a->y_stride, a->width);
}

static size_t argmax_each(const float *x, size_t width)
{
    size_t best = 0;
    for (size_t i = 0; i < width; i++) {
        if (isnan(x[i])) return i;
        if (x[i] > x[best]) best = i;
    }
    return best;
}

/* Finds the first block that holds the largest element, then the element. x - x is NaN for NaN and for infinities:
 * rows with any of them are looked at one by one. */
static void kernel_argmax(const lstmrt_argmax_args *a)
{
    enum { BLOCK = 4 * VEC_WIDTH };
    size_t begin = 0, best = 0;
    float largest = -INFINITY;
    for (; begin + BLOCK <= a->width; begin += BLOCK) {
        vf most = v_load(a->x + begin), odd = v_sub(most, most);
        for (size_t i = VEC_WIDTH; i < BLOCK; i += VEC_WIDTH) {
            const vf x = v_load(a->x + begin + i);
            most = v_max(most, x);
            odd = v_add(odd, v_sub(x, x));
        }
        if (isnan(v_reduce_add(odd))) {
            *a->index = argmax_each(a->x, a->width);
            return;
        }
        const float block_largest = v_reduce_max(most);
        if (block_largest > largest) largest = block_largest, best = begin;
    }
    const size_t rest = a->width - begin;
    if (begin > 0) best += argmax_each(a->x + best, BLOCK);
    if (rest > 0) {
        const size_t last = begin + argmax_each(a->x + begin, rest);
        if (isnan(a->x[last]) || begin == 0 || a->x[last] > largest) best = last;
    }
    *a->index = best;
}
