"""Layers of a model's own: by functions of the caller, never by code of the file."""

from __future__ import annotations

import numpy as np
import pytest

import lstmrt
from keras_models import (
    FEATURES, FRAMEWORKS, IDS, TIME, UNITS, VECTORS, VOCABULARY, assert_close, framework, outputs_of, save,
    with_random_weights)

pytestmark = pytest.mark.parametrize("name", FRAMEWORKS)


# ---- the two examples of docs/KERAS.md ----


def reversed_lstm(build, x, config, weights):
    """An LSTM that reads from the end, its sequence in the order of the input."""
    y = build.layer("LSTM", x, {**config, "go_backwards": True})
    return build.add("Slice", y, [-1], [-2**63], [1], [-1])


def attention_weighted_average(build, x, config, weights):
    """The average over time, each step weighted by the softmax of its product with a vector."""
    (w,) = weights.values()
    logits = build.add("MatMul", x, w)  # (batch, time, 1)
    scores = build.add("Exp", build.add("Sub", logits, build.add("ReduceMax", logits, [1])))
    if (mask := build.mask(x)) is not None:
        scores = build.add("Mul", scores, build.add("Cast", build.add("Unsqueeze", mask, [2]), to=1))
    total = build.add("Add", build.add("ReduceSum", scores, [1]), 1e-7)
    return build.add("ReduceSum", build.add("Mul", x, build.add("Div", scores, total)), [1], keepdims=0)


FUNCTIONS = {"ReversedLSTM": reversed_lstm, "AttentionWeightedAverage": attention_weighted_average}


def custom_layers(keras, tf):
    class ReversedLSTM(keras.layers.LSTM):
        def __init__(self, units, **options):
            super().__init__(units, **{**options, "go_backwards": True})

        def call(self, sequences, mask=None, training=None, initial_state=None):
            return tf.reverse(super().call(sequences, mask=mask, training=training, initial_state=initial_state), [1])

    class AttentionWeightedAverage(keras.layers.Layer):
        def build(self, shape):
            self.supports_masking = True
            self.w = self.add_weight(name="W", shape=(shape[-1], 1))
            super().build(shape)

        def call(self, x, mask=None):
            logits = tf.matmul(x, tf.convert_to_tensor(self.w))
            scores = tf.exp(logits - tf.reduce_max(logits, 1, keepdims=True))
            if mask is not None:
                scores *= tf.cast(mask, "float32")[..., None]
            return tf.reduce_sum(x * scores / (tf.reduce_sum(scores, 1, keepdims=True) + 1e-7), 1)

        def compute_output_shape(self, shape):
            return shape[0], shape[2]

        def compute_mask(self, x, mask=None):
            return None

    return ReversedLSTM, AttentionWeightedAverage


@pytest.mark.parametrize("mask_zero", [False, True])
def test_the_two_that_the_world_uses_most(tmp_path, name, mask_zero):
    keras = framework(name)
    tf = pytest.importorskip("tensorflow", reason="tensorflow is not installed")
    lstm, average = custom_layers(keras, tf)
    layers = [keras.layers.Embedding(VOCABULARY, FEATURES, mask_zero=mask_zero), average(), keras.layers.Dense(2)]
    if not mask_zero:
        layers.insert(1, lstm(UNITS, return_sequences=True))
    model = with_random_weights(keras.Sequential([keras.Input((TIME,), dtype="int32"), *layers]))
    for container in (".keras", ".h5"):
        path = save(model, tmp_path, container)
        with pytest.raises(lstmrt.UnsupportedError, match="AttentionWeightedAverage"):
            lstmrt.load(path)
        assert_close([lstmrt.load(path, custom_layers=FUNCTIONS)(IDS)], outputs_of(model, IDS))
        lstmrt.convert(path, tmp_path / f"{container[1:]}.lstmrt", custom_layers=FUNCTIONS)
        assert_close([lstmrt.load(tmp_path / f"{container[1:]}.lstmrt")(IDS)], outputs_of(model, IDS))


# ---- what else functions may do ----


def test_a_lambda_by_its_layers_name(tmp_path, name):
    keras = framework(name)
    model = keras.Sequential([keras.Input((TIME, FEATURES)), keras.layers.Lambda(lambda x: x * 2, name="double")])
    path = save(model, tmp_path, ".keras")
    with pytest.raises(lstmrt.UnsupportedError, match="Lambda 'double'.*custom_layers"):
        lstmrt.load(path)
    loaded = lstmrt.load(path, custom_layers={"double": lambda build, x, config, weights: build.add("Mul", x, 2.0)})
    np.testing.assert_array_equal(loaded(VECTORS), 2 * VECTORS)


def test_a_function_that_does_not_do_its_work(tmp_path, name):
    keras = framework(name)
    path = save(keras.Sequential([keras.Input((TIME, FEATURES)), keras.layers.Lambda(lambda x: x * 2, name="double")]),
                tmp_path, ".keras")
    for function, words in ((lambda build, x, config, weights: None, "returned NoneType"),
                            (lambda build, x, config, weights: build.add("Nonsense", x), "no operator Nonsense"),
                            (lambda build, x, config, weights: build.add("Mul", x, "two"), "expected a Tensor")):
        with pytest.raises(lstmrt.InputError, match=words):
            lstmrt.load(path, custom_layers={"Lambda": function})
