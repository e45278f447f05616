"""What the operators mean that reduce, select, order, fill or rearrange along axes: see reference.py.

Each function takes a node's inputs and attributes, and returns its one output or a tuple of them.
"""

from __future__ import annotations

import numpy as np

from .shapes import check_fill
from .shapes_axes import part_sizes


def _reduction(reduce, before=None, after=None):
    """An operator that maps, reduces along axes, and maps again."""
    def run(data, axes=None, *, keepdims, noop_with_empty_axes):
        chosen = () if axes is None else tuple(int(axis) for axis in axes)
        along = () if noop_with_empty_axes and not chosen else chosen or None  # () reduces nothing, yet the maps apply
        mapped = data if before is None else before(data)
        reduced = reduce(mapped, axis=along, keepdims=bool(keepdims))
        reduced = reduced if after is None else after(reduced)
        return np.asarray(reduced).astype(data.dtype)  # sums of small integers wrap as those themselves do

    return run


def _extreme(reduce, largest: bool):
    def run(data, axis, keepdims):
        return reduce(data, axis=axis, keepdims=keepdims, initial=_limit(data.dtype, largest))

    return _reduction(run)


def _limit(dtype: np.dtype, lowest: bool):
    """The lowest, or the highest, value of a dtype."""
    if dtype.kind == "f":
        return -np.inf if lowest else np.inf
    if dtype.kind == "b":
        return not lowest
    return np.iinfo(dtype).min if lowest else np.iinfo(dtype).max


def _log_sum_exp(data, axis, keepdims):
    data = data.astype(np.float64)
    highest = np.max(data, axis=axis, keepdims=True, initial=-np.inf)
    highest = np.where(np.isfinite(highest), highest, 0)
    total = np.log(np.sum(np.exp(data - highest), axis=axis, keepdims=True)) + highest
    return total if keepdims else np.squeeze(total, axis if axis is not None else tuple(range(data.ndim)))


def _arg(choose):
    def run(data, *, axis, keepdims, select_last_index):
        if select_last_index:
            found = data.shape[axis] - 1 - choose(np.flip(data, axis), axis=axis)
        else:
            found = choose(data, axis=axis)
        return np.expand_dims(found, axis) if keepdims else np.asarray(found)

    return run


def _topk(x, k, *, axis, largest, sorted):
    count = int(k.reshape(()))
    if count > x.shape[axis]:
        raise ValueError(f"k is {count}, more than axis {axis} of shape {x.shape} has")
    if largest:  # of equal ones the first: a stable order from behind
        order = np.flip(x.shape[axis] - 1 - np.argsort(np.flip(x, axis), axis, kind="stable"), axis)
    else:
        order = np.argsort(x, axis, kind="stable")
    indices = np.take(order, range(count), axis)
    return np.take_along_axis(x, indices, axis), indices


def _cumsum(x, axis, *, exclusive, reverse):
    axis = int(axis.reshape(()))
    x = np.flip(x, axis) if reverse else x
    total = np.cumsum(x, axis, dtype=x.dtype)
    if exclusive:
        total = total - x
        finite = np.roll(np.cumsum(x, axis, dtype=x.dtype), 1, axis)
        first = [slice(None)] * x.ndim
        first[axis] = slice(0, 1)
        finite[tuple(first)] = 0
        total = finite  # not total - x, which makes NaN of inf
    return np.flip(total, axis) if reverse else total


def _gather_nd(data, indices, *, batch_dims):
    depth = indices.shape[-1]
    if not 1 <= depth <= data.ndim - batch_dims:
        raise ValueError(f"indices of shape {indices.shape} into shape {data.shape}")
    batch = np.indices(indices.shape[:batch_dims], sparse=True)
    spread = [axis.reshape(axis.shape + (1,) * (indices.ndim - 1 - batch_dims)) for axis in batch]
    return data[tuple(spread) + tuple(np.moveaxis(indices, -1, 0))]


_COMBINE = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}


def _scatter(data: np.ndarray, index: tuple, updates: np.ndarray, reduction: str) -> np.ndarray:
    result = data.copy()
    if updates.shape != result[index].shape:
        raise ValueError(f"updates of shape {updates.shape} for {result[index].shape} places")
    if reduction == "none":
        result[index] = updates
    else:
        _COMBINE[reduction].at(result, index, updates)
    return result


def _scatter_elements(data, indices, updates, *, axis, reduction):
    index = list(np.indices(indices.shape, sparse=True))
    index[axis] = indices
    return _scatter(data, tuple(index), updates, reduction)


def _scatter_nd(data, indices, updates, *, reduction):
    return _scatter(data, tuple(np.moveaxis(indices, -1, 0)), updates, reduction)


def _split(data, sizes=None, *, axis, num_outputs):
    sizes = part_sizes(data.shape[axis], num_outputs) if sizes is None else sizes
    if min(sizes, default=0) < 0 or sum(sizes) != data.shape[axis]:
        raise ValueError(f"parts of {np.asarray(sizes).tolist()} along axis {axis} of shape {data.shape}")
    return tuple(np.split(data, np.cumsum(sizes)[:-1], axis))


