/* Layers for values whose rows have all of their elements (lstmrt/execution/flat.py): the same elements in other rows, choices of
 * elements, products of matrices that lie in rows, the largest of some elements. */
#include "program.h"

#include <math.h>
#include <string.h>

#include "pack.h"

lstmrt_status lstmrt_reshape_prepare(const lstmrt_model *model, const lstmrt_step *step, lstmrt_layer *layer)
{
    const lstmrt_value *x = lstmrt_input(model, step, 0), *y = lstmrt_output(model, step, 0);
    if (!lstmrt_value_is(x, LSTMRT_F32, -1, 0) || !lstmrt_value_is(y, LSTMRT_F32, -1, 0)) return LSTMRT_BAD_PROGRAM;
    layer->width = x->width < y->width ? x->width : y->width;
    return x->width % layer->width == 0 && y->width % layer->width == 0 ? LSTMRT_OK : LSTMRT_BAD_PROGRAM;
}

/* Where element `index` of a value is whose rows are `width` elements. */
static float *element(const lstmrt_slot *slot, size_t width, size_t index)
{
    return (float *)slot->data + index / width * slot->stride + index % width;
}

lstmrt_status lstmrt_reshape_run(const lstmrt_layer *layer, lstmrt_workspace *ws)
{
    const lstmrt_value *x = lstmrt_input(ws->model, &layer->step, 0), *y = lstmrt_output(ws->model, &layer->step, 0);
    const lstmrt_slot *from = lstmrt_input_slot(layer, ws, 0), *to = lstmrt_output_slot(layer, ws, 0);
    const size_t count = lstmrt_size_product(lstmrt_rows_of(x, ws), x->width);
    if (count != lstmrt_size_product(lstmrt_rows_of(y, ws), y->width)) return LSTMRT_BAD_ARGUMENT;
    for (size_t i = 0; i < count; i += layer->width)
        memcpy(element(to, y->width, i), element(from, x->width, i), layer->width * sizeof(float));
    return LSTMRT_OK;
}

enum { MASK, SET, NOT_SET }; /* inputs of WHERE; those that are absent are rows, one after the other */

lstmrt_status lstmrt_where_prepare(const lstmrt_model *model, const lstmrt_step *step, lstmrt_layer *layer)
{
    const lstmrt_status status = lstmrt_rowwise_prepare(model, step, layer);
    if (status) return status;
    const size_t width = layer->width;
    layer->row = lstmrt_allocate_array(lstmrt_size_product(2, width), sizeof *layer->row);
    if (!layer->row) return LSTMRT_OUT_OF_MEMORY;
    for (size_t i = SET; i <= NOT_SET; i++) {
        const lstmrt_value *value = lstmrt_input(model, step, i);
        const lstmrt_weight *row = &step->weights[i - SET];
        if (value ? !lstmrt_value_is(value, LSTMRT_F32, (int)lstmrt_input(model, step, MASK)->rows, width)
                  : !lstmrt_weight_is(row, 1, width))
            return LSTMRT_BAD_PROGRAM;
        if (!value) memcpy(layer->row + (i - SET) * width, row->data, width * sizeof *layer->row);
    }
    return LSTMRT_OK;
}

lstmrt_status lstmrt_where_run(const lstmrt_layer *layer, lstmrt_workspace *ws)
{
    const lstmrt_slot *mask = lstmrt_input_slot(layer, ws, MASK), *y = lstmrt_output_slot(layer, ws, 0);
    const lstmrt_slot *set = lstmrt_input_slot(layer, ws, SET), *not_set = lstmrt_input_slot(layer, ws, NOT_SET);
    const size_t rows = lstmrt_rows_of(lstmrt_input(ws->model, &layer->step, MASK), ws);
    for (size_t row = 0; row < rows; row++) {
        const float *chosen = (const float *)mask->data + row * mask->stride;
        const float *a = set ? (const float *)set->data + row * set->stride : layer->row;
        const float *b = not_set ? (const float *)not_set->data + row * not_set->stride : layer->row + layer->width;
        float *to = (float *)y->data + row * y->stride;
        for (size_t i = 0; i < layer->width; i++) to[i] = chosen[i] != 0 ? a[i] : b[i];
    }
    return LSTMRT_OK;
}

/* The sizes of one product. */
typedef struct {
    size_t rows, inner, columns, count; /* count: products in a row */
} product_sizes;

static product_sizes sizes_of(const lstmrt_model *model, const lstmrt_step *step, size_t b_width)
{
    const lstmrt_value *a = lstmrt_input(model, step, 0), *y = lstmrt_output(model, step, 0);
    const size_t inner = (size_t)step->constant, rows = a->width / inner, columns = b_width / inner; /* of all products */
    const size_t count = lstmrt_size_product(rows, columns) / y->width;
    return count > 0 ? (product_sizes){rows / count, inner, columns / count, count} : (product_sizes){0};
}

