"""The only door to the C core (csrc/lstmrt.h): Python objects to C structs, statuses to exceptions, no arithmetic.

What runs read and write are C-contiguous NumPy arrays of exactly the program's size. Their dtypes and shapes are the
caller's to check, or a Form's; a wrong size in bytes is refused here, never read. The GIL is released while C works, but not
for calls of a microsecond: threads that take turns so often are slower than one.
"""

cimport numpy as cnp
from cpython.buffer cimport PyBUF_C_CONTIGUOUS, PyBUF_FORMAT, Py_buffer, PyBuffer_Release, PyObject_GetBuffer
from cpython.exc cimport PyErr_CheckSignals
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.stdint cimport int8_t, int32_t, int64_t

from ._clib cimport *

import numpy as np

from .errors import GraphError, InputError, IsaError, OutOfMemoryError

cnp.import_array()

cdef int64_t SLICE_NS = 20_000_000  # of C work at a time: a Ctrl-C waits no longer
cdef size_t SLICE_IDS = 4096  # at most from one slice

_EXCEPTIONS = {
    LSTMRT_OUT_OF_MEMORY: OutOfMemoryError,
    LSTMRT_BAD_ARGUMENT: InputError,
    LSTMRT_BAD_PROGRAM: GraphError,
    LSTMRT_ID_OUT_OF_RANGE: InputError,
    LSTMRT_NOT_STEPPABLE: InputError,
    LSTMRT_UNKNOWN_ISA: IsaError,
    LSTMRT_UNSUPPORTED_ISA: IsaError,
}

_PRECISIONS = {"f32": LSTMRT_PRECISION_F32, "bf16": LSTMRT_PRECISION_BF16, "int8": LSTMRT_PRECISION_INT8}
_MODES = {"stateful": LSTMRT_DECODE_STATEFUL, "staggered": LSTMRT_DECODE_STAGGERED, "window": LSTMRT_DECODE_WINDOW,
          "growing": LSTMRT_DECODE_GROWING}


cdef int check(lstmrt_status status, str subject=None) except -1:
    """The one place where a status becomes an exception; `subject` says what it is about."""
    if status == LSTMRT_OK:
        return 0
    text = lstmrt_status_text(status).decode()
    raise _EXCEPTIONS[status](text if subject is None else f"{subject}: {text}")


cdef int number_of(dict names, name, str what, exception=GraphError) except -1:
    if name not in names:
        raise exception(f"unknown {what} {name!r}; known are {', '.join(names)}")
    return names[name]


def isas(str precision="f32"):
    """[(name, whether this CPU runs it)] of every instruction set with kernels of its own for a precision, slowest first."""
    cdef c_bool supported = False
    cdef const char *name
    cdef lstmrt_precision wanted = <lstmrt_precision>number_of(_PRECISIONS, precision, "precision", InputError)
    found = []
    while (name := lstmrt_isa_name(wanted, len(found), &supported)) != NULL:
        found.append((name.decode(), bool(supported)))
    return found


def read_rate(size_t size, int64_t budget):
    """Bytes a second at which this thread's core reads `size` bytes again and again, the best piece of `budget` ns."""
    cdef double rate = 0
    cdef lstmrt_status status
    with nogil:
        status = lstmrt_probe_read(NULL, size, budget, &rate)
    check(status)
    return rate


def fma_rate(int64_t budget, precision="f32"):
    """Operations a second of this thread's multiply-adds for weights of a precision, the best piece of `budget` ns."""
    cdef lstmrt_precision wanted = <lstmrt_precision>number_of(_PRECISIONS, precision, "precision", InputError)
    cdef lstmrt_status status
    cdef double rate = 0
    with nogil:
        status = lstmrt_probe_fma(NULL, wanted, budget, &rate)
    check(status)
    return rate


# ---- arrays of one call ----

cdef enum:
    FEW = 3  # arrays that need no memory of their own

cdef struct Sizes:
    size_t batch, time, source
    bint brief  # over so soon that the GIL is kept

cdef struct Buffers:
    lstmrt_buffer *all
    lstmrt_buffer few[FEW]


