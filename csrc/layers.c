/* The list of layer kinds, and what they share. */
#include <math.h>
#include <string.h>

#include "blocks.h"
#include "program.h"

typedef struct {
    lstmrt_prepare *prepare;
    lstmrt_run_layer *run;
} layer_kind;

static const layer_kind KINDS[LSTMRT_OP_COUNT] = {
    [LSTMRT_OP_DENSE] = {lstmrt_dense_prepare, lstmrt_dense_run},
    [LSTMRT_OP_CONV] = {lstmrt_conv_prepare, lstmrt_conv_run},
    [LSTMRT_OP_EMBEDDING] = {lstmrt_embedding_prepare, lstmrt_embedding_run},
    [LSTMRT_OP_LSTM] = {lstmrt_recurrent_prepare, lstmrt_recurrent_run},
    [LSTMRT_OP_GRU] = {lstmrt_recurrent_prepare, lstmrt_recurrent_run},
    [LSTMRT_OP_RNN] = {lstmrt_recurrent_prepare, lstmrt_recurrent_run},
    [LSTMRT_OP_CONV_LSTM] = {lstmrt_conv_lstm_prepare, lstmrt_conv_lstm_run},
    [LSTMRT_OP_ACTIVATE] = {lstmrt_rowwise_prepare, lstmrt_activate_run},
    [LSTMRT_OP_SOFTMAX] = {lstmrt_softmax_prepare, lstmrt_softmax_run},
    [LSTMRT_OP_LOG_SOFTMAX] = {lstmrt_softmax_prepare, lstmrt_softmax_run},
    [LSTMRT_OP_ADD] = {lstmrt_combine_prepare, lstmrt_combine_run},
    [LSTMRT_OP_SUB] = {lstmrt_combine_prepare, lstmrt_combine_run},
    [LSTMRT_OP_MUL] = {lstmrt_combine_prepare, lstmrt_combine_run},
    [LSTMRT_OP_DIV] = {lstmrt_combine_prepare, lstmrt_combine_run},
    [LSTMRT_OP_MAX] = {lstmrt_combine_prepare, lstmrt_combine_run},
    [LSTMRT_OP_LESS] = {lstmrt_combine_prepare, lstmrt_combine_run},
    [LSTMRT_OP_LAYER_NORM] = {lstmrt_layer_norm_prepare, lstmrt_layer_norm_run},
    [LSTMRT_OP_CONCAT] = {lstmrt_concat_prepare, lstmrt_concat_run},
    [LSTMRT_OP_COLUMNS] = {lstmrt_columns_prepare, lstmrt_columns_run},
    [LSTMRT_OP_GATHER] = {lstmrt_gather_prepare, lstmrt_gather_compute},
    [LSTMRT_OP_RESHAPE] = {lstmrt_reshape_prepare, lstmrt_reshape_run},
    [LSTMRT_OP_WHERE] = {lstmrt_where_prepare, lstmrt_where_run},
    [LSTMRT_OP_MATMUL] = {lstmrt_matmul_prepare, lstmrt_matmul_run},
    [LSTMRT_OP_TOPK] = {lstmrt_topk_prepare, lstmrt_topk_run},
    [LSTMRT_OP_FIRST] = {lstmrt_time_prepare, lstmrt_time_run},
    [LSTMRT_OP_LAST] = {lstmrt_time_prepare, lstmrt_time_run},
    [LSTMRT_OP_REVERSE] = {lstmrt_time_prepare, lstmrt_time_run},
    [LSTMRT_OP_SWAP] = {lstmrt_time_prepare, lstmrt_time_run},
    [LSTMRT_OP_NOT_EQUAL] = {lstmrt_not_equal_prepare, lstmrt_not_equal_run},
    [LSTMRT_OP_CAST] = {lstmrt_cast_prepare, lstmrt_cast_run},
    [LSTMRT_OP_TIME_SOFTMAX] = {lstmrt_time_softmax_prepare, lstmrt_time_softmax_run},
    [LSTMRT_OP_TIME_SUM] = {lstmrt_pooling_prepare, lstmrt_pooling_run},
    [LSTMRT_OP_TIME_MEAN] = {lstmrt_pooling_prepare, lstmrt_pooling_run},
    [LSTMRT_OP_TIME_MAX] = {lstmrt_pooling_prepare, lstmrt_pooling_run},
    [LSTMRT_OP_ATTENTION] = {lstmrt_attention_prepare, lstmrt_attention_run},
};

bool lstmrt_op_recurrent(lstmrt_op op) { return op == LSTMRT_OP_LSTM || op == LSTMRT_OP_GRU || op == LSTMRT_OP_RNN; }

