/* Work ahead: whatever share of it steps take along, and however panels are split, its results and the steps' own have the
 * bits that they have alone. */
#ifndef AHEAD_KERNELS_H
#define AHEAD_KERNELS_H

/* One step of a single row, `panels` of its panels. */
typedef void ahead_step(const cell *s, lstmrt_panels panels, const lstmrt_ahead *ahead);

static void ahead_lstm(const cell *s, lstmrt_panels panels, const lstmrt_ahead *ahead)
{
    s->kernels->lstm(&(lstmrt_lstm_args){
        .gates = s->gates.x, .weights = s->weights.x, .h = s->h.x, .c = s->c.x, .h_next = s->h_next.x, .c_next = s->c_next.x,
        .h_stride = s->stride, .stride = s->stride, .rows = 1, .inputs = s->inputs, .panels = panels, .ahead = ahead, .clip = INFINITY,
        .f = activation(LSTMRT_SIGMOID), .g = activation(LSTMRT_TANH), .activation_h = activation(LSTMRT_TANH)});
}

static void ahead_gru(const cell *s, lstmrt_panels panels, const lstmrt_ahead *ahead)
{
    s->kernels->gru(&(lstmrt_gru_args){
        .gates = s->gates.x, .weights = s->weights.x, .bias = s->extra.x, .h = s->h.x, .h_next = s->h_next.x,
        .stride = s->stride, .rows = 1, .inputs = s->inputs, .panels = panels, .ahead = ahead, .clip = INFINITY,
        .f = activation(LSTMRT_SIGMOID), .g = activation(LSTMRT_TANH)});
}

static void ahead_gru_gates(const cell *s, lstmrt_panels panels, const lstmrt_ahead *ahead)
{
    s->kernels->gru_gates(&(lstmrt_gru_gates_args){
        .gates = s->gates.x, .weights = s->weights.x, .h = s->h.x, .z = s->c_next.x, .reset_h = s->h_next.x,
        .stride = s->stride, .rows = 1, .inputs = s->inputs, .panels = panels, .ahead = ahead, .clip = INFINITY,
        .f = activation(LSTMRT_SIGMOID)});
}

static void ahead_gru_candidate(const cell *s, lstmrt_panels panels, const lstmrt_ahead *ahead)
{
    s->kernels->gru_candidate(&(lstmrt_gru_candidate_args){
        .gates = s->gates.x, .weights = s->weights.x, .h = s->h.x, .z = s->z.x, .reset_h = s->reset_h.x,
        .h_next = s->h_next.x, .stride = s->stride, .rows = 1, .inputs = s->inputs, .panels = panels, .ahead = ahead,
        .clip = INFINITY, .g = activation(LSTMRT_TANH)});
}

static void ahead_rnn(const cell *s, lstmrt_panels panels, const lstmrt_ahead *ahead)
{
    s->kernels->dense(&(lstmrt_dense_args){
        .x = s->h.x, .init = s->gates.x, .weights = s->weights.x, .y = s->h_next.x, .rows = 1, .inputs = s->inputs,
        .vectors = s->padded / s->kernels->width, .panels = panels, .ahead = ahead, .clip = INFINITY});
}

/* Row by row, as kernel_dense reads them. */
static void check_ahead(const lstmrt_kernels *kernels, const lstmrt_ahead *a)
{
    const size_t width = a->vectors * kernels->width;
    guarded x = guarded_new(a->inputs), want = guarded_new(width);
    for (size_t row = 0; row < a->rows; row++) {
        const size_t within = row % LSTMRT_AHEAD_ROWS;
        for (size_t k = 0; k < a->inputs; k++) x.x[k] = a->x[(row - within) * a->inputs + k * LSTMRT_AHEAD_ROWS + within];
        kernels->dense(&(lstmrt_dense_args){.x = x.x, .init = a->init, .weights = a->weights, .y = want.x, .rows = 1,
                                            .inputs = a->inputs, .vectors = a->vectors,
                                            .panels = {0, dense_panels(a->vectors), false}, .clip = INFINITY});
        CHECK(memcmp(a->y + row * a->y_stride, want.x, width * sizeof(float)) == 0,
              "%s ahead, row %zu of %zu, inputs %zu, vectors %zu: other bits", kernels->name, row, a->rows, a->inputs,
              a->vectors);
    }
    guarded_free(x), guarded_free(want);
}

