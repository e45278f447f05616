"""Every Keras layer and option in scope, beside Keras 3 and tf-keras themselves, out of both containers."""

from __future__ import annotations

import importlib

import h5py
import numpy as np
import pytest

import lstmrt
from keras_models import (
    BATCH, FEATURES, FRAMEWORKS, IDS, TIME, UNITS, VECTORS, VOCABULARY, assert_parity, compare, framework, outputs_of, save, sequential,
    with_random_weights)

pytestmark = pytest.mark.parametrize("name", FRAMEWORKS)

RECURRENT = ("SimpleRNN", "LSTM", "GRU")

OPTIONS = {
    "plain": {},
    "sequences": {"return_sequences": True},
    "backwards": {"go_backwards": True},
    "backwards sequences": {"go_backwards": True, "return_sequences": True},
    "no bias": {"use_bias": False, "return_sequences": True},
    "unrolled": {"unroll": True},
    "activation": {"activation": "softsign", "return_sequences": True},
    "dropped out": {"dropout": 0.3, "recurrent_dropout": 0.4},
    "zero at masked steps": {"zero_output_for_mask": True, "return_sequences": True},
    "zero at masked steps, last": {"zero_output_for_mask": True},
    "zero at masked steps, unrolled": {"zero_output_for_mask": True, "return_sequences": True, "unroll": True},
    "zero at masked steps, unrolled, backwards": {"zero_output_for_mask": True, "go_backwards": True, "return_sequences": True,
                                                  "unroll": True},
    "zero at masked steps, backwards": {"zero_output_for_mask": True, "go_backwards": True, "return_sequences": True},
}
GATED_OPTIONS = {
    "hard sigmoid": {"recurrent_activation": "hard_sigmoid", "return_sequences": True},
    "relu": {"recurrent_activation": "sigmoid", "activation": "relu"},
}
GRU_OPTIONS = {
    "reset before": {"reset_after": False, "return_sequences": True},
    "reset before, backwards": {"reset_after": False, "go_backwards": True},
    "reset before, no bias": {"reset_after": False, "use_bias": False},
    "reset after, no bias": {"reset_after": True, "use_bias": False},
}
CASES = [
    pytest.param(layer, options, id=f"{layer} {title}")
    for layer in RECURRENT
    for title, options in {**OPTIONS, **(GATED_OPTIONS if layer != "SimpleRNN" else {}),
                           **(GRU_OPTIONS if layer == "GRU" else {})}.items()
]


@pytest.mark.parametrize("layer, options", CASES)
def test_recurrent(tmp_path, name, layer, options):
    keras = framework(name)
    model = sequential(keras, getattr(keras.layers, layer)(UNITS, **options))
    assert_parity(model, tmp_path, VECTORS, containers=[".h5"])


@pytest.mark.parametrize("layer, options", CASES)
def test_recurrent_with_masks(tmp_path, name, layer, options):
    keras = framework(name)
    model = sequential(keras, getattr(keras.layers, layer)(UNITS, **options), ids=True, mask_zero=True)
    assert_parity(model, tmp_path, IDS)


@pytest.mark.parametrize("mask_zero", [False, True])
@pytest.mark.parametrize("layer", RECURRENT)
def test_stateful(tmp_path, name, layer, mask_zero):
    """A call begins at zero states, as the layer does after reset_states."""
    keras = framework(name)
    stateful = getattr(keras.layers, layer)(UNITS, stateful=True, return_sequences=True)
    assert_parity(sequential(keras, stateful, ids=True, mask_zero=mask_zero, batch=BATCH), tmp_path, IDS)


@pytest.mark.parametrize("masked", [False, True])
def test_stack(tmp_path, name, masked):
    """The mask goes through every layer that keeps sequences, and ends where one gives its last output alone."""
    keras = framework(name)
    layers = keras.layers
    stack = [layers.LSTM(5, return_sequences=True), layers.Dropout(0.5), layers.GRU(3, return_sequences=True),
             layers.Dense(6, activation="relu"), layers.SimpleRNN(4, go_backwards=True),
             layers.Dense(7, activation="softmax")]
    assert_parity(sequential(keras, *stack, ids=True, mask_zero=masked, time=None), tmp_path, IDS)


