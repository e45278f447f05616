"""Shape rules, as in shapes.py, of operators that reduce, select, order, fill or rearrange along axes."""

from __future__ import annotations

import math

import numpy as np

from .graph import Dim
from .shapes import (FLOATS, INDICES, NUMBERS, Mismatch, Shape, Tensor, check_fill, integers, known_sizes, length,
                     normal_axes, normal_axis, require, same_dtype, same_shape, same_size)

MOST_PARTS = 1 << 16  # of a Split


def reduce_(data: Tensor, axes: Tensor | None = None, *, keepdims, noop_with_empty_axes) -> list[Tensor]:
    require(data, NUMBERS + ("bool",))
    chosen = None if axes is None else integers(axes)
    if data.shape is None or (axes is not None and chosen is None):
        rank = None if data.shape is None or not keepdims else len(data.shape)
        return [Tensor(data.dtype, None if rank is None else (None,) * rank)]
    if not chosen:
        if noop_with_empty_axes:
            return [Tensor(data.dtype, data.shape)]
        chosen = range(len(data.shape))
    return [Tensor(data.dtype, _reduced(data.shape, normal_axes(chosen, len(data.shape)), keepdims))]


def _reduced(shape: Shape, axes: list[int], keepdims: int) -> Shape:
    if keepdims:
        return tuple(1 if axis in axes else size for axis, size in enumerate(shape))
    return tuple(size for axis, size in enumerate(shape) if axis not in axes)


def numbers_reduce(data: Tensor, axes: Tensor | None = None, **options) -> list[Tensor]:
    require(data, NUMBERS)
    return reduce_(data, axes, **options)


def arg(data: Tensor, *, axis, keepdims, select_last_index) -> list[Tensor]:
    require(data, NUMBERS)
    if data.shape is None:
        return [Tensor("int64", None)]
    axis = normal_axis(axis, len(data.shape))
    if data.shape[axis] == 0:
        raise Mismatch(f"axis {axis} of shape {data.shape} is empty")
    return [Tensor("int64", _reduced(data.shape, [axis], keepdims))]


def topk(x: Tensor, k: Tensor, *, axis, largest, sorted) -> list[Tensor]:
    require(x, NUMBERS)
    wanted = integers(k)
    if wanted is not None and (len(wanted) != 1 or wanted[0] < 0):
        raise Mismatch(f"k is {wanted}, expected one number")
    if x.shape is None:
        return [Tensor(x.dtype, None), Tensor("int64", None)]
    axis, shape = normal_axis(axis, len(x.shape)), list(x.shape)
    count = wanted[0] if wanted else None
    if isinstance(shape[axis], int) and count is not None and count > shape[axis]:
        raise Mismatch(f"k is {count}, more than axis {axis} of shape {x.shape} has")
    shape[axis] = count
    return [Tensor(x.dtype, tuple(shape)), Tensor("int64", tuple(shape))]


def cumsum(x: Tensor, axis: Tensor, *, exclusive, reverse) -> list[Tensor]:
    require(x, NUMBERS)
    require(axis, INDICES)
    if axis.shape not in ((), (1,), None):
        raise Mismatch(f"axis has shape {axis.shape}, expected one number")
    if x.shape is not None and axis.value is not None:
        normal_axis(int(axis.value.reshape(())), len(x.shape))
    return [Tensor(x.dtype, x.shape)]


def _same_rank(data: Tensor, indices: Tensor) -> None:
    if None not in (data.shape, indices.shape) and len(data.shape) != len(indices.shape):
        raise Mismatch(f"shapes {data.shape} and {indices.shape}: ranks differ")


def gather_elements(data: Tensor, indices: Tensor, *, axis) -> list[Tensor]:
    require(indices, INDICES)
    _same_rank(data, indices)
    if data.shape is not None:
        axis = normal_axis(axis, len(data.shape))
        _check_indices(indices, data.shape[axis])
        for i, (size, count) in enumerate(zip(data.shape, indices.shape or ())):
            if i != axis and isinstance(size, int) and isinstance(count, int) and count > size:
                raise Mismatch(f"indices of shape {indices.shape} reach outside shape {data.shape}")
    return [Tensor(data.dtype, indices.shape)]


