"""A part of _core.pyx: programs, from Python's words for them to lstmrt_program."""

_OPS = {lstmrt_op_names[i].decode(): i for i in range(LSTMRT_OP_COUNT)}
_FUNCTIONS = {lstmrt_function_names[i].decode(): i for i in range(LSTMRT_ACTIVATION_COUNT)}
_DTYPES = {"f32": LSTMRT_F32, "i64": LSTMRT_I64, "bool": LSTMRT_BOOL}
_ROWS = {"batch": LSTMRT_ROWS_BATCH, "batch_time": LSTMRT_ROWS_BATCH_TIME, "time_batch": LSTMRT_ROWS_TIME_BATCH,
         "batch_source": LSTMRT_ROWS_BATCH_SOURCE, "one": LSTMRT_ROWS_ONE}
_ACROSS = {"": LSTMRT_ACROSS_NOTHING, "time": LSTMRT_ACROSS_TIME, "source": LSTMRT_ACROSS_SOURCE}
_STEP_FIELDS = {
    "op", "inputs", "outputs", "weights", "activations", "clip", "epsilon", "scale", "hidden", "constant", "causal",
    "indices", "windows", "reverse", "linear_before_reset", "input_forget", "zero_masked_output",
}


cdef int at_most(size_t most, items, str what) except -1:
    if <size_t>len(items) > most:
        raise GraphError(f"a step has {len(items)} {what}, at most {most} fit")
    return 0