cdef int point(Buffers *buffers, tuple arrays, size_t expected, bint written, str what) except -1:
    """Lets `buffers` point into arrays, which their tuple keeps. They are let go of with `let_go`, whatever happens here."""
    cdef cnp.ndarray array
    cdef size_t i = 0
    if <size_t>len(arrays) != expected:
        raise InputError(f"expected {expected} {what}, got {len(arrays)}")
    if expected > FEW:
        buffers.all = <lstmrt_buffer *>PyMem_Calloc(expected, sizeof(lstmrt_buffer))
        if buffers.all == NULL:
            raise MemoryError
    for array in arrays:
        if array is None:  # which a variable of any class takes
            raise TypeError("None is no array")
        if not cnp.PyArray_IS_C_CONTIGUOUS(array):
            raise ValueError("an array is not C-contiguous")
        if written and not cnp.PyArray_ISWRITEABLE(array):
            raise ValueError("an array for outputs is read-only")
        buffers.all[i] = lstmrt_buffer(data=cnp.PyArray_DATA(array), bytes=cnp.PyArray_NBYTES(array))
        i += 1
    return 0


cdef void let_go(Buffers *buffers) noexcept:
    if buffers.all != buffers.few:
        PyMem_Free(buffers.all)


include "_program.pxi"


# ---- models, states, decoders ----

cdef class Model:
    """A compiled program, immutable: any number of threads may use one.

    `values` are (dtype, rows, width) with dtype "f32", "i64" or "bool" and rows "batch", "batch_time", "time_batch",
    "batch_source" or "one"; a fourth element "time" or "source" is the sequence that an output goes across;
    `steps` are dicts with the fields of lstmrt_step in csrc/lstmrt.h, "op" and activations by name, weights as float32
    arrays or None, missing fields as 0; `inputs` and `outputs` are indices of values. `isa` None is the fastest;
    `threads` is how many a call may use at most, 0: as many as there are processors that no other call uses.
    `precision` is that of the weights: "f32", "bf16" or "int8".
    Raises GraphError, IsaError, OutOfMemoryError.
    """

    cdef lstmrt_model *c
    cdef size_t n_inputs, n_outputs

    def __cinit__(self, list values not None, list steps not None, inputs, outputs, str isa=None,
                  size_t threads=0, str precision not None="f32"):
        cdef Program program = Program(values, steps, inputs, outputs)
        cdef lstmrt_status status
        cdef bytes encoded = b"" if isa is None else isa.encode()
        cdef const char *name = NULL
        program.c.precision = <lstmrt_precision>number_of(_PRECISIONS, precision, "precision", InputError)
        if isa is not None:
            name = encoded
        with nogil:
            status = lstmrt_model_new(&program.c, name, &self.c)
        check(status, None if isa is None else f"instruction set {isa!r}")
        lstmrt_model_set_threads(self.c, threads)
        self.n_inputs, self.n_outputs = program.c.n_inputs, program.c.n_outputs

    def __dealloc__(self):
        lstmrt_model_free(self.c)

    @property
    def isa(self):
        """The name of the instruction set in use."""
        return lstmrt_model_isa(self.c).decode()

    @property
    def steppable(self):
        """Whether `step` and the decoders that carry states work: no output depends on a later step."""
        return bool(lstmrt_model_steppable(self.c))

    def run(self, tuple inputs not None, tuple outputs not None, size_t batch, size_t time, size_t source=1):
        """Runs `batch` sequences of `time` steps, and of `source` steps where rows are of a source. The arrays of `inputs`
        and `outputs` are in the program's order."""
        check(self.call(None, inputs, outputs, Sizes(batch, time, source, False)))

    def step(self, State state not None, tuple inputs not None, tuple outputs not None):
        """One time step of the state's rows; the new state replaces the old one. Raises InputError if not steppable."""
        check(self.call(state, inputs, outputs, Sizes(state.batch_size, 1, 1, False)))

    cdef lstmrt_status call(self, State state, tuple inputs, tuple outputs, Sizes sizes) except? LSTMRT_OUT_OF_MEMORY:
        """A step of `state` or, where that is None, a run of these sizes."""
        cdef Buffers given
        cdef Buffers wanted
        cdef lstmrt_status status
        given.all, wanted.all = given.few, wanted.few
        try:
            point(&given, inputs, self.n_inputs, False, "inputs")
            point(&wanted, outputs, self.n_outputs, True, "outputs")
            if state is not None:
                state.enter(self)
            if sizes.brief:
                status = self.work(state, &given, &wanted, sizes)
            else:
                with nogil:
                    status = self.work(state, &given, &wanted, sizes)
            if state is not None:
                state.busy = False
            return status
        finally:
            let_go(&given)
            let_go(&wanted)

    cdef lstmrt_status work(self, State state, Buffers *given, Buffers *wanted, Sizes sizes) noexcept nogil:
        if state is None:
            return lstmrt_run(self.c, given.all, wanted.all, sizes.batch, sizes.time, sizes.source)
        return lstmrt_step_run(self.c, state.c, given.all, wanted.all)

    def new_state(self, size_t batch):
        """A State of zeros for `batch` rows."""
        return State(self, batch)

    def decoder(self, **options):
        """A Decoder: see there."""
        return Decoder(self, **options)

    def batch(self, size_t streams, **options):
        """A Batch: see there."""
        return Batch(self, streams, **options)


