"""Nodes that stay outside native programs, run with NumPy: shape plumbing that folding left over, above all.

There is one meaning of each operator, reference.py's; here its results are rounded back to the dtypes of the graph.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Container, Mapping

import numpy as np

from ..errors import InputError, OutOfMemoryError
from ..graph import Node
from ..shapes import INTEGERS, MOST_AXES, slice_of

_PARTS = frozenset(("Concat", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"))
_MOVES = _PARTS | {"Equal", "Expand", "Flatten", "Shape", "Tile", "Where"}
# Operators that only move, choose or compare elements: they need no float64 and hand on the dtypes that they are given.
_EXACT = _MOVES | {"Abs", "And", "ArgMax", "ArgMin", "GatherElements", "GatherND", "Greater", "GreaterOrEqual", "IsNaN", "Less",
                   "LessOrEqual", "Max", "Min", "Neg", "Not", "Or", "Pad", "ReduceMax", "ReduceMin", "ReverseSequence",
                   "Sign", "TopK", "Trilu"}


def is_exact(node: Node) -> bool:
    """Whether floats of any type give what they give as float64."""
    return node.op in _EXACT and not node.domain


def hands_parts_on(node: Node, dtypes: Mapping[str, str | None], constants: Container[str]) -> bool:
    """Whether what comes out are parts of what goes in, put together otherwise, and no look-up in a table; or the same
    integers."""
    if node.domain or (node.op == "Gather" and node.inputs[0] in constants):
        return False
    if node.op == "Cast":
        return {dtypes.get(node.inputs[0]), dtypes.get(node.outputs[0])} <= set(INTEGERS)
    return node.op in _PARTS


def _quick(node: Node, dtypes: Mapping[str, str | None], constants: Mapping[str, np.ndarray]) -> Callable | None:
    """The node as one call of NumPy with all but its data at hand, for what is moved between programs."""
    if node.op == "Cast" and not node.domain:
        return _quick_cast(*(dtypes.get(name) for name in (*node.inputs, *node.outputs)))
    known = [constants.get(name) for name in node.inputs[1:]]
    if node.domain or node.op not in _QUICK or (node.op != "Concat" and any(array is None for array in known)):
        return None
    return _QUICK[node.op](node, *known)


def _quick_slice(node: Node, starts, ends, axes=None, steps=None) -> Callable:
    axes = np.arange(len(starts)) if axes is None else axes
    if (axes < 0).any() or (axes >= MOST_AXES).any():
        return None
    steps = np.ones_like(starts) if steps is None else steps
    index = [slice(None)] * (int(axes.max()) + 1)
    for axis, *bounds in zip(axes, starts, ends, steps):
        index[axis] = slice_of(*map(int, bounds))
    return operator.itemgetter(tuple(index))


def _quick_gather(node: Node, indices: np.ndarray) -> Callable | None:
    axis = node.attributes.get("axis", 0)
    if not 0 <= axis < MOST_AXES or indices.ndim > 0:
        return None
    return operator.itemgetter((*[slice(None)] * axis, int(indices), ...))  # with ... an array where no axis is left, too


def _quick_squeeze(node: Node, axes: np.ndarray | None = None) -> Callable | None:
    return None if axes is None else functools.partial(np.squeeze, axis=tuple(axes.tolist()))


def _quick_unsqueeze(node: Node, axes: np.ndarray) -> Callable | None:
    if axes.tolist() == [0]:
        return operator.itemgetter(None)
    return functools.partial(np.expand_dims, axis=tuple(axes.tolist()))


def _quick_cast(before: str | None, after: str | None) -> Callable | None:
    return None if None in (before, after) or "object" in (before, after) else operator.methodcaller("astype", after)


def _quick_reshape(node: Node, shape: np.ndarray) -> Callable | None:
    return operator.methodcaller("reshape", tuple(shape.tolist())) if shape.all() else None


def _quick_shape(node: Node) -> Callable:
    sizes = slice(node.attributes.get("start", 0), node.attributes.get("end"))
    return lambda data: np.array(data.shape[sizes], np.int64)


_QUICK: Mapping[str, Callable] = {
    "Identity": lambda node: lambda x: x,  # of a sequence too
    "Reshape": _quick_reshape, "Shape": _quick_shape,
    "Transpose": lambda node: operator.methodcaller("transpose", node.attributes.get("perm")),
    "Slice": _quick_slice, "Gather": _quick_gather, "Squeeze": _quick_squeeze, "Unsqueeze": _quick_unsqueeze,
    "Concat": lambda node, *_: lambda *arrays: np.concatenate(arrays, node.attributes["axis"]),
}


class HostStep:
    """One node."""

    kind = "NumPy"

    def __init__(self, node: Node, dtypes: Mapping[str, str | None], constants: Mapping[str, np.ndarray]) -> None:
        self.nodes, self.reads = [node], node.inputs
        self.fresh = node.outputs if node.op == "Concat" and not node.domain else ()  # others may give views
        quick = _quick(node, dtypes, constants)
        self._quick = None if quick is None else (quick, node.inputs if node.op == "Concat" else node.inputs[:1])
        self._is_exact = is_exact(node)
        self._function: Callable | None = None
        self._dtypes = [dtypes.get(name) for name in node.outputs]
        self.hands_parts_on = hands_parts_on(node, dtypes, constants)

    def run(self, values: dict[str, np.ndarray]) -> None:
        (node,) = self.nodes
        if self._quick is not None:
            call, names = self._quick
            try:
                values[node.outputs[0]] = call(*[values[name] for name in names])
            except (ValueError, IndexError) as error:
                raise InputError(f"{node}: {error}") from error
            return
        given = [values[name] if name else None for name in node.inputs]
        function = self._function or self._bind()
        try:
            made = function(*given) if self._is_exact else function(*[None if a is None else _as_float64(a) for a in given])
        except (ValueError, IndexError) as error:  # sizes that only this call knows
            raise InputError(f"{node}: {error}") from error
        except MemoryError as error:
            raise OutOfMemoryError(f"{node}: {error}") from error
        for name, array, dtype in zip(node.outputs, made, self._dtypes):
            if name:
                values[name] = np.asarray(array, dtype or _dtype(array, given))

    def _bind(self) -> Callable:
        from ..reference import function  # no native model needs it

        self._function = function(self.nodes[0])
        return self._function


def _as_float64(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float64) if array.dtype.kind == "f" else array


def _dtype(result: np.ndarray, given: list[np.ndarray | None]) -> np.dtype:
    """For what no rule could tell ahead, as behind a foreign operator: floats stay what the inputs are."""
    floats = [array.dtype for array in given if array is not None and array.dtype.kind == "f"]
    return floats[0] if floats and result.dtype == np.float64 else result.dtype
