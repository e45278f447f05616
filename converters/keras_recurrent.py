"""SimpleRNN, LSTM, GRU, their cuDNN forms, and Bidirectional: Keras's recurrent layers as ONNX's operators.

Keras computes x·kernel + h·recurrent_kernel + bias with the gates side by side in columns; ONNX's W and R are the
transposes with the gates in its own order, and its B is the input's bias followed by the recurrent one.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Callable, Literal, Mapping, Union

import numpy as np

from ..activations import EXTENSIONS, Activation, activation_attributes
from ..errors import ModelFileError, UnsupportedError
from ..gates import ONNX, ORDERS, reorder
from ..graph import EXTENSION
from .keras_activations import BY_NAME, SOFTMAX
from .keras_builder import Scope, Tensor
from .keras_config import Layer, parse_layer
from .keras_options import options
from .keras_weights import Shape, take
from .located import located

KERAS = ORDERS["keras"]
MASK_INPUT = {"LSTM": 8, "GRU": 6, "RNN": 6}  # where `mask` stands among the inputs of the extension
INT64_MIN = np.iinfo(np.int64).min
SIGMOID, TANH = BY_NAME["sigmoid"], BY_NAME["tanh"]


@dataclass(frozen=True)
class Direction:
    """A recurrent layer as ONNX's operator `op`: its arrays and what Keras wants of it."""

    op: str
    arrays: tuple[np.ndarray, np.ndarray, np.ndarray]  # W (1, gates units, inputs), R (1, gates units, units), B
    activations: tuple[Activation, ...]
    return_sequences: bool
    go_backwards: bool
    zero_output_for_mask: bool = False
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def units(self) -> int:
        return self.arrays[1].shape[2]


# ---- the layers, each with the options it supports ----


def simple_rnn(scope: Scope, inputs: int, *, units: int, activation: Activation, use_bias: bool,
               return_sequences: bool = False, go_backwards: bool = False, zero_output_for_mask: bool = False,
               stateful: bool = False, return_state: Literal[False] = False,
               time_major: Literal[False] = False) -> Direction:
    """h' = act(x·K + h·U + b)"""
    arrays = _arrays(scope.child("cell"), "RNN", inputs, units, *[(units,)] * use_bias)
    return Direction("RNN", arrays, (activation,), return_sequences, go_backwards, zero_output_for_mask)


def lstm(scope: Scope, inputs: int, *, units: int, activation: Activation, recurrent_activation: Activation,
         use_bias: bool, return_sequences: bool = False, go_backwards: bool = False,
         zero_output_for_mask: bool = False, stateful: bool = False, return_state: Literal[False] = False,
         time_major: Literal[False] = False) -> Direction:
    """c' = ract(f) c + ract(i) act(g), h' = ract(o) act(c'); a bias of 8 units tells weights in cuDNN's layout."""
    arrays = _arrays(scope.child("cell"), "LSTM", inputs, units, *[(4 * units,), (8 * units,)][:2 * use_bias])
    return Direction("LSTM", arrays, (recurrent_activation, activation, activation), return_sequences, go_backwards,
                     zero_output_for_mask)


def gru(scope: Scope, inputs: int, *, units: int, activation: Activation, recurrent_activation: Activation,
        use_bias: bool, reset_after: bool = False, return_sequences: bool = False, go_backwards: bool = False,
        zero_output_for_mask: bool = False, stateful: bool = False, return_state: Literal[False] = False,
        time_major: Literal[False] = False) -> Direction:
    """h' = z h + (1 - z) g with g = act(xh + r (h·Uh + bh)) where reset_after, else g = act(xh + (r h)·Uh).

    A bias of 6 units tells weights in cuDNN's layout.
    """
    biases = [(2, 3 * units), (6 * units,)] if reset_after else [(3 * units,)]
    arrays = _arrays(scope.child("cell"), "GRU", inputs, units, *biases * use_bias)
    return Direction("GRU", arrays, (recurrent_activation, activation), return_sequences, go_backwards,
                     zero_output_for_mask, {"linear_before_reset": int(reset_after)})


def cudnn_lstm(scope: Scope, inputs: int, *, units: int, return_sequences: bool = False, go_backwards: bool = False,
               stateful: bool = False, return_state: Literal[False] = False,
               time_major: Literal[False] = False) -> Direction:
    """Keras 2's CuDNNLSTM: an LSTM with fixed activations."""
    arrays = _arrays(scope, "LSTM", inputs, units, (8 * units,))
    return Direction("LSTM", arrays, (SIGMOID, TANH, TANH), return_sequences, go_backwards)


def cudnn_gru(scope: Scope, inputs: int, *, units: int, return_sequences: bool = False, go_backwards: bool = False,
              stateful: bool = False, return_state: Literal[False] = False,
              time_major: Literal[False] = False) -> Direction:
    """Keras 2's CuDNNGRU: a GRU with reset_after and fixed activations."""
    arrays = _arrays(scope, "GRU", inputs, units, (6 * units,))
    return Direction("GRU", arrays, (SIGMOID, TANH), return_sequences, go_backwards,
                     attributes={"linear_before_reset": 1})


CELLS: Mapping[str, Callable[..., Direction]] = {
    "SimpleRNN": simple_rnn, "LSTM": lstm, "GRU": gru, "CuDNNLSTM": cudnn_lstm, "CuDNNGRU": cudnn_gru,
}


def recurrent(scope: Scope, x: Tensor, layer: Layer) -> Tensor:
    """One of CELLS by itself. Keras leaves the sequence of a go_backwards layer in the order it was made."""
    direction = _direction(scope, x, layer)
    return _output(x, direction, _emit(scope, x, direction, flip=direction.go_backwards), direction.units)