lstmrt_status lstmrt_matmul_prepare(const lstmrt_model *model, const lstmrt_step *step, lstmrt_layer *layer)
{
    const lstmrt_value *a = lstmrt_input(model, step, 0), *b = lstmrt_input(model, step, 1), *y = lstmrt_output(model, step, 0);
    const lstmrt_weight *row = &step->weights[0];
    if (!lstmrt_value_is(a, LSTMRT_F32, -1, 0) || !lstmrt_value_is(y, LSTMRT_F32, (int)a->rows, 0) || step->constant <= 0 ||
        !(b ? lstmrt_value_is(b, LSTMRT_F32, (int)a->rows, 0) : lstmrt_weight_is(row, 1, row->cols)))
        return LSTMRT_BAD_PROGRAM;
    const size_t width = layer->inputs = b ? b->width : row->cols;
    const product_sizes s = sizes_of(model, step, width);
    if (lstmrt_size_product(s.rows * s.inner, s.count) != a->width || s.inner * s.columns * s.count != width ||
        lstmrt_size_product(s.rows * s.columns, s.count) != y->width)
        return LSTMRT_BAD_PROGRAM;
    layer->width = y->width;
    if (b) return LSTMRT_OK;
    layer->row = lstmrt_allocate_array(width, sizeof *layer->row);
    if (!layer->row) return LSTMRT_OUT_OF_MEMORY;
    memcpy(layer->row, row->data, width * sizeof *layer->row);
    return LSTMRT_OK;
}

lstmrt_status lstmrt_matmul_run(const lstmrt_layer *layer, lstmrt_workspace *ws)
{
    const product_sizes s = sizes_of(ws->model, &layer->step, layer->inputs);
    const lstmrt_slot *a = lstmrt_input_slot(layer, ws, 0), *b = lstmrt_input_slot(layer, ws, 1);
    const lstmrt_slot *y = lstmrt_output_slot(layer, ws, 0);
    const size_t rows = lstmrt_rows_of(lstmrt_input(ws->model, &layer->step, 0), ws);
    for (size_t row = 0; row < rows; row++) {
        const float *from = b ? (const float *)b->data + row * b->stride : layer->row;
        for (size_t i = 0; i < s.count; i++)
            ws->model->kernels->mix(&(lstmrt_mix_args){
                .w = (const float *)a->data + row * a->stride + i * s.rows * s.inner,
                .x = from + i * s.inner * s.columns,
                .y = (float *)y->data + row * y->stride + i * s.rows * s.columns,
                .w_stride = s.inner, .x_stride = s.columns, .y_stride = s.columns,
                .rows = s.rows, .steps = s.inner, .width = s.columns});
    }
    return LSTMRT_OK;
}

enum { VALUES, PLACES }; /* outputs of TOPK */

lstmrt_status lstmrt_topk_prepare(const lstmrt_model *model, const lstmrt_step *step, lstmrt_layer *layer)
{
    const lstmrt_value *x = lstmrt_input(model, step, 0), *values = lstmrt_output(model, step, VALUES);
    if (!lstmrt_value_is(x, LSTMRT_F32, -1, 0) || !lstmrt_value_is(values, LSTMRT_F32, (int)x->rows, 0) ||
        !lstmrt_value_is(lstmrt_output(model, step, PLACES), LSTMRT_I64, (int)x->rows, values->width) ||
        step->constant <= 0 || x->width % (uint64_t)step->constant > 0)
        return LSTMRT_BAD_PROGRAM;
    const size_t parts = x->width / (size_t)step->constant;
    layer->inputs = (size_t)step->constant, layer->width = values->width / parts;
    const bool fits = values->width % parts == 0 && layer->width > 0 && layer->width <= layer->inputs;
    return fits ? LSTMRT_OK : LSTMRT_BAD_PROGRAM;
}

static bool comes_before(float a, float b) { return a > b || (isnan(a) && !isnan(b)); }

/* The places of the `most` first ones of `count` elements: each is put where it belongs among those found before it. */
static void choose(const float *x, size_t count, size_t most, int64_t *places)
{
    size_t found = 0;
    for (size_t i = 0; i < count; i++) {
        if (found == most && !comes_before(x[i], x[places[most - 1]])) continue;
        size_t at = found < most ? found++ : most - 1;
        for (; at > 0 && comes_before(x[i], x[places[at - 1]]); at--) places[at] = places[at - 1];
        places[at] = (int64_t)i;
    }
}

lstmrt_status lstmrt_topk_run(const lstmrt_layer *layer, lstmrt_workspace *ws)
{
    const lstmrt_value *value = lstmrt_input(ws->model, &layer->step, 0);
    const lstmrt_slot *x = lstmrt_input_slot(layer, ws, 0);
    const lstmrt_slot *values = lstmrt_output_slot(layer, ws, VALUES), *places = lstmrt_output_slot(layer, ws, PLACES);
    const size_t rows = lstmrt_rows_of(value, ws), parts = value->width / layer->inputs;
    for (size_t row = 0; row < rows; row++)
        for (size_t part = 0; part < parts; part++) {
            const float *from = (const float *)x->data + row * x->stride + part * layer->inputs;
            float *chosen = (float *)values->data + row * values->stride + part * layer->width;
            int64_t *where = (int64_t *)places->data + row * places->stride + part * layer->width;
            choose(from, layer->inputs, layer->width, where);
            for (size_t i = 0; i < layer->width; i++) chosen[i] = from[where[i]];
        }
    return LSTMRT_OK;
}
