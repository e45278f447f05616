"""Layer normalizations that are written out, as one node: exporters did so before opset 17."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ..graph import Graph, Node, fresh_names
from ..shapes import Tensor, normal_axes
from .infer_shapes import infer_shapes


class _Found(NamedTuple):
    x: str
    shape: tuple[int, ...]  # of the normalized axes
    epsilon: float


def layer_normalizations(graph: Graph) -> Graph:
    """(x - mean) / sqrt(variance + epsilon), times a constant and plus another where they follow -> LayerNormalization, for
    the last axes."""
    matcher, names = _Matcher(graph), fresh_names(graph)
    constants, replaced = dict(graph.constants), {}
    for node in graph.nodes:
        found = matcher.normalized(node)
        if found is None:
            continue
        last, scale, shift = matcher.with_constants(node, found.shape)
        inputs = [found.x]
        for array in (np.ones(found.shape, matcher.tensors[found.x].dtype) if scale is None else scale, shift):
            if array is not None:
                inputs.append(next(names))
                constants[inputs[-1]] = array
        options = {"axis": -len(found.shape), "epsilon": found.epsilon}
        replaced[last.outputs[0]] = Node("LayerNormalization", tuple(inputs), last.outputs, options, last.name)
    return replace(graph, constants=constants, nodes=tuple(replaced.get(node.outputs[0], node) for node in graph.nodes))


class _Matcher:
    def __init__(self, graph: Graph) -> None:
        self.tensors: Mapping[str, Tensor] = infer_shapes(graph)
        self._constants, self._producers = graph.constants, graph.producers()
        self._consumers, self._outputs = graph.consumers(), {value.name for value in graph.outputs}

    def normalized(self, node: Node) -> _Found | None:
        """What `node` normalizes: Div(d, Sqrt(Add(ReduceMean(d^2), epsilon))) with d = Sub(x, ReduceMean(x))."""
        if node.op != "Div" or node.domain:
            return None
        d, root = node.inputs
        added = self._inputs(root, "Sqrt") and self._inputs(self._inputs(root, "Sqrt")[0], "Add")
        sub = self._inputs(d, "Sub")
        if not added or not sub or sub[0] not in self.tensors:
            return None
        variance, epsilon = self._with_number(added)
        squares = self._mean_of(variance)
        mean = self._mean_of(sub[1])
        if epsilon is None or squares is None or mean is None or mean[0] != sub[0] or mean[1] != squares[1]:
            return None
        if self._inputs(squares[0], "Mul") != (d, d) and not self._is_square(squares[0], d):
            return None
        x, axes = mean
        shape = self.tensors[x].shape
        if shape is None or axes != tuple(range(len(shape) - len(axes), len(shape))):
            return None
        normal = shape[len(shape) - len(axes):]
        return _Found(x, normal, epsilon) if all(isinstance(size, int) for size in normal) else None

    def with_constants(self, node: Node, shape: tuple[int, ...]) -> tuple[Node, np.ndarray | None, np.ndarray | None]:
        """The last node of the normalization, and its scale and shift."""
        scaled, scale = self._next(node, "Mul", shape)
        shifted, shift = self._next(scaled, "Add", shape)
        return shifted, scale, shift

    def _next(self, node: Node, op: str, shape: tuple[int, ...]) -> tuple[Node, np.ndarray | None]:
        (name,) = node.outputs
        readers = self._consumers.get(name, ())
        if len(readers) != 1 or name in self._outputs or readers[0].op != op or readers[0].domain:
            return node, None
        other = readers[0].inputs[1 - readers[0].inputs.index(name)]
        array = self._constants.get(other)
        if array is None or array.ndim > len(shape):
            return node, None
        try:
            return readers[0], np.array(np.broadcast_to(array, shape))
        except ValueError:
            return node, None

    def _inputs(self, name: str, op: str) -> tuple[str, ...]:
        """Of the node that makes `name`, if that is one of these."""
        node = self._producers.get(name)
        return node.inputs if node is not None and node.op == op and not node.domain else ()

    def _with_number(self, names: tuple[str, ...]) -> tuple[str, float | None]:
        for value, constant in (names, names[::-1]):
            if constant in self._constants and self._constants[constant].size == 1:
                return value, float(self._constants[constant].reshape(()))
        return names[0], None

    def _mean_of(self, name: str) -> tuple[str, tuple[int, ...]] | None:
        """What is averaged, and over which axes, which stay as sizes of 1."""
        node = self._producers.get(name)
        if node is None or node.op != "ReduceMean" or node.domain or not node.attributes.get("keepdims", 1):
            return None
        axes = self._constants.get(node.inputs[1]) if len(node.inputs) > 1 else None
        tensor = self.tensors.get(node.inputs[0])
        if axes is None or not axes.size or tensor is None or tensor.shape is None:
            return None
        return node.inputs[0], tuple(sorted(normal_axes(axes.tolist(), len(tensor.shape))))

    def _is_square(self, name: str, d: str) -> bool:
        power = self._inputs(name, "Pow")
        exponent = self._constants.get(power[1]) if power else None
        return bool(power) and power[0] == d and exponent is not None and exponent.size == 1 and exponent.item() == 2
