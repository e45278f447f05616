/* Attention: scores of queries and keys, hidden by masks, their softmax, and the sums of values that it weights. */
#include <string.h>

#include "pack.h"
#include "program.h"

enum { Q, K, V, Q_MASK, K_MASK }; /* inputs */
enum { Y, WEIGHTS };              /* outputs */
enum { TILES_A_PART = 2 };        /* of a section */

static bool mask_fits(const lstmrt_value *mask, const lstmrt_value *of)
{
    return !mask || lstmrt_value_is(mask, LSTMRT_BOOL, (int)of->rows, 1);
}

static lstmrt_across across_of(const lstmrt_value *k)
{
    return k->rows == LSTMRT_ROWS_BATCH_SOURCE ? LSTMRT_ACROSS_SOURCE : LSTMRT_ACROSS_TIME;
}

lstmrt_across lstmrt_attention_across(const lstmrt_model *model, const lstmrt_step *step)
{
    return across_of(lstmrt_input(model, step, K));
}

static bool weights_fit(const lstmrt_value *weights, const lstmrt_value *q, const lstmrt_value *k, int64_t heads)
{
    return !weights || (weights->dtype == LSTMRT_F32 && weights->rows == q->rows && weights->width == heads &&
                        weights->across == across_of(k));
}

static bool fits(const lstmrt_model *model, const lstmrt_step *step)
{
    const lstmrt_value *q = lstmrt_input(model, step, Q), *k = lstmrt_input(model, step, K);
    const lstmrt_value *v = lstmrt_input(model, step, V), *y = lstmrt_output(model, step, Y);
    const int64_t heads = step->constant;
    if (!lstmrt_value_is(q, LSTMRT_F32, -1, 0) || heads < 1 || q->width % heads) return false;
    if (q->rows != LSTMRT_ROWS_BATCH && !lstmrt_over_time(q)) return false;
    if (!lstmrt_value_is(k, LSTMRT_F32, -1, q->width)) return false;
    if (k->rows != LSTMRT_ROWS_BATCH_SOURCE && !lstmrt_over_time(k)) return false;
    return lstmrt_value_is(v, LSTMRT_F32, (int)k->rows, 0) && v->width % heads == 0 &&
           lstmrt_value_is(y, LSTMRT_F32, (int)q->rows, v->width) && mask_fits(lstmrt_input(model, step, Q_MASK), q) &&
           mask_fits(lstmrt_input(model, step, K_MASK), k) && weights_fit(lstmrt_output(model, step, WEIGHTS), q, k, heads) &&
           (!step->weights[0].data || lstmrt_weight_is(&step->weights[0], 1, q->width / (size_t)heads));
}

lstmrt_status lstmrt_attention_prepare(const lstmrt_model *model, const lstmrt_step *step, lstmrt_layer *layer)
{
    if (!fits(model, step)) return LSTMRT_BAD_PROGRAM;
    layer->inputs = lstmrt_input(model, step, Q)->width / (size_t)step->constant;
    layer->width = lstmrt_input(model, step, V)->width / (size_t)step->constant;
    if (!step->weights[0].data) return LSTMRT_OK;
    layer->row = lstmrt_allocate_array(layer->inputs, sizeof *layer->row);
    if (!layer->row) return LSTMRT_OUT_OF_MEMORY;
    memcpy(layer->row, step->weights[0].data, layer->inputs * sizeof *layer->row);
    return LSTMRT_OK;
}

/* One sequence: its rows of q, k, v and y, its masks or NULL, and where its weights go. */
typedef struct {
    const lstmrt_layer *layer;
    lstmrt_workspace *workspace;
    lstmrt_rows_view q, k, v, y, weights; /* weights: first is NULL where nobody reads them */
    size_t b;
    bool in_panels; /* keys are */
} sequence;

/* Whether the mask, an input of the step, is set at time t; so it is where there is none. */
static bool is_shown(const sequence *s, size_t mask, size_t t)
{
    const lstmrt_slot *slot = lstmrt_input_slot(s->layer, s->workspace, mask);
    if (!slot) return true;
    const lstmrt_value *value = lstmrt_input(s->workspace->model, &s->layer->step, mask);
    return ((const uint8_t *)slot->data)[lstmrt_row_at(value, s->workspace, t, s->b) * slot->stride] != 0;
}

/* `scores` are those of the query at time t. */
static void hide(const sequence *s, float *scores, size_t t)
{
    const float hidden = s->layer->step.hidden;
    const size_t steps = s->k.count, seen = !is_shown(s, Q_MASK, t) ? 0 : s->layer->step.causal && t + 1 < steps ? t + 1 : steps;
    for (size_t i = 0; i < seen && s->layer->step.inputs[K_MASK] >= 0; i++)
        if (!is_shown(s, K_MASK, i)) scores[i] = hidden;
    for (size_t i = seen; i < steps; i++) scores[i] = hidden;
}

/* Keys of all heads side by side in vectors, the last ones followed by zeros. */
static void lay_out_keys(const sequence *s)
{
    const size_t lanes = s->workspace->model->kernels->width, steps = s->k.count, inputs = s->layer->inputs;
    float *to = s->workspace->key_panels;
    for (size_t head = 0; head < (size_t)s->layer->step.constant; head++)
        for (size_t key = 0; key < steps; key += lanes)
            for (size_t i = 0; i < inputs; i++)
                for (size_t lane = 0; lane < lanes; lane++)
                    *to++ = key + lane < steps ? s->k.first[(key + lane) * s->k.stride + head * inputs + i] : 0;
}

