/* The limits of the calling thread's core, measured: benchmarks are held against them. */
#include "dispatch.h"
#include "os.h"
#include "pack.h"

typedef struct {
    const lstmrt_kernels *kernels;
    void (*fma)(const lstmrt_probe_fma_args *);
    const float *x;
    size_t width;
} probe;

enum { WIDTH_UNIT = 256 }; /* see lstmrt_probe_read_args */

/* Each does `turns` of its work and says how much that was: bytes or operations. */
typedef double probe_work(const probe *p, size_t turns);

static double read_work(const probe *p, size_t turns)
{
    float sum;
    p->kernels->probe_read(&(lstmrt_probe_read_args){p->x, p->width, turns, &sum});
    return (double)turns * (double)p->width * sizeof(float);
}

static double fma_work(const probe *p, size_t turns)
{
    float sum;
    size_t operations;
    p->fma(&(lstmrt_probe_fma_args){turns, &sum, &operations});
    return (double)operations;
}

/* The best rate a second of pieces of work that take a 32nd of the budget each: other programs only ever slow one. */
static double best_rate(const probe *p, probe_work *work, int64_t budget)
{
    const int64_t begin = lstmrt_clock(), piece = budget / 32;
    double best = 0;
    size_t turns = 1;
    for (int64_t now = begin; now - begin < budget;) {
        const int64_t start = now;
        const double done = work(p, turns);
        now = lstmrt_clock();
        if (now - start < piece / 2) {
            turns *= 2;
            continue;
        }
        const double rate = done * 1e9 / (double)(now - start);
        if (rate > best) best = rate;
    }
    return best;
}

static lstmrt_status check(const char *isa, lstmrt_precision precision, int64_t budget, probe *p)
{
    const lstmrt_isa *found;
    const lstmrt_status status = budget <= 0 ? LSTMRT_BAD_ARGUMENT : lstmrt_isa_find(isa, &found);
    if (status) return status;
    p->kernels = found->f32;
    p->fma = precision == LSTMRT_PRECISION_INT8   ? found->int8->probe
             : precision == LSTMRT_PRECISION_BF16 ? found->bf16->probe
                                                  : found->f32->probe_fma;
    return LSTMRT_OK;
}

lstmrt_status lstmrt_probe_read(const char *isa, size_t bytes, int64_t budget, double *rate)
{
    probe p;
    lstmrt_status status = check(isa, LSTMRT_PRECISION_F32, budget, &p);
    if (status) return status;
    p.width = lstmrt_round_up(bytes / sizeof(float), WIDTH_UNIT);
    float *x = lstmrt_allocate_array(p.width, sizeof(float));
    if (!x) return LSTMRT_OUT_OF_MEMORY;
    p.x = x;
    *rate = best_rate(&p, read_work, budget);
    lstmrt_release(x);
    return LSTMRT_OK;
}

lstmrt_status lstmrt_probe_fma(const char *isa, lstmrt_precision precision, int64_t budget, double *rate)
{
    probe p = {0};
    lstmrt_status status = check(isa, precision, budget, &p);
    if (status) return status;
    *rate = best_rate(&p, fma_work, budget);
    return LSTMRT_OK;
}