cdef class State:
    """h and c of every recurrent step for `batch_size` rows, from zero; for one caller at a time."""

    cdef lstmrt_state *c
    cdef readonly Model model
    cdef readonly size_t batch_size
    cdef bint busy

    def __cinit__(self, Model model not None, size_t batch_size, State source=None):
        cdef lstmrt_status status
        self.model = model
        self.batch_size = batch_size
        with nogil:
            if source is None:
                status = lstmrt_state_new(model.c, batch_size, &self.c)
            else:
                status = lstmrt_state_copy(source.c, &self.c)
        check(status)

    def __dealloc__(self):
        lstmrt_state_free(self.c)

    cdef int enter(self, Model model) except -1:
        if model is not self.model:
            raise InputError("this state belongs to another model")
        if self.busy:
            raise InputError("this state is in use by another thread")
        self.busy = True
        return 0

    def copy(self):
        """A State of its own with the same contents."""
        self.enter(self.model)
        try:
            return State(self.model, self.batch_size, self)
        finally:
            self.busy = False

    def __copy__(self):
        return self.copy()

    def __deepcopy__(self, memo):
        return self.copy()

    def __reduce__(self):
        raise TypeError("a state is not pickled: it belongs to a model of this process")

    def reset(self):
        """Back to zero."""
        self.enter(self.model)
        lstmrt_state_reset(self.c)
        self.busy = False


cdef class Form:
    """What calls of one shape take and make, so that each costs little more than its arithmetic.

    inputs, outputs  shape and dtype of each
    sizes            batch, time and source of a run
    explain          called with the inputs where an id in one is out of range: raises the error that says which
    """

    cdef Model model
    cdef list inputs, outputs  # an array like each, whose elements are all the same one
    cdef object explain
    cdef Sizes sizes

    def __cinit__(self, Model model not None, inputs, outputs, sizes, explain):
        self.model, self.explain = model, explain
        self.inputs, self.outputs = ([np.ndarray(shape, dtype, np.empty(1, dtype), 0, (0,) * len(shape))
                                      for shape, dtype in forms] for forms in (inputs, outputs))
        self.sizes.batch, self.sizes.time, self.sizes.source = sizes
        self.sizes.brief = lstmrt_run_is_brief(model.c, self.sizes.batch, self.sizes.time, self.sizes.source)

    def run(self, tuple inputs not None):
        """The outputs, a tuple. None where these are not arrays of the shapes and dtypes, as they stand in memory."""
        return self.made_of(None, inputs) if self.takes(inputs) else None

    cdef bint takes(self, tuple inputs) except -1:
        if len(inputs) != len(self.inputs):
            return False
        for i, array in enumerate(inputs):
            if not cnp.PyArray_CheckExact(array) or not is_like(array, self.inputs[i]):
                return False
        return True

    cdef tuple made_of(self, State state, tuple inputs):
        made = (empty_like(self.outputs[0]),) if len(self.outputs) == 1 else tuple([empty_like(y) for y in self.outputs])
        cdef lstmrt_status status = self.model.call(state, inputs, made, self.sizes)
        if status == LSTMRT_ID_OUT_OF_RANGE:
            self.explain(inputs)
        check(status)
        return made


cdef bint is_like(cnp.ndarray array, cnp.ndarray like):
    return (cnp.PyArray_SAMESHAPE(array, like) and cnp.PyArray_IS_C_CONTIGUOUS(array)
            and (array.descr is like.descr or cnp.PyArray_EquivTypes(array.descr, like.descr)))


cdef object empty_like(cnp.ndarray like):
    return cnp.PyArray_SimpleNew(cnp.PyArray_NDIM(like), cnp.PyArray_DIMS(like), cnp.PyArray_TYPE(like))


