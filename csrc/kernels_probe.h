/* What a core can do at best: the limits that benchmarks are held against. See lstmrt_probe_read. */

enum { PROBE_SUMS = VEC_REGISTERS > 16 ? 16 : 8 }; /* independent chains: more than latency times additions a cycle */

/* Adds up `passes` readings of x. `width` is a multiple of 16 vectors; what is left over is not read. */
static void kernel_probe_read(const lstmrt_probe_read_args *a)
{
    vf sum[PROBE_SUMS];
    UNROLL for (int i = 0; i < PROBE_SUMS; i++) sum[i] = v_set1(0.0f);
    for (size_t pass = 0; pass < a->passes; pass++)
        for (size_t at = 0; at + PROBE_SUMS * VEC_WIDTH <= a->width; at += PROBE_SUMS * VEC_WIDTH)
            UNROLL for (int i = 0; i < PROBE_SUMS; i++) sum[i] = v_add(sum[i], v_load(a->x + at + i * VEC_WIDTH));
    UNROLL for (int i = 1; i < PROBE_SUMS; i++) sum[0] = v_add(sum[0], sum[i]);
    *a->sum = v_reduce_add(sum[0]);
}

/* `turns` fused multiply-adds in each of PROBE_SUMS chains. */
static void kernel_probe_fma(const lstmrt_probe_fma_args *a)
{
    vf sum[PROBE_SUMS];
    const vf shrink = v_set1(0.5f), one = v_set1(1.0f);
    UNROLL for (int i = 0; i < PROBE_SUMS; i++) sum[i] = v_set1((float)i);
    for (size_t turn = 0; turn < a->turns; turn++)
        UNROLL for (int i = 0; i < PROBE_SUMS; i++) sum[i] = v_fma(sum[i], shrink, one);
    UNROLL for (int i = 1; i < PROBE_SUMS; i++) sum[0] = v_add(sum[0], sum[i]);
    *a->sum = v_reduce_add(sum[0]);
    *a->operations = 2 * a->turns * PROBE_SUMS * VEC_WIDTH;
}
