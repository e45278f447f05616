/* Programs that do not hold together are refused; no program whatever makes anything crash (run it with sanitizers). */
#include "programs.h"

enum { FUZZED = 30000 };

/* The first step of this operator. */
static lstmrt_step *step_of(builder *b, lstmrt_op op)
{
    size_t i = 0;
    while (i < b->n_steps && b->steps[i].op != op) i++;
    REQUIRE(i < b->n_steps);
    return &b->steps[i];
}

static lstmrt_step *lstm_of(builder *b) { return step_of(b, LSTMRT_OP_LSTM); }

static lstmrt_value *input_of(builder *b, lstmrt_op op, size_t i) { return &b->values[step_of(b, op)->inputs[i]]; }

static lstmrt_value *output_of(builder *b, lstmrt_op op, size_t i) { return &b->values[step_of(b, op)->outputs[i]]; }

/* W and R as bytes. */
static void make_bytes(lstmrt_step *step)
{
    static const int8_t bytes[10000];
    static const float scales[1000];
    for (size_t i = 0; i < 2; i++) {
        lstmrt_weight *weight = &step->weights[i];
        REQUIRE(weight->rows * weight->cols <= COUNT(bytes) && weight->rows <= COUNT(scales));
        *weight = (lstmrt_weight){.rows = weight->rows, .cols = weight->cols, .bytes = bytes, .scales = scales};
    }
}