def _check_indices(indices: Tensor, size: Dim) -> None:
    if indices.value is not None and isinstance(size, int):
        if not ((indices.value >= -size) & (indices.value < size)).all():
            raise Mismatch(f"an index is outside an axis of {size}")


def scatter_elements(data: Tensor, indices: Tensor, updates: Tensor, *, axis, reduction) -> list[Tensor]:
    same_dtype(data, updates)
    _reducible(data, reduction)
    if not same_shape(indices.shape, updates.shape):
        raise Mismatch(f"indices of shape {indices.shape} and updates of shape {updates.shape}")
    gather_elements(data, indices, axis=axis)
    return [Tensor(data.dtype, data.shape)]


def _reducible(data: Tensor, reduction: str) -> None:
    if reduction != "none":
        require(data, NUMBERS)


def gather_nd(data: Tensor, indices: Tensor, *, batch_dims) -> list[Tensor]:
    require(indices, ("int64",))
    if () in (data.shape, indices.shape):
        raise Mismatch(f"indices of shape {indices.shape} into shape {data.shape}")
    if data.shape is None or indices.shape is None:
        return [Tensor(data.dtype, None)]
    return [Tensor(data.dtype, _indexed(data.shape, indices, batch_dims))]


def _indexed(shape: Shape, indices: Tensor, batch_dims: int) -> Shape:
    """The shape of what `indices` (..., depth) select: theirs but for the depth, then what is left of `shape`."""
    depth = indices.shape[-1]
    if not 0 <= batch_dims < min(len(shape), len(indices.shape)):
        raise Mismatch(f"batch_dims {batch_dims} with shapes {shape} and {indices.shape}")
    if not all(map(same_size, shape[:batch_dims], indices.shape[:batch_dims])):
        raise Mismatch(f"shapes {shape} and {indices.shape} differ in the first {batch_dims} axes")
    if not isinstance(depth, int):
        return None
    if not 1 <= depth <= len(shape) - batch_dims:
        raise Mismatch(f"indices of shape {indices.shape} into shape {shape}")
    for column, size in enumerate(shape[batch_dims:batch_dims + depth]):
        value = None if indices.value is None else indices.value[..., column]
        _check_indices(Tensor(indices.dtype, None, value), size)
    return indices.shape[:-1] + shape[batch_dims + depth:]


def scatter_nd(data: Tensor, indices: Tensor, updates: Tensor, *, reduction) -> list[Tensor]:
    same_dtype(data, updates)
    _reducible(data, reduction)
    (selected,) = gather_nd(data, indices, batch_dims=0)
    if not same_shape(selected.shape, updates.shape):
        raise Mismatch(f"updates of shape {updates.shape}, expected {selected.shape}")
    return [Tensor(data.dtype, data.shape)]


def split(data: Tensor, sizes: Tensor | None = None, *, axis, num_outputs) -> list[Tensor]:
    """One Tensor for each part, none where their number is not known."""
    given = None if sizes is None else integers(sizes)
    if sizes is None and num_outputs is None:
        raise Mismatch("neither split nor num_outputs is given")
    if sizes is not None and num_outputs is not None:
        raise Mismatch("both split and num_outputs are given")
    if num_outputs is not None and not 1 <= num_outputs <= MOST_PARTS:
        raise Mismatch(f"num_outputs is {num_outputs}")
    if sizes is not None and given is None:
        return []
    count = num_outputs if given is None else len(given)
    if data.shape is None:
        return [Tensor(data.dtype, None)] * count
    axis = normal_axis(axis, len(data.shape))
    size = data.shape[axis]
    if given is None and isinstance(size, int):
        given = part_sizes(size, count)
    if given is not None and (min(given, default=0) < 0 or not same_size(sum(given), size)):
        raise Mismatch(f"parts of {given} along axis {axis} of shape {data.shape}")
    return [Tensor(data.dtype, data.shape[:axis] + (part,) + data.shape[axis + 1:])
            for part in ([None] * count if given is None else given)]


