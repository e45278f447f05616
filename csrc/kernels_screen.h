/* Parts of the greedy screen (screen.c): which outputs can still be the largest, and those outputs exactly. */

/* How far y may be from the exact output. */
VEC_INLINE vf screen_radius(const float *slopes, float norm, float slack, size_t i)
{
    return v_fma(v_load(slopes + i), v_set1(norm), v_set1(slack));
}

/* Vectors [begin, returned) are looked at together: what is rare is looked for in each only where one has it. */
VEC_INLINE size_t screen_end(size_t begin, size_t vectors) { return vectors - begin < 4 ? vectors : begin + 4; }

/* The lower bounds; NaN says nothing. */
VEC_INLINE vf screen_lower(const lstmrt_screen_lower_args *a, size_t vector)
{
    const size_t i = vector * VEC_WIDTH;
    const vf lower = v_sub(v_load(a->y + i), screen_radius(a->slopes, a->norm, a->slack, i));
    return v_max(lower, v_set1(-INFINITY));
}

/* 1 where an output may be the largest, else 0. */
VEC_INLINE vf screen_left(const lstmrt_screen_left_args *a, size_t vector)
{
    const size_t i = vector * VEC_WIDTH;
    const vf upper = v_add(v_load(a->y + i), screen_radius(a->slopes, a->norm, a->slack, i));
    return v_select_lt(upper, v_set1(a->threshold), v_set1(0.0f), v_set1(1.0f));
}

static void kernel_screen_lower(const lstmrt_screen_lower_args *a)
{
    float largest = -INFINITY;
    size_t found = 0;
    for (size_t begin = 0, end; begin < a->vectors; begin = end) {
        end = screen_end(begin, a->vectors);
        vf most = v_set1(-INFINITY);
        for (size_t vector = begin; vector < end; vector++) most = v_max(screen_lower(a, vector), most);
        if (!(v_reduce_max(most) > largest)) continue;
        for (size_t vector = begin; vector < end; vector++) {
            const float here = v_reduce_max(screen_lower(a, vector));
            if (here > largest) largest = here, found = vector;
        }
    }
    *a->largest = largest;
    *a->vector = found;
}

static void kernel_screen_left(const lstmrt_screen_left_args *a)
{
    size_t n = 0;
    for (size_t begin = 0, end; begin < a->vectors && n < a->most; begin = end) {
        end = screen_end(begin, a->vectors);
        vf any = v_set1(0.0f);
        for (size_t vector = begin; vector < end; vector++) any = v_add(any, screen_left(a, vector));
        if (!(v_reduce_add(any) > 0)) continue;
        for (size_t vector = begin; vector < end && n < a->most; vector++)
            if (v_reduce_add(screen_left(a, vector)) > 0) a->left[n++] = (uint32_t)vector;
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