static void run_ahead(const cell *s, ahead_step *step, const lstmrt_ahead *a, size_t panels, size_t steps)
{
    const lstmrt_kernels *kernels = s->kernels;
    guarded alone = guarded_new(s->h_next.n);
    step(s, (lstmrt_panels){0, panels, false}, NULL);
    memcpy(alone.x, s->h_next.x, alone.n * sizeof(float));
    for (size_t panel = 0; panel < panels; panel++)
        a->next[panel] = (lstmrt_ahead_place){.vector = a->vectors * panel / panels,
                                              .end = a->vectors * (panel + 1) / panels};
    for (size_t i = 0; i < steps; i++) {
        const size_t cut = random_below(panels + 1);
        step(s, (lstmrt_panels){cut, panels, i % 2}, a);
        step(s, (lstmrt_panels){0, cut, i % 2}, a);
        CHECK(memcmp(alone.x, s->h_next.x, alone.n * sizeof(float)) == 0, "%s: a step beside work ahead has other bits",
              kernels->name);
    }
    const bool moved = a->next[0].row > 0 || a->next[0].input > 0 || a->next[0].vector > 0;
    CHECK(moved == (kernels->takes_ahead && steps > 0), "%s: %zu steps took work along: %d", kernels->name, steps, moved);
    const size_t cut = random_below(panels + 1);
    kernels->ahead_rest(&(lstmrt_ahead_rest_args){a, {cut, panels, false}});
    kernels->ahead_rest(&(lstmrt_ahead_rest_args){a, {0, cut, false}});
    check_ahead(kernels, a);
    guarded_free(alone);
}

static void test_ahead_rest(const lstmrt_kernels *kernels)
{
    static ahead_step *const STEPS[] = {ahead_lstm, ahead_gru, ahead_gru_gates, ahead_gru_candidate, ahead_rnn};
    static const size_t INPUTS[] = {1, LSTMRT_BLOCK, LSTMRT_BLOCK + 5}, TIMES[] = {0, 1, 7, 60};
    lstmrt_ahead_place next[LSTMRT_BLOCK + 1];
    for (size_t i = 0; i < COUNT(STEPS) * COUNT(INPUTS) * COUNT(TIMES); i++)
        FOR_HIDDEN_SIZES(hidden, kernels) {
            const size_t kind = i % COUNT(STEPS), inputs = INPUTS[i / COUNT(STEPS) % COUNT(INPUTS)];
            cell s = cell_new(kernels, hidden, 1, i % 4 ? hidden : 0, 4, 1);
            const size_t units = s.padded / kernels->width, rows = LSTMRT_AHEAD_ROWS * (1 + random_below(2));
            const size_t panels = STEPS[kind] == ahead_rnn ? dense_panels(units) : units;
            const size_t vectors = panels + random_below(3 * panels + 1), width = vectors * kernels->width;
            guarded x = guarded_random(rows * inputs, 1), init = guarded_random(width, 1);
            guarded weights = guarded_random(inputs * width, 0.3f), y = guarded_new((rows - 1) * (width + 3) + width);
            const lstmrt_ahead a = {x.x, init.x, weights.x, y.x, next, width + 3, rows, inputs, vectors};
            run_ahead(&s, STEPS[kind], &a, panels, TIMES[i / COUNT(STEPS) / COUNT(INPUTS)]);
            guarded_free(x), guarded_free(init), guarded_free(weights), guarded_free(y);
            cell_free(&s);
        }
}

#endif
