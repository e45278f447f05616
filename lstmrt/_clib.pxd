# csrc/lstmrt.h as Cython sees it. C code calls nothing back: every function is noexcept and runs without the GIL.

from libc.stdint cimport int8_t, int32_t, int64_t, uint32_t, uint64_t


cdef extern from *:
    """
    #include "lstmrt.h"

    /* The names of the header's lists, so that no list stands here again. */
    static const char *const lstmrt_op_names[] = {
    #define X(name, inputs, outputs, weights) #name,
        LSTMRT_OPS(X)
    #undef X
    };
    static const char *const lstmrt_function_names[] = {
    #define X(name, formula) #name,
        LSTMRT_ACTIVATIONS(X)
    #undef X
    };
    """
    const char *const *lstmrt_op_names
    const char *const *lstmrt_function_names


cdef extern from "lstmrt.h" nogil:
    ctypedef bint c_bool "bool"

    ctypedef enum lstmrt_status:
        LSTMRT_OK
        LSTMRT_OUT_OF_MEMORY
        LSTMRT_BAD_ARGUMENT
        LSTMRT_BAD_PROGRAM
        LSTMRT_ID_OUT_OF_RANGE
        LSTMRT_NOT_STEPPABLE
        LSTMRT_UNKNOWN_ISA
        LSTMRT_UNSUPPORTED_ISA

    ctypedef enum lstmrt_dtype:
        LSTMRT_F32
        LSTMRT_I64
        LSTMRT_BOOL

    ctypedef enum lstmrt_rows:
        LSTMRT_ROWS_BATCH
        LSTMRT_ROWS_BATCH_TIME
        LSTMRT_ROWS_TIME_BATCH
        LSTMRT_ROWS_BATCH_SOURCE
        LSTMRT_ROWS_ONE

    ctypedef enum lstmrt_across:
        LSTMRT_ACROSS_NOTHING
        LSTMRT_ACROSS_TIME
        LSTMRT_ACROSS_SOURCE

    ctypedef enum lstmrt_precision:
        LSTMRT_PRECISION_F32
        LSTMRT_PRECISION_BF16
        LSTMRT_PRECISION_INT8

    ctypedef enum lstmrt_op:
        LSTMRT_OP_COUNT

    ctypedef enum lstmrt_function:
        LSTMRT_ACTIVATION_COUNT

    ctypedef enum lstmrt_decode_mode:
        LSTMRT_DECODE_STATEFUL
        LSTMRT_DECODE_STAGGERED
        LSTMRT_DECODE_WINDOW
        LSTMRT_DECODE_GROWING

    enum:
        LSTMRT_MAX_INPUTS
        LSTMRT_MAX_OUTPUTS
        LSTMRT_MAX_WEIGHTS
        LSTMRT_MAX_GATE_FUNCTIONS
        LSTMRT_IMAGE_AXES

    ctypedef struct lstmrt_value:
        lstmrt_dtype dtype
        lstmrt_rows rows
        uint32_t width
        lstmrt_across across

    ctypedef struct lstmrt_activation:
        lstmrt_function function
        float alpha
        float beta

    ctypedef struct lstmrt_weight:
        const float *data
        size_t rows
        size_t cols
        const int8_t *bytes
        const float *scales
        int32_t zero

    ctypedef struct lstmrt_windows:
        uint32_t sizes[LSTMRT_IMAGE_AXES]
        uint32_t counts[LSTMRT_IMAGE_AXES]
        uint32_t kernel[LSTMRT_IMAGE_AXES]
        uint32_t strides[LSTMRT_IMAGE_AXES]
        uint32_t dilations[LSTMRT_IMAGE_AXES]
        uint32_t before[LSTMRT_IMAGE_AXES]

    ctypedef struct lstmrt_step:
        lstmrt_op op
        int32_t inputs[LSTMRT_MAX_INPUTS]
        int32_t outputs[LSTMRT_MAX_OUTPUTS]
        lstmrt_weight weights[LSTMRT_MAX_WEIGHTS]
        lstmrt_activation activations[LSTMRT_MAX_GATE_FUNCTIONS]
        float clip
        float epsilon
        float scale
        float hidden
        int64_t constant
        lstmrt_windows windows
        const int32_t *indices
        size_t n_indices
        c_bool causal
        c_bool reverse
        c_bool linear_before_reset
        c_bool input_forget
        c_bool zero_masked_output

    ctypedef struct lstmrt_program:
        const lstmrt_value *values
        size_t n_values
        const lstmrt_step *steps
        size_t n_steps
        const int32_t *inputs
        size_t n_inputs
        const int32_t *outputs
        size_t n_outputs
        lstmrt_precision precision

    ctypedef struct lstmrt_buffer:
        void *data
        size_t bytes

    ctypedef struct lstmrt_decode_options:
        lstmrt_decode_mode mode
        size_t window
        size_t max_length
        int64_t pad_id
        c_bool pad_right
        c_bool do_sample
        uint64_t seed
        double temperature
        double top_p
        size_t top_k
        double repetition_penalty
        const int64_t *eos_ids
        size_t n_eos_ids

    enum:
        LSTMRT_ENDED

    ctypedef struct lstmrt_event:
        size_t slot
        int64_t id

    ctypedef struct lstmrt_model:
        pass
    ctypedef struct lstmrt_state:
        pass
    ctypedef struct lstmrt_decoder:
        pass
    ctypedef struct lstmrt_batch:
        pass
    ctypedef struct lstmrt_picker:
        pass

    const char *lstmrt_status_text(lstmrt_status status) noexcept
    const char *lstmrt_isa_name(lstmrt_precision precision, size_t i, c_bool *supported) noexcept

    lstmrt_status lstmrt_probe_read(const char *isa, size_t bytes, int64_t budget, double *rate) noexcept
    lstmrt_status lstmrt_probe_fma(const char *isa, lstmrt_precision precision, int64_t budget, double *rate) noexcept

    lstmrt_status lstmrt_model_new(const lstmrt_program *program, const char *isa, lstmrt_model **model) noexcept
    void lstmrt_model_free(lstmrt_model *model) noexcept
    const char *lstmrt_model_isa(const lstmrt_model *model) noexcept
    bint lstmrt_model_steppable(const lstmrt_model *model) noexcept
    void lstmrt_model_set_threads(lstmrt_model *model, size_t threads) noexcept
    bint lstmrt_run_is_brief(const lstmrt_model *model, size_t batch, size_t time, size_t source) noexcept
    lstmrt_status lstmrt_run(lstmrt_model *model, const lstmrt_buffer *inputs, const lstmrt_buffer *outputs,
                             size_t batch, size_t time, size_t source) noexcept

    lstmrt_status lstmrt_state_new(lstmrt_model *model, size_t batch, lstmrt_state **state) noexcept
    lstmrt_status lstmrt_state_copy(const lstmrt_state *state, lstmrt_state **copy) noexcept
    void lstmrt_state_reset(lstmrt_state *state) noexcept
    void lstmrt_state_free(lstmrt_state *state) noexcept
    lstmrt_status lstmrt_step_run(lstmrt_model *model, lstmrt_state *state, const lstmrt_buffer *inputs,
                                  const lstmrt_buffer *outputs) noexcept

    lstmrt_status lstmrt_decoder_new(lstmrt_model *model, const lstmrt_decode_options *options,
                                     lstmrt_decoder **decoder) noexcept
    void lstmrt_decoder_free(lstmrt_decoder *decoder) noexcept
    lstmrt_status lstmrt_decoder_prompt(lstmrt_decoder *decoder, const int64_t *ids, size_t n, int64_t budget,
                                        size_t *taken) noexcept
    lstmrt_status lstmrt_decoder_next(lstmrt_decoder *decoder, int64_t *ids, size_t n, int64_t budget, size_t *made,
                                      c_bool *ended) noexcept

    lstmrt_status lstmrt_batch_new(lstmrt_model *model, const lstmrt_decode_options *options, size_t streams,
                                   lstmrt_batch **batch) noexcept
    void lstmrt_batch_free(lstmrt_batch *batch) noexcept
    lstmrt_status lstmrt_batch_add(lstmrt_batch *batch, const lstmrt_decode_options *options, const int64_t *ids,
                                   size_t n, size_t most_made, size_t *slot) noexcept
    lstmrt_status lstmrt_batch_drop(lstmrt_batch *batch, size_t slot) noexcept
    lstmrt_status lstmrt_batch_next(lstmrt_batch *batch, size_t steps, lstmrt_event *events, size_t n, int64_t budget,
                                    size_t *made) noexcept

    lstmrt_status lstmrt_picker_new(const lstmrt_decode_options *options, size_t vocabulary,
                                    lstmrt_picker **picker) noexcept
    void lstmrt_picker_free(lstmrt_picker *picker) noexcept
    void lstmrt_picker_see(lstmrt_picker *picker, int64_t id) noexcept
    int64_t lstmrt_picker_pick(lstmrt_picker *picker, const float *logits) noexcept
