"""Functions that are called between layers: keras.ops of Keras 3, TensorFlow's own up to Keras 2.

Each takes the scope and the arguments of keras.ops; where Keras 3 keeps one in its configuration, by the name there.
A tensor or a number may stand for any operand. No mask goes on.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ...errors import ModelFileError, UnsupportedError
from . import functions as functions
from .activations import named_activation
from .builder import Scope, Tensor
from .json import shown

SMALLEST, LARGEST = np.iinfo(np.int64).min, np.iinfo(np.int64).max
DTYPES = {"float16": "float32", "bfloat16": "float32", "float64": "float32", "int8": "int64", "uint8": "int64",
          "int16": "int64", "uint16": "int64", "int32": "int64", "uint32": "int64", "uint64": "int64"}


# ---- operands ----


def _tensor(scope: Scope, value: Any, dtype: str = "float32") -> Tensor:
    """A tensor as it is; numbers as a constant."""
    if isinstance(value, Tensor):
        return value
    try:
        array = np.array(value)
    except ValueError as error:
        raise ModelFileError(f"a constant: {error}") from None
    if array.dtype.kind not in "fiub":
        raise UnsupportedError(f"called on {shown(value)}")
    return scope.tensor(scope.constant("constant", array.astype("bool" if array.dtype == bool else dtype)))


def _operands(scope: Scope, *values: Any, floats: bool = False) -> list[str]:
    """All in one dtype: that of the tensors, or float32 where one of them or of the numbers is a float."""
    tensors = [value for value in values if isinstance(value, Tensor)]
    others = [np.asarray(value) for value in values if not isinstance(value, Tensor)]
    exact = {x.dtype for x in tensors} <= {"int64", "bool"} and all(array.dtype.kind in "iub" for array in others)
    dtype = "int64" if exact and not floats else "float32"
    if exact and not floats and all(x.dtype == "bool" for x in tensors) and all(a.dtype == bool for a in others):
        dtype = "bool"
    return [scope.cast(_tensor(scope, value, dtype).name, dtype) for value in values]


def _axes(axis: Any) -> list[int]:
    axes = [axis] if isinstance(axis, int) else axis
    if not isinstance(axes, list) or not all(type(one) is int for one in axes):
        raise UnsupportedError(f"axis={shown(axis)}")
    return axes


def _ints(name: str, value: Any) -> list[int]:
    values = value.tolist() if isinstance(value, np.ndarray) else value
    if not isinstance(values, list) or not all(type(one) is int for one in values):
        raise UnsupportedError(f"{name}={shown(value)}")
    return values


# ---- one and two operands ----


def _unary(op: str) -> Callable:
    return lambda scope, x: scope.tensor(scope.add(op, _operands(scope, x, floats=True)[0]))


def _exact(op: str) -> Callable:
    return lambda scope, x: scope.tensor(scope.add(op, *_operands(scope, x)))


def _binary(op: str, floats: bool = False) -> Callable:
    return lambda scope, x1, x2: scope.tensor(scope.add(op, *_operands(scope, x1, x2, floats=floats)))


def _not_equal(scope: Scope, x1: Any, x2: Any) -> Tensor:
    return scope.tensor(scope.add("Not", scope.add("Equal", *_operands(scope, x1, x2))))


def _logical(op: str) -> Callable:
    return lambda scope, x1, x2: scope.tensor(
        scope.add(op, *(scope.cast(_tensor(scope, x).name, "bool") for x in (x1, x2))))


def _logical_not(scope: Scope, x: Any) -> Tensor:
    return scope.tensor(scope.add("Not", scope.cast(_tensor(scope, x).name, "bool")))


def _square(scope: Scope, x: Any) -> Tensor:
    (name,) = _operands(scope, x)
    return scope.tensor(scope.add("Mul", name, name))


def _rsqrt(scope: Scope, x: Any) -> Tensor:
    return scope.tensor(scope.add("Reciprocal", scope.add("Sqrt", *_operands(scope, x, floats=True))))


def _floor_divide(scope: Scope, x1: Any, x2: Any) -> Tensor:
    return scope.tensor(scope.add("Floor", scope.add("Div", *_operands(scope, x1, x2, floats=True))))


def _activation(name: str) -> Callable:
    return lambda scope, x: scope.tensor(scope.activate(*_operands(scope, x, floats=True), named_activation(name, 3)))


def _function(function: Callable) -> Callable:
    """One of keras_functions, with its options and their types."""
    def call(scope: Scope, x: Any, *args: Any, **options: Any) -> Tensor:
        return scope.tensor(function(scope, *_operands(scope, x, floats=True), *args, **options))

    call.__signature__ = inspect.signature(function)
    call.__annotations__ = {name: hint for name, hint in function.__annotations__.items() if name not in ("scope", "x", "return")}
    return call


def _leaky_relu(scope: Scope, x: Any, negative_slope: float = 0.2) -> Tensor:
    return scope.tensor(scope.add("LeakyRelu", *_operands(scope, x, floats=True), alpha=float(negative_slope)))


def _gelu(scope: Scope, x: Any, approximate: bool = True) -> Tensor:
    how = "tanh" if approximate else "none"
    return scope.tensor(scope.add("Gelu", *_operands(scope, x, floats=True), approximate=how))


def _elu(scope: Scope, x: Any, alpha: float = 1.0) -> Tensor:
    return scope.tensor(scope.add("Elu", *_operands(scope, x, floats=True), alpha=float(alpha)))


def _celu(scope: Scope, x: Any, alpha: float = 1.0) -> Tensor:
    return scope.tensor(scope.add("Celu", *_operands(scope, x, floats=True), alpha=float(alpha)))


def _clip(scope: Scope, x: Any, x_min: Any, x_max: Any) -> Tensor:
    value, least, most = _operands(scope, x, x_min, x_max)
    return scope.tensor(scope.add("Clip", value, least, most))


def _cast(scope: Scope, x: Any, dtype: str) -> Tensor:
    wanted = DTYPES.get(dtype, dtype)
    if wanted not in ("float32", "int64", "bool"):
        raise UnsupportedError(f"dtype={shown(dtype)}")
    return scope.tensor(scope.cast(_tensor(scope, x).name, wanted))


def _where(scope: Scope, condition: Any, x1: Any, x2: Any) -> Tensor:
    return scope.tensor(scope.add("Where", scope.cast(_tensor(scope, condition).name, "bool"), *_operands(scope, x1, x2)))


def _filled(value: int) -> Callable:
    def fill(scope: Scope, x: Any, dtype: str | None = None) -> Tensor:
        x = _tensor(scope, x)
        wanted = DTYPES.get(dtype, dtype) if dtype else x.dtype
        shape = scope.add("Shape", x.name)
        return scope.tensor(scope.add("Expand", scope.constant("fill", np.array(value, wanted)), shape))

    return fill


def _identity(scope: Scope, x: Any, dtype: Any = None, sparse: Any = None) -> Tensor:
    return _tensor(scope, x)


def _matmul(scope: Scope, x1: Any, x2: Any) -> Tensor:
    return scope.tensor(scope.add("MatMul", *_operands(scope, x1, x2, floats=True)))


def _einsum(scope: Scope, *operands: Any, subscripts: str) -> Tensor:
    return scope.tensor(scope.add("Einsum", *_operands(scope, *operands, floats=True), equation=subscripts))


# ---- along axes ----


def _reduction(op: str, floats: bool = False) -> Callable:
    def reduce_(scope: Scope, x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
        axes = [] if axis is None else [scope.ints("axes", _axes(axis))]
        return scope.tensor(scope.add(op, *_operands(scope, x, floats=floats), *axes, keepdims=int(keepdims)))

    return reduce_


def _quantifier(op: str) -> Callable:
    def quantify(scope: Scope, x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
        number = scope.cast(scope.cast(_tensor(scope, x).name, "bool"), "float32")
        axes = [] if axis is None else [scope.ints("axes", _axes(axis))]
        return scope.tensor(scope.cast(scope.add(op, number, *axes, keepdims=int(keepdims)), "bool"))

    return quantify


def _arg(op: str) -> Callable:
    return lambda scope, x, axis=-1, keepdims=False: scope.tensor(
        scope.add(op, *_operands(scope, x), axis=_axes(axis)[0], keepdims=int(keepdims)))


def _norm(scope: Scope, x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Of vectors along one axis, or of matrices or all elements the root of the sum of squares."""
    x = scope.tensor(*_operands(scope, x, floats=True))
    axes = list(range(x.rank)) if axis is None else _axes(axis)
    where, options = scope.ints("axes", axes), {"keepdims": int(keepdims)}
    if ord in (None, "fro", "euclidean") or (ord == 2 and len(axes) == 1):
        return scope.tensor(scope.add("ReduceL2", x.name, where, **options))
    if len(axes) > 1 or not isinstance(ord, (int, float)) or ord == 0:
        raise UnsupportedError(f"ord={shown(ord)} of {len(axes)} axes")
    size = scope.add("Abs", x.name)
    if abs(ord) == np.inf:
        return scope.tensor(scope.add("ReduceMax" if ord > 0 else "ReduceMin", size, where, **options))
    total = scope.add("ReduceSum", scope.add("Pow", size, scope.scalar(float(ord))), where, **options)
    return scope.tensor(scope.add("Pow", total, scope.scalar(1 / ord)))