def _tile(data, repeats):
    check_fill([*data.shape, *map(int, repeats)])
    return np.tile(data, [int(count) for count in repeats])


def _range(start, limit, delta):
    start, limit, delta = (number.reshape(()) for number in (start, limit, delta))  # some write vectors of one
    if not delta:
        raise ValueError("a step of 0")
    count = max(int(np.ceil((np.float64(limit) - start) / delta)), 0)
    check_fill([count])
    return start + np.arange(count).astype(start.dtype) * delta


def _flatten(data, *, axis):
    axis = axis + data.ndim if axis < 0 else axis
    return data.reshape(int(np.prod(data.shape[:axis])), int(np.prod(data.shape[axis:])))


def _trilu(data, k=None, *, upper):
    offset = 0 if k is None else int(np.clip(k.reshape(()), -(1 << 40), 1 << 40))
    return np.triu(data, offset) if upper else np.tril(data, offset)


def _one_hot(indices, depth, values, *, axis):
    depth = int(depth.reshape(()))
    check_fill([*indices.shape, depth])
    indices = indices.astype(np.int64)
    wrapped = np.where(indices < 0, indices + depth, indices)
    hot = np.expand_dims(wrapped, -1) == np.arange(depth)
    return np.moveaxis(np.where(hot, values[1], values[0]), -1, axis)


def _pad(data, pads, value=None, axes=None, *, mode):
    chosen = range(data.ndim) if axes is None else [int(axis) % data.ndim for axis in axes]
    if len(pads) != 2 * len(chosen):
        raise ValueError(f"pads {np.asarray(pads).tolist()} for {len(chosen)} axes")
    widths = [(0, 0)] * data.ndim
    for i, axis in enumerate(chosen):
        widths[axis] = int(pads[i]), int(pads[i + len(chosen)])
    cut = tuple(slice(max(-before, 0), max(size - max(-after, 0), 0))
                for size, (before, after) in zip(data.shape, widths))
    data, widths = data[cut], [(max(before, 0), max(after, 0)) for before, after in widths]
    check_fill(size + before + after for size, (before, after) in zip(data.shape, widths))
    if mode != "constant":
        return np.pad(data, widths, mode)
    fill = (False if data.dtype.kind == "b" else "" if data.dtype.kind == "O" else 0) if value is None else value.item()
    return np.pad(data, widths, "constant", constant_values=fill)


def _reverse_sequence(data, lengths, *, batch_axis, time_axis):
    moved = np.moveaxis(data, (batch_axis, time_axis), (0, 1))
    if len(lengths) != len(moved) or not ((0 <= lengths) & (lengths <= moved.shape[1])).all():
        raise ValueError(f"lengths {lengths.tolist()} for shape {data.shape}")
    result = moved.copy()
    for row, count in enumerate(lengths):
        result[row, :count] = moved[row, :count][::-1]
    return np.moveaxis(result, (0, 1), (batch_axis, time_axis))


def _non_zero(data):
    return np.array(np.nonzero(np.atleast_1d(data)), np.int64)


AXES = {
    "ReduceSum": _reduction(np.sum),
    "ReduceMean": _reduction(np.mean),
    "ReduceProd": _reduction(np.prod),
    "ReduceMax": _extreme(np.max, True),
    "ReduceMin": _extreme(np.min, False),
    "ReduceL1": _reduction(np.sum, np.abs),
    "ReduceL2": _reduction(np.sum, lambda x: np.square(x.astype(np.float64)), np.sqrt),
    "ReduceLogSum": _reduction(np.sum, None, lambda x: np.log(x.astype(np.float64))),
    "ReduceLogSumExp": _reduction(_log_sum_exp),
    "ReduceSumSquare": _reduction(np.sum, np.square),
    "ArgMax": _arg(np.argmax),
    "ArgMin": _arg(np.argmin),
    "TopK": _topk,
    "CumSum": _cumsum,
    "GatherElements": lambda data, indices, *, axis: np.take_along_axis(*_inside(data, indices, axis), axis),
    "GatherND": _gather_nd,
    "ScatterElements": _scatter_elements,
    "ScatterND": _scatter_nd,
    "Split": _split,
    "Tile": _tile,
    "Range": _range,
    "Size": lambda data: np.array(data.size, np.int64),
    "Flatten": _flatten,
    "Trilu": _trilu,
    "OneHot": _one_hot,
    "Pad": _pad,
    "ReverseSequence": _reverse_sequence,
    "NonZero": _non_zero,
    "Einsum": lambda *arrays, equation: np.einsum(equation.replace(" ", ""), *arrays),
}


def _inside(data, indices, axis):
    """`data` cut to the size of `indices` along the other axes, whose elements they index."""
    cut = tuple(slice(None) if i == axis % data.ndim else slice(size) for i, size in enumerate(indices.shape))
    return data[cut], indices
