"""Keras on TensorFlow: compiled for its input shape, called as it is, and through `predict`."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np

import models
from models import Layer, Weights
from shapes import LayerShape

from .common import Call, Generate, rerun_window


class KerasCall:
    name, precision = "Keras call", "f32"

    def __init__(self, threads: int) -> None:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        import tensorflow

        self.tf = tensorflow
        try:
            tensorflow.config.threading.set_intra_op_parallelism_threads(threads)
            tensorflow.config.threading.set_inter_op_parallelism_threads(1)
        except RuntimeError:  # it has started already, with the same settings
            pass

    def window(self, weights: Weights, window: int) -> Generate:
        return rerun_window(self.next_id(keras_model(weights, window), window), window, np.int32)

    def next_id(self, model, window: int) -> Callable[[np.ndarray], int]:
        return lambda ids: model(ids[None])[0].numpy().argmax()


class KerasPredict(KerasCall):
    name = "Keras predict"

    def next_id(self, model, window: int) -> Callable[[np.ndarray], int]:
        return lambda ids: model.predict(ids[None], verbose=0)[0].argmax()


class TfFunction(KerasCall):
    name = "tf.function"

    def next_id(self, model, window: int) -> Callable[[np.ndarray], int]:
        tf = self.tf
        compiled = tf.function(model, input_signature=[tf.TensorSpec((1, window), tf.int32)])
        return lambda ids: compiled(tf.constant(ids[None]))[0].numpy().argmax()

    def sequence(self, shape: LayerShape, layers: tuple[Layer, ...], x: np.ndarray) -> Call:
        tf, given = self.tf, self.tf.constant(x)
        compiled = tf.function(keras_layer(shape, layers), input_signature=[tf.TensorSpec(x.shape)])
        return Call(lambda: compiled(given).numpy(), lambda: compiled(given).numpy())


def keras_layer(shape: LayerShape, layers: tuple[Layer, ...]):
    import keras

    layer = getattr(keras.layers, shape.cell)(shape.hidden, return_sequences=True)
    if shape.bidirectional:
        layer = keras.layers.Bidirectional(layer)
    layer.build((None, None, shape.inputs))
    layer.set_weights([array for one in layers for array in models.keras_layer_weights(shape.cell, one)])
    return layer


def keras_model(weights: Weights, window: int):
    """The tutorials' model: Embedding, recurrent layers, Dense."""
    import keras

    shape = weights.shape
    cell = getattr(keras.layers, shape.cell)
    recurrent = [cell(shape.hidden, return_sequences=i < shape.layers - 1) for i in range(shape.layers)]
    model = keras.Sequential(
        [
            keras.Input((window,), dtype="int32"),
            keras.layers.Embedding(shape.vocabulary, shape.embedding),
            *recurrent,
            keras.layers.Dense(shape.vocabulary, activation="softmax"),
        ]
    )
    inner = [array for layer in weights.layers for array in models.keras_layer_weights(shape.cell, layer)]
    model.set_weights([weights.table, *inner, weights.output, weights.output_bias])
    return model
