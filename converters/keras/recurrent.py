"""SimpleRNN, LSTM, GRU, their cuDNN forms, ConvLSTM, RNN with cells, and Bidirectional: Keras's recurrent layers as ONNX's
operators, and one of ours.

Keras computes x·kernel + h·recurrent_kernel + bias with the gates side by side in columns; ONNX's W and R are the
transposes with the gates in its own order, and its B is the input's bias followed by the recurrent one. Cells that are
stacked in one layer are as many operators, one after the other. ConvLSTM, of which ONNX has none, has kernels in place of the
matrices, and images, channels last, in place of the vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Union

import numpy as np

from ...activations import EXTENSIONS, FUNCTIONS, Activation, activation_attributes
from ...errors import ModelFileError, UnsupportedError
from ...gates import ONNX, ORDERS, reorder
from ...graph import EXTENSION
from ..located import located
from .activations import BY_NAME
from .builder import Scope, Tensor
from .config import Layer, parse_layer
from .images import ImageFormat, Sizes, as_sizes
from .json import shown
from .options import options, own_options
from .weights import Shape, take

KERAS = ORDERS["keras"]
MASK_INPUT = {"LSTM": 8, "GRU": 6, "RNN": 6}  # where `mask` stands among the inputs of the extension
STATES = {"LSTM": 2, "ConvLSTM": 2, "GRU": 1, "RNN": 1}
SPATIAL_AXES = {"ConvLSTM1D": 1, "ConvLSTM2D": 2, "ConvLSTM3D": 3}
INT64_MIN = np.iinfo(np.int64).min
SIGMOID, TANH = BY_NAME["sigmoid"], BY_NAME["tanh"]


@dataclass(frozen=True)
class Cell:
    """A recurrent layer's cell as ONNX's operator `op`, or as our ConvLSTM."""

    op: str
    arrays: tuple[np.ndarray, np.ndarray, np.ndarray]  # W (1, gates units, inputs), R (1, gates units, units), B
    activations: tuple[Activation, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    channels_first: bool = False  # images of the layer; those of its operator have them last

    @property
    def units(self) -> int:
        return self.arrays[1].shape[2]


@dataclass(frozen=True, kw_only=True)
class Recurrence:
    """The options that every recurrent layer has, whatever its cell. `stateful` matters to generation alone, `unroll` to what
    stands at masked steps."""

    return_sequences: bool = False
    return_state: bool = False
    go_backwards: bool = False
    zero_output_for_mask: bool = False
    time_major: bool = False
    stateful: bool = False
    unroll: bool = False

    @property
    def time_axis(self) -> int:
        return 0 if self.time_major else 1

    @property
    def masks_the_other_way(self) -> bool:
        """Where steps that go backwards are unrolled, Keras puts zeros into their sequence by the mask as it came, not turned."""
        return self.unroll and self.go_backwards and self.zero_output_for_mask and self.return_sequences


# ---- cells, each with the options it supports ----


def simple_rnn(scope: Scope, inputs: int, *, units: int, activation: Activation, use_bias: bool) -> Cell:
    """h' = act(x·K + h·U + b)"""
    return Cell("RNN", _arrays(scope, "RNN", inputs, units, *[(units,)] * use_bias), (activation,))


def lstm(scope: Scope, inputs: int, *, units: int, activation: Activation, recurrent_activation: Activation,
         use_bias: bool) -> Cell:
    """c' = ract(f) c + ract(i) act(g), h' = ract(o) act(c'); a bias of 8 units tells weights in cuDNN's layout."""
    arrays = _arrays(scope, "LSTM", inputs, units, *[(4 * units,), (8 * units,)][:2 * use_bias])
    return Cell("LSTM", arrays, (recurrent_activation, activation, activation))