def bidirectional(scope: Scope, x: Tensor, *, layer: dict, backward_layer: Union[dict, None] = None,
                  merge_mode: Literal["concat", "sum", "mul", "ave"] = "concat") -> Tensor:
    """Two of CELLS, one of them backwards; its sequence is turned round before the two are merged.

    Where sequences are returned, both give 0 at masked steps, whatever their own options say.
    """
    there = parse_layer(layer)
    back = parse_layer(backward_layer) if backward_layer else _turned(there)
    scopes = [scope.child("forward_layer", "/forward"), scope.child("backward_layer", "/backward")]
    directions = [_direction(scopes[0], x, there), _direction(scopes[1], x, back)]
    for name in ("return_sequences", "go_backwards"):
        values = [getattr(direction, name) for direction in directions]
        if (values[0] == values[1]) != (name == "return_sequences"):
            raise ModelFileError(f"{name} of the two directions: {values[0]} and {values[1]}")
    directions = [replace(direction, zero_output_for_mask=direction.return_sequences) for direction in directions]
    forward, backward = directions
    halves = [_emit(scopes[0], x, forward, flip=forward.go_backwards),
              _emit(scopes[1], x, backward, flip=not backward.go_backwards)]
    if merge_mode == "concat":
        return _output(x, forward, scope.add("Concat", *halves, axis=-1), forward.units + backward.units)
    if forward.units != backward.units:
        raise ModelFileError(f"merge_mode '{merge_mode}' of {forward.units} and {backward.units} units")
    merged = scope.add("Mul" if merge_mode == "mul" else "Add", *halves)
    if merge_mode == "ave":
        merged = scope.add("Mul", merged, scope.constant("half", np.array(0.5, np.float32)))
    return _output(x, forward, merged, forward.units)


def _turned(layer: Layer) -> Layer:
    return replace(layer, config={**layer.config, "go_backwards": not layer.config.get("go_backwards", False)})


# ---- weights ----


def _arrays(scope: Scope, op: str, inputs: int, units: int, *biases: Shape) -> tuple[np.ndarray, ...]:
    """W, R and B of `op`; `biases` are the shapes that the bias may have, none for a layer without."""
    columns = len(KERAS[op]) * units
    shapes: dict[str, Any] = {"kernel": (inputs, columns), "recurrent_kernel": (units, columns)}
    if biases:
        shapes["bias"] = list(biases)
    kernel, recurrent_kernel, *rest = take(scope.weights, **shapes)
    bias = rest[0] if rest else np.zeros(columns, np.float32)
    if bias.shape == (2 * columns,):
        kernel, recurrent_kernel, bias = _from_cudnn(kernel, recurrent_kernel, bias, gates=len(KERAS[op]))
    input_bias, recurrent_bias = bias if bias.ndim == 2 else (bias, np.zeros_like(bias))
    w, r, wb, rb = (reorder(array, KERAS[op], ONNX[op])
                    for array in (kernel.T, recurrent_kernel.T, input_bias, recurrent_bias))
    return w[None], r[None], np.concatenate([wb, rb])[None]


def _from_cudnn(kernel: np.ndarray, recurrent_kernel: np.ndarray, bias: np.ndarray,
                gates: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """cuDNN stores each gate's matrices by columns, and the two biases apart."""
    kernel = np.hstack([gate.reshape(gate.shape[::-1]).T for gate in np.split(kernel, gates, axis=1)])
    recurrent_kernel = np.hstack([gate.T for gate in np.split(recurrent_kernel, gates, axis=1)])
    return kernel, recurrent_kernel, bias.reshape(2, -1)


# ---- nodes ----


def _direction(scope: Scope, x: Tensor, layer: Layer) -> Direction:
    if len(x.shape) != 3 or x.dtype != "float32":
        raise ModelFileError(f"expected an input (batch, time, features) of float32, got {x.shape} of {x.dtype}")
    handler = CELLS[layer.class_name]
    with located(str(layer)):
        direction = handler(scope, x.width, **options(handler, layer, scope.keras_major))
    if SOFTMAX in direction.activations:
        raise UnsupportedError(f"{layer} with activation 'softmax' inside the recurrence")
    return direction


def _emit(scope: Scope, x: Tensor, direction: Direction, flip: bool) -> str:
    """The layer's output: the sequence, turned round if `flip`, or what came last in processing order."""
    op = direction.op
    arrays = [scope.constant(name, array) for name, array in zip("WRB", direction.arrays)]
    inputs = (x.name, *arrays)
    attributes = {"hidden_size": direction.units, "layout": 1,
                  "direction": "reverse" if direction.go_backwards else "forward",
                  **activation_attributes(direction.activations), **direction.attributes}
    if x.mask:
        inputs += ("",) * (MASK_INPUT[op] - len(inputs)) + (x.mask,)
        attributes["masked_output"] = "zero" if direction.zero_output_for_mask else "carry"
    extended = x.mask or any(activation.function in EXTENSIONS for activation in direction.activations)
    y = scope.add(op, *inputs, domain=EXTENSION if extended else "", **attributes)
    y = scope.add("Squeeze", y, scope.ints("direction_axis", [2]))
    if not direction.return_sequences:
        last = np.array(0 if direction.go_backwards else -1, np.int64)
        return scope.add("Gather", y, scope.constant("last", last), axis=1)
    if flip:
        return scope.add("Slice", y, *(scope.ints(name, [value]) for name, value in
                                       (("starts", -1), ("ends", INT64_MIN), ("axes", 1), ("steps", -1))))
    return y


def _output(x: Tensor, direction: Direction, name: str, width: int) -> Tensor:
    if direction.return_sequences:
        return Tensor(name, (*x.shape[:2], width), mask=x.mask)
    return Tensor(name, (x.shape[0], width))
