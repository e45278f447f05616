"""Attention that is written out, as one node.

The softmax, over the last axis, of the products of queries and keys, or of sums of tanh(query + key), scaled or not and hidden
where masks are not set, times the values: of one head, (batch, time, width), or of several, (batch, heads, time, width).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ..graph import EXTENSION, Graph, Node, Value, fresh_names
from ..operators import attributes, named_inputs
from ..shapes import normal_axis
from .drop_unused import drop_unused
from .infer_shapes import infer_shapes


class _Attention(NamedTuple):
    """The inputs and attributes of the node, and the values of the graph that it makes: the `weights` still have their axes
    in another order."""

    inputs: tuple[str, ...]  # Q, K, V, query_mask, key_mask
    column: np.ndarray | None
    attributes: dict
    result: str
    weights: str
    name: str


def fuse_attention(graph: Graph, kept: Iterable[str] = ()) -> Graph:
    """Every attention as a node of its own. Weights that are `kept`, values of the graph, are made though nobody reads them."""
    if not any(node.op == "Softmax" for node in graph.nodes):
        return graph
    names, nodes, constants = fresh_names(graph), graph.nodes, dict(graph.constants)
    for found in _Matcher(graph).attentions():
        nodes = _with_attention(nodes, found, _nodes(found, names, constants))
    kept = tuple(Value(name, "float32", None) for name in kept)
    fused = drop_unused(replace(graph, nodes=nodes, constants=constants, outputs=graph.outputs + kept))
    return replace(fused, outputs=graph.outputs)


def _nodes(found: _Attention, names: Iterator[str], constants: dict[str, np.ndarray]) -> list[Node]:
    inputs, weights = found.inputs, next(names)
    if found.column is not None:
        constants[column := next(names)] = found.column
        inputs += (column,)
    attention = Node("Attention", inputs, (found.result, weights), found.attributes, found.name, EXTENSION)
    if "heads" in found.attributes:
        return [attention, Node("Transpose", (weights,), (found.weights,), {"perm": (0, 2, 1, 3)}, found.name)]
    constants[axes := next(names)] = np.array([2], np.int64)
    return [attention, Node("Squeeze", (weights, axes), (found.weights,), {}, found.name)]


def _with_attention(nodes: tuple[Node, ...], found: _Attention, new: list[Node]) -> tuple[Node, ...]:
    """`nodes` with `new`, which come as soon as all is there that they read, in place of those that made the same; or as
    they are, where somebody reads the weights before."""
    old = [node for node in nodes if not {found.result, found.weights}.intersection(node.outputs)]
    place = max((i + 1 for i, node in enumerate(old) if set(found.inputs).intersection(node.outputs)), default=0)
    early = {name for node in old[:place] for name in node.reads}
    return nodes if {found.result, found.weights} & early else (*old[:place], *new, *old[place:])


class _Matcher:
    def __init__(self, graph: Graph) -> None:
        self.nodes, self.constants, self.tensors = graph.nodes, graph.constants, infer_shapes(graph)
        self.producers, self.consumers = graph.producers(), graph.consumers()
        self.outputs = {value.name for value in graph.outputs}

    def attentions(self) -> Iterator[_Attention]:
        for node in self.nodes:
            softmax = self._made_by("Softmax", node.inputs[0]) if (node.domain, node.op) == ("", "MatMul") else None
            found = softmax and self._attention(node, softmax)
            if found:
                yield found

    def _attention(self, product: Node, softmax: Node) -> _Attention | None:
        shape = self._shape(softmax.outputs[0])
        if len(shape) not in (3, 4) or normal_axis(attributes(softmax)["axis"], len(shape)) != len(shape) - 1:
            return None
        scores, hidden, masks = self._hidden(softmax.inputs[0], shape)
        scores, scale = self._scaled(scores)
        parts = self._products(scores) if len(shape) == 3 else self._products_of_heads(scores)
        parts = parts or (self._sums(scores) if len(shape) == 3 else None)
        v, result = (product.inputs[1], product.outputs[0]) if len(shape) == 3 else self._joined(product)
        if masks is None or parts is None or not v or not self._fit(parts[0], parts[1], v):
            return None
        options = {"scale": scale, "hidden": hidden, "causal": masks.pop("causal", 0)}
        options |= {"heads": shape[1]} if len(shape) == 4 else {}
        inputs = (parts[0], parts[1], v, masks.get("query", ""), masks.get("key", ""))
        named = (softmax, self.producers[scores], product)
        return _Attention(inputs, parts[2], options, result, softmax.outputs[0],
                          next((node.name for node in named if node.name), ""))

    # ---- what is known of values ----

    def _made_by(self, op: str, name: str) -> Node | None:
        node = self.producers.get(name)
        return node if node is not None and (node.domain, node.op) == ("", op) else None

    def _shape(self, name: str) -> tuple:
        return self.tensors[name].shape or () if name in self.tensors else ()

    def _constant(self, name: str) -> np.ndarray | None:
        return self.constants.get(name)

    def _ints(self, name: str) -> list[int]:
        return self.constants[name].tolist() if name in self.constants else []

    def _number(self, name: str) -> float | None:
        constant = self.constants.get(name)
        return None if constant is None or constant.size != 1 else float(constant.reshape(()))

    def _only_reader(self, name: str, op: str) -> Node | None:
        readers = self.consumers.get(name, [])
        alone = len(readers) == 1 and name not in self.outputs
        return readers[0] if alone and (readers[0].domain, readers[0].op) == ("", op) else None

    def _fit(self, q: str, k: str, v: str) -> bool:
        """Whether these are values (batch, time, width) in float32, keys and values of the same steps."""
        shapes = [self._shape(name) for name in (q, k, v)]
        if any(len(shape) != 3 or None in shape or not isinstance(shape[2], int) for shape in shapes):
            return False
        if any(name in self.constants or self.tensors[name].dtype != "float32" for name in (q, k, v)):
            return False
        return shapes[0][0] == shapes[1][0] == shapes[2][0] and shapes[1][1] == shapes[2][1] and shapes[0][2] == shapes[1][2]

    # ---- scores ----

    def _scaled(self, scores: str) -> tuple[str, float]:
        for op in ("Mul", "Div"):
            node = self._made_by(op, scores)
            factor = node and self._number(node.inputs[1])
            if factor:
                return node.inputs[0], factor if op == "Mul" else 1 / factor
        return scores, 1.0

    def _products(self, scores: str) -> tuple[str, str, None] | None:
        node = self._made_by("MatMul", scores)
        k, perm = self._moved(node.inputs[1]) if node else ("", ())
        return (node.inputs[0], k, None) if perm == (0, 2, 1) else None

    def _products_of_heads(self, scores: str) -> tuple[str, str, None] | None:
        node = self._made_by("MatMul", scores)
        q, k = (self._heads(node.inputs[0], (0, 2, 1, 3)), self._heads(node.inputs[1], (0, 2, 3, 1))) if node else ("", "")
        return (q, k, None) if q and k else None

    def _sums(self, scores: str) -> tuple[str, str, np.ndarray] | None:
        """tanh(query + key) times a column of weights, or summed."""
        squeeze, summed = self._made_by("Squeeze", scores), self._made_by("ReduceSum", scores)
        product = squeeze and self._made_by("MatMul", squeeze.inputs[0])
        column = product and self._constant(product.inputs[1])
        energies = product.inputs[0] if product else summed.inputs[0] if summed else ""
        axes = self._ints(named_inputs(squeeze or summed)["axes"]) if squeeze or summed else []
        tanh = self._made_by("Tanh", energies)
        total = tanh and self._made_by("Add", tanh.inputs[0])
        if not total or axes not in ([-1], [3]) or (summed and attributes(summed)["keepdims"]):
            return None
        pair = {tuple(self._ints(node.inputs[1])): node.inputs[0]
                for node in (self._made_by("Unsqueeze", name) for name in total.inputs) if node}
        if set(pair) != {(1,), (2,)}:
            return None
        width = self._shape(pair[2,])[-1:]
        column = np.ones(width, np.float32) if summed else column
        return (pair[2,], pair[1,], column.reshape(-1)) if column is not None and (column.size,) == width else None

    # ---- heads ----

    def _moved(self, name: str) -> tuple[str, tuple[int, ...]]:
        """What is transposed into `name`, and how."""
        perm = tuple(range(len(self._shape(name))))
        while (node := self._made_by("Transpose", name)) is not None:
            step = attributes(node)["perm"] or perm[::-1]
            perm, name = tuple(step[axis] for axis in perm), node.inputs[0]
        return name, perm

    def _heads(self, name: str, perm: tuple[int, ...]) -> str:
        """The value (batch, time, heads * width) whose heads `name` has apart, its axes in the order `perm`; or ''."""
        apart, moved = self._moved(name)
        node = self._made_by("Reshape", apart)
        if node is None or moved != perm:
            return ""
        return node.inputs[0] if self._parts_width(self._shape(node.inputs[0]), self._shape(apart)) else ""

    def _joined(self, product: Node) -> tuple[str, str]:
        """The values of several heads, and the result with the heads side by side; or ''."""
        v = self._heads(product.inputs[1], (0, 2, 1, 3))
        transpose = self._only_reader(product.outputs[0], "Transpose")
        reshape = transpose and self._only_reader(transpose.outputs[0], "Reshape")
        if not reshape or attributes(transpose)["perm"] != (0, 2, 1, 3):
            return "", ""
        result = reshape.outputs[0]
        return (v, result) if self._parts_width(self._shape(result), self._shape(transpose.outputs[0])) else ("", "")

    def _parts_width(self, joined: tuple, apart: tuple) -> bool:
        if len(joined) != 3 or len(apart) != 4 or None in joined or joined[:2] != apart[:2]:
            return False
        return all(isinstance(size, int) for size in (joined[2], *apart[2:])) and joined[2] == apart[2] * apart[3]

    # ---- masks ----

    def _hidden(self, scores: str, shape: tuple) -> tuple[str, float, dict | None]:
        """Scores, what those are that masks hide, and the masks of queries and keys; None for masks of other kinds."""
        where = self._made_by("Where", scores)
        hidden = where and self._number(where.inputs[2])
        if hidden is None:
            return scores, -1e9, {}
        masks: dict | None = {}
        for name in self._conjuncts(where.inputs[0]):
            kind, value = self._mask(name, shape)
            if not kind or masks.get(kind, value) != value:
                return where.inputs[1], hidden, None
            masks[kind] = value
        return where.inputs[1], hidden, masks

    def _conjuncts(self, name: str) -> list[str]:
        node = self._made_by("And", name)
        return [name] if node is None else [leaf for part in node.inputs for leaf in self._conjuncts(part)]

    def _mask(self, name: str, shape: tuple) -> tuple[str, str | int]:
        """"query" or "key" and the mask, "causal" and 1, or ''."""
        rank = len(shape)
        axes = list(range(rank - len(self._shape(name)), rank))  # of the scores, that the mask's axes are
        while (node := self._made_by("Unsqueeze", name)) is not None:
            new = {normal_axis(axis, len(axes)) for axis in self._ints(node.inputs[1])}
            axes, name = [axis for i, axis in enumerate(axes) if i not in new], node.inputs[0]
        if axes[-2:] == [rank - 2, rank - 1] and self._is_causal(name, shape[-2:]):
            return "causal", 1
        size = {rank - 2: "query", rank - 1: "key"}.get(axes[-1]) if len(axes) == 2 and axes[0] == 0 else None
        fits = size and name not in self.constants and self._shape(name) == (shape[0], shape[axes[-1]])
        return (size, name) if fits else ("", "")

    def _is_causal(self, name: str, sizes: tuple) -> bool:
        """Whether this is a triangle of `sizes`, set where the column is not later than the row."""
        constant, trilu = self._constant(name), self._made_by("Trilu", name)
        if constant is not None:
            return constant.ndim > 1 and bool((constant == np.tri(*constant.shape[-2:], dtype=bool)).all())
        if trilu is None or len(trilu.inputs) > 1 or attributes(trilu)["upper"] or self._shape(name)[-2:] != sizes:
            return False
        expand = self._made_by("Expand", trilu.inputs[0])
        filled = expand and self._constant(expand.inputs[0])
        return filled is not None and bool(filled.all())
