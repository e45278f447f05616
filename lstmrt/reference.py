"""What every operator of operators.py means, in readable NumPy float64: the oracle of the tests.

Whatever is a float (float16, float32, float64) is computed and handed on as float64; integers and bools stay what
they are. Formulas are those of the ONNX specification at opset 20 and of the extensions in operators.py.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from .activations import Activation, elementwise_activation, recurrent_activations
from .errors import InputError, UnsupportedError
from .gates import ONNX, PEEPHOLES, gate_rows
from .graph import Graph, Node
from .operators import attributes, find, is_conv_lstm, is_recurrent, named_inputs
from .reference_axes import AXES
from .reference_control import run_control
from .reference_layers import LAYERS, convolution_of_frames, dynamic_product
from .shapes import DTYPES, Mismatch, check_fill, slice_of

_erf = np.vectorize(math.erf, otypes=[np.float64])


def _softplus(x: np.ndarray) -> np.ndarray:
    return np.logaddexp(0, x)


def _elu(x: np.ndarray, alpha: float) -> np.ndarray:
    return np.where(x >= 0, x, alpha * np.expm1(np.minimum(x, 0)))


# function of activations.py -> its formula of (x, alpha, beta)
FORMULAS: Mapping[str, Callable] = {
    "Identity": lambda x, a, b: x,
    "Sigmoid": lambda x, a, b: np.exp(-np.logaddexp(0, -x)),
    "Tanh": lambda x, a, b: np.tanh(x),
    "Relu": lambda x, a, b: np.maximum(x, 0),
    "Affine": lambda x, a, b: a * x + b,
    "LeakyRelu": lambda x, a, b: np.where(x >= 0, x, a * x),
    "ThresholdedRelu": lambda x, a, b: np.where(x > a, x, 0),
    "ScaledTanh": lambda x, a, b: a * np.tanh(b * x),
    "HardSigmoid": lambda x, a, b: np.clip(a * x + b, 0, 1),
    "Elu": lambda x, a, b: _elu(x, a),
    "Selu": lambda x, a, b: b * _elu(x, a),
    "Softsign": lambda x, a, b: x / (1 + np.abs(x)),
    "Softplus": lambda x, a, b: _softplus(x),
    "Exp": lambda x, a, b: np.exp(x),
    "Swish": lambda x, a, b: x * np.exp(-np.logaddexp(0, -x)),
    "Gelu": lambda x, a, b: x / 2 * (1 + _erf(x / math.sqrt(2))),
    "GeluTanh": lambda x, a, b: x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "Sqrt": lambda x, a, b: np.sqrt(x),
    "Log": lambda x, a, b: np.log(x),
    "Erf": lambda x, a, b: _erf(x),
    "Mish": lambda x, a, b: x * np.tanh(_softplus(x)),
    "Clip": lambda x, a, b: np.minimum(b, np.maximum(a, x)),
}


def run(graph: Graph, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The graph's outputs by name, floats as float64.

    Raises InputError where an input is missing or unknown, UnsupportedError for foreign operators.
    """
    names = {value.name for value in graph.inputs}
    if names != set(inputs):
        raise InputError(f"expected the inputs {sorted(names)}, got {sorted(inputs)}")
    values = {name: as_float64(np.asarray(array)) for name, array in {**graph.constants, **inputs}.items()}
    run_nodes(graph.nodes, values)
    return {value.name: values[value.name] for value in graph.outputs}


def run_nodes(nodes: Iterable[Node], values: dict[str, np.ndarray]) -> None:
    """Adds to `values`, floats as float64, what the nodes make."""
    for node in nodes:
        if node.subgraphs:
            made = run_control(node, values, run_nodes)
        else:
            made = run_node(node, [values[name] if name else None for name in node.inputs])
        values.update((name, array) for name, array in zip(node.outputs, made) if name)


def as_float64(array: np.ndarray) -> np.ndarray:
    """`array`, in float64 if it is of another floating type."""
    return array.astype(np.float64) if array.dtype.kind == "f" else array


def run_node(node: Node, inputs: list[np.ndarray | None]) -> list[np.ndarray]:
    """The outputs of one node; `inputs` in the node's order, floats as float64, None where one is left out."""
    return function(node)(*inputs)