def _normalize(scope: Scope, x: Any, axis: Any = -1, order: int = 2, epsilon: float | None = None) -> Tensor:
    """x by its norm, or by epsilon where that is larger."""
    norm = _norm(scope, x, order, axis, keepdims=True).name
    least = scope.add("Max", norm, scope.scalar(1e-7 if epsilon is None else float(epsilon)))
    return scope.tensor(scope.add("Div", *_operands(scope, x, floats=True), least))


def _pad(scope: Scope, x: Tensor, pad_width: Any, mode: str = "constant", constant_values: Any = None) -> Tensor:
    """`pad_width` is (before, after) for each axis."""
    widths = pad_width.tolist() if isinstance(pad_width, np.ndarray) else pad_width
    if mode not in ("constant", "reflect") or not isinstance(widths, list) or len(widths) != x.rank:
        raise UnsupportedError(f"mode={shown(mode)}, pad_width={shown(pad_width)} of {x.rank} axes")
    pairs = [_ints("pad_width", pair) for pair in widths]
    if any(len(pair) != 2 or min(pair) < 0 for pair in pairs):
        raise UnsupportedError(f"pad_width={shown(pad_width)}")
    filling = _tensor(scope, 0 if constant_values is None else constant_values, x.dtype)
    value = [scope.cast(filling.name, x.dtype)] * (mode == "constant")
    pads = scope.ints("pads", [size for sizes in zip(*pairs) for size in sizes])
    return scope.tensor(scope.add("Pad", x.name, pads, *value, mode=mode))