def gru(scope: Scope, inputs: int, *, units: int, activation: Activation, recurrent_activation: Activation,
        use_bias: bool, reset_after: bool = False) -> Cell:
    """h' = z h + (1 - z) g with g = act(xh + r (h·Uh + bh)) where reset_after, else g = act(xh + (r h)·Uh).

    A bias of 6 units tells weights in cuDNN's layout.
    """
    biases = [(2, 3 * units), (6 * units,)] if reset_after else [(3 * units,)]
    arrays = _arrays(scope, "GRU", inputs, units, *biases * use_bias)
    return Cell("GRU", arrays, (recurrent_activation, activation), {"linear_before_reset": int(reset_after)})


def cudnn_lstm(scope: Scope, inputs: int, *, units: int) -> Cell:
    """Keras 2's CuDNNLSTM: an LSTM with fixed activations."""
    return Cell("LSTM", _arrays(scope, "LSTM", inputs, units, (8 * units,)), (SIGMOID, TANH, TANH))


def cudnn_gru(scope: Scope, inputs: int, *, units: int) -> Cell:
    """Keras 2's CuDNNGRU: a GRU with reset_after and fixed activations."""
    return Cell("GRU", _arrays(scope, "GRU", inputs, units, (6 * units,)), (SIGMOID, TANH), {"linear_before_reset": 1})


def _conv_lstm(axes: int) -> Callable[..., Cell]:
    def conv_lstm(scope: Scope, inputs: int, *, filters: int, kernel_size: Sizes, strides: Sizes = 1,
                  padding: Literal["valid", "same"] = "valid", data_format: ImageFormat = None, dilation_rate: Sizes = 1,
                  activation: Activation, recurrent_activation: Activation, use_bias: bool) -> Cell:
        """An LSTM with convolutions for products; that of h goes by single steps and leaves its size."""
        window, columns = as_sizes("kernel_size", kernel_size, axes), 4 * filters
        kernel, recurrent_kernel, *bias = take(
            scope.weights, kernel=(*window, inputs, columns), recurrent_kernel=(*window, filters, columns),
            **{"bias": (columns,)} if use_bias else {})
        w, r, b = (reorder(np.moveaxis(array, -1, 0), KERAS["LSTM"], ONNX["LSTM"])
                   for array in (kernel, recurrent_kernel, *(bias or [np.zeros(columns, np.float32)])))
        attributes = {"strides": as_sizes("strides", strides, axes),
                      "dilations": as_sizes("dilation_rate", dilation_rate, axes),
                      "auto_pad": "SAME_UPPER" if padding == "same" else "VALID"}
        return Cell("ConvLSTM", (w, r, b), (recurrent_activation, activation, activation), attributes,
                    data_format == "channels_first")

    return conv_lstm


CELLS: Mapping[str, Callable[..., Cell]] = {"SimpleRNNCell": simple_rnn, "LSTMCell": lstm, "GRUCell": gru}
LAYERS: Mapping[str, Callable[..., Cell]] = {
    "SimpleRNN": simple_rnn, "LSTM": lstm, "GRU": gru, "CuDNNLSTM": cudnn_lstm, "CuDNNGRU": cudnn_gru,
    **{name: _conv_lstm(axes) for name, axes in SPATIAL_AXES.items()}}
RECURRENT = frozenset({*LAYERS, "RNN"})


def layer_faults(layer: Layer, keras_major: int) -> list[str]:
    """What a layer of RECURRENT asks for and lstmrt lacks; [] for none."""
    if layer.class_name in LAYERS:
        return _option_faults(layer, keras_major, Recurrence, LAYERS[layer.class_name])
    faults = _option_faults(layer, keras_major, Recurrence, _cell_option)
    for cell in _cells_of(layer):
        known = cell.class_name in CELLS and not cell.custom
        faults += _option_faults(cell, keras_major, CELLS[cell.class_name]) if known else [f"{cell} in {layer}"]
    return faults


def _option_faults(layer: Layer, keras_major: int, *handlers: Callable) -> list[str]:
    try:
        options(handlers, layer, keras_major)
    except UnsupportedError as error:
        return [f"{layer} {error}"]
    return []


def _cell_option(*, cell: Union[dict, list]) -> None:
    """RNN's one option beside those of Recurrence."""


