"""Models that are no chain: branches, several inputs and outputs, states, nested models and shared layers."""

from __future__ import annotations

import numpy as np
import pytest

import lstmrt
from keras_models import (
    BATCH, FEATURES, FRAMEWORKS, IDS, TIME, UNITS, VECTORS, VOCABULARY, assert_close, assert_parity, framework, save,
    with_random_weights)

pytestmark = pytest.mark.parametrize("name", FRAMEWORKS)

RANDOM = np.random.default_rng(11)
STATES = [RANDOM.standard_normal((BATCH, UNITS)).astype(np.float32) for _ in range(4)]
OTHERS = RANDOM.standard_normal((BATCH, 4, FEATURES)).astype(np.float32)
STATES_OF = {"LSTM": 2, "GRU": 1, "SimpleRNN": 1}


def embedded(keras, mask_zero: bool = True, width: int = FEATURES):
    ids = keras.Input((None,), dtype="int32", name="ids")
    return ids, keras.layers.Embedding(VOCABULARY, width, mask_zero=mask_zero)(ids)


def state_inputs(keras, count: int):
    return [keras.Input((UNITS,), name=f"state_{i}") for i in range(count)]


# ---- states ----


@pytest.mark.parametrize("mask_zero", [False, True])
def test_states_go_in_and_come_out(tmp_path, name, mask_zero):
    """Keras 3 hands no mask to a layer that is called with states."""
    keras = framework(name)
    ids, x = embedded(keras, mask_zero)
    states, outputs = state_inputs(keras, 2), []
    for layer in ("LSTM", "GRU", "SimpleRNN"):
        for return_sequences in (False, True):
            made = getattr(keras.layers, layer)(UNITS, return_sequences=return_sequences, return_state=True)
            outputs += made(x, initial_state=states[:STATES_OF[layer]])
    model = with_random_weights(keras.Model([ids, *states], outputs))
    assert_parity(model, tmp_path, IDS, *STATES[:2])


def test_states_of_masked_sequences(tmp_path, name):
    keras = framework(name)
    ids, x = embedded(keras)
    outputs = []
    for layer in ("LSTM", "GRU"):
        for go_backwards in (False, True):
            made = getattr(keras.layers, layer)(UNITS, return_sequences=True, return_state=True, go_backwards=go_backwards)(x)
            outputs += [*made, *getattr(keras.layers, layer)(UNITS, return_state=True)(made[0])]
    assert_parity(with_random_weights(keras.Model(ids, outputs)), tmp_path, IDS)


@pytest.mark.parametrize("mask_zero", [False, True])
def test_what_follows_a_layer_called_with_states_sees_the_mask(tmp_path, name, mask_zero):
    keras = framework(name)
    ids, x = embedded(keras, mask_zero)
    states = state_inputs(keras, 1)
    x = keras.layers.GRU(UNITS, return_sequences=True)(x, initial_state=states)
    model = with_random_weights(keras.Model([ids, *states], keras.layers.LSTM(4)(x)))
    assert_parity(model, tmp_path, IDS, STATES[0])


@pytest.mark.parametrize("mask_zero", [False, True])
@pytest.mark.parametrize("merge_mode", ["concat", "ave", None])
def test_bidirectional_states(tmp_path, name, merge_mode, mask_zero):
    keras = framework(name)
    ids, x = embedded(keras, mask_zero)
    states, outputs = state_inputs(keras, 4), []
    for layer in ("LSTM", "GRU"):
        for return_sequences in (False, True):
            if name == "tf_keras" and not return_sequences and merge_mode is None and mask_zero:
                continue  # tf_keras cannot derive this mask
            inner = getattr(keras.layers, layer)(UNITS, return_sequences=return_sequences, return_state=True)
            outputs += keras.layers.Bidirectional(inner, merge_mode=merge_mode)(
                x, initial_state=states[:2 * STATES_OF[layer]])
    model = with_random_weights(keras.Model([ids, *states], outputs))
    assert_parity(model, tmp_path, IDS, *STATES, containers=[".keras"])


def test_bidirectional_that_merges_nothing(tmp_path, name):
    keras = framework(name)
    x, outputs = keras.Input((TIME, FEATURES)), []
    for return_sequences in (False, True):
        inner = keras.layers.LSTM(UNITS, return_sequences=return_sequences)
        outputs += keras.layers.Bidirectional(inner, merge_mode=None)(x)
    assert_parity(with_random_weights(keras.Model(x, outputs)), tmp_path, VECTORS)


# ---- cells ----

CELLS = [
    lambda layers: layers.LSTMCell(UNITS),
    lambda layers: layers.GRUCell(UNITS, reset_after=False),
    lambda layers: layers.SimpleRNNCell(UNITS, activation="softsign"),
    lambda layers: [layers.LSTMCell(3), layers.GRUCell(4), layers.LSTMCell(5, use_bias=False)],
    lambda layers: layers.StackedRNNCells([layers.SimpleRNNCell(4), layers.LSTMCell(3)]),
]


