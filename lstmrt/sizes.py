"""Integers that are made from shapes: what they are, element by element, where a size may be a symbol.

A Tensor's `sizes` hold it, for scalars and vectors that are not constants; of a vector of unknown length one element,
which they then all are. Exporters compute with shapes to make zero states and to reshape; these rules follow them, so
that batch and time stay symbols and all else becomes a constant.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from .graph import Dim, Node
from .shapes import DTYPES, INTEGERS, Tensor, known_sizes, slice_of

LONGEST = 64  # elements; longer vectors are no shapes
Sizes = "tuple[Dim, ...] | None"


def sizes_of(tensor: Tensor | None) -> Sizes:
    """The elements of an integer scalar or vector, or None where nothing is known of it."""
    if tensor is None or tensor.dtype not in INTEGERS:
        return None
    if tensor.value is not None and tensor.value.ndim <= 1 and tensor.value.size <= LONGEST:
        return tuple(tensor.value.ravel().tolist())
    return tuple(known) if (known := known_sizes(tensor)) is not None else None


def with_sizes(node: Node, given: list[Tensor | None], made: list[Tensor]) -> list[Tensor]:
    """`made`, the outputs of a known node by its shape rule, with their sizes."""
    rule = None if node.domain else _RULES.get(node.op)
    if rule is None or not made or made[0].dtype not in INTEGERS or len(made[0].shape or ()) > 1:
        return made
    if node.op == "Expand":
        return [_filled(made[0], given[0]), *made[1:]]
    sizes = rule(node, given)
    if sizes is None or len(sizes) > LONGEST or (made[0].shape and made[0].shape[0] not in (len(sizes), None)):
        return made
    shape = (len(sizes),) if made[0].shape is None or made[0].shape else ()
    return [made[0]._replace(shape=shape, sizes=sizes), *made[1:]]


def _shape(node: Node, given: list) -> Sizes:
    shape = given[0].shape
    return None if shape is None else shape[node.attributes.get("start", 0):node.attributes.get("end")]


def _same(node: Node, given: list) -> Sizes:
    return sizes_of(given[0])


def _cast(node: Node, given: list) -> Sizes:
    return sizes_of(given[0]) if DTYPES.get(node.attributes["to"]) in INTEGERS else None


def _gather(node: Node, given: list) -> Sizes:
    data, indices = map(sizes_of, given[:2])
    if data is None or indices is None or not all(isinstance(i, int) and -len(data) <= i < len(data) for i in indices):
        return None
    return tuple(data[i] for i in indices)


def _slice(node: Node, given: list) -> Sizes:
    data, *bounds = map(sizes_of, given[:5])
    starts, ends, axes, steps = (*bounds, None, None)[:4] if len(bounds) < 4 else bounds
    bounds = [starts, ends, (0,) if axes is None else axes, (1,) if steps is None else steps]
    if data is None or any(bound is None or len(bound) != 1 or not isinstance(bound[0], int) for bound in bounds):
        return None
    return data[slice_of(bounds[0][0], bounds[1][0], bounds[3][0])]


def _concat(node: Node, given: list) -> Sizes:
    parts = list(map(sizes_of, given))
    return None if None in parts else tuple(size for part in parts for size in part)


def _arithmetic(node: Node, given: list) -> Sizes:
    a, b = map(sizes_of, given)
    if a is None or b is None or (len(a) != len(b) and 1 not in (len(a), len(b))):
        return None
    count = max(len(a), len(b))
    a, b = (operand * (count // len(operand)) if operand else operand for operand in (a, b))
    return tuple(_computed(node.op, x, y) for x, y in zip(a, b))


def _computed(op: str, x: Dim, y: Dim) -> Dim:
    if isinstance(x, int) and isinstance(y, int):
        if op == "Div":
            return int(np.sign(x) * np.sign(y)) * (abs(x) // abs(y)) if y else None
        return {"Add": x + y, "Sub": x - y, "Mul": x * y}[op]
    neutral = 0 if op in ("Add", "Sub") else 1
    if y == neutral:
        return x
    return y if x == neutral and op in ("Add", "Mul") else None


def _selected(node: Node, given: list) -> Sizes:
    """Where(condition, a, b) of a constant condition, or of a and b that are the same."""
    condition, a, b = given[0].value, sizes_of(given[1]), sizes_of(given[2])
    if a is None or b is None:
        return None
    count = max(len(a), len(b))
    if len(a) not in (1, count) or len(b) not in (1, count):
        return None
    a, b = (operand * (count // len(operand)) if operand else operand for operand in (a, b))
    chosen = [None] * count if condition is None or condition.size not in (1, count) else np.broadcast_to(
        condition.ravel(), count).tolist()
    return tuple(x if choice is True or x == y else y if choice is False else None
                 for choice, x, y in zip(chosen, a, b))


def _filled(made: Tensor, data: Tensor) -> Tensor:
    """An Expand of one element."""
    element = sizes_of(data)
    if element is None or len(element) != 1 or not made.shape:
        return made
    (length,) = made.shape
    if isinstance(length, int):
        return made._replace(sizes=element * length) if length <= LONGEST else made
    return made._replace(sizes=element)


_RULES: Mapping[str, Callable[[Node, list], Sizes]] = {
    "Shape": _shape, "Identity": _same, "Squeeze": _same, "Unsqueeze": _same, "Reshape": _same, "Cast": _cast,
    "Gather": _gather, "Slice": _slice, "Concat": _concat, "Add": _arithmetic, "Sub": _arithmetic, "Mul": _arithmetic,
    "Div": _arithmetic, "Where": _selected, "Expand": _same,
}