def function(node: Node) -> Callable[..., list[np.ndarray]]:
    """What run_node does to the node's inputs, for nodes that run more than once."""
    if find(node) is None:
        raise UnsupportedError(f"{node}: no reference for this operator")
    if is_recurrent(node):
        return lambda *inputs: run_recurrent(node, list(inputs))
    if is_conv_lstm(node):
        return lambda *inputs: _run_conv_lstm(node, list(inputs))
    if node.op in _OPERATORS:
        return functools.partial(_run_operator, _OPERATORS[node.op], attributes(node))
    if node.op == "Dropout":
        return functools.partial(_dropout, node)
    if node.op == "Clip":
        return lambda *inputs: [_clip(*inputs)]
    activation = elementwise_activation(node, {})
    return lambda x: [activate(activation, x)]


def _run_operator(operator: Callable, options: Mapping, *inputs: np.ndarray | None) -> list[np.ndarray]:
    try:
        made = operator(*inputs, **options)
    except Mismatch as mismatch:
        raise ValueError("; ".join(mismatch.args)) from None
    return list(made) if isinstance(made, tuple) else [made]


def _dropout(node: Node, data: np.ndarray, ratio=None, training_mode=None) -> list[np.ndarray]:
    if training_mode:
        raise UnsupportedError(f"{node}: training_mode is set; only inference is supported")
    return [data, np.ones(data.shape, bool)]


def _clip(x: np.ndarray, low=None, high=None) -> np.ndarray:
    return FORMULAS["Clip"](x, -np.inf if low is None else low, np.inf if high is None else high)


def activate(activation: Activation, x: np.ndarray) -> np.ndarray:
    return FORMULAS[activation.function](x, activation.alpha, activation.beta)


# ---- recurrent operators ----


def run_recurrent(node: Node, inputs: list[np.ndarray | None]) -> list[np.ndarray]:
    """Y, Y_h and, of an LSTM, Y_c, in the node's layout."""
    given = dict(zip(named_inputs(node), [*inputs, *[None] * len(named_inputs(node))]))
    batch_first = attributes(node)["layout"] == 1
    if batch_first:
        for name in ("X", "initial_h", "initial_c", "mask"):
            if given.get(name) is not None:
                given[name] = given[name].swapaxes(0, 1)
    backwards = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}
    directions = [
        _run_direction(node, {name: _of_direction(name, array, d) for name, array in given.items()}, functions, reverse)
        for d, (functions, reverse) in enumerate(
            zip(recurrent_activations(node), backwards[attributes(node)["direction"]]))
    ]
    y, *states = (np.stack(outputs, axis) for outputs, axis in zip(zip(*directions), (1, 0, 0)))
    if batch_first:
        return [y.transpose(2, 0, 1, 3), *(state.swapaxes(0, 1) for state in states)]
    return [y, *states]


def _of_direction(name: str, array: np.ndarray | None, d: int) -> np.ndarray | None:
    return array if array is None or name in ("X", "sequence_lens", "mask") else array[d]


def _run_direction(node: Node, given: Mapping[str, np.ndarray | None], functions: tuple[Activation, ...],
                   reverse: bool) -> tuple[np.ndarray, ...]:
    """One direction, time-major: Y (time, batch, hidden), then the final states (batch, hidden).

    A row takes part in a step before its length where its mask, if any, is set; otherwise its states stay.
    """
    options = attributes(node)
    hidden, gates = options["hidden_size"], len(ONNX[node.op])
    time, batch = given["X"].shape[:2]
    lengths = np.full(batch, time) if given["sequence_lens"] is None else given["sequence_lens"]
    input_bias, recurrent_bias = np.zeros((2, gates * hidden)) if given["B"] is None else np.split(given["B"], 2)
    x = _input_part(given, lengths) + input_bias
    mask = np.ones((time, batch), bool) if given.get("mask") is None else given["mask"]
    states = [np.zeros((batch, hidden)) if given.get(name) is None else given[name]
              for name in (("initial_h", "initial_c") if node.op == "LSTM" else ("initial_h",))]
    y = np.zeros((time, batch, hidden))
    carried = np.zeros((batch, hidden))
    for t in reversed(range(time)) if reverse else range(time):
        new = _CELLS[node.op](x[t], states, given, recurrent_bias, functions, options)
        inside = (t < lengths)[:, None]
        valid = inside & mask[t][:, None]
        states = [np.where(valid, after, before) for after, before in zip(new, states)]
        repeated = carried if options.get("masked_output", "carry") == "carry" else np.zeros_like(carried)
        y[t] = np.where(inside, np.where(valid, states[0], repeated), 0)
        carried = np.where(valid, states[0], carried)
    started = (lengths > 0)[:, None]  # onnxruntime: a row of length 0 ends with 0, not with its initial state
    return y, *(np.where(started, state, 0) for state in states)


