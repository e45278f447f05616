/* Work ahead: input parts of later time steps, computed beside the stream of recurrent weights.
 *
 * A step of one row waits for its weights, and half of the multiply-adds that a core could do meanwhile are left. stream()
 * takes *items* along to fill them: of one vector of outputs, LSTMRT_AHEAD_ROWS rows and a block of inputs, so that few
 * further weights are read. Sums are those of kernel_dense, in its order. */

enum { TAKES_AHEAD = VEC_REGISTERS >= 32 }; /* fewer do not hold the sums of both */

typedef struct {
    const float *x, *weights; /* of the block's first input */
    const float *from;        /* what sums are added to: y, or the bias in the first block */
    float *y;
    size_t pitch, from_stride, y_stride;
    size_t inputs;
} ahead_item;

static ahead_item ahead_item_at(const lstmrt_ahead *a, const lstmrt_ahead_place *place)
{
    const size_t first = place->vector - place->vector % LSTMRT_DENSE_VECTORS, left = a->vectors - first; /* of its panel */
    const size_t pitch = (left < LSTMRT_DENSE_VECTORS ? left : LSTMRT_DENSE_VECTORS) * VEC_WIDTH;
    const size_t column = place->vector * VEC_WIDTH, inputs = a->inputs - place->input;
    const bool begins = place->input == 0;
    float *y = a->y + place->row * a->y_stride + column;
    return (ahead_item){
        .x = a->x + place->row * a->inputs + place->input * LSTMRT_AHEAD_ROWS,
        .weights = a->weights + first * VEC_WIDTH * a->inputs + place->input * pitch + (column - first * VEC_WIDTH),
        .from = begins ? a->init + column : y,
        .y = y,
        .pitch = pitch,
        .from_stride = begins ? 0 : a->y_stride,
        .y_stride = a->y_stride,
        .inputs = inputs < LSTMRT_BLOCK ? inputs : LSTMRT_BLOCK,
    };
}

/* The next item of panels [panel, end), if there is one: all rows meet a block of weights while it is near, then the
 * vector's next block, then the next vector. */
static __attribute__((noinline)) bool ahead_take(const lstmrt_ahead *a, size_t panel, size_t end, ahead_item *item)
{
    while (panel < end && a->next[panel].vector == a->next[panel].end) panel++;
    if (panel == end) return false;
    lstmrt_ahead_place *next = &a->next[panel];
    *item = ahead_item_at(a, next);
    next->row += LSTMRT_AHEAD_ROWS;
    if (next->row < a->rows) return true;
    next->row = 0;
    next->input += item->inputs;
    if (next->input < a->inputs) return true;
    next->input = 0;
    next->vector++;
    return true;
}

VEC_INLINE void ahead_begin(vf *sum)
{
    UNROLL for (int r = 0; r < LSTMRT_AHEAD_ROWS; r++) sum[r] = v_set1(0.0f);
}

VEC_INLINE void ahead_multiply(const ahead_item *item, size_t k, vf *sum)
{
    const vf weight = v_hold(v_load(item->weights + k * item->pitch));
    const float *x = item->x + k * LSTMRT_AHEAD_ROWS;
    UNROLL for (int r = 0; r < LSTMRT_AHEAD_ROWS; r++) sum[r] = v_fma(v_set1(x[r]), weight, sum[r]);
}

VEC_INLINE void ahead_end(const ahead_item *item, const vf *sum)
{
    UNROLL for (size_t r = 0; r < LSTMRT_AHEAD_ROWS; r++)
        v_store(item->y + r * item->y_stride, v_add(v_load(item->from + r * item->from_stride), sum[r]));
}

static void kernel_ahead_rest(const lstmrt_ahead_rest_args *a)
{
    ahead_item item;
    while (ahead_take(a->ahead, a->panels.begin, a->panels.end, &item)) {
        vf sum[LSTMRT_AHEAD_ROWS];
        ahead_begin(sum);
        for (size_t k = 0; k < item.inputs; k++) ahead_multiply(&item, k, sum);
        ahead_end(&item, sum);
    }
}