def _cells_of(layer: Layer) -> list[Layer]:
    """The cells of an RNN layer: the one it has, or all that are stacked in it."""
    cell = layer.config.get("cell")
    if isinstance(cell, dict) and cell.get("class_name") == "StackedRNNCells":
        stacked = parse_layer(cell)
        if stacked.config.get("reverse_state_order"):
            raise UnsupportedError(f"{layer} with reverse_state_order=True")
        cell = stacked.config.get("cells")
    cells = cell if isinstance(cell, list) else [cell]
    if not cells or not all(isinstance(one, dict) for one in cells):
        raise ModelFileError(f"{layer}: cell: expected cells, got {shown(layer.config.get('cell'))}")
    return [parse_layer(one) for one in cells]


# ---- layers ----


def recurrent(scope: Scope, layer: Layer, x: Any, initial_state: Any = None,
              mask: Tensor | None = None) -> list[Tensor]:
    """One of RECURRENT by itself. Keras leaves the sequence of a go_backwards layer in the order it was made."""
    x, states = _inputs_and_states(x, initial_state)
    x, out_mask = _with_mask(scope, x, mask, bool(states), layer)
    recurrence, cells = _parsed(scope, x, layer)
    y, last_states = _run(scope, x, recurrence, cells, states, flip=recurrence.go_backwards)
    result = scope.tensor(y, out_mask if recurrence.return_sequences else "")
    return [result, *map(scope.tensor, last_states)] if recurrence.return_state else [result]


def bidirectional(scope: Scope, x: Any, initial_state: Any = None, mask: Tensor | None = None, *, layer: dict,
                  backward_layer: Union[dict, None] = None,
                  merge_mode: Literal["concat", "sum", "mul", "ave", None] = "concat") -> list[Tensor]:
    """Two of RECURRENT, one of them backwards; its sequence is turned round before the two are merged.

    Where sequences are returned, both give 0 at masked steps, whatever their own options say. States are those of the
    forward layer, then those of the backward layer.
    """
    x, states = _inputs_and_states(x, initial_state)
    there = parse_layer(layer)
    x, out_mask = _with_mask(scope, x, mask, bool(states), there)
    back = parse_layer(backward_layer) if backward_layer else _turned(there)
    scopes = [scope.child("forward_layer", "/forward"), scope.child("backward_layer", "/backward")]
    (forward, forward_cells), (backward, backward_cells) = (
        _parsed(scopes[0], x, there), _parsed(scopes[1], x, back))
    for name in ("return_sequences", "return_state", "go_backwards"):
        values = [getattr(direction, name) for direction in (forward, backward)]
        if (values[0] == values[1]) == (name == "go_backwards"):
            raise ModelFileError(f"{name} of the two directions: {values[0]} and {values[1]}")
    forward, backward = (replace(direction, zero_output_for_mask=direction.return_sequences)
                         for direction in (forward, backward))
    half = len(states) // 2
    y_forward, forward_states = _run(scopes[0], x, forward, forward_cells, states[:half], flip=forward.go_backwards)
    y_backward, backward_states = _run(scopes[1], x, backward, backward_cells, states[half:],
                                       flip=not backward.go_backwards)
    merged = _merged(scope, merge_mode, y_forward, y_backward)
    results = [scope.tensor(y, out_mask if forward.return_sequences else "") for y in merged]
    return results + list(map(scope.tensor, forward_states + backward_states)) * forward.return_state


def _merged(scope: Scope, merge_mode: str | None, forward: str, backward: str) -> list[str]:
    if merge_mode is None:
        return [forward, backward]
    if merge_mode == "concat":
        return [scope.add("Concat", forward, backward, axis=-1)]
    widths = [scope.tensor(name).width for name in (forward, backward)]
    if widths[0] != widths[1]:
        raise ModelFileError(f"merge_mode '{merge_mode}' of {widths[0]} and {widths[1]} units")
    merged = scope.add("Mul" if merge_mode == "mul" else "Add", forward, backward)
    return [scope.add("Mul", merged, scope.scalar(0.5)) if merge_mode == "ave" else merged]


