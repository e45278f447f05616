"""Functions between layers: keras.ops in Keras 3, TensorFlow's in tf-keras, and arithmetic on tensors in both."""

from __future__ import annotations

import numpy as np
import pytest

from keras_models import (
    BATCH, FEATURES, FRAMEWORKS, IDS, TIME, VECTORS, VOCABULARY, assert_parity, framework, with_random_weights)

OTHERS = np.random.default_rng(2).standard_normal((BATCH, TIME, FEATURES)).astype(np.float32)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_arithmetic_and_slices(tmp_path, name):
    keras = framework(name)
    a, b = (keras.Input((TIME, FEATURES), name=key) for key in "ab")
    outputs = [a + b, a - b, a * b, a / (b * b + 1.0), 2.0 - a, 3.0 * b + 1.0, 1.0 / (a * a + 2.0), -a, abs(b), a ** 2.0,
               a[:, -1], a[:, 0, :], a[:, 1:4], a[:, ::-1], a[:, :, 1], a[:, 2:, 1:], a[:, None, 1], a[:, -3:-1, 0]]
    x = keras.layers.LSTM(4, return_sequences=True)(a)
    outputs.append(keras.layers.Dense(2)(x[:, -1] * 0.5 + x[:, 0]))
    assert_parity(with_random_weights(keras.Model([a, b], outputs)), tmp_path, VECTORS, OTHERS)


def test_functions_of_keras_3(tmp_path):
    keras = framework("keras")
    ops, (a, b) = keras.ops, [keras.Input((TIME, FEATURES), name=key) for key in "ab"]
    positive = ops.square(a) + 0.5
    outputs = [a[..., 0:2], ops.tanh(a), ops.sigmoid(a), ops.exp(a), ops.log(positive), ops.sqrt(positive), ops.rsqrt(positive), ops.relu(a),
               ops.softmax(a), ops.softmax(a, axis=1), ops.gelu(a), ops.gelu(a, approximate=False), ops.silu(a), ops.elu(a),
               ops.maximum(a, b), ops.minimum(a, 0.2), ops.clip(a, -0.5, 0.5), ops.where(a > b, a, b * 2.0),
               ops.sum(a, axis=1), ops.mean(a, axis=-1, keepdims=True), ops.max(a, axis=1), ops.min(a, axis=(1, 2)), ops.prod(a, axis=2),
               ops.concatenate([a, b], axis=-1), ops.concatenate([a, b], axis=1), ops.stack([a, b], axis=1),
               ops.reshape(a, (-1, TIME * FEATURES)), ops.transpose(a, (0, 2, 1)), ops.swapaxes(a, 1, 2), ops.expand_dims(a, 2),
               ops.squeeze(ops.expand_dims(a, 2), 2), ops.flip(a, axis=1), ops.repeat(a, 2, axis=1), ops.tile(a, (1, 2, 1)),
               *ops.split(a, [2, 5], axis=1), *ops.split(a, 3, axis=2), ops.matmul(a, ops.transpose(b, (0, 2, 1))),
               ops.einsum("btf,bsf->bts", a, b), ops.cumsum(a, axis=1), ops.moveaxis(a, 1, 2), ops.take(a, np.array([0, 2]), axis=1),
               ops.cast(a > 0.1, "float32"), ops.zeros_like(a), ops.ones_like(a), ops.negative(a), ops.absolute(b), ops.power(positive, 1.5),
               ops.cast(ops.argmax(a, axis=-1), "float32"), ops.pad(a, ((0, 0), (2, 1), (0, 3))),
               ops.pad(a, ((0, 0), (2, 1), (0, 3)), constant_values=2.5), ops.pad(a, ((0, 0), (2, 1), (1, 0)), mode="reflect"),
               ops.norm(a, axis=-1), ops.norm(a, ord=1, axis=1, keepdims=True), ops.norm(a, ord=float("inf"), axis=2),
               ops.norm(a, ord=3, axis=2), ops.norm(a, ord="fro", axis=(1, 2)), ops.normalize(a), ops.normalize(a, axis=1, order=1)]
    assert_parity(keras.Model([a, b], outputs), tmp_path, VECTORS, OTHERS)


