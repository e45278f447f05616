"""The greedy loop on each runtime at its best settings for one stream: `generate(prompt, n)` gives n ids.

A maker raises ImportError where its runtime is not installed. All of them use one thread.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

import lstmrt
import models
from lstmrt.format import ModelFile, write
from lstmrt.generation_config import GenerationDefaults
from lstmrt.graph import Graph
from models import PADDING, Layer, Weights

Generate = Callable[[list[int], int], list[int]]


# ---- lstmrt ----


def lstmrt_model(graph: Graph, generation: GenerationDefaults) -> lstmrt.Model:
    """A model as a user has it: loaded from a file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.lstmrt"
        write(path, ModelFile(graph, generation=generation))
        return lstmrt.load(path)


def lstmrt_window(weights: Weights, window: int) -> Generate:
    model = lstmrt_model(models.keras_like(weights, time=window), GenerationDefaults("window", window))
    return lstmrt_greedy(model)


def lstmrt_stateful(weights: Weights) -> Generate:
    return lstmrt_greedy(lstmrt_model(models.keras_like(weights), GenerationDefaults("stateful")))


def lstmrt_greedy(model: lstmrt.Model) -> Generate:
    return lambda prompt, n: model.generate(prompt, max_new_tokens=n).tolist()


# ---- onnxruntime ----


def onnxruntime_session(graph: Graph):
    """A session on one thread. Weights are embedded in the file, as a user's model would have them."""
    import onnxruntime

    from lstmrt.converters.to_onnx import to_onnx_model

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    model = to_onnx_model(graph).SerializeToString()
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def onnxruntime_window(weights: Weights, window: int) -> Generate:
    """The window through `session.run` again for each word."""
    session = onnxruntime_session(models.windowed(weights))

    def next_id(ids: np.ndarray) -> int:
        return session.run(None, {"ids": ids[:, None]})[0][0].argmax()

    return rerun_window(next_id, window, np.int64)


def onnxruntime_run(weights: Weights) -> Generate:
    """States carried from one `session.run` to the next."""
    session = onnxruntime_session(models.stepwise(weights))
    names = models.state_names(weights.shape)
    zeros = {name: np.zeros((1, 1, weights.shape.hidden), np.float32) for name in names}

    def step(feeds: dict, token: int) -> int:
        feeds["ids"][0, 0] = token
        logits, *states = session.run(None, feeds)
        feeds.update(zip(names, states))
        return logits[0].argmax()

    return stepping(lambda: {"ids": np.zeros((1, 1), np.int64), **zeros}, step)


def onnxruntime_binding(weights: Weights) -> Generate:
    """States swapped between two sets of buffers that are bound once: nothing is copied or allocated."""
    session = onnxruntime_session(models.stepwise(weights))
    names = models.state_names(weights.shape)
    ids = np.zeros((1, 1), np.int64)
    logits = np.zeros((1, weights.shape.vocabulary), np.float32)
    buffers = [{name: np.zeros((1, 1, weights.shape.hidden), np.float32) for name in names} for _ in range(2)]

    def bind(before: dict, after: dict):
        binding = session.io_binding()
        for name, array in {"ids": ids, **before}.items():
            binding.bind_input(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        for name, array in {"logits": logits, **{f"{name}_next": after[name] for name in names}}.items():
            binding.bind_output(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        return binding

    there, back = bind(*buffers), bind(*buffers[::-1])

    def start() -> list:
        for array in buffers[0].values():
            array[:] = 0
        return [there, back]

    def step(bindings: list, token: int) -> int:
        ids[0, 0] = token
        session.run_with_iobinding(bindings[0])
        bindings.reverse()
        return logits[0].argmax()

    return stepping(start, step)


# ---- Keras on TensorFlow ----


def keras_model(weights: Weights, window: int):
    import tensorflow as tf

    one_thread(tf)
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


def keras_layer(cell: str, layer: Layer):
    import tensorflow as tf

    one_thread(tf)
    import keras

    recurrent = getattr(keras.layers, cell)(layer.R.shape[-1], return_sequences=True)
    recurrent.build((None, None, layer.W.shape[-1]))
    recurrent.set_weights(models.keras_layer_weights(cell, layer))
    return recurrent


def keras_predict(weights: Weights, window: int) -> Generate:
    """The tutorial as it stands: `model.predict` for each word."""
    model = keras_model(weights, window)
    return rerun_window(lambda ids: model.predict(ids[None], verbose=0)[0].argmax(), window, np.int32)


def keras_call(weights: Weights, window: int) -> Generate:
    model = keras_model(weights, window)
    return rerun_window(lambda ids: model(ids[None])[0].numpy().argmax(), window, np.int32)


def keras_tf_function(weights: Weights, window: int) -> Generate:
    """The model compiled for its one input shape."""
    import tensorflow as tf

    model = keras_model(weights, window)
    compiled = tf.function(model, input_signature=[tf.TensorSpec((1, window), tf.int32)])
    return rerun_window(lambda ids: compiled(tf.constant(ids[None]))[0].numpy().argmax(), window, np.int32)


def one_thread(tf) -> None:
    """Before TensorFlow has started; afterwards it says that it is too late, and was set already."""
    try:
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError:
        pass


# ---- torch ----


def torch_steps(weights: Weights) -> Generate:
    """nn.Embedding, nn.LSTM or nn.GRU, nn.Linear, one token at a time in inference mode."""
    import torch

    torch.set_num_threads(1)
    shape = weights.shape
    embedding = torch.nn.Embedding.from_pretrained(torch.from_numpy(weights.table))
    recurrent = getattr(torch.nn, shape.cell)(shape.embedding, shape.hidden, shape.layers)
    for i, layer in enumerate(weights.layers):
        biases = np.split(layer.B, 2)
        for name, array in zip(("weight_ih", "weight_hh", "bias_ih", "bias_hh"), (layer.W, layer.R, *biases)):
            order = models.ORDERS["onnx"][shape.cell], models.ORDERS["torch"][shape.cell]
            getattr(recurrent, f"{name}_l{i}").data = torch.from_numpy(models.reorder(array, *order))
    output = torch.nn.Linear(shape.hidden, shape.vocabulary)
    output.weight.data = torch.from_numpy(weights.output.T.copy())
    output.bias.data = torch.from_numpy(weights.output_bias)

    def step(carried: list, token: int) -> int:
        with torch.inference_mode():
            y, carried[0] = recurrent(embedding(torch.tensor([token])), carried[0])
            return int(output(y[-1]).argmax())

    return stepping(lambda: [None], step)


# ---- the two loops ----


def rerun_window(next_id: Callable[[np.ndarray], int], window: int, dtype) -> Generate:
    """The tutorial's loop: the last `window` ids, padding before them, through the model again for each new one."""

    def generate(prompt: list[int], n: int) -> list[int]:
        ids = np.full(window + len(prompt) + n, PADDING, dtype)
        ids[window : window + len(prompt)] = prompt
        for end in range(window + len(prompt), len(ids)):
            ids[end] = next_id(ids[end - window : end])
        return ids[-n:].tolist()

    return generate


def stepping(start: Callable[[], object], step: Callable[[object, int], int]) -> Generate:
    """`start()` makes zero states, `step(states, token)` advances them and gives the next token."""

    def generate(prompt: list[int], n: int) -> list[int]:
        states = start()
        for token in prompt:
            best = step(states, token)
        out = [int(best)]
        while len(out) < n:
            out.append(int(step(states, out[-1])))
        return out

    return generate