def _input_part(given: Mapping[str, np.ndarray | None], lengths: np.ndarray) -> np.ndarray:
    """X W, (time, batch, gates * hidden); where W is bytes, 0 past a sequence's length."""
    x, w = given["X"], given["W"]
    if w is None:
        return x
    if given.get("W_scale") is None:
        return x @ w.T
    part = np.zeros((*x.shape[:2], len(w)))
    for b, length in enumerate(lengths):
        part[:length, b] = dynamic_product(x[:length, b], w, given["W_scale"], given["W_zero_point"])
    return part


def _recurrent_part(h: np.ndarray, given: Mapping[str, np.ndarray | None]) -> np.ndarray:
    if given.get("R_scale") is None:
        return h @ given["R"].T
    return np.stack([dynamic_product(row, given["R"], given["R_scale"], given["R_zero_point"]) for row in h])


def _clipped(x: np.ndarray, clip: float | None) -> np.ndarray:
    return np.clip(x, -clip, clip) if clip else x


def _lstm(x, states, given, recurrent_bias, functions, options):
    h, c = states
    f, g, h_function = functions
    hidden = options["hidden_size"]
    total = x + _recurrent_part(h, given) + recurrent_bias

    def gate(name: str, cell: np.ndarray | None, function: Activation) -> np.ndarray:
        part = total[:, gate_rows(ONNX["LSTM"], name, hidden)]
        if cell is not None and given["P"] is not None:
            part = part + given["P"][gate_rows(PEEPHOLES, name, hidden)] * cell
        return activate(function, _clipped(part, options["clip"]))

    i = gate("i", c, f)
    forget = 1 - i if options["input_forget"] else gate("f", c, f)
    c = forget * c + i * gate("c", None, g)
    return gate("o", c, f) * activate(h_function, c), c


def _gru(x, states, given, recurrent_bias, functions, options):
    h, = states
    f, g = functions
    z, r, candidate = (gate_rows(ONNX["GRU"], name, options["hidden_size"]) for name in "zrh")

    def recurrent(rows: slice, state: np.ndarray) -> np.ndarray:
        return state @ given["R"][rows].T + recurrent_bias[rows]

    update = activate(f, _clipped(x[:, z] + recurrent(z, h), options["clip"]))
    reset = activate(f, _clipped(x[:, r] + recurrent(r, h), options["clip"]))
    if options["linear_before_reset"]:
        inner = reset * recurrent(candidate, h)
    else:
        inner = recurrent(candidate, reset * h)
    new = activate(g, _clipped(x[:, candidate] + inner, options["clip"]))
    return ((1 - update) * new + update * h,)


def _rnn(x, states, given, recurrent_bias, functions, options):
    total = x + states[0] @ given["R"].T + recurrent_bias
    return (activate(functions[0], _clipped(total, options["clip"])),)