static const float *panels_of(const sequence *s, size_t head)
{
    const size_t steps = lstmrt_round_up(s->k.count, s->workspace->model->kernels->width);
    return s->in_panels ? s->workspace->key_panels + head * s->layer->inputs * steps : NULL;
}

/* Queries [begin, begin + rows) of one head. */
static void attend(const sequence *s, size_t scorer, size_t head, size_t begin, size_t rows)
{
    const lstmrt_kernels *kernels = s->workspace->model->kernels;
    const size_t inputs = s->layer->inputs, width = s->layer->width, steps = s->k.count;
    size_t stride = s->workspace->scores_stride;
    float *scores = s->workspace->scores + scorer * LSTMRT_SCORED_ROWS * stride;
    if (s->weights.first) {
        scores = s->weights.first + begin * s->weights.stride + head * steps;
        stride = s->weights.stride;
    }
    kernels->scores(&(lstmrt_scores_args){
        .q = s->q.first + begin * s->q.stride + head * inputs, .k = s->k.first + head * inputs, .panels = panels_of(s, head),
        .column = s->layer->row,
        .y = scores, .q_stride = s->q.stride, .k_stride = s->k.stride, .y_stride = stride,
        .rows = rows, .steps = steps, .width = inputs, .scale = s->layer->step.scale});
    for (size_t row = 0; row < rows; row++) hide(s, scores + row * stride, begin + row);
    kernels->softmax(&(lstmrt_softmax_args){scores, scores, stride, stride, rows, steps, false});
    kernels->mix(&(lstmrt_mix_args){
        .w = scores, .x = s->v.first + head * width, .y = s->y.first + begin * s->y.stride + head * width,
        .w_stride = stride, .x_stride = s->v.stride, .y_stride = s->y.stride,
        .rows = rows, .steps = steps, .width = width});
}

static lstmrt_rows_view view(const lstmrt_value *value, const lstmrt_slot *slot, const lstmrt_workspace *ws, size_t b)
{
    return slot ? lstmrt_sequence(value, slot, ws, b) : (lstmrt_rows_view){0};
}

/* Tiles [begin, end) of a sequence's: a dozen queries of one head each. */
typedef struct {
    const sequence *sequence;
    size_t begin, end;
} tiles;

static size_t tiles_a_head(const sequence *s) { return (s->q.count + LSTMRT_SCORED_ROWS - 1) / LSTMRT_SCORED_ROWS; }

static void attend_part(const void *argument, size_t part, size_t parts)
{
    const tiles *t = argument;
    const sequence *s = t->sequence;
    const size_t each = tiles_a_head(s), count = t->end - t->begin;
    for (size_t i = t->begin + count * part / parts; i < t->begin + count * (part + 1) / parts; i++) {
        const size_t begin = i % each * LSTMRT_SCORED_ROWS, left = s->q.count - begin;
        attend(s, part, i / each, begin, left < LSTMRT_SCORED_ROWS ? left : LSTMRT_SCORED_ROWS);
    }
}

/* In several sections, so that a thread that is waking up is waited for or missed in few of them. */
static void attend_all(const sequence *s)
{
    const lstmrt_layer *layer = s->layer;
    const size_t heads = (size_t)layer->step.constant, all = tiles_a_head(s) * heads, scorers = s->workspace->scorers;
    const size_t floats = lstmrt_size_product(s->k.count, (layer->inputs + layer->width) * heads);
    const size_t most = lstmrt_parts(s->workspace, floats, s->q.count), parts = most < scorers ? most : scorers;
    const size_t at_once = parts > 1 ? TILES_A_PART * parts : all;
    for (size_t begin = 0; begin < all; begin += at_once) {
        const tiles t = {s, begin, all - begin < at_once ? all : begin + at_once};
        lstmrt_pool_run(attend_part, &t, parts);
    }
}

lstmrt_status lstmrt_attention_run(const lstmrt_layer *layer, lstmrt_workspace *ws)
{
    const lstmrt_model *model = ws->model;
    const lstmrt_step *step = &layer->step;
    for (size_t b = 0; b < ws->batch; b++) {
        sequence s = {
            layer, ws,
            view(lstmrt_input(model, step, Q), lstmrt_input_slot(layer, ws, Q), ws, b),
            view(lstmrt_input(model, step, K), lstmrt_input_slot(layer, ws, K), ws, b),
            view(lstmrt_input(model, step, V), lstmrt_input_slot(layer, ws, V), ws, b),
            view(lstmrt_output(model, step, Y), lstmrt_output_slot(layer, ws, Y), ws, b),
            view(lstmrt_output(model, step, WEIGHTS), lstmrt_output_slot(layer, ws, WEIGHTS), ws, b),
            b, false,
        };
        s.in_panels = s.q.count >= LSTMRT_MANY_QUERIES && !layer->row;
        if (s.in_panels) lay_out_keys(&s);
        attend_all(&s);
    }
    return LSTMRT_OK;
}