def part_sizes(size: int, count: int) -> list[int]:
    """`count` parts of `size`, equal but for the last, which may be smaller."""
    part = -(-size // count)
    sizes = [part] * (count - 1) + [size - part * (count - 1)]
    if sizes[-1] < 0:
        raise Mismatch(f"{size} cannot be split into {count} parts of {part}")
    return sizes


def tile(data: Tensor, repeats: Tensor) -> list[Tensor]:
    require(repeats, ("int64",))
    times = known_sizes(repeats)
    if data.shape is None:
        return [Tensor(data.dtype, None)]
    if times is None:
        return [Tensor(data.dtype, (None,) * len(data.shape))]
    if len(times) != len(data.shape) or any(isinstance(count, int) and count < 0 for count in times):
        raise Mismatch(f"repeats {times} of shape {data.shape}")
    check_fill([*times, *data.shape])
    return [Tensor(data.dtype, tuple(map(_repeated, data.shape, times)))]


def _repeated(size: Dim, count: Dim) -> Dim:
    if isinstance(size, int) and isinstance(count, int):
        return size * count
    return count if size == 1 else size if count == 1 else None


def range_(start: Tensor, limit: Tensor, delta: Tensor) -> list[Tensor]:
    for tensor in (start, limit, delta):
        require(tensor, FLOATS + ("int16", "int32", "int64"))
        same_dtype(start, tensor)
        if tensor.shape and not (len(tensor.shape) == 1 and same_size(tensor.shape[0], 1)):
            raise Mismatch(f"shape {tensor.shape}, expected a scalar")
    if delta.value is not None and not delta.value:
        raise Mismatch("a step of 0")
    if any(tensor.value is None for tensor in (start, limit, delta)):
        return [Tensor(start.dtype, (None,))]
    first, last, step = (tensor.value.item() for tensor in (start, limit, delta))
    if not all(map(math.isfinite, (first, last, step))):
        raise Mismatch(f"from {first} to {last} by {step}")
    count = max(math.ceil((last - first) / step), 0)
    check_fill([count])
    return [Tensor(start.dtype, (count,))]


def size(data: Tensor) -> list[Tensor]:
    return [Tensor("int64", ())]


def flatten(data: Tensor, *, axis) -> list[Tensor]:
    if data.shape is None:
        return [Tensor(data.dtype, (None, None))]
    if not -len(data.shape) <= axis <= len(data.shape):
        raise Mismatch(f"axis {axis} does not exist in rank {len(data.shape)}")
    axis = axis + len(data.shape) if axis < 0 else axis
    return [Tensor(data.dtype, (_product(data.shape[:axis]), _product(data.shape[axis:])))]


def _product(sizes) -> Dim:
    others = [size for size in sizes if size != 1]
    if all(isinstance(size, int) for size in others):
        return math.prod(others)
    return others[0] if len(others) == 1 else None


def trilu(data: Tensor, k: Tensor | None = None, *, upper) -> list[Tensor]:
    if data.shape is not None and len(data.shape) < 2:
        raise Mismatch(f"shape {data.shape}, expected at least two axes")
    if k is not None:
        require(k, ("int64",))
        if k.shape not in ((), (1,), None):
            raise Mismatch(f"k has shape {k.shape}, expected one number")
    return [Tensor(data.dtype, data.shape)]


def one_hot(indices: Tensor, depth: Tensor, values: Tensor, *, axis) -> list[Tensor]:
    for tensor in (indices, depth):
        require(tensor, NUMBERS)
    if depth.shape not in ((), (1,), None) or values.shape not in ((2,), None):
        raise Mismatch(f"depth of shape {depth.shape} and values of shape {values.shape}, expected () and (2,)")
    if indices.shape is None:
        return [Tensor(values.dtype, None)]
    count = None if depth.value is None else depth.value.reshape(()).item()
    if count is not None and not (math.isfinite(count) and count >= 0):
        raise Mismatch(f"a depth of {count}")
    axis = normal_axis(axis, len(indices.shape) + 1)
    shape = indices.shape[:axis] + (None if count is None else int(count),) + indices.shape[axis:]
    check_fill(shape)
    return [Tensor(values.dtype, shape)]


def pad(data: Tensor, pads: Tensor, value: Tensor | None = None, axes: Tensor | None = None, *, mode) -> list[Tensor]:
    if value is not None:
        same_dtype(data, value)
        if value.shape not in ((), (1,), None):
            raise Mismatch(f"constant_value has shape {value.shape}, expected a scalar")
    require(pads, ("int64",))
    widths = integers(pads)
    chosen = None if axes is None else integers(axes)
    if data.shape is None:
        return [Tensor(data.dtype, None)]
    if widths is None or (axes is not None and chosen is None):
        return [Tensor(data.dtype, (None,) * len(data.shape))]
    chosen = normal_axes(range(len(data.shape)) if chosen is None else chosen, len(data.shape))
    if len(widths) != 2 * len(chosen):
        raise Mismatch(f"pads {widths} for {len(chosen)} axes")
    shape = list(data.shape)
    for axis, before, after in zip(chosen, widths, widths[len(chosen):]):
        if before or after:
            shape[axis] = _padded(shape[axis], before, after, mode)
    check_fill(shape)
    return [Tensor(data.dtype, tuple(shape))]


def _padded(size: Dim, before: int, after: int, mode: str) -> Dim:
    if not isinstance(size, int):
        return None
    if size + before + after < 0 or min(before, after) < -size:
        raise Mismatch(f"pads {before} and {after} of an axis of {size}")
    if mode != "constant" and max(before, after) > (size - 1 if mode == "reflect" else size):
        raise Mismatch(f"pads {before} and {after} of an axis of {size} with mode {mode}")
    return size + before + after


def reverse_sequence(data: Tensor, lengths: Tensor, *, batch_axis, time_axis) -> list[Tensor]:
    require(lengths, ("int64",))
    if data.shape is not None:
        if len(data.shape) < 2 or sorted((batch_axis, time_axis)) != [0, 1]:
            raise Mismatch(f"batch_axis {batch_axis} and time_axis {time_axis} of shape {data.shape}")
        count = length(lengths)
        if not same_size(count, data.shape[batch_axis]):
            raise Mismatch(f"{count} lengths for shape {data.shape}")
    return [Tensor(data.dtype, data.shape)]


def non_zero(data: Tensor) -> list[Tensor]:
    return [Tensor("int64", (None if data.shape is None else max(len(data.shape), 1), None))]


def einsum(*tensors: Tensor, equation) -> list[Tensor]:
    """Of equations with letters, commas, an arrow and one ellipsis a term."""
    for tensor in tensors:
        require(tensor, NUMBERS)
        same_dtype(tensors[0], tensor)
    if any(tensor.shape is None for tensor in tensors):
        return [Tensor(tensors[0].dtype, None)]
    named = _named_sizes(equation.replace(" ", ""), [tensor.shape for tensor in tensors])
    known = [np.broadcast_to(np.int8(0), [size if isinstance(size, int) else 1 for size in tensor.shape])
             for tensor in tensors]
    symbolic = any(not isinstance(size, int) for tensor in tensors for size in tensor.shape)
    try:
        shape = np.einsum(equation.replace(" ", ""), *known, optimize=False).shape if _small(known) else None
    except (ValueError, TypeError) as error:
        if symbolic:
            return [Tensor(tensors[0].dtype, named)]
        raise Mismatch(f"equation {equation!r}: {error}") from None
    return [Tensor(tensors[0].dtype, named if shape is None or symbolic else shape)]


def _named_sizes(equation: str, shapes: list[Shape]) -> Shape:
    """The sizes of the result's letters; None where an ellipsis or no arrow leaves them to be worked out."""
    terms, arrow, result = equation.partition("->")
    if not arrow or "." in equation or [len(term) for term in terms.split(",")] != [len(shape) for shape in shapes]:
        return None
    sizes = {letter: size for term, shape in zip(terms.split(","), shapes) for letter, size in zip(term, shape)}
    return tuple(sizes[letter] for letter in result) if set(result) <= set(sizes) else None


def _small(arrays: list[np.ndarray]) -> bool:
    return math.prod(array.size for array in arrays) <= 1 << 16