def _run_conv_lstm(node: Node, inputs: list[np.ndarray | None]) -> list[np.ndarray]:
    """Y (batch, time, *counts, filters), Y_h and Y_c (batch, *counts, filters)."""
    given = dict(zip(named_inputs(node), [*inputs, *[None] * len(named_inputs(node))]))
    options, (functions,) = attributes(node), recurrent_activations(node)
    x, w, r, mask = given["X"], given["W"], given["R"], given["mask"]
    batch, time = x.shape[:2]
    mask = np.ones((batch, time), bool) if mask is None else mask
    bias = 0 if given["B"] is None else given["B"]
    where = {name: options[name] for name in ("auto_pad", "dilations", "pads", "strides")}
    parts = convolution_of_frames(x.reshape(-1, *x.shape[2:]), w, **where) + bias
    parts = parts.reshape(batch, time, *parts.shape[1:])
    states = (batch, *parts.shape[2:-1], r.shape[-1])
    h, c = (np.zeros(states) if given[name] is None else given[name] for name in ("initial_h", "initial_c"))
    y, carried = np.zeros((batch, time, *states[1:])), np.zeros(states)
    for t in reversed(range(time)) if options["direction"] == "reverse" else range(time):
        new_h, new_c = _conv_lstm_cell(parts[:, t] + convolution_of_frames(h, r, auto_pad="SAME_UPPER"), c, functions)
        valid = mask[:, t].reshape(-1, *[1] * (len(states) - 1))
        h, c = np.where(valid, new_h, h), np.where(valid, new_c, c)
        carried = np.where(valid, h, carried)
        y[:, t] = carried if options["masked_output"] == "carry" else np.where(valid, h, 0)
    return [y, h, c]


def _conv_lstm_cell(total: np.ndarray, c: np.ndarray, functions: tuple[Activation, ...]) -> tuple[np.ndarray, np.ndarray]:
    gates = dict(zip(ONNX["LSTM"], np.split(total, 4, -1)))
    f, g, h_function = functions
    c = activate(f, gates["f"]) * c + activate(f, gates["i"]) * activate(g, gates["c"])
    return activate(f, gates["o"]) * activate(h_function, c), c


_CELLS = {"LSTM": _lstm, "GRU": _gru, "RNN": _rnn}


# ---- the others: (inputs, attributes) -> the one output ----


def _gemm(a, b, c=None, *, alpha, beta, transA, transB):
    product = alpha * ((a.T if transA else a) @ (b.T if transB else b))
    return product if c is None else product + beta * c


def _divide(a, b):
    if a.dtype.kind == "f":
        return a / b
    quotient = np.abs(a) // np.abs(b)  # ONNX truncates towards zero, NumPy floors
    return (np.sign(a) * np.sign(b) * quotient).astype(a.dtype)


def _softmax(x, *, axis):
    powers = np.exp(x - x.max(axis, keepdims=True, initial=-np.inf))
    return powers / powers.sum(axis, keepdims=True)


def _cast(x, *, to, saturate):
    return _as_dtype(x, DTYPES[to])


def _as_dtype(x, dtype):
    if dtype == "float16":
        return x.astype(np.float16).astype(np.float64)
    return x.astype("float64" if dtype.startswith("float") else dtype)


def _slice(data, starts, ends, axes=None, steps=None):
    axes = range(len(starts)) if axes is None else axes
    steps = np.ones_like(starts) if steps is None else steps
    index = [slice(None)] * data.ndim
    for axis, *bounds in zip(axes, starts, ends, steps):
        index[axis] = slice_of(*map(int, bounds))
    return data[tuple(index)]


def _unsqueeze(data, axes):
    return np.expand_dims(data, tuple(int(axis) for axis in axes))


def _squeeze(data, axes=None):
    return np.squeeze(data, None if axes is None else tuple(int(axis) for axis in axes))


def _reshape(data, shape, *, allowzero):
    if not allowzero:
        shape = [data.shape[i] if size == 0 else size for i, size in enumerate(shape)]
    return data.reshape([int(size) for size in shape])


def _expand(data, shape):
    shape = np.broadcast_shapes(data.shape, tuple(int(size) for size in shape))
    check_fill(shape)
    return np.broadcast_to(data, shape)


def _power(a, b):
    return np.power(a, b).astype(a.dtype) if a.dtype.kind == "f" or b.dtype.kind == "f" else _integer_power(a, b)


def _integer_power(a, b):
    """NumPy refuses negative exponents of integers; there the power is that of floats, cut off."""
    return np.where(b < 0, np.power(a.astype(np.float64), b), np.power(a, np.maximum(b, 0))).astype(a.dtype)