# ---- Bidirectional ----


@pytest.mark.parametrize("mask_zero", [False, True])
@pytest.mark.parametrize("return_sequences", [False, True])
@pytest.mark.parametrize("layer, merge_mode", [
    ("SimpleRNN", "concat"), ("GRU", "concat"), ("LSTM", "concat"), ("LSTM", "sum"), ("LSTM", "mul"), ("LSTM", "ave")])
def test_bidirectional(tmp_path, name, layer, merge_mode, return_sequences, mask_zero):
    keras = framework(name)
    inner = getattr(keras.layers, layer)(UNITS, return_sequences=return_sequences)
    both = keras.layers.Bidirectional(inner, merge_mode=merge_mode)
    assert_parity(sequential(keras, both, ids=True, mask_zero=mask_zero), tmp_path, IDS)


@pytest.mark.parametrize("mask_zero", [False, True])
@pytest.mark.parametrize("return_sequences", [False, True])
def test_bidirectional_that_begins_backwards(tmp_path, name, return_sequences, mask_zero):
    keras = framework(name)
    there, back = (keras.layers.GRU(UNITS, go_backwards=go_backwards, return_sequences=return_sequences)
                   for go_backwards in (True, False))
    both = keras.layers.Bidirectional(there, backward_layer=back)
    assert_parity(sequential(keras, both, ids=True, mask_zero=mask_zero), tmp_path, IDS)


@pytest.mark.parametrize("mask_zero", [False, True])
@pytest.mark.parametrize("return_sequences", [False, True])
def test_bidirectional_with_a_backward_layer_of_its_own(tmp_path, name, return_sequences, mask_zero):
    keras = framework(name)
    there = keras.layers.LSTM(UNITS, return_sequences=return_sequences)
    back = keras.layers.GRU(UNITS, return_sequences=return_sequences, go_backwards=True, reset_after=False)
    both = keras.layers.Bidirectional(there, backward_layer=back)
    assert_parity(sequential(keras, both, ids=True, mask_zero=mask_zero), tmp_path, IDS)


def test_two_bidirectional_layers_keep_their_weights_apart(tmp_path, name):
    keras = framework(name)
    layers = keras.layers
    stack = [layers.Bidirectional(layers.LSTM(4, return_sequences=True)), layers.LSTM(3, return_sequences=True),
             layers.Bidirectional(layers.LSTM(5))]
    assert_parity(sequential(keras, *stack), tmp_path, VECTORS)


# ---- layers that are not recurrent ----


def test_embedding(tmp_path, name):
    keras = framework(name)
    model = with_random_weights(keras.Sequential([keras.Input((None,)), keras.layers.Embedding(VOCABULARY, 6)]))
    assert_parity(model, tmp_path, IDS)


@pytest.mark.parametrize("use_bias", [False, True])
def test_dense(tmp_path, name, use_bias):
    keras = framework(name)
    assert_parity(sequential(keras, keras.layers.Dense(4, use_bias=use_bias)), tmp_path, VECTORS)


@pytest.mark.parametrize("mask_zero", [False, True])
@pytest.mark.parametrize("inner", ["Dense", "Activation", "Dropout"])
def test_time_distributed(tmp_path, name, inner, mask_zero):
    keras = framework(name)
    layers = keras.layers
    wrapped = {"Dense": lambda: layers.Dense(4, activation="tanh"), "Activation": lambda: layers.Activation("tanh"),
               "Dropout": lambda: layers.Dropout(0.5)}[inner]()
    stack = [layers.LSTM(UNITS, return_sequences=True), layers.TimeDistributed(wrapped), layers.GRU(3)]
    assert_parity(sequential(keras, *stack, ids=True, mask_zero=mask_zero), tmp_path, IDS)


@pytest.mark.parametrize("mask_zero", [False, True])
@pytest.mark.parametrize("layer", ["Dropout", "SpatialDropout1D", "GaussianNoise", "GaussianDropout", "AlphaDropout"])
def test_dropout_does_nothing(tmp_path, name, layer, mask_zero):
    keras = framework(name)
    stack = [getattr(keras.layers, layer)(0.4), keras.layers.LSTM(UNITS)]
    assert_parity(sequential(keras, *stack, ids=True, mask_zero=mask_zero), tmp_path, IDS)


