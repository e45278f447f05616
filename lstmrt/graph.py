"""The graph every importer makes and every pass rewrites: ONNX operators in frozen dataclasses.

Operators, attribute names, gate orders (LSTM i,o,f,c; GRU z,r,h) and semantics are those of ONNX opset
`OPSET`; the few extensions live in the domain `lstmrt` (see operators.py). Nothing here runs a graph:
reference.py says what one means, compile.py makes one fast.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import NamedTuple, Union

import numpy as np

OPSET = 20
EXTENSION = "lstmrt"  # the domain of the operators that ONNX does not have

Dim = Union[int, str, None]  # a size, the name of a symbolic size, or unknown
Attribute = Union[int, float, str, tuple, np.ndarray, "Graph"]


class Value(NamedTuple):
    """A graph input or output: `dtype` is a NumPy dtype name, `shape` None where even the rank is unknown."""

    name: str
    dtype: str
    shape: tuple[Dim, ...] | None


@dataclass(frozen=True)
class Node:
    """One operator. An input or output that is left out is the empty string, as in ONNX.

    `opset` is that of the domain, for a foreign node; None where the operator means what it does at OPSET.
    """

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Attribute] = field(default_factory=lambda: MappingProxyType({}))
    name: str = ""  # the layer's or node's name in the source file, for messages
    domain: str = ""
    opset: int | None = None

    def __str__(self) -> str:
        op = f"{self.domain}:{self.op}" if self.domain else self.op
        return f"{op} '{self.name}'" if self.name else op

    @property
    def subgraphs(self) -> tuple[Graph, ...]:
        """The branches of an If, the body of a Loop or Scan."""
        return tuple(value for value in self.attributes.values() if isinstance(value, Graph))

    @property
    def reads(self) -> tuple[str, ...]:
        """The inputs that are there, then what the subgraphs capture."""
        given = tuple(filter(None, self.inputs))
        if not self.attributes:
            return given
        return given + tuple(name for graph in self.subgraphs for name in graph.captured())


@dataclass(frozen=True, eq=False)
class Graph:
    """Nodes in execution order; `constants` maps value names to read-only arrays.

    A graph in an attribute, a subgraph, may read values that are defined around its node: it captures them by name. It
    has no constants, those of the outermost graph serve it, and no name of its own making is in use around it.
    """

    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    nodes: tuple[Node, ...]
    constants: Mapping[str, np.ndarray]
    name: str = ""

    def validate(self) -> Graph:
        """This graph, or a GraphError that lists every fault of it."""
        from .validate import validate  # knows the operators, which know this module

        return validate(self)

    def consumers(self) -> dict[str, list[Node]]:
        """Value name -> the nodes that read it, once for each reading input or capturing subgraph, in order."""
        consumers: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in node.reads:
                consumers.setdefault(name, []).append(node)
        return consumers

    def producers(self) -> dict[str, Node]:
        """Value name -> the node that makes it."""
        return {name: node for node in self.nodes for name in node.outputs if name}

    def names(self) -> set[str]:
        """Every value name in use, subgraphs included."""
        names = {value.name for value in self.inputs} | set(self.constants)
        names |= {name for node in self.nodes for name in node.inputs + node.outputs if name}
        return names.union(*(graph.names() for node in self.nodes for graph in node.subgraphs))

    def captured(self) -> tuple[str, ...]:
        """What a subgraph reads and does not define, each once."""
        defined = {value.name for value in self.inputs} | set(self.constants)
        captured: dict[str, None] = {}
        for node in self.nodes:
            captured.update((name, None) for name in node.reads if name not in defined)
            defined.update(node.outputs)
        captured.update((value.name, None) for value in self.outputs if value.name not in defined)
        return tuple(captured)


def fresh_names(graph: Graph) -> Iterator[str]:
    """Value names that `graph` does not use, without end: take each with `next`."""
    taken = graph.names()
    number = 0
    while True:
        name = f"value_{number}"
        number += 1
        if name not in taken:
            yield name


def all_nodes(nodes: Iterable[Node]) -> Iterator[Node]:
    """`nodes` and those of their subgraphs."""
    for node in nodes:
        yield node
        for graph in node.subgraphs:
            yield from all_nodes(graph.nodes)


def map_subgraphs(node: Node, rewrite: Callable[[Graph], Graph]) -> Node:
    """`node` with each of its subgraphs rewritten."""
    if not node.subgraphs:
        return node
    return replace(node, attributes={name: rewrite(value) if isinstance(value, Graph) else value
                                     for name, value in node.attributes.items()})


def rename_inputs(node: Node, renamed: Mapping[str, str]) -> Node:
    """`node` reading `renamed[name]` wherever it, or a subgraph of it, read `name`."""
    if renamed.keys().isdisjoint(node.reads):
        return node
    node = map_subgraphs(node, lambda graph: _rename_captured(graph, renamed))
    return replace(node, inputs=tuple(renamed.get(name, name) for name in node.inputs))


def _rename_captured(graph: Graph, renamed: Mapping[str, str]) -> Graph:
    outputs = tuple(value._replace(name=renamed.get(value.name, value.name)) for value in graph.outputs)
    return replace(graph, nodes=tuple(rename_inputs(node, renamed) for node in graph.nodes), outputs=outputs)