def step_by(dict forms not None, state, x):
    """The outputs, one or a tuple, of one time step, by the form that is there for the state's batch size; the state goes on.
    None, and the state is as it was, where there is no such form or it does not take `x`."""
    cdef Form form
    if type(state) is not State:
        return None
    form = forms.get((<State>state).batch_size)
    inputs = (x,)
    if form is None or not form.takes(inputs):
        return None
    made = form.made_of(state, inputs)
    return made[0] if len(made) == 1 else made


cdef class DecodeOptions:
    """An lstmrt_decode_options and the memory it points to."""

    cdef lstmrt_decode_options c
    cdef Py_buffer eos

    def __cinit__(self, *, str mode, size_t window=0, size_t max_length=0, int64_t pad_id=0, bint pad_right=False,
                  bint do_sample=False, uint64_t seed=0, double temperature=1.0, double top_p=1.0, size_t top_k=0,
                  double repetition_penalty=1.0, eos_ids=()):
        hold_ids(np.array(eos_ids, np.int64), &self.eos)
        self.c = lstmrt_decode_options(
            mode=<lstmrt_decode_mode>number_of(_MODES, mode, "mode", InputError),
            window=window, max_length=max_length, pad_id=pad_id, pad_right=pad_right, do_sample=do_sample, seed=seed,
            temperature=temperature, top_p=top_p, top_k=top_k, repetition_penalty=repetition_penalty,
            eos_ids=<const int64_t *>self.eos.buf, n_eos_ids=self.eos.shape[0],
        )

    def __dealloc__(self):
        PyBuffer_Release(&self.eos)


cdef class Decoder:
    """The token loop of one continuation, for one caller at a time. The options are those of lstmrt_decode_options in
    csrc/lstmrt.h; `mode` is "stateful", "staggered", "window" or "growing".
    Raises InputError where options and program do not fit, OutOfMemoryError."""

    cdef lstmrt_decoder *c
    cdef readonly Model model
    cdef bint busy

    def __cinit__(self, Model model not None, **options):
        cdef DecodeOptions given = DecodeOptions(**options)
        cdef lstmrt_status status
        self.model = model
        with nogil:
            status = lstmrt_decoder_new(model.c, &given.c, &self.c)
        check(status, f"decoder in mode {options['mode']!r}")

    def __dealloc__(self):
        lstmrt_decoder_free(self.c)

    cdef int enter(self) except -1:
        if self.busy:
            raise InputError("this decoder is in use by another thread")
        self.busy = True
        return 0

    def prompt(self, ids):
        """Reads `ids`, an int64 vector; looks for signals every 20 ms. After an exception the decoder is useless."""
        cdef lstmrt_status status
        cdef Py_buffer buffer
        cdef const int64_t *rest
        cdef size_t left, taken = 0
        self.enter()
        try:
            hold_ids(ids, &buffer)
            try:
                rest, left = <const int64_t *>buffer.buf, buffer.shape[0]
                while left > 0:
                    with nogil:
                        status = lstmrt_decoder_prompt(self.c, rest, left, SLICE_NS, &taken)
                    check(status)
                    PyErr_CheckSignals()
                    rest, left = rest + taken, left - taken
            finally:
                PyBuffer_Release(&buffer)
        finally:
            self.busy = False

    def next(self, size_t n):
        """(ids, ended): the next ids, at most `n`, as an int64 array, after at most about 20 ms; `ended` where one of
        eos_ids (which is left out) or max_length ends the continuation. Call again for the rest."""
        cdef lstmrt_status status
        cdef Py_buffer buffer
        cdef size_t made = 0
        cdef c_bool ended = False
        self.enter()
        try:
            ids = np.empty(min(n, SLICE_IDS), np.int64)
            hold_ids(ids, &buffer)
            with nogil:
                status = lstmrt_decoder_next(self.c, <int64_t *>buffer.buf, buffer.shape[0], SLICE_NS, &made, &ended)
            PyBuffer_Release(&buffer)
            check(status)
            return ids[:made], bool(ended)
        finally:
            self.busy = False


