/* Parts of the greedy screen (screen.c): which outputs can still be the largest, and those outputs exactly. */

/* How far y may be from the exact output. */
VEC_INLINE vf screen_radius(const float *slopes, float norm, float slack, size_t i)
{
    return v_fma(v_load(slopes + i), v_set1(norm), v_set1(slack));
}

static void kernel_screen_lower(const lstmrt_screen_lower_args *a)
{
    float largest = -INFINITY;
    size_t found = 0;
    for (size_t vector = 0; vector < a->vectors; vector++) {
        const size_t i = vector * VEC_WIDTH;
        const vf lower = v_sub(v_load(a->y + i), screen_radius(a->slopes, a->norm, a->slack, i));
        const float most = v_reduce_max(v_max(lower, v_set1(-INFINITY))); /* NaN says nothing */
        if (most > largest) largest = most, found = vector;
    }
    *a->largest = largest;
    *a->vector = found;
}

static void kernel_screen_left(const lstmrt_screen_left_args *a)
{
    const vf zero = v_set1(0.0f), one = v_set1(1.0f), threshold = v_set1(a->threshold);
    size_t n = 0;
    for (size_t vector = 0; vector < a->vectors && n < a->most; vector++) {
        const size_t i = vector * VEC_WIDTH;
        const vf upper = v_add(v_load(a->y + i), screen_radius(a->slopes, a->norm, a->slack, i));
        if (v_reduce_add(v_select_lt(upper, threshold, zero, one)) > 0) a->left[n++] = (uint32_t)vector;
    }
    *a->n = n;
}

/* The additions of stream() in their order, so that the bits are those of kernel_dense. */
static void kernel_dense_vector(const lstmrt_dense_vector_args *a)
{
    vf total = v_load(a->init);
    for (size_t begin = 0; begin < a->inputs; begin += LSTMRT_BLOCK) {
        const size_t end = a->inputs - begin < LSTMRT_BLOCK ? a->inputs : begin + LSTMRT_BLOCK;
        vf sum = v_set1(0.0f);
        for (size_t k = begin; k < end; k++) sum = v_fma(v_set1(a->x[k]), v_load(a->weights + k * a->pitch), sum);
        total = v_add(total, sum);
    }
    v_store(a->y, total);
}
