/* The part of test_kernels.c that tests the products of attention. */
#ifndef ATTENTION_KERNELS_H
#define ATTENTION_KERNELS_H

static void check_scores(const lstmrt_kernels *kernels, const lstmrt_scores_args *a)
{
    for (size_t r = 0; r < a->rows; r++)
        for (size_t s = 0; s < a->steps; s++) {
            sum score = {0, 0};
            for (size_t i = 0; i < a->width; i++) {
                const double q = a->q[r * a->q_stride + i], k = a->k[s * a->k_stride + i];
                sum_add(&score, a->column ? a->column[i] * tanh(q + k) : q * k);
            }
            CHECK(near(a->y[r * a->y_stride + s], a->scale * score.value, tolerance(score.magnitudes)),
                  "%s scores, width %zu, row %zu of %zu, step %zu of %zu: %.9g is not %.9g", kernels->name, a->width, r,
                  a->rows, s, a->steps, a->y[r * a->y_stride + s], a->scale * score.value);
            float alone;
            lstmrt_scores_args one = *a;
            one.q += r * a->q_stride, one.k += s * a->k_stride, one.y = &alone, one.rows = one.steps = 1, one.panels = NULL;
            kernels->scores(&one);
            CHECK(alone == a->y[r * a->y_stride + s], "%s scores, width %zu: other bits alone", kernels->name, a->width);
        }
}

/* With keys in panels too, of which every score has the same bits. */
static void check_panels(const lstmrt_kernels *kernels, lstmrt_scores_args a)
{
    const size_t lanes = kernels->width, keys = (a.steps + lanes - 1) / lanes * lanes;
    guarded panels = guarded_new(keys * a.width);
    for (size_t i = 0; i < keys * a.width; i++) {
        const size_t key = i / (lanes * a.width) * lanes + i % lanes;
        panels.x[i] = key < a.steps ? a.k[key * a.k_stride + i / lanes % a.width] : NAN;
    }
    a.panels = panels.x;
    memset(a.y, 0, ((a.rows - 1) * a.y_stride + a.steps) * sizeof *a.y);
    kernels->scores(&a);
    check_scores(kernels, &a);
    guarded_free(panels);
}

static void test_scores(const lstmrt_kernels *kernels)
{
    for (size_t i = 0; i < COUNT(ROWS); i++)
        for (size_t steps = 1; steps < 20; steps += steps < 10 ? 1 : 4)
            FOR_HIDDEN_SIZES(width, kernels)
                for (int additive = 0; additive < 2; additive++) {
                    const size_t rows = ROWS[i];
                    guarded q = guarded_random((rows - 1) * (width + 3) + width, 2);
                    guarded k = guarded_random((steps - 1) * (width + 1) + width, 2), column = guarded_random(width, 1);
                    guarded y = guarded_new((rows - 1) * (steps + 2) + steps);
                    lstmrt_scores_args args = {q.x, k.x, NULL, additive ? column.x : NULL, y.x, width + 3, width + 1,
                                               steps + 2, rows, steps, width, 0.7f};
                    kernels->scores(&args);
                    check_scores(kernels, &args);
                    if (!additive) check_panels(kernels, args);
                    guarded_free(q), guarded_free(k), guarded_free(column), guarded_free(y);
                }
}

static void check_mix(const lstmrt_kernels *kernels, const lstmrt_mix_args *a)
{
    guarded alone = guarded_new(a->width);
    for (size_t r = 0; r < a->rows; r++) {
        lstmrt_mix_args one = *a;
        one.w += r * a->w_stride, one.y = alone.x, one.rows = 1;
        kernels->mix(&one);
        for (size_t i = 0; i < a->width; i++) {
            sum s = {0, 0};
            for (size_t t = 0; t < a->steps; t++) sum_add(&s, (double)a->w[r * a->w_stride + t] * a->x[t * a->x_stride + i]);
            const float got = a->y[r * a->y_stride + i];
            CHECK(near(got, s.value, tolerance(s.magnitudes)), "%s mix, %zu steps, row %zu of %zu, column %zu: %.9g is not %.9g",
                  kernels->name, a->steps, r, a->rows, i, got, s.value);
            CHECK(got == alone.x[i], "%s mix, %zu steps: other bits alone", kernels->name, a->steps);
        }
    }
    guarded_free(alone);
}

static void test_mix(const lstmrt_kernels *kernels)
{
    static const size_t STEPS[] = {1, 2, LSTMRT_BLOCK, LSTMRT_BLOCK + 1};
    for (size_t i = 0; i < COUNT(ROWS); i++)
        for (size_t j = 0; j < COUNT(STEPS); j++)
            for (size_t width = 1; width <= 5 * kernels->width + 3; width += kernels->width / 2 + 1) {
                const size_t rows = ROWS[i], steps = STEPS[j];
                guarded w = guarded_random((rows - 1) * (steps + 2) + steps, 1);
                guarded x = guarded_random((steps - 1) * (width + 1) + width, 2);
                guarded y = guarded_new((rows - 1) * (width + 3) + width);
                const lstmrt_mix_args args = {w.x, x.x, y.x, steps + 2, width + 1, width + 3, rows, steps, width};
                kernels->mix(&args);
                check_mix(kernels, &args);
                guarded_free(w), guarded_free(x), guarded_free(y);
            }
}

#endif