bool lstmrt_op_has_states(lstmrt_op op) { return lstmrt_op_recurrent(op) || op == LSTMRT_OP_CONV_LSTM; }

/* Whether rows of the output depend on rows of other times. */
bool lstmrt_op_mixes_time(lstmrt_op op)
{
    switch (op) {
    case LSTMRT_OP_TIME_SOFTMAX:
    case LSTMRT_OP_TIME_SUM:
    case LSTMRT_OP_TIME_MEAN:
    case LSTMRT_OP_TIME_MAX:
    case LSTMRT_OP_ATTENTION: return true;
    default: return false;
    }
}

/* Whether each row of the output is made of the same row of the inputs alone, or of one of its sequence's. */
bool lstmrt_op_rowwise(lstmrt_op op)
{
    switch (op) {
    case LSTMRT_OP_RESHAPE:
    case LSTMRT_OP_FIRST:
    case LSTMRT_OP_LAST:
    case LSTMRT_OP_REVERSE:
    case LSTMRT_OP_SWAP: return false;
    default: return !lstmrt_op_has_states(op) && !lstmrt_op_mixes_time(op);
    }
}

static bool activations_known(const lstmrt_step *step)
{
    for (size_t i = 0; i < LSTMRT_MAX_GATE_FUNCTIONS; i++)
        if ((unsigned)step->activations[i].function >= LSTMRT_ACTIVATION_COUNT) return false;
    return true;
}

lstmrt_status lstmrt_layer_prepare(const lstmrt_model *model, const lstmrt_step *step, lstmrt_layer *layer)
{
    if ((unsigned)step->op >= LSTMRT_OP_COUNT || !activations_known(step)) return LSTMRT_BAD_PROGRAM;
    layer->step = *step;
    memset(layer->step.weights, 0, sizeof layer->step.weights);
    layer->step.indices = NULL;
    layer->places = 1;
    layer->step.clip = step->clip > 0 ? step->clip : INFINITY;
    return KINDS[step->op].prepare(model, step, layer);
}

lstmrt_status lstmrt_layer_run(const lstmrt_layer *layer, lstmrt_workspace *workspace)
{
    return KINDS[layer->step.op].run(layer, workspace);
}

void lstmrt_layer_free(lstmrt_layer *layer)
{
    void *owned[] = {layer->x_weights, layer->x_bias, layer->table, layer->reduced_table, layer->table_scales,
                     layer->h_weights, layer->h_candidate_weights, layer->h_bias, layer->peepholes, layer->row,
                     layer->runs};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++) lstmrt_block_release(owned[i]);
    lstmrt_reduced_free(&layer->x_reduced);
    lstmrt_reduced_free(&layer->h_reduced);
    lstmrt_reduced_free(&layer->h_candidate_reduced);
}

/* Whether a later time step leaves the outputs of earlier ones as they are, so that steps can run as they come. */
bool lstmrt_layer_steppable(const lstmrt_layer *layer)
{
    const lstmrt_step *step = &layer->step;
    if (lstmrt_op_has_states(step->op)) /* lengths, h0 and c0 say where a whole sequence ends and begins */
        return !step->reverse && step->inputs[1] < 0 && step->inputs[2] < 0 && step->inputs[3] < 0;
    return step->op != LSTMRT_OP_FIRST && step->op != LSTMRT_OP_REVERSE && !lstmrt_op_mixes_time(step->op);
}

bool lstmrt_value_is(const lstmrt_value *value, lstmrt_dtype dtype, int rows, size_t width)
{
    return value && value->dtype == dtype && (rows < 0 || (int)value->rows == rows) &&
           (width == 0 || value->width == width) && value->across == LSTMRT_ACROSS_NOTHING;
}

lstmrt_rows_view lstmrt_sequence(const lstmrt_value *value, const lstmrt_slot *slot, const lstmrt_workspace *workspace,
                                 size_t b)
{
    const size_t step = value->rows == LSTMRT_ROWS_TIME_BATCH ? workspace->batch : 1;
    return (lstmrt_rows_view){(float *)slot->data + lstmrt_row_at(value, workspace, 0, b) * slot->stride,
                              step * slot->stride, lstmrt_length_of(value, workspace)};
}

bool lstmrt_weight_is(const lstmrt_weight *weight, size_t rows, size_t cols)
{
    return weight->data && weight->rows == rows && weight->cols == cols;
}

bool lstmrt_bytes_are(const lstmrt_weight *weight, size_t rows, size_t cols)
{
    return weight->bytes && weight->scales && !weight->data && weight->rows == rows && weight->cols == cols &&
           cols <= LSTMRT_BYTES_INPUTS && weight->zero >= INT8_MIN && weight->zero <= INT8_MAX;
}
