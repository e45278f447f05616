"""A layer that is written out step after step is one layer of all steps: what Keras 3 exports of TimeDistributed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from ..activations import elementwise_activation
from ..graph import Graph, Node, fresh_names
from ..operators import attributes
from ..shapes import Tensor, normal_axis
from .infer_shapes import infer_shapes

_ARITHMETIC = frozenset(("Add", "Div", "Mul", "Sub"))


def joined_steps(graph: Graph) -> Graph:
    """Concat of Unsqueeze(f(x)), Unsqueeze(f(y)) ... -> f(Concat of Unsqueeze(x), Unsqueeze(y) ...), again and again, where f
    is an activation, a product with a matrix, or arithmetic with a constant, and nothing else reads what it makes."""
    search = _Search(graph)
    for node in graph.nodes:
        search.nodes += search.joined(node) if node.op == "Concat" and not node.domain else [node]
    return replace(graph, nodes=tuple(search.nodes), constants=search.constants)


class _Search:
    """`nodes` are those of the rewritten graph so far; what they no longer read goes with drop_unused."""

    def __init__(self, graph: Graph) -> None:
        self.producers, self.constants = graph.producers(), dict(graph.constants)
        self.tensors: Mapping[str, Tensor] = infer_shapes(graph)
        self.names: Iterator[str] = fresh_names(graph)
        self.nodes: list[Node] = []
        self.readers = {name: len(nodes) for name, nodes in graph.consumers().items()}
        for value in graph.outputs:
            self.readers[value.name] = self.readers.get(value.name, 0) + 1

    def joined(self, concat: Node) -> list[Node]:
        rank = self._rank(concat.outputs[0])
        if rank is None or len(concat.inputs) < 2:
            return [concat]
        axis = normal_axis(attributes(concat)["axis"], rank)
        steps = [self._unsqueezed(name, axis, rank) for name in concat.inputs]
        layers: list[Node] = []  # the last one first
        while None not in steps and (layer := self._layer(steps, axis)) is not None:
            place = self._place(layer)
            steps = [self.producers[name].inputs[place] for name in steps]
            layers.append(layer)
        return self._rewritten(concat, axis, steps, layers[::-1]) if layers else [concat]

    def _unsqueezed(self, name: str, axis: int, rank: int) -> str | None:
        """The value that has an axis of size 1 more in `name`, at `axis`."""
        node = self.producers.get(name)
        if node is None or (node.domain, node.op) != ("", "Unsqueeze") or self.readers[name] > 1:
            return None
        axes = self.constants.get(node.inputs[1])
        return node.inputs[0] if axes is not None and axes.size == 1 and normal_axis(int(axes.item()), rank) == axis else None

    def _layer(self, steps: Sequence[str], axis: int) -> Node | None:
        """The node that makes every one of `steps`, if it makes the same of all of them, and with them side by side."""
        made = [self.producers.get(name) for name in steps]
        first = made[0]
        if None in made or len(set(steps)) < len(steps) or any(self.readers[name] > 1 for name in steps):
            return None
        if not all(self._is_same(node, first) for node in made) or not self._goes_over(first, axis):
            return None
        return first

    def _place(self, node: Node) -> int | None:
        """Which input is the one that is no constant."""
        others = [i for i, name in enumerate(node.inputs) if name and name not in self.constants]
        return others[0] if len(others) == 1 else None

    def _is_same(self, node: Node, first: Node) -> bool:
        if (node.op, node.domain, len(node.inputs), len(node.outputs)) != (first.op, first.domain, len(first.inputs), 1):
            return False
        place = self._place(first)
        return place is not None and self._place(node) == place and dict(node.attributes) == dict(first.attributes) and all(
            i == place or a == b or np.array_equal(self.constants[a], self.constants[b])
            for i, (a, b) in enumerate(zip(node.inputs, first.inputs)))

    def _goes_over(self, node: Node, axis: int) -> bool:
        """Whether the node does the same to each part along an axis that comes in at `axis`."""
        rank, place = self._rank(node.outputs[0]), self._place(node)
        if node.domain or rank is None or self._rank(node.inputs[place]) != rank:
            return False
        if elementwise_activation(node, self.constants) is not None:
            return True
        others = [self.constants[name] for i, name in enumerate(node.inputs) if i != place and name]
        if node.op == "MatMul":
            return place == 0 and others[0].ndim == 2 and axis < rank
        if node.op == "Gemm":
            given = attributes(node)
            plain = given["alpha"] == given["beta"] == 1 and not given["transA"]
            return plain and place == 0 and axis < rank and all(bias.ndim < 2 for bias in others[1:])
        return node.op in _ARITHMETIC and others[0].ndim <= rank - axis

    def _rank(self, name: str) -> int | None:
        tensor = self.tensors.get(name)
        return None if tensor is None or tensor.shape is None else len(tensor.shape)

    def _rewritten(self, concat: Node, axis: int, steps: Sequence[str], layers: Sequence[Node]) -> list[Node]:
        axes = next(self.names)
        self.constants[axes] = np.array([axis])
        nodes = [Node("Unsqueeze", (name, axes), (next(self.names),)) for name in steps]
        nodes.append(Node("Concat", tuple(node.outputs[0] for node in nodes), (next(self.names),), {"axis": axis}))
        for layer in layers:
            for node in self._of_any_rank(layer):
                inputs = list(node.inputs)
                inputs[self._place(layer)] = nodes[-1].outputs[0]
                nodes.append(replace(node, inputs=tuple(inputs), outputs=(next(self.names),)))
        nodes[-1] = replace(nodes[-1], outputs=concat.outputs)
        return nodes

    def _of_any_rank(self, layer: Node) -> list[Node]:
        """A Gemm, which knows matrices alone, as MatMul and Add."""
        if layer.op != "Gemm":
            return [layer]
        x, w, *bias = filter(None, layer.inputs)
        if attributes(layer)["transB"]:
            turned = next(self.names)
            self.constants[turned], w = np.ascontiguousarray(self.constants[w].T), turned
        return [Node("MatMul", (x, w), ("",), {}, layer.name), *(Node("Add", (x, b), ("",), {}, layer.name) for b in bias)]
