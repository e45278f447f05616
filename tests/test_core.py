"""The door to C: what passes, what is refused and how, and that one caller's state is one caller's."""

import signal
import threading
import time

import numpy as np
import pytest

from lstmrt import _core
from lstmrt.errors import GraphError, InputError, IsaError

FEATURES, HIDDEN, VOCABULARY = 3, 5, 11
GATES = [("SIGMOID", 0, 0), ("TANH", 0, 0), ("TANH", 0, 0)]


def random(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def lstm_step(x, y, width, hidden, **fields):
    weights = [random(4 * hidden, width), random(4 * hidden, hidden) / hidden, random(8 * hidden)]
    return {"op": "LSTM", "inputs": [x], "outputs": [y], "weights": weights, "activations": GATES, **fields}


def features_model(**fields):
    """(batch, time, FEATURES) -> (batch, time, HIDDEN)."""
    values = [("f32", "batch_time", FEATURES), ("f32", "batch_time", HIDDEN)]
    return _core.Model(values, [lstm_step(0, 1, FEATURES, HIDDEN, **fields)], [0], [1])


def language_model(hidden=HIDDEN):
    """(batch, time) ids -> (batch, VOCABULARY) logits."""
    values = [("i64", "batch_time", 1), ("f32", "batch_time", 4), ("f32", "batch_time", hidden),
              ("f32", "batch", hidden), ("f32", "batch", VOCABULARY)]
    steps = [
        {"op": "EMBEDDING", "inputs": [0], "outputs": [1], "weights": [random(VOCABULARY, 4)]},
        lstm_step(1, 2, 4, hidden),
        {"op": "LAST", "inputs": [2], "outputs": [3]},
        {"op": "DENSE", "inputs": [3], "outputs": [4], "weights": [random(hidden, VOCABULARY), None]},
    ]
    return _core.Model(values, steps, [0], [4])


def run(model, x):
    y = np.empty((*x.shape[:2], HIDDEN), np.float32)
    model.run((x,), (y,), *x.shape[:2])
    return y


# ---- models ----

def test_the_last_supported_isa_is_the_default():
    supported = [name for name, ok in _core.isas() if ok]
    assert supported[0] == "scalar"
    assert features_model().isa == supported[-1]


def test_isas_that_are_not_there_are_named():
    with pytest.raises(IsaError, match="'sse9'"):
        _core.Model([("f32", "batch", 1), ("f32", "batch", 1)],
                    [{"op": "SOFTMAX", "inputs": [0], "outputs": [1]}], [0], [1], isa="sse9")


@pytest.mark.parametrize("values, step, message", [
    (("f16", "batch", 2), {}, "unknown dtype 'f16'"),
    (("f32", "time", 2), {}, "unknown rows 'time'"),
    (("f32", "batch", 2), {"op": "FFT"}, "unknown operation 'FFT'"),
    (("f32", "batch", 2), {"axis": 1}, "unknown fields of a step: axis"),
    (("f32", "batch", 2), {"inputs": [0] * 9}, "9 inputs, at most 8"),
    (("f32", "batch", 2), {"activations": [("SINE", 0, 0)]}, "unknown activation 'SINE'"),
    (("f32", "batch", 2), {"weights": [np.zeros((2, 2))]}, "float32 vector or matrix, got format 'd'"),
    (("f32", "batch", 2), {"weights": [np.zeros((2, 4), np.float32)[:, ::2]]}, "C-contiguous"),
    (("f32", "batch", 2), {"inputs": [7]}, "the program is inconsistent"),
])
def test_bad_programs_are_refused(values, step, message):
    good = {"op": "ACTIVATE", "inputs": [0], "outputs": [1]}
    with pytest.raises(GraphError, match=message):
        _core.Model([values, ("f32", "batch", 2)], [good | step], [0], [1])


def test_weights_are_copied():
    weights = random(4, 4).copy()
    model = _core.Model([("f32", "batch", 4), ("f32", "batch", 4)],
                        [{"op": "DENSE", "inputs": [0], "outputs": [1], "weights": [weights]}], [0], [1])
    x, want, got = random(2, 4, seed=1), np.empty((2, 4), np.float32), np.empty((2, 4), np.float32)
    model.run((x,), (want,), 2, 1)
    weights[:] = np.nan
    model.run((x,), (got,), 2, 1)
    assert np.array_equal(got, want) and np.allclose(got, x @ random(4, 4), atol=1e-5)


# ---- runs and states ----

def test_read_only_inputs_pass_and_read_only_outputs_do_not():
    model, x = features_model(), random(2, 4, FEATURES)
    want = run(model, x)
    x.flags.writeable = False
    y = np.empty((2, 4, HIDDEN), np.float32)
    model.run((x,), (y,), 2, 4)
    assert np.array_equal(y, want)
    y.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        model.run((x,), (y,), 2, 4)


def test_what_is_no_array_is_refused():
    model, x, y = features_model(), random(2, 4, FEATURES), np.empty((2, 4, HIDDEN), np.float32)
    for none in (None, x.tolist(), memoryview(x), np.asfortranarray(x)):
        with pytest.raises((TypeError, ValueError), match="no array|ndarray|not C-contiguous"):
            model.run((none,), (y,), 2, 4)
        with pytest.raises((TypeError, ValueError), match="no array|ndarray|not C-contiguous"):
            model.run((x,), (none,), 2, 4)


def test_wrong_sizes_and_counts_are_refused():
    model, x, y = features_model(), random(2, 4, FEATURES), np.empty((2, 4, HIDDEN), np.float32)
    with pytest.raises(InputError, match="does not fit the program"):
        model.run((x,), (y,), 2, 5)
    with pytest.raises(InputError, match="does not fit the program"):
        model.run((x,), (y[:1],), 2, 4)
    with pytest.raises(InputError, match="expected 1 inputs, got 2"):
        model.run((x, x), (y,), 2, 4)
    with pytest.raises(InputError, match="expected 1 outputs, got 0"):
        model.run((x,), (), 2, 4)


def test_ids_out_of_range_are_refused():
    model, y = language_model(), np.empty((1, VOCABULARY), np.float32)
    with pytest.raises(InputError, match="vocabulary"):
        model.run((np.array([[3, VOCABULARY]]),), (y,), 1, 2)


def test_steps_have_the_bits_of_the_run():
    model, x = features_model(), random(2, 4, FEATURES)
    state, y = model.new_state(2), np.empty((2, HIDDEN), np.float32)
    for t in range(4):
        model.step(state, (np.ascontiguousarray(x[:, t]),), (y,))
        assert np.array_equal(y, run(model, x)[:, t])


def test_a_copy_goes_its_own_way_and_reset_starts_over():
    model, x = features_model(), random(3, FEATURES)
    state, first, second = model.new_state(3), np.empty((3, HIDDEN), np.float32), np.empty((3, HIDDEN), np.float32)
    model.step(state, (x,), (first,))
    copy = state.copy()
    assert copy.batch_size == 3 and copy.model is model
    state.reset()
    model.step(state, (x,), (second,))
    assert np.array_equal(first, second)
    model.step(copy, (x,), (second,))
    assert not np.array_equal(first, second)


def test_a_state_belongs_to_its_model():
    x, y = random(1, FEATURES), np.empty((1, HIDDEN), np.float32)
    with pytest.raises(InputError, match="another model"):
        features_model().step(features_model().new_state(1), (x,), (y,))


def test_reversed_models_have_no_states():
    model = features_model(reverse=True)
    assert not model.steppable
    with pytest.raises(InputError, match="step by step"):
        model.new_state(1)


# ---- weights that are bytes ----


def bytes_step(x, y, width, hidden, **fields):
    """An LSTM whose weights are bytes, with a scale for each row and a zero point."""
    def weights(columns):
        matrix = np.random.default_rng([x, columns]).integers(-128, 128, (4 * hidden, columns)).astype(np.int8)
        return matrix, np.float32(np.abs(random(4 * hidden)) / (128 * hidden**0.5)), 3

    return {**lstm_step(x, y, width, hidden, **fields), "weights": [weights(width), weights(hidden), random(8 * hidden)]}


def dense_on_bytes(x, y, width):
    return {"op": "DENSE", "inputs": [x], "outputs": [y], "weights": [bytes_step(x, y, width, width // 4)["weights"][0]]}


@pytest.mark.parametrize("kinds", [("bytes", "bytes", "bytes", "bytes"), ("floats", "dense", "floats")])
def test_layers_on_bytes_read_whole_sequences(kinds):
    """However many threads: what the first layer gives is quantized by all of its steps before the second begins."""
    hidden, time_steps, batch = 96, 300, 3
    widths = [FEATURES] + [hidden] * len(kinds)
    layer = {"bytes": bytes_step, "floats": lstm_step, "dense": lambda x, y, width, _: dense_on_bytes(x, y, width)}
    steps = [layer[kind](i, i + 1, widths[i], hidden) for i, kind in enumerate(kinds)]
    x, found = random(time_steps, batch, FEATURES), []
    x[time_steps - 1] *= 50  # decides the scale
    for threads in (1, 2, 4):
        y = np.empty((time_steps, batch, hidden), np.float32)
        model = _core.Model([("f32", "time_batch", width) for width in widths], steps, [0], [len(kinds)], threads=threads)
        model.run((x,), (y,), batch, time_steps)
        found.append(y)
    assert np.isfinite(found[0]).all() and all(np.array_equal(y, found[0]) for y in found)


@pytest.mark.parametrize("change, message", [
    (lambda weight: (weight[0], weight[1][:-1], 0), "19 scales for 20 rows of 3 bytes"),
    (lambda weight: (weight[0], weight[1], 128), "inconsistent"),
    (lambda weight: weight[0].astype(np.float32), "inconsistent"),  # one matrix alone
])
def test_odd_bytes_are_refused(change, message):
    step = bytes_step(0, 1, FEATURES, HIDDEN)
    step["weights"][0] = change(step["weights"][0])
    with pytest.raises(GraphError, match=message):
        _core.Model([("f32", "batch_time", FEATURES), ("f32", "batch_time", HIDDEN)], [step], [0], [1])


# ---- threads and signals ----

def in_another_thread(work):
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_a_state_in_use_is_refused_elsewhere():
    """One thread steps without end; another sees either a state at rest or a clear refusal, and no crash."""
    hidden = 600
    values = [("f32", "batch_time", FEATURES), ("f32", "batch_time", hidden)]
    model = _core.Model(values, [lstm_step(0, 1, FEATURES, hidden)], [0], [1])
    state, x, done, refusals = model.new_state(1), random(1, FEATURES), threading.Event(), []

    def work():
        y = np.empty((1, hidden), np.float32)
        while not done.is_set():
            try:
                model.step(state, (x,), (y,))
            except InputError as error:
                refusals.append(str(error))

    threads = [in_another_thread(work) for _ in range(2)]
    deadline = time.monotonic() + 30
    while not refusals and time.monotonic() < deadline:
        time.sleep(0.01)
    done.set()
    for thread in threads:
        thread.join()
    assert set(refusals) == {"this state is in use by another thread"}


def test_a_long_prompt_can_be_interrupted():
    """The signal comes while C reads; its handler runs, and what it raises comes out of prompt."""
    class Interrupted(Exception):
        pass

    def interrupt(*_):
        raise Interrupted

    decoder = language_model(hidden=400).decoder(mode="stateful")
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(Interrupted):
            decoder.prompt(np.zeros(10_000_000, np.int64))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# ---- decoders ----

def continuation(decoder, n):
    made, ended = np.empty(0, np.int64), False
    while len(made) < n and not ended:
        ids, ended = decoder.next(n - len(made))
        assert ids.dtype == np.int64 and ids.ndim == 1
        made = np.concatenate([made, ids])
    return made, ended


def test_the_token_loop_is_the_loop_of_runs():
    model, text, logits = language_model(), [3, 1, 4], np.empty((1, VOCABULARY), np.float32)
    decoder = model.decoder(mode="stateful")
    decoder.prompt(np.array(text))
    made, ended = continuation(decoder, 20)
    for token in made:
        model.run((np.array([text]),), (logits,), 1, len(text))
        assert token == logits.argmax()
        text.append(int(token))
    assert len(made) == 20 and not ended


def test_eos_ends_the_text():
    model, prompt = language_model(), np.array([3, 1, 4])
    decoder = model.decoder(mode="stateful")
    decoder.prompt(prompt)
    first = int(continuation(decoder, 1)[0][0])
    decoder = model.decoder(mode="stateful", eos_ids=[99, first])
    decoder.prompt(prompt)
    made, ended = continuation(decoder, 20)
    assert len(made) == 0 and ended


@pytest.mark.parametrize("options, message", [
    ({"mode": "beam"}, "unknown mode 'beam'"),
    ({"mode": "window"}, "mode 'window'"),
    ({"mode": "stateful", "do_sample": True, "temperature": 0.0}, "mode 'stateful'"),
])
def test_bad_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        language_model().decoder(**options)


@pytest.mark.parametrize("ids", [np.array([1.0]), np.array([1], np.int32), np.array([[1]])])
def test_only_int64_vectors_are_ids(ids):
    with pytest.raises(InputError, match="int64 vector"):
        language_model().decoder(mode="stateful").prompt(ids)


# ---- pickers ----


def test_a_picker_chooses_what_numpy_would_and_sees_the_past():
    logits = np.array([0, 2, 3, 3, -1], np.float32)
    picker = _core.Picker(5, repetition_penalty=2.0)
    assert picker.pick(logits) == 2
    picker.see(2)
    assert picker.pick(logits) == 3

    one, other = (_core.Picker(5, do_sample=True, seed=7) for _ in range(2))
    assert [one.pick(logits) for _ in range(50)] == [other.pick(logits) for _ in range(50)]
    with pytest.raises(InputError, match="expected 5 logits, got 4"):
        picker.pick(logits[:4])
    with pytest.raises(InputError, match="picker"):
        _core.Picker(5, repetition_penalty=-1.0)