/* X(name, what it does to everything()). */
#define FAULTS(X)                                                                                        \
    X(no_outputs, b->n_outputs = 0)                                                                      \
    X(width_0, b->values[0].width = 0)                                                                   \
    X(width_too_large, b->values[0].width = UINT32_MAX)                                                  \
    X(ids_of_width_2, input_of(b, LSTMRT_OP_EMBEDDING, 0)->width = 2)                                    \
    X(unknown_dtype, b->values[0].dtype = (lstmrt_dtype)3)                                               \
    X(unknown_rows, b->values[0].rows = (lstmrt_rows)-1)                                                 \
    X(unknown_op, b->steps[0].op = LSTMRT_OP_COUNT)                                                      \
    X(negative_op, b->steps[0].op = (lstmrt_op)-1)                                                       \
    X(unknown_activation, lstm_of(b)->activations[2].function = LSTMRT_ACTIVATION_COUNT)                 \
    X(input_out_of_range, b->inputs[0] = (int32_t)b->n_values)                                           \
    X(negative_input, b->inputs[0] = -1)                                                                 \
    X(input_twice, b->inputs[1] = b->inputs[0])                                                          \
    X(output_out_of_range, b->outputs[0] = INT32_MAX)                                                    \
    X(output_is_an_input, b->outputs[0] = b->inputs[0])                                                  \
    X(output_never_made, b->outputs[0] = add_value(b, LSTMRT_F32, LSTMRT_ROWS_BATCH, 1))                 \
    X(step_reads_out_of_range, b->steps[0].inputs[0] = 1000000)                                          \
    X(step_reads_minus_2, b->steps[0].inputs[0] = -2)                                                    \
    X(step_reads_what_comes_later, b->steps[0].inputs[0] = b->outputs[3])                                \
    X(value_made_twice, b->steps[1].outputs[0] = b->steps[0].outputs[0])                                 \
    X(step_makes_an_input, b->steps[0].outputs[0] = b->inputs[0])                                        \
    X(no_x, lstm_of(b)->inputs[0] = -1)                                                                  \
    X(lstm_without_w, lstm_of(b)->weights[0].data = NULL)                                                \
    X(lstm_without_r, lstm_of(b)->weights[1].data = NULL)                                                \
    X(w_too_narrow, lstm_of(b)->weights[0].cols--)                                                       \
    X(r_too_short, lstm_of(b)->weights[1].rows--)                                                        \
    X(b_too_short, lstm_of(b)->weights[2].cols--)                                                        \
    X(p_too_short, lstm_of(b)->weights[3].cols--)                                                        \
    X(lengths_are_floats, lstm_of(b)->inputs[1] = lstm_of(b)->inputs[2])                                 \
    X(h0_too_wide, input_of(b, LSTMRT_OP_LSTM, 2)->width++)                                              \
    X(mask_of_one_step, input_of(b, LSTMRT_OP_LSTM, 4)->rows = LSTMRT_ROWS_BATCH)                        \
    X(c0_per_step, input_of(b, LSTMRT_OP_LSTM, 3)->rows = LSTMRT_ROWS_BATCH_TIME)                        \
    X(mask_is_ids, lstm_of(b)->inputs[4] = step_of(b, LSTMRT_OP_NOT_EQUAL)->inputs[0])                   \
    X(y_too_wide, output_of(b, LSTMRT_OP_LSTM, 0)->width++)                                              \
    X(y_in_other_rows, output_of(b, LSTMRT_OP_LSTM, 0)->rows = LSTMRT_ROWS_TIME_BATCH)                   \
    X(y_h_too_wide, output_of(b, LSTMRT_OP_LSTM, 1)->width++)                                            \
    X(lstm_of_bytes_without_scales, (make_bytes(lstm_of(b)), lstm_of(b)->weights[1].scales = NULL))      \
    X(lstm_of_bytes_and_floats, (make_bytes(lstm_of(b)), lstm_of(b)->weights[1].bytes = NULL))           \
    X(lstm_of_bytes_too_short, (make_bytes(lstm_of(b)), lstm_of(b)->weights[0].rows--))                  \
    X(lstm_of_bytes_with_a_large_zero, (make_bytes(lstm_of(b)), lstm_of(b)->weights[0].zero = 128))      \
    X(gru_of_bytes, make_bytes(step_of(b, LSTMRT_OP_GRU)))                                               \
    X(gru_with_c, step_of(b, LSTMRT_OP_GRU)->inputs[3] = lstm_of(b)->inputs[3])                          \
    X(dense_without_w, step_of(b, LSTMRT_OP_DENSE)->weights[0].data = NULL)                              \
    X(dense_w_too_short, step_of(b, LSTMRT_OP_DENSE)->weights[0].rows--)                                 \
    X(dense_b_too_short, step_of(b, LSTMRT_OP_DENSE)->weights[1].cols--)                                 \
    X(dense_of_ids, step_of(b, LSTMRT_OP_DENSE)->inputs[0] = b->inputs[1])                               \
    X(embedding_without_table, step_of(b, LSTMRT_OP_EMBEDDING)->weights[0].data = NULL)                  \
    X(embedding_of_floats, step_of(b, LSTMRT_OP_EMBEDDING)->inputs[0] = b->inputs[0])                    \
    X(empty_vocabulary, step_of(b, LSTMRT_OP_EMBEDDING)->weights[0].rows = 0)                            \
    X(concat_too_narrow, output_of(b, LSTMRT_OP_CONCAT, 0)->width--)                                     \
    X(concat_without_output, step_of(b, LSTMRT_OP_CONCAT)->outputs[0] = -1)                              \
    X(add_row_too_short, step_of(b, LSTMRT_OP_ADD)->weights[0].cols--)                                   \
    X(add_of_one, step_of(b, LSTMRT_OP_ADD)->weights[0].data = NULL)                                     \
    X(layer_norm_without_scale, step_of(b, LSTMRT_OP_LAYER_NORM)->weights[0].data = NULL)                \
    X(layer_norm_shift_too_short, step_of(b, LSTMRT_OP_LAYER_NORM)->weights[1].cols--)                   \
    X(columns_before_the_first, step_of(b, LSTMRT_OP_COLUMNS)->constant = -1)                            \
    X(columns_past_the_last, step_of(b, LSTMRT_OP_COLUMNS)->constant = 3)                                \
    X(softmax_without_output, step_of(b, LSTMRT_OP_SOFTMAX)->outputs[0] = -1)                            \
    X(activate_wider, output_of(b, LSTMRT_OP_ACTIVATE, 0)->width++)                                      \
    X(first_keeps_time, output_of(b, LSTMRT_OP_FIRST, 0)->rows = LSTMRT_ROWS_TIME_BATCH)                 \
    X(reverse_changes_rows, output_of(b, LSTMRT_OP_REVERSE, 0)->rows = LSTMRT_ROWS_TIME_BATCH)           \
    X(swap_keeps_rows, output_of(b, LSTMRT_OP_SWAP, 0)->rows = LSTMRT_ROWS_BATCH_TIME)                   \
    X(attention_without_keys, step_of(b, LSTMRT_OP_ATTENTION)->inputs[1] = -1)                           \
    X(attention_without_heads, step_of(b, LSTMRT_OP_ATTENTION)->constant = 0)                            \
    X(attention_of_uneven_heads, step_of(b, LSTMRT_OP_ATTENTION)->constant = 4)                          \
    X(attention_column_too_long, step_of(b, LSTMRT_OP_ATTENTION)->weights[0].cols++)                     \
    X(attention_of_time_with_a_mask_of_the_source,                                                       \
      step_of(b, LSTMRT_OP_ATTENTION)->inputs[3] = step_of(b, LSTMRT_OP_ATTENTION)->inputs[4])           \
    X(weights_across_another_sequence, output_of(b, LSTMRT_OP_ATTENTION, 1)->across = LSTMRT_ACROSS_TIME) \
    X(weights_read_by_a_step, step_of(b, LSTMRT_OP_TIME_SOFTMAX)->inputs[0] =                            \
                                  step_of(b, LSTMRT_OP_ATTENTION)->outputs[1])                           \
    X(an_input_across_time, b->values[0].across = LSTMRT_ACROSS_TIME)                                    \
    X(unknown_across, b->values[0].across = (lstmrt_across)3)                                            \
    X(softmax_over_no_time, input_of(b, LSTMRT_OP_TIME_SOFTMAX, 0)->rows = LSTMRT_ROWS_BATCH)            \
    X(sum_keeps_time, output_of(b, LSTMRT_OP_TIME_SUM, 0)->rows = LSTMRT_ROWS_BATCH_TIME)                \
    X(mean_with_weights, step_of(b, LSTMRT_OP_TIME_MEAN)->inputs[1] = step_of(b, LSTMRT_OP_CAST)->outputs[0]) \
    X(cast_of_floats, step_of(b, LSTMRT_OP_CAST)->inputs[0] = step_of(b, LSTMRT_OP_WHERE)->inputs[0])    \
    X(parts_of_a_softmax_that_do_not_fit, step_of(b, LSTMRT_OP_LOG_SOFTMAX)->constant = 3)               \
    X(a_negative_part, step_of(b, LSTMRT_OP_LOG_SOFTMAX)->constant = -4)                                 \
    X(matrices_that_do_not_fit, step_of(b, LSTMRT_OP_MATMUL)->constant = 4)                              \
    X(matrices_of_nothing, step_of(b, LSTMRT_OP_MATMUL)->constant = 0)                                   \
    X(matrices_by_nothing, step_of(b, LSTMRT_OP_MATMUL)->inputs[1] = -1)                                 \
    X(products_too_many, output_of(b, LSTMRT_OP_MATMUL, 0)->width = 32)                                  \
    X(more_than_there_are, step_of(b, LSTMRT_OP_TOPK)->constant = 2)                                     \
    X(none_of_nothing, step_of(b, LSTMRT_OP_TOPK)->constant = 0)                                         \
    X(places_that_are_floats, output_of(b, LSTMRT_OP_TOPK, 1)->dtype = LSTMRT_F32)                       \
    X(as_many_values_as_places, output_of(b, LSTMRT_OP_TOPK, 1)->width = 4)                              \
    X(uneven_parts, step_of(b, LSTMRT_OP_TOPK)->constant = 5)                                            \
    X(a_choice_of_nothing, step_of(b, LSTMRT_OP_WHERE)->weights[0].data = NULL)                          \
    X(a_choice_from_other_rows, step_of(b, LSTMRT_OP_WHERE)->inputs[1] = b->inputs[0])                   \
    X(elements_that_do_not_fit_into_rows, output_of(b, LSTMRT_OP_RESHAPE, 0)->width = 12)                \
    X(ids_that_make_other_parts, output_of(b, LSTMRT_OP_EMBEDDING, 0)->width = 13)                       \
    X(attention_to_one_row, input_of(b, LSTMRT_OP_ATTENTION, 1)->rows = LSTMRT_ROWS_ONE)                 \
    X(one_row_and_rows_of_the_batch, input_of(b, LSTMRT_OP_ADD, 0)->rows = LSTMRT_ROWS_ONE)              \
    X(add_of_another_width, step_of(b, LSTMRT_OP_CAST)->op = LSTMRT_OP_ADD)                              \
    X(not_equal_of_floats, step_of(b, LSTMRT_OP_NOT_EQUAL)->inputs[0] = b->inputs[0])