cdef class Batch:
    """The token loop of up to `streams` continuations at once, for one caller at a time. `options` are a Decoder's; mode
    "stateful" or "staggered", window and pad_id are those of all streams.
    Raises InputError where options and program do not fit, OutOfMemoryError."""

    cdef lstmrt_batch *c
    cdef lstmrt_event *events
    cdef size_t n_events
    cdef readonly Model model
    cdef readonly size_t streams
    cdef bint busy

    def __cinit__(self, Model model not None, size_t streams, **options):
        cdef DecodeOptions given = DecodeOptions(**options)
        cdef lstmrt_status status
        self.model, self.streams = model, streams
        with nogil:
            status = lstmrt_batch_new(model.c, &given.c, streams, &self.c)
        check(status, f"{streams} streams in mode {options['mode']!r}")
        self.n_events = max(SLICE_IDS, 2 * streams)
        self.events = <lstmrt_event *>PyMem_Calloc(self.n_events, sizeof(lstmrt_event))
        if self.events == NULL:
            raise MemoryError

    def __dealloc__(self):
        lstmrt_batch_free(self.c)
        PyMem_Free(self.events)

    cdef int enter(self) except -1:
        if self.busy:
            raise InputError("this batch is in use by another thread")
        self.busy = True
        return 0

    def add(self, ids, size_t most_made, **options):
        """The slot, below `streams`, of a new stream that reads `ids`, an int64 vector, and makes `most_made` at most."""
        cdef DecodeOptions given = DecodeOptions(**options)
        cdef Py_buffer buffer
        cdef size_t slot = 0
        cdef lstmrt_status status
        self.enter()
        try:
            hold_ids(ids, &buffer)
            with nogil:
                status = lstmrt_batch_add(self.c, &given.c, <const int64_t *>buffer.buf, buffer.shape[0], most_made, &slot)
            PyBuffer_Release(&buffer)
            check(status, "a stream")
            return slot
        finally:
            self.busy = False

    def drop(self, size_t slot):
        """Ends the stream in `slot`."""
        self.enter()
        try:
            check(lstmrt_batch_drop(self.c, slot), f"slot {slot}")
        finally:
            self.busy = False

    def next(self, size_t steps):
        """[(slot, id), ...] of at most `steps` steps that made ids, after at most about 20 ms: an id that a stream made, or
        None where it has ended and its slot is free. After an exception the batch is useless."""
        cdef lstmrt_status status
        cdef size_t made = 0, i
        self.enter()
        try:
            with nogil:
                status = lstmrt_batch_next(self.c, steps, self.events, self.n_events, SLICE_NS, &made)
            check(status)
            PyErr_CheckSignals()
            return [(self.events[i].slot, None if self.events[i].id == LSTMRT_ENDED else self.events[i].id)
                    for i in range(made)]
        finally:
            self.busy = False


cdef class Picker:
    """Chooses ids from logits (vocabulary,) that are made elsewhere, for one caller at a time; the options are those of
    lstmrt_decode_options in csrc/lstmrt.h. Raises InputError for options that make no sense, OutOfMemoryError."""

    cdef lstmrt_picker *c
    cdef readonly size_t vocabulary

    def __cinit__(self, size_t vocabulary, *, bint do_sample=False, uint64_t seed=0, double temperature=1.0,
                  double top_p=1.0, size_t top_k=0, double repetition_penalty=1.0):
        cdef lstmrt_status status
        cdef lstmrt_decode_options options = lstmrt_decode_options(
            mode=LSTMRT_DECODE_STATEFUL, window=0, max_length=0, pad_id=0, pad_right=False, do_sample=do_sample,
            seed=seed, temperature=temperature, top_p=top_p, top_k=top_k, repetition_penalty=repetition_penalty,
            eos_ids=NULL, n_eos_ids=0,
        )
        self.vocabulary = vocabulary
        with nogil:
            status = lstmrt_picker_new(&options, vocabulary, &self.c)
        check(status, "picker")

    def __dealloc__(self):
        lstmrt_picker_free(self.c)

    def see(self, int64_t id):
        """`id` is in the text: the repetition penalty counts it."""
        lstmrt_picker_see(self.c, id)

    def pick(self, const float[::1] logits not None):
        """The next id."""
        if <size_t>logits.shape[0] != self.vocabulary:
            raise InputError(f"expected {self.vocabulary} logits, got {logits.shape[0]}")
        return lstmrt_picker_pick(self.c, &logits[0])


cdef int hold_ids(object ids, Py_buffer *buffer) except -1:
    """Takes the buffer of an int64 vector."""
    PyObject_GetBuffer(ids, buffer, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT)
    if buffer.ndim == 1 and buffer.itemsize == sizeof(int64_t) and buffer.format in (b"l", b"q"):
        return 0
    PyBuffer_Release(buffer)
    raise InputError("ids must be an int64 vector")