ACTIVATION_LAYERS = {
    "ReLU": lambda layers: layers.ReLU(),
    "ReLU up to a value": lambda layers: layers.ReLU(max_value=0.7),
    "ReLU with a slope": lambda layers: layers.ReLU(negative_slope=0.15),
    "ReLU from a threshold": lambda layers: layers.ReLU(threshold=0.4),
    "LeakyReLU": lambda layers: layers.LeakyReLU(),
    "LeakyReLU with a slope": lambda layers: layers.LeakyReLU(0.17),
    "ELU": lambda layers: layers.ELU(alpha=0.6),
    "Softmax": lambda layers: layers.Softmax(),
}


@pytest.mark.parametrize("layer", ACTIVATION_LAYERS)
def test_activation_layers(tmp_path, name, layer):
    keras = framework(name)
    assert_parity(sequential(keras, ACTIVATION_LAYERS[layer](keras.layers)), tmp_path, VECTORS)


# ---- activations ----

ACTIVATIONS = ("linear", "sigmoid", "tanh", "relu", "elu", "selu", "softplus", "softsign", "exponential", "swish",
               "gelu", "mish", "hard_sigmoid")
KERAS3_ACTIVATIONS = ("relu6", "leaky_relu", "celu", "silu", "hard_tanh", "sparse_sigmoid")
OUTSIDE_RECURRENCE = ("softmax", "log_softmax", "hard_silu", "hard_swish", "glu", "log_sigmoid", "tanh_shrink", "soft_shrink",
                      "hard_shrink", "squareplus", "sparse_plus", "sparsemax")


def activations(name: str) -> tuple[str, ...]:
    return ACTIVATIONS + KERAS3_ACTIVATIONS * (name == "keras")


def test_activations_of_dense(tmp_path, name):
    keras = framework(name)
    x = keras.Input((TIME, FEATURES))
    outputs = [keras.layers.Activation(activation)(keras.layers.Dense(4, activation=activation)(x))
               for activation in (*activations(name), *OUTSIDE_RECURRENCE[:None if name == "keras" else 1])]
    assert_parity(with_random_weights(keras.Model(x, outputs), 1.5), tmp_path, VECTORS, containers=[".h5"], error=3e-6)


@pytest.mark.parametrize("layer", RECURRENT)
def test_activations_in_the_recurrence(tmp_path, name, layer):
    keras = framework(name)
    for activation in activations(name):
        inner = getattr(keras.layers, layer)(UNITS, activation=activation)
        assert_parity(sequential(keras, inner, scale=0.2), tmp_path, VECTORS, containers=[".keras"])


def test_activations_that_no_cell_has(tmp_path, name):
    keras = framework(name)
    for activation in ("softmax", "log_softmax", "hard_silu")[:None if name == "keras" else 1]:
        path = save(sequential(keras, keras.layers.GRU(4, recurrent_activation=activation)), tmp_path, ".keras")
        with pytest.raises(lstmrt.UnsupportedError, match=f"activation '{activation}' inside the recurrence"):
            lstmrt.load(path)


@pytest.mark.parametrize("layer", ["LSTM", "GRU"])
def test_activations_of_gates(tmp_path, name, layer):
    keras = framework(name)
    for activation in activations(name):
        inner = getattr(keras.layers, layer)(UNITS, recurrent_activation=activation)
        assert_parity(sequential(keras, inner, scale=0.05), tmp_path, VECTORS, containers=[".h5"])


def test_activation_given_as_a_layer(tmp_path, name):
    keras = framework(name)
    dense = keras.layers.Dense(4, activation=keras.layers.LeakyReLU(0.17))
    assert_parity(sequential(keras, dense), tmp_path, VECTORS)


def test_activation_given_as_a_function(tmp_path, name):
    keras = framework(name)
    assert_parity(sequential(keras, keras.layers.LSTM(UNITS, activation=keras.activations.elu)), tmp_path, VECTORS)


# ---- Functional ----