@pytest.mark.parametrize("mask_zero", [False, True])
def test_rnn_with_cells(tmp_path, name, mask_zero):
    keras = framework(name)
    ids, x = embedded(keras, mask_zero)
    outputs = [keras.layers.RNN(cell(keras.layers), **options)(x) for cell in CELLS for options in (
        {}, {"return_sequences": True}, {"return_sequences": True, "go_backwards": True})]
    outputs.append(keras.layers.Bidirectional(keras.layers.RNN(keras.layers.LSTMCell(UNITS), return_sequences=True))(x))
    assert_parity(with_random_weights(keras.Model(ids, outputs)), tmp_path, IDS)


def test_rnn_states(tmp_path, name):
    keras = framework(name)
    ids, x = embedded(keras)
    outputs = []
    for cell in CELLS:
        made = keras.layers.RNN(cell(keras.layers), return_sequences=True, return_state=True)(x)
        outputs += [leaf for one in made for leaf in (one if isinstance(one, (list, tuple)) else [one])]
    assert_parity(with_random_weights(keras.Model(ids, outputs)), tmp_path, IDS)


# ---- time major (Keras 2) ----


@pytest.mark.parametrize("mask_zero", [False, True])
def test_time_major(tmp_path, name, mask_zero):
    if name == "keras":
        pytest.skip("Keras 3 has no time_major")
    keras = framework(name)
    ids, x = embedded(keras, mask_zero)
    outputs = [keras.layers.LSTM(UNITS, time_major=True, return_sequences=return_sequences, go_backwards=go_backwards)(x)
               for return_sequences in (False, True) for go_backwards in (False, True)]
    assert_parity(with_random_weights(keras.Model(ids, outputs)), tmp_path, IDS)


# ---- branches, shared layers, nested models ----


def test_encoder_and_decoder(tmp_path, name):
    keras = framework(name)
    layers = keras.layers
    source, target = keras.Input((None,), name="source"), keras.Input((None, FEATURES), name="target")
    x = layers.Embedding(VOCABULARY, FEATURES)(source)
    _, *states = layers.LSTM(UNITS, return_state=True, name="encoder")(x)
    y, *_ = layers.LSTM(UNITS, return_sequences=True, return_state=True, name="decoder")(target, initial_state=states)
    y = layers.Dense(4, activation="softmax", name="next")(y)
    model = assert_parity(with_random_weights(keras.Model([source, target], y)), tmp_path, IDS, OTHERS)
    assert [value.name for value in model.inputs + model.outputs] == ["source", "target", "next"]
    assert [value.dtype for value in model.inputs] == ["int64", "float32"]
    assert model.native is None or len(model.segments) == 1


@pytest.mark.parametrize("mask_zero", [False, True])
def test_shared_layers(tmp_path, name, mask_zero):
    keras = framework(name)
    layers = keras.layers
    ids, x = embedded(keras, mask_zero, width=UNITS)
    vectors = keras.Input((None, UNITS), name="vectors")
    shared = layers.GRU(UNITS, return_sequences=True, name="shared")
    y = layers.Concatenate()([shared(shared(x)), shared(vectors)])
    model = with_random_weights(keras.Model([ids, vectors], [layers.LSTM(3, name="all")(y), shared(x)]))
    loaded = assert_parity(model, tmp_path, IDS, RANDOM.standard_normal((BATCH, TIME, UNITS)).astype(np.float32))
    kernels = [array for key, array in loaded.source.graph.constants.items() if key.startswith("shared/R")]
    assert len(kernels) == 1


def test_outputs_that_are_inputs_or_the_same(tmp_path, name):
    keras = framework(name)
    x = keras.Input((TIME, FEATURES), name="x")
    y = keras.layers.LSTM(UNITS, name="y")(x)
    model = with_random_weights(keras.Model(x, [y, keras.layers.Dropout(0.5, name="z")(y), y]))
    assert_parity(model, tmp_path, VECTORS)


def test_outputs_in_lists_of_lists(tmp_path, name):
    """As the states of cells side by side come."""
    keras = framework(name)
    x = keras.Input((TIME, FEATURES), name="x")
    y, *states = keras.layers.RNN([keras.layers.LSTMCell(3), keras.layers.LSTMCell(2)], return_state=True)(x)
    model = with_random_weights(keras.Model(x, [y, *states]))
    expected = [np.asarray(array) for array in (lambda made: [made[0], *made[1], *made[2]])(model(VECTORS))]
    assert_close(list(lstmrt.load(save(model, tmp_path, ".keras")).run({"x": VECTORS}).values()), expected)