def test_activation_functions_of_keras_3(tmp_path):
    keras = framework("keras")
    ops, (a, b) = keras.ops, [keras.Input((TIME, FEATURES), name=key) for key in "ab"]
    outputs = [ops.glu(ops.concatenate([a, b], axis=-1)), ops.glu(a[:, 1:], axis=1), ops.log_softmax(a), ops.log_softmax(a, axis=1),
               ops.log_sigmoid(a), ops.tanh_shrink(a), ops.soft_shrink(a, 0.3), ops.hard_shrink(a, 0.3), ops.threshold(a, 0.2, -7.0),
               ops.squareplus(a, b=2), ops.sparse_plus(a), ops.sparse_sigmoid(a), ops.sparsemax(a), ops.sparsemax(a, axis=1),
               ops.hard_silu(a), ops.hard_tanh(a), ops.hard_sigmoid(a), ops.celu(a, alpha=0.5), ops.leaky_relu(a)]
    assert_parity(keras.Model([a, b], outputs), tmp_path, VECTORS, OTHERS)


def test_functions_of_tensorflow(tmp_path):
    keras = framework("tf_keras")
    tf = pytest.importorskip("tensorflow", reason="tensorflow is not installed")
    a, b = (keras.Input((TIME, FEATURES), name=key) for key in "ab")
    positive = tf.square(a) + 0.5
    outputs = [tf.tanh(a), tf.sigmoid(a), tf.exp(a), tf.math.log(positive), tf.sqrt(positive), tf.math.rsqrt(positive), tf.nn.relu(a),
               tf.nn.softmax(a), tf.nn.softmax(a, axis=1), tf.maximum(a, b), tf.minimum(a, 0.2), tf.clip_by_value(a, -0.5, 0.5),
               tf.where(a > b, a, b), tf.reduce_sum(a, axis=1), tf.reduce_mean(a, axis=-1, keepdims=True), tf.reduce_max(a, 1),
               tf.concat([a, b], axis=-1), tf.concat([a, b], 1), tf.stack([a, b], axis=1), tf.reshape(a, (-1, TIME * FEATURES)),
               tf.transpose(a, [0, 2, 1]), tf.expand_dims(a, 2), tf.squeeze(tf.expand_dims(a, 2), [2]), tf.reverse(a, [1]),
               tf.tile(a, [1, 2, 1]), *tf.split(a, 3, axis=2), *tf.split(a, [2, 5], axis=1), tf.matmul(a, b, transpose_b=True),
               tf.cast(a > 0.1, "float32"), tf.zeros_like(a), tf.negative(a), tf.subtract(a, b), tf.nn.leaky_relu(a, alpha=0.3),
               tf.reshape(a, (tf.shape(a)[0], FEATURES, TIME)), *tf.unstack(a, axis=2), tf.math.cumsum(a, axis=1),
               tf.nn.log_softmax(a), tf.math.log_sigmoid(a), tf.norm(a, axis=-1), tf.norm(a, ord=1, axis=1, keepdims=True),
               tf.math.l2_normalize(a, axis=-1), tf.pad(a, [[0, 0], [1, 2], [0, 1]]),
               tf.pad(a, [[0, 0], [1, 2], [0, 1]], constant_values=3.0), tf.pad(a, [[0, 0], [1, 2], [0, 0]], mode="REFLECT")]
    assert_parity(keras.Model([a, b], outputs), tmp_path, VECTORS, OTHERS)


def test_masks_that_the_model_computes(tmp_path):
    """Keras 3 writes masks it derived and masks that a model computes alike; both must arrive."""
    keras = framework("keras")
    layers, ops = keras.layers, keras.ops
    ids = keras.Input((TIME,), dtype="int32", name="ids")
    x = layers.Embedding(VOCABULARY, FEATURES)(ids)
    y = layers.Embedding(VOCABULARY, FEATURES, mask_zero=True)(ids)
    outputs = [layers.LSTM(3, return_sequences=True)(x, mask=ops.greater(ids, 2)),
               layers.GRU(3)(x, mask=ops.logical_and(ops.not_equal(ids, 0), ops.not_equal(ids, 4))),
               layers.Bidirectional(layers.GRU(3, return_sequences=True))(y),
               layers.GlobalAveragePooling1D()(layers.Add()([y, y]))]
    assert_parity(with_random_weights(keras.Model(ids, outputs)), tmp_path, IDS[[0, 1, 2, 4]], containers=[".keras"])