def _turned(layer: Layer) -> Layer:
    return replace(layer, config={**layer.config, "go_backwards": not layer.config.get("go_backwards", False)})


def _inputs_and_states(x: Any, initial_state: Any) -> tuple[Tensor, list[Tensor]]:
    """The sequence and the flat list of states, in whatever form the call gives them."""
    x, *listed = x if isinstance(x, list) and x else [x]
    states = _flat([listed, [] if initial_state is None else initial_state])
    if not all(isinstance(value, Tensor) for value in [x, *states]):
        raise UnsupportedError("called on constants")
    return x, states


def _flat(value: Any) -> list:
    return [leaf for item in value for leaf in _flat(item)] if isinstance(value, (list, tuple)) else [value]


def _with_mask(scope: Scope, x: Tensor, mask: Tensor | None, has_states: bool, layer: Layer) -> tuple[Tensor, str]:
    """`x` with the mask that the recurrence heeds, and the mask that goes on with its output.

    Keras 3 hands a layer that is called with states the mask of its input only where the call names it.
    """
    x, axes = scope.floats(x), SPATIAL_AXES.get(layer.class_name, 0)
    if x.rank != 3 + axes:
        wanted = f"{axes} sizes and channels" if axes else "features"
        raise ModelFileError(f"expected an input (batch, time, {wanted}), got {x.shape}")
    if mask is not None:
        return replace(x, mask=mask.name), mask.name
    return (replace(x, mask="") if has_states and scope.keras_major >= 3 else x), x.mask


def _parsed(scope: Scope, x: Tensor, layer: Layer) -> tuple[Recurrence, list[Cell]]:
    with located(str(layer)):
        handlers = (Recurrence, LAYERS.get(layer.class_name, _cell_option))
        chosen = options(handlers, layer, scope.keras_major)
        recurrence = Recurrence(**own_options(Recurrence, chosen))
        if layer.class_name in LAYERS:
            maker = LAYERS[layer.class_name]
            inner = scope if layer.class_name.startswith("CuDNN") else scope.child("cell")
            channels = x.size(2) if chosen.get("data_format") == "channels_first" else x.width
            cells = [maker(inner, channels, **own_options(maker, chosen))]
        else:
            cells = _stack(scope, x.width, _cells_of(layer), stacked=_is_stacked(layer))
        for activation in (one for cell in cells for one in cell.activations):
            if activation.function not in FUNCTIONS:
                raise UnsupportedError(f"activation '{activation.function}' inside the recurrence")
    return recurrence, cells


def _is_stacked(layer: Layer) -> bool:
    cell = layer.config["cell"]
    return isinstance(cell, list) or cell["class_name"] == "StackedRNNCells"


def _stack(scope: Scope, inputs: int, layers: Sequence[Layer], stacked: bool) -> list[Cell]:
    weights = scope.weights.child("cell")
    cells = []
    for i, (layer, own) in enumerate(zip(layers, weights.cells(layers) if stacked else [weights])):
        with located(str(layer)):
            maker = CELLS[layer.class_name]
            inner = scope.within(own, f"/{i}" if stacked else "")
            cells.append(maker(inner, inputs, **options((maker,), layer, scope.keras_major)))
            inputs = cells[-1].units
    return cells


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