cdef class Program:
    """An lstmrt_program and the memory it points to."""

    cdef lstmrt_program c
    cdef lstmrt_value *values
    cdef lstmrt_step *steps
    cdef int32_t *inputs
    cdef int32_t *outputs
    cdef list weights  # memoryviews of these and of indices, which keep the arrays where they are

    def __cinit__(self, list values, list steps, inputs, outputs):
        self.weights = []
        self.values = <lstmrt_value *>PyMem_Calloc(len(values), sizeof(lstmrt_value))
        self.steps = <lstmrt_step *>PyMem_Calloc(len(steps), sizeof(lstmrt_step))
        self.inputs = <int32_t *>PyMem_Calloc(len(inputs), sizeof(int32_t))
        self.outputs = <int32_t *>PyMem_Calloc(len(outputs), sizeof(int32_t))
        if self.values == NULL or self.steps == NULL or self.inputs == NULL or self.outputs == NULL:
            raise MemoryError
        for i, (dtype, rows, width, *across) in enumerate(values):
            self.values[i].dtype = <lstmrt_dtype>number_of(_DTYPES, dtype, "dtype")
            self.values[i].rows = <lstmrt_rows>number_of(_ROWS, rows, "rows")
            self.values[i].width = width
            self.values[i].across = <lstmrt_across>number_of(_ACROSS, across[0] if across else "", "across")
        for i, fields in enumerate(steps):
            self.fill(&self.steps[i], fields)
        for i, value in enumerate(inputs):
            self.inputs[i] = value
        for i, value in enumerate(outputs):
            self.outputs[i] = value
        self.c = lstmrt_program(
            values=self.values, n_values=len(values), steps=self.steps, n_steps=len(steps),
            inputs=self.inputs, n_inputs=len(inputs), outputs=self.outputs, n_outputs=len(outputs),
        )

    def __dealloc__(self):
        PyMem_Free(self.values)
        PyMem_Free(self.steps)
        PyMem_Free(self.inputs)
        PyMem_Free(self.outputs)

    cdef int fill(self, lstmrt_step *step, dict fields) except -1:
        unknown = fields.keys() - _STEP_FIELDS
        if unknown:
            raise GraphError(f"unknown fields of a step: {', '.join(sorted(unknown))}")
        step.op = <lstmrt_op>number_of(_OPS, fields["op"], "operation")
        step.clip = fields.get("clip", 0.0)
        step.epsilon = fields.get("epsilon", 0.0)
        step.scale = fields.get("scale", 1.0)
        step.hidden = fields.get("hidden", 0.0)
        step.constant = fields.get("constant", 0)
        step.causal = fields.get("causal", False)
        step.reverse = fields.get("reverse", False)
        step.linear_before_reset = fields.get("linear_before_reset", False)
        step.input_forget = fields.get("input_forget", False)
        step.zero_masked_output = fields.get("zero_masked_output", False)
        self.fill_values(step, fields.get("inputs", ()), fields.get("outputs", ()))
        self.fill_weights(step, fields.get("weights", ()))
        self.fill_activations(step, fields.get("activations", ()))
        if fields.get("windows") is not None:
            self.fill_windows(&step.windows, fields["windows"])
        if fields.get("indices") is not None:
            self.fill_indices(step, fields["indices"])
        return 0

    cdef int fill_windows(self, lstmrt_windows *to, dict windows) except -1:
        for i in range(LSTMRT_IMAGE_AXES):
            to.sizes[i], to.counts[i], to.kernel[i] = windows["sizes"][i], windows["counts"][i], windows["kernel"][i]
            to.strides[i], to.dilations[i], to.before[i] = windows["strides"][i], windows["dilations"][i], windows["before"][i]
        return 0

    cdef int fill_indices(self, lstmrt_step *step, const int32_t[::1] indices) except -1:
        self.weights.append(indices)
        step.indices = &indices[0]
        step.n_indices = indices.shape[0]
        return 0

    cdef int fill_values(self, lstmrt_step *step, inputs, outputs) except -1:
        at_most(LSTMRT_MAX_INPUTS, inputs, "inputs")
        at_most(LSTMRT_MAX_OUTPUTS, outputs, "outputs")
        for i in range(LSTMRT_MAX_INPUTS):
            step.inputs[i] = inputs[i] if i < len(inputs) else -1
        for i in range(LSTMRT_MAX_OUTPUTS):
            step.outputs[i] = outputs[i] if i < len(outputs) else -1
        return 0

    cdef int fill_weights(self, lstmrt_step *step, weights) except -1:
        cdef Py_buffer buffer
        at_most(LSTMRT_MAX_WEIGHTS, weights, "weights")
        for i, weight in enumerate(weights):
            if isinstance(weight, tuple):  # (bytes, scales of rows, zero point)
                self.fill_bytes(&step.weights[i], weight[0], weight[1], weight[2])
            if weight is None or isinstance(weight, tuple):
                continue
            view = memoryview(weight)
            if view.format != "f" or view.ndim not in (1, 2) or not view.c_contiguous:
                raise GraphError(f"a weight must be a C-contiguous float32 vector or matrix, got "
                                 f"format {view.format!r} and shape {view.shape}")
            self.weights.append(view)
            PyObject_GetBuffer(view, &buffer, PyBUF_C_CONTIGUOUS)
            step.weights[i].data = <const float *>buffer.buf
            PyBuffer_Release(&buffer)
            step.weights[i].rows = view.shape[0] if view.ndim == 2 else 1
            step.weights[i].cols = view.shape[-1]
        return 0

    cdef int fill_bytes(self, lstmrt_weight *weight, const int8_t[:, ::1] matrix, const float[::1] scales,
                        int32_t zero) except -1:
        if scales.shape[0] != matrix.shape[0] or matrix.shape[1] == 0:
            raise GraphError(f"{scales.shape[0]} scales for {matrix.shape[0]} rows of {matrix.shape[1]} bytes")
        self.weights += [matrix, scales]
        weight.bytes, weight.scales, weight.zero = &matrix[0, 0], &scales[0], zero
        weight.rows, weight.cols = matrix.shape[0], matrix.shape[1]
        return 0

    cdef int fill_activations(self, lstmrt_step *step, activations) except -1:
        at_most(LSTMRT_MAX_GATE_FUNCTIONS, activations, "activations")
        for i, (name, alpha, beta) in enumerate(activations):
            step.activations[i].function = <lstmrt_function>number_of(_FUNCTIONS, name, "activation")
            step.activations[i].alpha = alpha
            step.activations[i].beta = beta
        return 0
