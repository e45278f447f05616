"""What native programs know of a graph's axes: the role of each, and what nodes say about the roles of values."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from ..graph import Dim, Graph, Node
from ..shapes import Tensor

BATCH, TIME, SOURCE, WIDTH, ONE = "batch", "time", "source", "width", "one"
ACROSS = {"across time": TIME, "across source": SOURCE}  # the last axis of weights of an attention
Roles = "tuple[str, ...]"  # of these, one for each axis

ROWS = {(BATCH,): "batch", (BATCH, TIME): "batch_time", (TIME, BATCH): "time_batch", (BATCH, SOURCE): "batch_source"}
ROWS_OF_ONE = {(): "batch", (TIME,): "time_batch"}  # of a single sequence, without an axis for the batch
DTYPES = {"float32": "f32", "int64": "i64", "int32": "i64", "bool": "bool"}


def without_widths(roles: Roles) -> Roles:
    """What stands in front of the last axes that are a row's width; an image has several."""
    end = len(roles)
    while end and roles[end - 1] == WIDTH:
        end -= 1
    return roles[:end]


def width_of(roles: Roles, shape: tuple[Dim, ...]) -> int:
    """Elements of a row."""
    return math.prod(size for role, size in zip(roles, shape) if role == WIDTH and isinstance(size, int))


class Contradiction(Exception):
    """Roles that do not go together."""


class Facts(NamedTuple):
    """What the rules look up about a graph."""

    tensors: Mapping[str, Tensor]
    constants: Mapping[str, np.ndarray]
    consumers: Mapping[str, list[Node]]
    producers: Mapping[str, Node]
    outputs: Mapping[str, None]  # in the graph's order

    @classmethod
    def of(cls, graph: Graph, tensors: Mapping[str, Tensor]) -> Facts:
        return cls(tensors, graph.constants, graph.consumers(), graph.producers(),
                   dict.fromkeys(value.name for value in graph.outputs))

    def shape(self, name: str) -> tuple[Dim, ...] | None:
        return self.tensors[name].shape if name in self.tensors else None

    def dtype(self, name: str) -> str | None:
        return self.tensors[name].dtype if name in self.tensors else None

    def read_once(self, name: str) -> bool:
        return len(self.consumers.get(name, ())) == 1 and name not in self.outputs

    def used(self, name: str) -> bool:
        return name in self.consumers or name in self.outputs

    def ints(self, name: str) -> list[int] | None:
        """The elements of a constant, or None if it is no constant of integers."""
        constant = self.constants.get(name)
        return None if constant is None or constant.dtype.kind not in "iu" else constant.ravel().tolist()


class Tie(NamedTuple):
    """What a node says about the roles of the values `names`: the known roles of some imply the roles of others."""

    names: tuple[str, ...]
    imply: Callable[[Mapping[str, Roles]], Mapping[str, Roles]]
