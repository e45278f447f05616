"""Values that are one thing where a mask is set and another where it is not, however an exporter writes that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from ..graph import Graph, Node
from ..shapes import Tensor

_MOVES = frozenset(("Expand", "Identity", "Reshape", "Squeeze", "Tile", "Unsqueeze"))


class Mask(NamedTuple):
    """A bool value with an element for each sequence, as it is or, `inverted`, the opposite of it."""

    name: str
    inverted: bool

    def opposite(self) -> Mask:
        return Mask(self.name, not self.inverted)


class Update(NamedTuple):
    """`value` is `on` where the mask is set, else `off`; '' is zeros."""

    value: str
    mask: Mask
    on: str
    off: str


def masked_updates(graph: Graph, tensors: Mapping[str, Tensor]) -> list[Update]:
    """Each Where(m, on, off), m * on + (1 - m) * off and m * on, and all of them again in the other way to say it."""
    search = _Search(graph, tensors)
    found = {node.outputs[0]: update for node in graph.nodes if (update := search.update(node)) is not None}
    kept = {value.name for value in graph.outputs}
    kept.update(name for node in graph.nodes if node.op != "Add" or node.outputs[0] not in found for name in node.reads)
    products = {name for node in graph.nodes if node.op == "Mul" for name in node.outputs}
    found = [update for name, update in found.items() if name in kept or name not in products]  # no halves of others
    return [*found, *(Update(value, mask.opposite(), off, on) for value, mask, on, off in found)]


class _Search:
    def __init__(self, graph: Graph, tensors: Mapping[str, Tensor]) -> None:
        self._producers, self._constants, self._tensors = graph.producers(), graph.constants, tensors

    def update(self, node: Node) -> Update | None:
        if node.domain or node.op not in ("Where", "Add", "Mul"):
            return None
        if node.op == "Mul":
            masked = self._masked(node.outputs[0])
            return None if masked is None else Update(node.outputs[0], *masked, "")
        if node.op == "Where":
            mask = self._mask(node.inputs[0])
            return None if mask is None else Update(node.outputs[0], mask, *node.inputs[1:])
        parts = [self._masked(name) for name in node.inputs]
        if None in parts:
            return None
        (mask, on), (opposite, off) = parts
        return Update(node.outputs[0], mask, on, off) if opposite == mask.opposite() else None

    def _masked(self, name: str) -> tuple[Mask, str] | None:
        """The factors of a product of a mask, as numbers, and a value."""
        node = self._producers.get(name)
        if node is None or node.op != "Mul" or node.domain:
            return None
        for factor, other in (node.inputs, node.inputs[::-1]):
            mask = self._mask(factor)
            if mask is not None:
                return mask, other
        return None

    def _mask(self, name: str) -> Mask | None:
        """The mask that a value shows in each of its columns, as bools or as the numbers 1 and 0."""
        inverted = False
        while (node := self._producers.get(name)) is not None and not node.domain:
            if node.op == "Not":
                inverted, name = not inverted, node.inputs[0]
            elif node.op == "Sub" and self._is_one(node.inputs[0]) and not self._is_bool(node.inputs[1]):
                inverted, name = not inverted, node.inputs[1]
            elif node.op in _MOVES or (node.op == "Cast" and self._is_number(name)):
                name = node.inputs[0]
            else:
                break
        shape = self._tensors[name].shape if name in self._tensors else None
        if not shape or not self._is_bool(name) or not (len(shape) == 1 or (len(shape) == 2 and shape[-1] == 1)):
            return None
        return Mask(name, inverted)

    def _is_one(self, name: str) -> bool:
        return name in self._constants and bool(np.all(self._constants[name] == 1))

    def _is_bool(self, name: str) -> bool:
        return name in self._tensors and self._tensors[name].dtype == "bool"

    def _is_number(self, name: str) -> bool:
        return name in self._tensors and self._tensors[name].dtype.startswith(("float", "int"))