def _fold_all(combine):
    def run(*arrays):
        result = arrays[0]
        for array in arrays[1:]:
            result = combine(result, array)
        return result

    return run


def _log_softmax(x, *, axis):
    shifted = x - x.max(axis, keepdims=True, initial=-np.inf)
    return shifted - np.log(np.exp(shifted).sum(axis, keepdims=True))


def _hardmax(x, *, axis):
    hot = np.zeros_like(x)
    if x.size:
        np.put_along_axis(hot, np.expand_dims(x.argmax(axis), axis), 1, axis)
    return hot


def _is_inf(x, *, detect_negative, detect_positive):
    return (np.isposinf(x) & bool(detect_positive)) | (np.isneginf(x) & bool(detect_negative))


def _shift(x, by, *, direction):
    """By less than nothing or more than there is: all bits go, and the sign is left where it moves right."""
    wide = x.dtype.itemsize * 8
    inside, by = (by >= 0) & (by < wide), (by % wide).astype(x.dtype)
    if direction == "LEFT":
        return np.where(inside, np.left_shift(x, by), 0).astype(x.dtype)
    return np.where(inside, np.right_shift(x, by), np.where(x < 0, -1, 0)).astype(x.dtype)


def _shrink(x, *, lambd, bias):
    return np.where(x < -lambd, x + bias, np.where(x > lambd, x - bias, 0))


_OPERATORS = {
    **AXES,
    **LAYERS,
    "MatMul": np.matmul,
    "Gemm": _gemm,
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": _divide,
    "Equal": np.equal,
    "Mod": lambda a, b, *, fmod: np.fmod(a, b) if fmod else np.mod(a, b),
    "Pow": _power,
    "Max": _fold_all(np.maximum),
    "Min": _fold_all(np.minimum),
    "Sum": _fold_all(np.add),
    "Mean": lambda *arrays: _fold_all(np.add)(*arrays) / len(arrays),
    "Less": np.less,
    "LessOrEqual": np.less_equal,
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
    "And": np.logical_and,
    "Or": np.logical_or,
    "Xor": np.logical_xor,
    "Not": np.logical_not,
    "BitwiseAnd": np.bitwise_and,
    "BitwiseOr": np.bitwise_or,
    "BitwiseXor": np.bitwise_xor,
    "BitwiseNot": np.invert,
    "BitShift": _shift,
    "Where": np.where,
    "IsNaN": np.isnan,
    "IsInf": _is_inf,
    "Abs": np.abs,
    "Neg": np.negative,
    "Sign": np.sign,
    "Sqrt": np.sqrt,
    "Reciprocal": lambda x: 1 / x,
    "Log": np.log,
    "Erf": _erf,
    "Floor": np.floor,
    "Ceil": np.ceil,
    "Round": np.rint,
    "Sin": np.sin,
    "Cos": np.cos,
    "Tan": np.tan,
    "Asin": np.arcsin,
    "Acos": np.arccos,
    "Atan": np.arctan,
    "Sinh": np.sinh,
    "Cosh": np.cosh,
    "Asinh": np.arcsinh,
    "Acosh": np.arccosh,
    "Atanh": np.arctanh,
    "HardSwish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "Celu": lambda x, *, alpha: np.maximum(x, 0) + np.minimum(0, alpha * np.expm1(np.minimum(x, 0) / alpha)),
    "Shrink": _shrink,
    "PRelu": lambda x, slope: np.where(x < 0, x * slope, x),
    "LogSoftmax": _log_softmax,
    "Hardmax": _hardmax,
    "Gather": lambda data, indices, *, axis: np.take(data, indices, axis),
    "Softmax": _softmax,
    "Concat": lambda *arrays, axis: np.concatenate(arrays, axis),
    "Cast": _cast,
    "CastLike": lambda x, like, *, saturate: _as_dtype(x, like.dtype.name),
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Reshape": _reshape,
    "Transpose": lambda data, *, perm: data.transpose(perm),
    "Expand": _expand,
    "Shape": lambda data, *, start, end: np.array(data.shape[start:end], np.int64),
}