@pytest.mark.parametrize("mask_zero", [False, True])
def test_functional_chain(tmp_path, name, mask_zero):
    keras = framework(name)
    layers = keras.layers
    ids = keras.Input((None,), dtype="int32", name="ids")
    x = layers.Embedding(VOCABULARY, 6, mask_zero=mask_zero)(ids)
    x = layers.Bidirectional(layers.GRU(UNITS, return_sequences=True))(x)
    y = layers.Dense(4, activation="softmax", name="next")(layers.LSTM(3)(x))
    model = with_random_weights(keras.Model(ids, y))
    assert_parity(model, tmp_path, IDS)
    loaded = lstmrt.load(save(model, tmp_path, ".keras"))
    assert [value.name for value in loaded.inputs + loaded.outputs] == ["ids", "next"]


# ---- types of weights ----


@pytest.mark.parametrize("dtype", ["float16", "mixed_float16", "bfloat16", "mixed_bfloat16"])
def test_weights_of_other_types_become_float32(tmp_path, name, dtype):
    """The model computes in float32 with the weights as stored: what a float32 model with these weights gives."""
    keras = framework(name)

    def model(dtype):
        lstm = keras.layers.LSTM(UNITS, dtype=dtype, recurrent_initializer="zeros")  # TensorFlow's own needs float32
        return sequential(keras, lstm, keras.layers.Dense(4, dtype=dtype))

    half, twin = model(dtype), model("float32")
    twin.set_weights([np.asarray(array, np.float32) for array in half.get_weights()])
    found = lstmrt.load(save(half, tmp_path, ".keras"))(VECTORS)
    np.testing.assert_allclose(found, np.asarray(twin(VECTORS)), rtol=0, atol=2e-6)


@pytest.mark.parametrize("layer", ["LSTM", "GRU"])
def test_layers_of_cudnn(tmp_path, name, layer):
    """CuDNNLSTM and CuDNNGRU are made and saved without a GPU; what they compute, a layer says that takes their weights."""
    if name == "keras":
        pytest.skip("Keras 3 has no such layers")
    keras = framework(name)
    module = importlib.import_module(f"{name}.src.layers.rnn.cudnn_{layer.lower()}")
    model, twin = (sequential(keras, kind(UNITS, return_sequences=True, go_backwards=True, name="layer"))
                   for kind in (getattr(module, f"CuDNN{layer}"), getattr(keras.layers, layer)))
    path = save(model, tmp_path, ".h5")
    twin.load_weights(path)
    compare(model.to_json, keras.__version__, ".h5", [lstmrt.load(path)(VECTORS)], outputs_of(twin, VECTORS))


@pytest.mark.parametrize("layer, options", [("LSTM", {}), ("GRU", {"reset_after": True})])
def test_weights_in_cudnn_layout(tmp_path, name, layer, options):
    """Weights of a model trained with CuDNNLSTM, in a file that says LSTM: only the bias's length tells."""
    keras = framework(name)
    model = sequential(keras, getattr(keras.layers, layer)(UNITS, return_sequences=True, **options))
    expected = np.asarray(model(VECTORS))
    path = save(model, tmp_path, ".h5")
    with h5py.File(path, "r+") as file:
        paths = {}
        file["model_weights"].visit(lambda path: paths.update({path.split("/")[-1].split(":")[0]: path}))
        datasets = {key: file["model_weights"][paths[key]] for key in ("kernel", "recurrent_kernel", "bias")}
        kernel, recurrent, bias = (dataset[()] for dataset in datasets.values())
        gates = bias.size // UNITS if layer == "LSTM" else 3
        replace_dataset(file, datasets["kernel"], [gate.T.reshape(gate.shape) for gate in np.split(kernel, gates, 1)])
        replace_dataset(file, datasets["recurrent_kernel"], [gate.T for gate in np.split(recurrent, gates, 1)])
        split = [0.75 * bias, 0.25 * bias] if layer == "LSTM" else list(bias)
        replace_dataset(file, datasets["bias"], split)
    np.testing.assert_allclose(lstmrt.load(path)(VECTORS), expected, rtol=0, atol=2e-6)


def replace_dataset(file: h5py.File, dataset: h5py.Dataset, parts: list[np.ndarray]) -> None:
    """Puts `parts`, side by side, where `dataset` lies."""
    path = dataset.name
    del file[path]
    file[path] = np.hstack(parts)