#define DEFINE(name, statement) \
    static void make_##name(builder *b) { statement; }
FAULTS(DEFINE)

static const struct {
    const char *name;
    void (*make)(builder *);
} FAULT_LIST[] = {
#define ENTRY(name, statement) {#name, make_##name},
    FAULTS(ENTRY)};

static lstmrt_status try_model(const builder *b, lstmrt_model **model)
{
    const lstmrt_program program = program_of(b);
    const lstmrt_status status = lstmrt_model_new(&program, "scalar", model);
    CHECK((status == LSTMRT_OK) == (*model != NULL), "a model where there is none, or none where there is one");
    return status;
}

static void test_faults(void)
{
    for (size_t i = 0; i < COUNT(FAULT_LIST); i++) {
        builder b = everything();
        FAULT_LIST[i].make(&b);
        lstmrt_model *model;
        const lstmrt_status status = try_model(&b, &model);
        CHECK(status == LSTMRT_BAD_PROGRAM, "%s: %s", FAULT_LIST[i].name, lstmrt_status_text(status));
        lstmrt_model_free(model);
        builder_free(&b);
    }
}

/* ---- calls that do not fit a good program ---- */

static void test_bad_calls(void)
{
    builder b = everything();
    const lstmrt_program program = program_of(&b);
    lstmrt_model *model;
    CHECK(lstmrt_model_new(&program, "sse9", &model) == LSTMRT_UNKNOWN_ISA && !model, "an unknown instruction set");
    REQUIRE(try_model(&b, &model) == LSTMRT_OK);
    CHECK(!lstmrt_model_steppable(model), "a reversed layer is not steppable");
    lstmrt_state *state;
    CHECK(lstmrt_state_new(model, 1, &state) == LSTMRT_NOT_STEPPABLE && !state, "no state for it");

    arrays a = arrays_for(&b, 2, 3);
    CHECK(lstmrt_run(model, a.inputs, a.outputs, 2, 3, SOURCE) == LSTMRT_OK, "what fits");
    CHECK(lstmrt_run(model, a.inputs, a.outputs, 2, 4, SOURCE) == LSTMRT_BAD_ARGUMENT, "another time");
    CHECK(lstmrt_run(model, a.inputs, a.outputs, 3, 2, SOURCE) == LSTMRT_BAD_ARGUMENT, "another batch");
    CHECK(lstmrt_run(model, a.inputs, a.outputs, 0, 3, SOURCE) == LSTMRT_BAD_ARGUMENT, "no batch");
    CHECK(lstmrt_run(model, a.inputs, a.outputs, 2, 0, SOURCE) == LSTMRT_BAD_ARGUMENT, "no time");
    for (int i = 0; i < 2; i++) { /* the second time meets what the first left behind */
        const lstmrt_status status = lstmrt_run(model, a.inputs, a.outputs, SIZE_MAX / 2, SIZE_MAX / 3, SOURCE);
        CHECK(status == LSTMRT_OUT_OF_MEMORY || status == LSTMRT_BAD_ARGUMENT, "sizes whose product overflows");
    }
    int64_t *ids = a.inputs[1].data, *lengths = a.inputs[2].data;
    ids[5] = 11;
    CHECK(lstmrt_run(model, a.inputs, a.outputs, 2, 3, SOURCE) == LSTMRT_ID_OUT_OF_RANGE, "an id above the vocabulary");
    ids[5] = -12;
    CHECK(lstmrt_run(model, a.inputs, a.outputs, 2, 3, SOURCE) == LSTMRT_ID_OUT_OF_RANGE, "an id below it");
    ids[5] = -11;
    CHECK(lstmrt_run(model, a.inputs, a.outputs, 2, 3, SOURCE) == LSTMRT_OK, "negative ids count from the end");
    lengths[1] = 4;
    CHECK(lstmrt_run(model, a.inputs, a.outputs, 2, 3, SOURCE) == LSTMRT_BAD_ARGUMENT, "longer than time");
    lengths[1] = INT64_MIN;
    CHECK(lstmrt_run(model, a.inputs, a.outputs, 2, 3, SOURCE) == LSTMRT_BAD_ARGUMENT, "a negative length");
    arrays_free(&a);
    lstmrt_model_free(model);
    builder_free(&b);
}

