"""What each operator makes of its inputs' dtypes and shapes; the table in operators.py names these rules.

A rule is called with the input Tensors in order (None where one is left out) and the attributes, defaults filled in
(None where not given), and returns one Tensor for each output. A size may be an int, the name of a symbolic size or
None (unknown); a shape may be None. A rule that finds a fault raises Mismatch with one message for each fault.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from .gates import ONNX
from .graph import Dim

# ONNX's TensorProto.DataType -> NumPy's name; strings are arrays of Python's str, of dtype object
DTYPES = {1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 8: "object", 9: "bool",
          10: "float16", 11: "float64", 12: "uint32", 13: "uint64"}
FLOATS = ("float16", "float32", "float64")
INDICES = ("int32", "int64")
INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
NUMBERS = FLOATS + INTEGERS
Shape = "tuple[Dim, ...] | None"
LARGEST_FILL = 1 << 28  # elements that a constant's sizes alone may ask for
MOST_AXES = 64  # of an array, as NumPy has it


class Mismatch(Exception):
    """Inputs that do not fit an operator; `args` holds one message for each fault."""


class Tensor(NamedTuple):
    """What is known of a value: `value` where it is a constant, `sizes` where it is made from shapes (sizes.py)."""

    dtype: str
    shape: Shape
    value: np.ndarray | None = None
    sizes: tuple[Dim, ...] | None = None

    @classmethod
    def of(cls, array: np.ndarray) -> Tensor:
        """All of a constant."""
        return cls(_name(array.dtype), array.shape, array)


@functools.lru_cache(maxsize=64)
def _name(dtype: np.dtype) -> str:
    """NumPy makes the name anew each time."""
    return dtype.name


def check_fill(shape: Iterable[Dim]) -> None:
    """Refuses the shape of a tensor that is made from a few numbers, where it is absurd."""
    shape = tuple(shape)
    if math.prod(size for size in shape if isinstance(size, int)) > LARGEST_FILL:
        raise Mismatch(f"a result of shape {shape} has more than {LARGEST_FILL} elements")


def with_named_sizes(name: str, tensor: Tensor) -> Tensor:
    """A size that no rule knows gets a name of its own, so that it is told apart from others and followed further."""
    if tensor.shape is None or None not in tensor.shape:
        return tensor
    return tensor._replace(shape=tuple(f"{name}.{axis}" if size is None else size
                                       for axis, size in enumerate(tensor.shape)))


def same_size(a: Dim, b: Dim) -> bool:
    """Whether two sizes can be equal: only two different ints cannot."""
    return a == b or not (isinstance(a, int) and isinstance(b, int))


def same_shape(a: Shape, b: Shape) -> bool:
    """Whether two shapes can be equal."""
    return a is None or b is None or (len(a) == len(b) and all(map(same_size, a, b)))


def same(x: Tensor) -> list[Tensor]:
    return [Tensor(x.dtype, x.shape)]


def floats(x: Tensor, **_) -> list[Tensor]:
    """An elementwise function of floats."""
    require(x, FLOATS)
    return same(x)


def numbers(x: Tensor, **_) -> list[Tensor]:
    """An elementwise function of numbers of any kind."""
    require(x, NUMBERS)
    return same(x)


def integers_only(x: Tensor) -> list[Tensor]:
    require(x, INTEGERS)
    return same(x)


def predicate(x: Tensor, **_) -> list[Tensor]:
    """Whether each float is something."""
    require(x, FLOATS)
    return [Tensor("bool", x.shape)]


def softmax(x: Tensor, *, axis) -> list[Tensor]:
    if x.shape is not None:
        normal_axis(axis, len(x.shape))
    return floats(x)


def logical(x: Tensor) -> list[Tensor]:
    require(x, ("bool",))
    return same(x)


def clip(x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> list[Tensor]:
    require(x, NUMBERS)
    for bound in (low, high):
        if bound is not None and (bound.dtype != x.dtype or bound.shape not in ((), None)):
            raise Mismatch(f"a bound is {bound.dtype} of shape {bound.shape}, expected a scalar of {x.dtype}")
    return same(x)


def require(tensor: Tensor, dtypes: tuple[str, ...]) -> None:
    if tensor.dtype not in dtypes:
        raise Mismatch(f"an input is {tensor.dtype}, expected {' or '.join(dtypes)}")


def arithmetic(a: Tensor, b: Tensor) -> list[Tensor]:
    require(a, NUMBERS)
    return broadcast(a, b)


def same_dtype(a: Tensor, b: Tensor) -> None:
    if a.dtype != b.dtype:
        raise Mismatch(f"dtypes {a.dtype} and {b.dtype} differ")


def broadcast(a: Tensor, b: Tensor) -> list[Tensor]:
    same_dtype(a, b)
    return [Tensor(a.dtype, broadcast_shapes(a.shape, b.shape))]


def equal(a: Tensor, b: Tensor) -> list[Tensor]:
    return [Tensor("bool", shape.shape) for shape in broadcast(a, b)]


def compare(a: Tensor, b: Tensor) -> list[Tensor]:
    require(a, NUMBERS)
    return equal(a, b)


def logic(a: Tensor, b: Tensor) -> list[Tensor]:
    require(a, ("bool",))
    return broadcast(a, b)


def bitwise(a: Tensor, b: Tensor, **_) -> list[Tensor]:
    require(a, INTEGERS)
    return broadcast(a, b)


def mod(a: Tensor, b: Tensor, *, fmod) -> list[Tensor]:
    require(a, NUMBERS)
    if b.value is not None and a.dtype not in FLOATS and not b.value.all():
        raise Mismatch("a divisor is 0")
    return broadcast(a, b)


def power(a: Tensor, b: Tensor) -> list[Tensor]:
    """The result has the dtype of the base."""
    require(a, FLOATS + ("int32", "int64"))
    require(b, NUMBERS)
    return [Tensor(a.dtype, broadcast_shapes(a.shape, b.shape))]


def broadcast_all(*tensors: Tensor) -> list[Tensor]:
    require(tensors[0], NUMBERS)
    result = tensors[0]
    for tensor in tensors[1:]:
        (result,) = broadcast(result, tensor)
    return same(result)


def float_broadcast_all(*tensors: Tensor) -> list[Tensor]:
    require(tensors[0], FLOATS)
    return broadcast_all(*tensors)


def prelu(x: Tensor, slope: Tensor) -> list[Tensor]:
    require(x, NUMBERS)
    same_dtype(x, slope)
    if None not in (x.shape, slope.shape) and len(broadcast_shapes(x.shape, slope.shape)) > len(x.shape):
        raise Mismatch(f"a slope of shape {slope.shape} for shape {x.shape}")
    (made,) = broadcast(x, slope)
    if not same_shape(made.shape, x.shape):
        raise Mismatch(f"a slope of shape {slope.shape} for shape {x.shape}")
    return same(x)


def where(condition: Tensor, a: Tensor, b: Tensor) -> list[Tensor]:
    require(condition, ("bool",))
    (chosen,) = broadcast(a, b)
    return [Tensor(a.dtype, broadcast_shapes(condition.shape, chosen.shape))]


def cast_like(x: Tensor, target: Tensor, *, saturate) -> list[Tensor]:
    if "object" in (x.dtype, target.dtype):
        raise Mismatch("strings are not cast")
    return [Tensor(target.dtype, x.shape)]


def broadcast_shapes(a: Shape, b: Shape) -> Shape:
    if a is None or b is None:
        return None
    rank = max(len(a), len(b))
    pairs = zip((1,) * (rank - len(a)) + a, (1,) * (rank - len(b)) + b)
    return tuple(_broadcast_sizes(x, y, a, b) for x, y in pairs)


def _broadcast_sizes(x: Dim, y: Dim, a: Shape, b: Shape) -> Dim:
    if x == y or y == 1:
        return x
    if x == 1:
        return y
    if isinstance(x, int) and isinstance(y, int):
        raise Mismatch(f"shapes {a} and {b} do not broadcast")
    if isinstance(x, int) or isinstance(y, int):
        return x if isinstance(x, int) else y  # the other one can only be this or 1
    return None


def matmul(a: Tensor, b: Tensor) -> list[Tensor]:
    require(a, NUMBERS)
    same_dtype(a, b)
    if a.shape is None or b.shape is None:
        return [Tensor(a.dtype, None)]
    if not a.shape or not b.shape:
        raise Mismatch(f"shapes {a.shape} and {b.shape}: a scalar cannot be multiplied")
    left, right = a.shape, b.shape
    if not same_size(left[-1], right[-2] if len(right) > 1 else right[0]):
        raise Mismatch(f"shapes {left} and {right}: inner sizes differ")
    batch = broadcast_shapes(left[:-2], right[:-2])
    return [Tensor(a.dtype, batch + left[-2:-1] + (right[-1:] if len(right) > 1 else ()))]


def gemm(a: Tensor, b: Tensor, c: Tensor | None = None, *, alpha, beta, transA, transB) -> list[Tensor]:
    for tensor in filter(None, (a, b, c)):
        require(tensor, FLOATS)
        same_dtype(a, tensor)
    if a.shape is None or b.shape is None:
        return [Tensor(a.dtype, None)]
    if len(a.shape) != 2 or len(b.shape) != 2:
        raise Mismatch(f"shapes {a.shape} and {b.shape}, expected matrices")
    rows, inner = a.shape[::-1] if transA else a.shape
    inner_b, cols = b.shape[::-1] if transB else b.shape
    if not same_size(inner, inner_b):
        raise Mismatch(f"shapes {a.shape} and {b.shape}: inner sizes differ")
    if c is not None:
        broadcast_shapes((rows, cols), c.shape)
    return [Tensor(a.dtype, (rows, cols))]


def gather(data: Tensor, indices: Tensor, *, axis) -> list[Tensor]:
    require(indices, INDICES)
    if data.shape is None or indices.shape is None:
        return [Tensor(data.dtype, None)]
    axis = normal_axis(axis, len(data.shape))
    size = data.shape[axis]
    if isinstance(size, int) and indices.value is not None and not _within(indices.value, size):
        raise Mismatch(f"an index is outside axis {axis} of shape {data.shape}")
    return [Tensor(data.dtype, data.shape[:axis] + indices.shape + data.shape[axis + 1:])]


def _within(indices: np.ndarray, size: int) -> bool:
    return bool(((indices >= -size) & (indices < size)).all())


def normal_axis(axis: int, rank: int) -> int:
    if not -rank <= axis < rank:
        raise Mismatch(f"axis {axis} does not exist in rank {rank}")
    return axis % rank


def normal_axes(axes: Iterable[int], rank: int) -> list[int]:
    normal = [normal_axis(axis, rank) for axis in axes]
    if len(set(normal)) < len(normal):
        raise Mismatch(f"axes {normal} name one twice")
    return normal


def dropout(data: Tensor, ratio: Tensor | None = None, training_mode: Tensor | None = None, **_) -> list[Tensor]:
    if training_mode is not None and (training_mode.dtype != "bool" or training_mode.shape not in ((), None)):
        raise Mismatch(f"training_mode is {training_mode.dtype} of shape {training_mode.shape}, expected a scalar bool")
    return [Tensor(data.dtype, data.shape), Tensor("bool", data.shape)]


def cast(x: Tensor, *, to, saturate) -> list[Tensor]:
    if x.dtype == "object":
        raise Mismatch("strings are not cast")
    return [Tensor(DTYPES[to], x.shape)]


def concat(*tensors: Tensor, axis) -> list[Tensor]:
    first = tensors[0]
    for tensor in tensors:
        same_dtype(first, tensor)
    shapes = [t.shape for t in tensors]
    if None in shapes:
        return [Tensor(first.dtype, None)]
    if len({len(shape) for shape in shapes}) > 1:
        raise Mismatch(f"ranks differ: {shapes}")
    axis = normal_axis(axis, len(first.shape))
    sizes = []
    for i, column in enumerate(zip(*shapes)):
        sizes.append(_sum(column) if i == axis else _common(column, shapes))
    return [Tensor(first.dtype, tuple(sizes))]


def _sum(sizes: tuple[Dim, ...]) -> Dim:
    return sum(sizes) if all(isinstance(size, int) for size in sizes) else None


def _common(sizes: tuple[Dim, ...], shapes: list[Shape]) -> Dim:
    known = {size for size in sizes if isinstance(size, int)}
    if len(known) > 1:
        raise Mismatch(f"shapes differ beside the axis: {shapes}")
    return known.pop() if known else sizes[0]


def slice_(data: Tensor, starts: Tensor, ends: Tensor, axes: Tensor | None = None,
           steps: Tensor | None = None) -> list[Tensor]:
    vectors = [vector for vector in (starts, ends, axes, steps) if vector is not None]
    if len({length(vector) for vector in vectors} - {None}) > 1:
        raise Mismatch("starts, ends, axes and steps are not equally long")
    if data.shape is None:
        return [Tensor(data.dtype, None)]
    shape = list(data.shape)
    count = length(starts)
    if count is None or (axes is not None and axes.value is None):
        return [Tensor(data.dtype, (None,) * len(shape))]
    unknown = [None] * count
    chosen = range(count) if axes is None else integers(axes)
    bounds = zip(integers(starts) or unknown, integers(ends) or unknown,
                 [1] * count if steps is None else integers(steps) or unknown)
    for axis, triple in zip(normal_axes(chosen, len(shape)), bounds):
        shape[axis] = _sliced_size(shape[axis], *triple)
    return [Tensor(data.dtype, tuple(shape))]


def length(vector: Tensor) -> int | None:
    """How many integers `vector`, an input that must be a vector of them, holds, where that is known."""
    require(vector, INDICES)
    if vector.shape is None:
        return None
    if len(vector.shape) != 1:
        raise Mismatch(f"shape {vector.shape}, expected a vector of integers")
    return vector.shape[0] if isinstance(vector.shape[0], int) else None


def integers(vector: Tensor) -> list[int] | None:
    """The integers themselves, if `vector` is a constant."""
    length(vector)
    return None if vector.value is None else vector.value.tolist()


def known_sizes(vector: Tensor) -> list[Dim] | None:
    """As `integers`, where `vector` may be made from shapes: symbols, and None for what is unknown, among them."""
    if vector.value is None and vector.sizes is not None and vector.shape in ((), (len(vector.sizes),)):
        return list(vector.sizes)
    return None if vector.value is None else vector.value.ravel().tolist()


def _sliced_size(size: Dim, start: int | None, end: int | None, step: int | None) -> Dim:
    if step == 0:
        raise Mismatch("a step of 0")
    if None in (start, end, step):
        return None
    if isinstance(size, int):
        return len(range(size)[slice_of(start, end, step)])
    largest = 2**31  # exporters write INT32_MAX or INT64_MAX for the end of an axis
    whole = (start == 0 and end >= largest - 1, start == -1 and end <= -largest)
    return size if (step == 1 and whole[0]) or (step == -1 and whole[1]) else None


def slice_of(start: int, end: int, step: int) -> slice:
    """Python's slice for ONNX's, whose negative `end` below the axis, going backwards, means its beginning."""
    return slice(start, None if step < 0 and end <= -(2**31) else end, step)


def squeeze(data: Tensor, axes: Tensor | None = None) -> list[Tensor]:
    given = None if axes is None else integers(axes)
    if data.shape is None or (axes is not None and given is None):
        return [Tensor(data.dtype, None)]
    if axes is None:
        known = all(isinstance(size, int) for size in data.shape)
        return [Tensor(data.dtype, tuple(size for size in data.shape if size != 1) if known else None)]
    gone = normal_axes(given, len(data.shape))
    if any(not same_size(data.shape[axis], 1) for axis in gone):
        raise Mismatch(f"shape {data.shape} is not 1 along {gone}")
    return [Tensor(data.dtype, tuple(size for axis, size in enumerate(data.shape) if axis not in gone))]


def unsqueeze(data: Tensor, axes: Tensor) -> list[Tensor]:
    given = integers(axes)
    if data.shape is None or given is None:
        return [Tensor(data.dtype, None)]
    rank = len(data.shape) + len(given)
    new, old = normal_axes(given, rank), iter(data.shape)
    return [Tensor(data.dtype, tuple(1 if axis in new else next(old) for axis in range(rank)))]


def reshape(data: Tensor, shape: Tensor, *, allowzero) -> list[Tensor]:
    rank, target = length(shape), known_sizes(shape)
    if target is None:
        return [Tensor(data.dtype, None if rank is None else (None,) * rank)]
    negative = [size for size in target if isinstance(size, int) and size < 0]
    if negative not in ([], [-1]) or (allowzero and {0, -1} <= set(target)):
        raise Mismatch(f"target shape {target}")
    for axis, size in enumerate(target):
        if size == 0 and not allowzero:
            if data.shape is not None and axis >= len(data.shape):
                raise Mismatch(f"target shape {target} copies axis {axis} of shape {data.shape}")
            target[axis] = None if data.shape is None else data.shape[axis]
    if -1 in target:
        target[target.index(-1)] = _rest(data.shape, [size for size in target if size != -1])
    _check_sizes(data.shape, target)
    return [Tensor(data.dtype, tuple(target))]


def _rest(shape: Shape, others: list[Dim]) -> Dim:
    """The size that -1 stands for: what is left of `shape` when `others`, symbols included, are divided out."""
    if shape is None:
        return None
    left = list(shape)
    for size in [size for size in others if isinstance(size, str)]:
        if size not in left:
            return None
        left.remove(size)
    symbols = [size for size in left if not isinstance(size, int)]
    known, wanted = (int(np.prod([size for size in sizes if isinstance(size, int)], dtype=object))
                     for sizes in (left, others))
    if None in others or None in symbols:
        return None
    if len(symbols) == 1 and known == wanted:
        return symbols[0]
    if symbols or wanted == 0:
        return None
    if known % wanted:
        raise Mismatch(f"shape {shape} does not divide into {others}")
    return known // wanted


def _check_sizes(shape: Shape, target: list[Dim]) -> None:
    if shape is None or not all(isinstance(size, int) for size in [*shape, *target]):
        return
    if int(np.prod(shape, dtype=object)) != int(np.prod(target, dtype=object)):
        raise Mismatch(f"shape {shape} has not as many elements as {tuple(target)}")


def transpose(data: Tensor, *, perm) -> list[Tensor]:
    if data.shape is None:
        return [Tensor(data.dtype, None)]
    perm = tuple(reversed(range(len(data.shape)))) if perm is None else perm
    if sorted(perm) != list(range(len(data.shape))):
        raise Mismatch(f"perm {perm} does not permute the axes of {data.shape}")
    return [Tensor(data.dtype, tuple(data.shape[axis] for axis in perm))]


def expand(data: Tensor, shape: Tensor) -> list[Tensor]:
    length(shape)
    target = known_sizes(shape)
    if target is None:
        return [Tensor(data.dtype, None)]
    if any(isinstance(size, int) and size < 0 for size in target):
        raise Mismatch(f"target shape {target}")
    check_fill(target)
    return [Tensor(data.dtype, broadcast_shapes(data.shape, tuple(target)))]


def shape_of(data: Tensor, *, start, end) -> list[Tensor]:
    if data.shape is None:
        return [Tensor("int64", (None,))]
    return [Tensor("int64", (len(data.shape[start:end]),))]


def _recurrent(op: str):
    """The rule of LSTM, GRU or RNN."""
    gates = len(ONNX[op])

    def rule(x, w, r, b=None, sequence_lens=None, initial_h=None, *further, hidden_size, direction, layout, **_):
        further = further if op == "LSTM" else (None, None, *further)
        initial_c, peepholes, mask, *quantization = (further + (None,) * 7)[:7]
        require(x, FLOATS)
        weights = "int8" if any(quantization) else x.dtype
        hidden, directions = hidden_size, 2 if direction == "bidirectional" else 1
        if x.shape is not None and len(x.shape) != 3:
            raise Mismatch(f"X: shape {x.shape}, expected 3 axes")
        outer, inputs = ((None, None), None) if x.shape is None else (x.shape[:2], x.shape[2])
        time, batch = outer[::-1] if layout else outer
        states = (batch, directions, hidden) if layout else (directions, batch, hidden)
        faults = [message for message in (
            _fault("X", x, x.dtype, (*outer, gates * hidden)) if w is None else None,
            _fault("W", w, weights, (directions, gates * hidden, inputs)),
            _fault("R", r, weights, (directions, gates * hidden, hidden)),
            _fault("B", b, x.dtype, (directions, 2 * gates * hidden)),
            _fault("sequence_lens", sequence_lens, "int32", (batch,)),
            _fault("initial_h", initial_h, x.dtype, states),
            _fault("initial_c", initial_c, x.dtype, states),
            _fault("P", peepholes, x.dtype, (directions, 3 * hidden)),
            _fault("mask", mask, "bool", outer),
            *_quantization_faults(w, quantization, directions, gates * hidden),
        ) if message]
        if faults and _is_projected(r, initial_c, hidden):
            faults.append("h and c are of different sizes, as those of an LSTM with projections (proj_size) are: ONNX's "
                          "LSTM has none, and the exporter left their weights out")
        if faults:
            raise Mismatch(*faults)
        y = (batch, time, directions, hidden) if layout else (time, directions, batch, hidden)
        return [Tensor(x.dtype, y)] + [Tensor(x.dtype, states)] * (2 if op == "LSTM" else 1)

    return rule


def _quantization_faults(w: Tensor | None, quantization: list[Tensor | None], directions: int,
                         outputs: int) -> Iterator[str | None]:
    """Of scales and zero points of W and of R, which come together."""
    if any(quantization) and None in (w, *quantization):
        yield "weights in int8: expected W, R, and scales and zero points of both"
    for name, scale, zero in zip("WR", quantization[::2], quantization[1::2]):
        of_outputs = scale is not None and scale.shape is not None and len(scale.shape) == 2
        yield _fault(f"{name}_scale", scale, "float32", (directions, outputs) if of_outputs else (directions,))
        yield _fault(f"{name}_zero_point", zero, "int8", (directions,))


def _is_projected(r: Tensor, initial_c: Tensor | None, hidden: int) -> bool:
    def last(tensor: Tensor | None) -> int:
        known = tensor is not None and tensor.shape and isinstance(tensor.shape[-1], int)
        return tensor.shape[-1] if known else hidden

    return last(r) < hidden or last(initial_c) > hidden


def _fault(name: str, tensor: Tensor | None, dtype: str, shape: tuple[Dim, ...]) -> str | None:
    if tensor is None:
        return None
    if tensor.dtype != dtype:
        return f"{name}: dtype {tensor.dtype}, expected {dtype}"
    if tensor.shape is None:
        return None
    if len(tensor.shape) != len(shape) or not all(map(same_size, tensor.shape, shape)):
        return f"{name}: shape {tensor.shape}, expected {shape}"
    return None


RECURRENT = {op: _recurrent(op) for op in ONNX}