def _cumsum(scope: Scope, x: Any, axis: int = 0) -> Tensor:
    return scope.tensor(scope.add("CumSum", *_operands(scope, x), scope.constant("axis", np.array(axis, np.int64))))


def _concatenate(scope: Scope, xs: list, axis: int = 0) -> Tensor:
    names = _operands(scope, *xs)
    known = [scope.tensor(name) for name in names]
    if len({x.rank for x in known}) == 1:
        scope.same_shape(*known, but=axis)
    return scope.tensor(scope.add("Concat", *names, axis=axis))


def _stack(scope: Scope, x: list, axis: int = 0) -> Tensor:
    return scope.tensor(scope.add("Concat", *(scope.unsqueeze(name, axis) for name in _operands(scope, *x)), axis=axis))


def _split(scope: Scope, x: Tensor, indices_or_sections: Any, axis: int = 0) -> list[Tensor]:
    size = x.size(axis)
    if isinstance(indices_or_sections, int):
        if indices_or_sections < 1 or size % indices_or_sections:
            raise ModelFileError(f"{size} does not divide into {indices_or_sections}")
        bounds = list(range(0, size + 1, size // indices_or_sections))
    else:
        bounds = [0, *_ints("indices", indices_or_sections), size]
    return [scope.tensor(scope.slice(x.name, axis, start, end)) for start, end in zip(bounds, bounds[1:])]


def _take(scope: Scope, x: Any, indices: Any, axis: int | None = None) -> Tensor:
    if axis is None:
        raise UnsupportedError("axis=None")
    return scope.tensor(scope.add("Gather", _tensor(scope, x).name, _tensor(scope, indices, "int64").name, axis=axis))


def _flip(scope: Scope, x: Tensor, axis: Any = None) -> Tensor:
    name = x.name
    for one in range(x.rank) if axis is None else _axes(axis):
        name = scope.slice(name, one, -1, SMALLEST, -1)
    return scope.tensor(name)


def _one_hot(scope: Scope, x: Tensor, num_classes: int, axis: int = -1, dtype: Any = None, sparse: Any = None) -> Tensor:
    depth, off_on = np.array(num_classes, np.int64), np.array([0, 1], np.float32)
    return scope.tensor(scope.add("OneHot", scope.cast(x.name, "int64"), scope.constant("depth", depth),
                                  scope.constant("off_on", off_on), axis=axis))


# ---- shapes ----


def _reshape(scope: Scope, x: Tensor, newshape: Any) -> Tensor:
    sizes = newshape if isinstance(newshape, list) else [newshape]
    if all(size is None or type(size) is int for size in sizes):
        sizes = _ints("newshape", [-1 if size is None else size for size in sizes])
        return scope.tensor(scope.add("Reshape", x.name, scope.ints("newshape", sizes)))
    parts = [scope.cast(scope.add("Reshape", size.name, scope.ints("one", [1])), "int64") if isinstance(size, Tensor)
             else scope.ints("size", _ints("newshape", [size])) for size in sizes]
    return scope.tensor(scope.add("Reshape", x.name, scope.add("Concat", *parts, axis=0)))


def _transpose(scope: Scope, x: Tensor, axes: Any = None) -> Tensor:
    order = list(range(x.rank))[::-1] if axes is None else [axis % x.rank for axis in _ints("axes", axes)]
    return scope.tensor(scope.add("Transpose", x.name, perm=tuple(order)))


def _swapaxes(scope: Scope, x: Tensor, axis1: int, axis2: int) -> Tensor:
    order = list(range(x.rank))
    order[axis1], order[axis2] = order[axis2], order[axis1]
    return scope.tensor(scope.add("Transpose", x.name, perm=tuple(order)))


def _moveaxis(scope: Scope, x: Tensor, source: Any, destination: Any) -> Tensor:
    taken = [axis % x.rank for axis in _axes(source)]
    order = [axis for axis in range(x.rank) if axis not in taken]
    for place, axis in sorted(zip([axis % x.rank for axis in _axes(destination)], taken)):
        order.insert(place, axis)
    return scope.tensor(scope.add("Transpose", x.name, perm=tuple(order)))


def _expand_dims(scope: Scope, x: Any, axis: Any) -> Tensor:
    return scope.tensor(scope.add("Unsqueeze", _tensor(scope, x).name, scope.ints("axes", _axes(axis))))


def _squeeze(scope: Scope, x: Any, axis: Any = None) -> Tensor:
    axes = [] if axis is None or axis == [] else [scope.ints("axes", _axes(axis))]
    return scope.tensor(scope.add("Squeeze", _tensor(scope, x).name, *axes))


def _tile(scope: Scope, x: Tensor, repeats: Any) -> Tensor:
    counts = [repeats] if isinstance(repeats, int) else _ints("repeats", repeats)
    return scope.tensor(scope.add("Tile", x.name, scope.ints("repeats", [1] * (x.rank - len(counts)) + counts)))


def _repeat(scope: Scope, x: Tensor, repeats: int, axis: int | None = None) -> Tensor:
    if axis is None or type(repeats) is not int:
        raise UnsupportedError(f"repeats={shown(repeats)}, axis={axis}")
    axis %= x.rank
    name = scope.add("Tile", scope.unsqueeze(x.name, axis + 1),
                     scope.ints("repeats", [repeats if i == axis + 1 else 1 for i in range(x.rank + 1)]))
    size = x.shape[axis] * repeats if isinstance(x.shape[axis], int) else -1
    return scope.tensor(scope.reshape(name, [*x.shape[:axis], size, *x.shape[axis + 1:]], x))


def _broadcast_to(scope: Scope, x: Any, shape: Any) -> Tensor:
    sizes = _ints("shape", [1 if size is None else size for size in shape])
    return scope.tensor(scope.add("Expand", _tensor(scope, x).name, scope.ints("shape", sizes)))


def _get_item(scope: Scope, x: Tensor, key: Any) -> Tensor:
    """x[key], of whole numbers, slices, new axes and an ellipsis."""
    keys = list(key) if isinstance(key, list) else [key]
    count = sum(not (one is None or one is Ellipsis) for one in keys)
    if Ellipsis in keys:
        at = next(i for i, one in enumerate(keys) if one is Ellipsis)
        keys[at:at + 1] = [slice(None)] * (x.rank - count)
    name, axis = x.name, 0
    for one in keys:
        if one is None:
            name = scope.unsqueeze(name, axis)
        elif isinstance(one, slice):
            name = _sliced(scope, name, axis, one)
        elif type(one) is int:
            name = scope.add("Gather", name, scope.constant("index", np.array(one, np.int64)), axis=axis)
            axis -= 1
        else:
            raise UnsupportedError(f"called with the index {shown(one)}")
        axis += 1
    return scope.tensor(name)


def _sliced(scope: Scope, x: str, axis: int, key: slice) -> str:
    step = 1 if key.step is None else key.step
    start = (0 if step > 0 else -1) if key.start is None else key.start
    stop = (LARGEST if step > 0 else SMALLEST) if key.stop is None else key.stop
    if not all(type(one) is int for one in (start, stop, step)) or step == 0:
        raise UnsupportedError(f"called with the index {key}")
    if (start, stop, step) == (0, LARGEST, 1):
        return x
    return scope.slice(x, axis, start, stop, step)


OPERATORS: Mapping[str, Callable] = {
    **{name: _binary(op) for name, op in (
        ("Add", "Add"), ("Subtract", "Sub"), ("Multiply", "Mul"), ("Maximum", "Max"), ("Minimum", "Min"),
        ("Equal", "Equal"), ("Greater", "Greater"), ("GreaterEqual", "GreaterOrEqual"), ("Less", "Less"),
        ("LessEqual", "LessOrEqual"), ("Power", "Pow"))},
    "Divide": _binary("Div", floats=True),
    "TrueDivide": _binary("Div", floats=True),
    "FloorDivide": _floor_divide,
    "NotEqual": _not_equal,
    **{name: _logical(op) for name, op in (("LogicalAnd", "And"), ("LogicalOr", "Or"), ("LogicalXor", "Xor"))},
    "LogicalNot": _logical_not,
    **{name: _unary(op) for name, op in (
        ("Tanh", "Tanh"), ("Sigmoid", "Sigmoid"), ("Exp", "Exp"), ("Log", "Log"), ("Sqrt", "Sqrt"), ("Sin", "Sin"),
        ("Cos", "Cos"), ("Tan", "Tan"), ("Sinh", "Sinh"), ("Cosh", "Cosh"), ("Erf", "Erf"), ("Floor", "Floor"),
        ("Ceil", "Ceil"), ("Round", "Round"), ("Reciprocal", "Reciprocal"))},
    **{name: _exact(op) for name, op in (
        ("Negative", "Neg"), ("Absolute", "Abs"), ("Abs", "Abs"), ("Sign", "Sign"))},
    **{name: _activation(function) for name, function in (
        ("Relu", "relu"), ("Relu6", "relu6"), ("Softplus", "softplus"), ("Softsign", "softsign"), ("Silu", "silu"),
        ("Selu", "selu"), ("Mish", "mish"), ("HardTanh", "hard_tanh"), ("HardSigmoid", "hard_sigmoid"),
        ("SparseSigmoid", "sparse_sigmoid"))},
    **{name: _function(function) for name, function in (
        ("Softmax", functions.softmax), ("LogSoftmax", functions.log_softmax), ("HardSilu", functions.hard_silu),
        ("Glu", functions.glu), ("LogSigmoid", functions.log_sigmoid), ("TanhShrink", functions.tanh_shrink),
        ("SoftShrink", functions.soft_shrink), ("HardShrink", functions.hard_shrink), ("Threshold", functions.threshold),
        ("Squareplus", functions.squareplus), ("SparsePlus", functions.sparse_plus), ("Sparsemax", functions.sparsemax))},
    "Gelu": _gelu,
    "Elu": _elu,
    "Celu": _celu,
    "LeakyRelu": _leaky_relu,
    "Square": _square,
    "Rsqrt": _rsqrt,
    "Clip": _clip,
    "Cast": _cast,
    "Where": _where,
    "ZerosLike": _filled(0),
    "OnesLike": _filled(1),
    "ConvertToTensor": _identity,
    "StopGradient": _identity,
    "Matmul": _matmul,
    "Einsum": _einsum,
    **{name: _reduction(op) for name, op in (
        ("Sum", "ReduceSum"), ("Max", "ReduceMax"), ("Min", "ReduceMin"), ("Prod", "ReduceProd"))},
    "Norm": _norm,
    "Normalize": _normalize,
    "Pad": _pad,
    "Mean": _reduction("ReduceMean", floats=True),
    "Any": _quantifier("ReduceMax"),
    "All": _quantifier("ReduceMin"),
    "Argmax": _arg("ArgMax"),
    "Argmin": _arg("ArgMin"),
    "Cumsum": _cumsum,
    "Concatenate": _concatenate,
    "Stack": _stack,
    "Split": _split,
    "Take": _take,
    "Flip": _flip,
    "OneHot": _one_hot,
    "Reshape": _reshape,
    "Transpose": _transpose,
    "Swapaxes": _swapaxes,
    "Moveaxis": _moveaxis,
    "ExpandDims": _expand_dims,
    "Squeeze": _squeeze,
    "Tile": _tile,
    "Repeat": _repeat,
    "BroadcastTo": _broadcast_to,
    "GetItem": _get_item,
}