/* ---- random damage ---- */

static int32_t random_index(const builder *b)
{
    static const int32_t ODD[] = {-2, INT32_MAX, INT32_MIN, MOST_VALUES};
    return random_below(8) == 0 ? ODD[random_below(4)] : (int32_t)random_below(b->n_values + 2) - 1;
}

static void damage_value(builder *b)
{
    static const uint32_t WIDTHS[] = {0, 1, 5, 7, 21, 1000000, INT32_MAX, UINT32_MAX};
    lstmrt_value *value = &b->values[random_below(b->n_values)];
    switch (random_below(4)) {
    case 0: value->width = WIDTHS[random_below(8)]; break;
    case 1: value->dtype = (lstmrt_dtype)random_below(4); break;
    case 2: value->across = (lstmrt_across)random_below(4); break;
    default: value->rows = (lstmrt_rows)random_below(6);
    }
}

/* Shapes may only shrink: a program that lies about its caller's arrays is no fault that C could see. */
static void damage_weight(lstmrt_weight *weight)
{
    switch (random_below(3)) {
    case 0: weight->data = NULL; break;
    case 1: weight->rows = random_below(weight->rows + 1); break;
    default: weight->cols = random_below(weight->cols + 1);
    }
}

static void damage_step(builder *b)
{
    lstmrt_step *step = &b->steps[random_below(b->n_steps)];
    lstmrt_activation *activation = &step->activations[random_below(LSTMRT_MAX_GATE_FUNCTIONS)];
    switch (random_below(8)) {
    case 0: step->op = (lstmrt_op)random_below(LSTMRT_OP_COUNT + 1); break;
    case 1: step->inputs[random_below(LSTMRT_MAX_INPUTS)] = random_index(b); break;
    case 2: step->outputs[random_below(LSTMRT_MAX_OUTPUTS)] = random_index(b); break;
    case 3: damage_weight(&step->weights[random_below(LSTMRT_MAX_WEIGHTS)]); break;
    case 4: activation->function = (lstmrt_function)random_below(LSTMRT_ACTIVATION_COUNT + 1); break;
    case 5: step->reverse = !step->reverse, step->linear_before_reset = !step->linear_before_reset; break;
    case 6: step->constant = (int64_t)random_bits(); break;
    default: step->clip = random_below(2) ? NAN : -1;
    }
}