def test_dicts_of_inputs_and_outputs(tmp_path, name):
    keras = framework(name)
    layers = keras.layers
    ids, x = embedded(keras)
    vectors = keras.Input((TIME, FEATURES), name="vectors")
    y = layers.Add()([x, vectors])
    outputs = {"score": layers.Dense(2)(layers.GRU(UNITS)(y)), "steps": layers.LSTM(3, return_sequences=True)(y)}
    model = with_random_weights(keras.Model({"ids": ids, "vectors": vectors}, outputs))
    expected = model({"ids": IDS, "vectors": VECTORS})
    for container in (".keras", ".h5"):
        found = lstmrt.load(save(model, tmp_path, container)).run({"ids": IDS, "vectors": VECTORS})
        assert list(found) == list(expected)
        assert_close(list(found.values()), [np.asarray(expected[key]) for key in found])


def nested_models(keras):
    layers = keras.layers
    a = keras.Input((None, FEATURES))
    b = layers.LSTM(4, return_sequences=True, name="lstm")(a)
    functional = keras.Model(a, [layers.Dense(3, name="dense")(b), layers.GRU(2, name="gru")(b)], name="functional")
    sequential = keras.Sequential([keras.Input((None, 3)), layers.Dense(4, name="dense"),
                                   layers.LSTM(3, return_sequences=True, name="lstm")], name="chain")
    return functional, sequential


@pytest.mark.parametrize("mask_zero", [False, True])
def test_nested_models(tmp_path, name, mask_zero):
    """Inner layers are called as outer ones are; the inner models are called twice."""
    keras = framework(name)
    layers = keras.layers
    functional, sequential = nested_models(keras)
    ids, x = embedded(keras, mask_zero)
    vectors = keras.Input((None, FEATURES), name="vectors")
    y, last = functional(x)
    z, _ = functional(vectors)
    z = sequential(sequential(z))
    outputs = [layers.Dense(2, name="dense")(layers.LSTM(4, name="lstm")(sequential(y))), last, z]
    model = with_random_weights(keras.Model([ids, vectors], outputs))
    assert_parity(model, tmp_path, IDS, VECTORS)


def test_models_in_models_in_models(tmp_path, name):
    keras = framework(name)
    layers = keras.layers
    inner = keras.Sequential([keras.Input((None, FEATURES)), layers.GRU(4, return_sequences=True, name="a")], name="inner")
    middle = keras.Sequential([keras.Input((None, FEATURES)), inner, layers.Dense(FEATURES, name="b")], name="middle")
    outer = keras.Sequential([keras.Input((TIME, FEATURES)), middle, layers.LSTM(UNITS, name="c")])
    assert_parity(with_random_weights(outer), tmp_path, VECTORS)


def test_frozen_layers_of_a_nested_model(tmp_path, name):
    """In `.h5` their weights come after all others."""
    keras = framework(name)
    layers = keras.layers
    embedding = layers.Embedding(VOCABULARY, FEATURES)
    inner = keras.Sequential([keras.Input((TIME,)), embedding, layers.LSTM(UNITS, return_sequences=True)], name="inner")
    embedding.trainable = False
    model = keras.Sequential([keras.Input((TIME,)), inner, layers.GRU(3)])
    assert_parity(with_random_weights(model), tmp_path, IDS)


# ---- steps of any layer ----

CHARACTERS = np.where(np.arange(5) < RANDOM.integers(0, 6, (BATCH, TIME, 1)), RANDOM.integers(1, 9, (BATCH, TIME, 5)), 0)


@pytest.mark.parametrize("mask_zero, length", [(False, None), (True, None), (True, 5)])
def test_words_made_of_characters(tmp_path, name, mask_zero, length):
    """A tagger's usual beginning. Up to Keras 2 the masked characters mask words; Keras 3 loses that mask."""
    keras = framework(name)
    layers = keras.layers
    characters = keras.Input((None, length), dtype="int32", name="characters")
    words = keras.Input((None, FEATURES), name="words")
    x = layers.TimeDistributed(layers.Embedding(9, 4, mask_zero=mask_zero))(characters)
    x = layers.TimeDistributed(layers.Bidirectional(layers.LSTM(3)))(x)
    x = layers.Concatenate()([words, x])
    y = layers.TimeDistributed(layers.Dense(4))(layers.Bidirectional(layers.GRU(UNITS, return_sequences=True))(x))
    model = with_random_weights(keras.Model([words, characters], y))
    assert_parity(model, tmp_path, VECTORS, CHARACTERS)


@pytest.mark.parametrize("masked", [False, True])
def test_time_distributed_models(tmp_path, name, masked):
    keras = framework(name)
    layers = keras.layers
    word = keras.Sequential([keras.Input((5,)), layers.Embedding(9, 4, mask_zero=masked), layers.LSTM(3)])
    model = keras.Sequential([keras.Input((TIME, 5)), layers.TimeDistributed(word), layers.GRU(UNITS)])
    assert_parity(with_random_weights(model), tmp_path, CHARACTERS)