def _run(scope: Scope, x: Tensor, recurrence: Recurrence, cells: Sequence[Cell], states: Sequence[Tensor],
         flip: bool) -> tuple[str, list[str]]:
    """The output (the sequence, turned round if `flip`, or what came last in processing order) and the last states."""
    if len(states) not in (0, sum(STATES[cell.op] for cell in cells)):
        raise ModelFileError(f"called with {len(states)} states, expected {sum(STATES[cell.op] for cell in cells)}")
    y, made, left = x.name, [], list(states)
    turned = bool(x.mask) and recurrence.masks_the_other_way
    recurrence = replace(recurrence, zero_output_for_mask=False) if turned else recurrence
    for i, cell in enumerate(cells):
        own, left = left[:STATES[cell.op]], left[STATES[cell.op]:]
        inner = scope.within(scope.weights, f"/{i}") if len(cells) > 1 else scope
        emit = _emit_conv_lstm if cell.op == "ConvLSTM" else _emit
        y, last = emit(inner, y, x.mask, recurrence, cell, own)
        made += last
    if not recurrence.return_sequences:
        last = scope.constant("last", np.array(0 if recurrence.go_backwards else -1, np.int64))
        return scope.add("Gather", y, last, axis=recurrence.time_axis), made
    if turned:
        mask = scope.slice(x.mask, recurrence.time_axis, -1, INT64_MIN, -1)
        y = scope.add("Where", scope.unsqueeze(mask, 2), y, scope.scalar(0.0))
    return scope.slice(y, recurrence.time_axis, -1, INT64_MIN, -1) if flip else y, made


def _emit(scope: Scope, x: str, mask: str, recurrence: Recurrence, cell: Cell,
          states: Sequence[Tensor]) -> tuple[str, list[str]]:
    """One operator: its sequence in the order of the input, and its last states where they are asked for."""
    arrays = [scope.constant(name, array) for name, array in zip("WRB", cell.arrays)]
    state_axis = 0 if recurrence.time_major else 1
    inputs = (x, *arrays)
    if states:
        inputs += ("", *(scope.unsqueeze(scope.floats(state).name, state_axis) for state in states))
    attributes = {"hidden_size": cell.units, "layout": 0 if recurrence.time_major else 1,
                  "direction": "reverse" if recurrence.go_backwards else "forward",
                  **activation_attributes(cell.activations), **cell.attributes}
    if mask:
        inputs += ("",) * (MASK_INPUT[cell.op] - len(inputs)) + (mask,)
        attributes["masked_output"] = "zero" if recurrence.zero_output_for_mask else "carry"
    extended = mask or any(activation.function in EXTENSIONS for activation in cell.activations)
    y, *last = scope.add_several(cell.op, inputs, 1 + STATES[cell.op] * recurrence.return_state,
                                 EXTENSION if extended else "", **attributes)
    direction_axis = 1 if recurrence.time_major else 2
    return scope.squeeze(y, direction_axis), [scope.squeeze(state, state_axis) for state in last]


def _emit_conv_lstm(scope: Scope, x: str, mask: str, recurrence: Recurrence, cell: Cell,
                    states: Sequence[Tensor]) -> tuple[str, list[str]]:
    """As _emit. Up to Keras 2 such layers have the option time_major and no use for it, nor for zero_output_for_mask."""
    if recurrence.time_major:
        raise UnsupportedError("time_major=True")
    if mask and scope.tensor(mask).rank != 2:
        raise UnsupportedError(f"a mask {scope.tensor(mask).shape}, as Masking makes of images: it says which places of a step "
                               "are left out, expected (batch, time)")
    arrays = [scope.constant(name, array) for name, array in zip("WRB", cell.arrays)]
    x, *given = (_moved_channels(scope, name, cell, at, -1)
                 for name, at in ((x, 2), *((scope.floats(state).name, 1) for state in states)))
    zeros = recurrence.zero_output_for_mask and scope.keras_major >= 3
    y, *last = scope.add_several(
        cell.op, (x, *arrays, *given, *[""] * (2 - len(given)), mask), 1 + STATES[cell.op] * recurrence.return_state, EXTENSION,
        direction="reverse" if recurrence.go_backwards else "forward", masked_output="zero" if zeros else "carry",
        **activation_attributes(cell.activations), **cell.attributes)
    return _moved_channels(scope, y, cell, -1, 2), [_moved_channels(scope, state, cell, -1, 1) for state in last]


def _moved_channels(scope: Scope, x: str, cell: Cell, source: int, target: int) -> str:
    """Where the layer's images have their channels first, `x` with the axis `source` as its axis `target`."""
    if not cell.channels_first:
        return x
    order = list(range(scope.tensor(x).rank))
    order.insert(target % len(order), order.pop(source))
    return scope.add("Transpose", x, perm=tuple(order))