static void damage(builder *b)
{
    switch (random_below(8)) {
    case 0:
    case 1: damage_value(b); break;
    case 2: b->inputs[random_below(b->n_inputs)] = random_index(b); break;
    case 3: b->outputs[random_below(b->n_outputs)] = random_index(b); break;
    default: damage_step(b);
    }
}

static bool small(const builder *b)
{
    for (size_t i = 0; i < b->n_values; i++)
        if (b->values[i].width > 100) return false;
    return true;
}

static void run_survivor(lstmrt_model *model, const builder *b)
{
    arrays a = arrays_for(b, 2, 3);
    const lstmrt_status status = lstmrt_run(model, a.inputs, a.outputs, 2, 3, SOURCE);
    CHECK(status == LSTMRT_OK || status == LSTMRT_ID_OUT_OF_RANGE || status == LSTMRT_BAD_ARGUMENT ||
              status == LSTMRT_OUT_OF_MEMORY, "a run of a damaged program: %s", lstmrt_status_text(status));
    arrays_free(&a);
}

/* Most damage is fatal, some is harmless: both must come up for this to mean anything. */
static void test_fuzz(void)
{
    unsigned long refused = 0, accepted = 0;
    for (int i = 0; i < FUZZED; i++) {
        builder b = everything();
        for (size_t n = 1 + random_below(3); n > 0; n--) damage(&b);
        lstmrt_model *model;
        const lstmrt_status status = try_model(&b, &model);
        CHECK(status == LSTMRT_OK || status == LSTMRT_BAD_PROGRAM || status == LSTMRT_OUT_OF_MEMORY,
              "a damaged program: %s", lstmrt_status_text(status));
        refused += status != LSTMRT_OK;
        accepted += status == LSTMRT_OK;
        if (model && small(&b)) run_survivor(model, &b);
        lstmrt_model_free(model);
        builder_free(&b);
    }
    printf("  %lu damaged programs refused, %lu accepted and run\n", refused, accepted);
    CHECK(refused > FUZZED / 4 && accepted > FUZZED / 20, "the damage is too mild or too harsh");
}

/* No allocation that a damaged size asks for reaches the system. */
static void *modest_allocate(size_t size) { return size < 1 << 26 ? aligned_alloc(LSTMRT_ALIGNMENT, size) : NULL; }

int main(void)
{
    lstmrt_set_allocator(modest_allocate, free);
    test_faults();
    test_bad_calls();
    test_fuzz();
    return finish("test_bad_programs");
}
