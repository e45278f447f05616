"""Ids that exporters wrap round, because they may be negative: Gather does that by itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ..graph import Graph, Node
from ..lifting.proof import Unknown, evaluate
from ..shapes import INTEGERS, Tensor
from .infer_shapes import infer_shapes

LARGEST_TABLE = 1 << 22  # rows; every id is tried

_ELEMENTWISE = frozenset(("Add", "Sub", "Mul", "Mod", "Cast", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal",
                          "Not", "And", "Or", "Where", "Identity", "Max", "Min", "Clip", "Neg", "Abs", "Sign"))


def plain_ids(graph: Graph) -> Graph:
    """Gather(table, f(ids)) -> Gather(table, ids), where f(ids) is ids, or ids plus the table's rows, for every id that
    the table has."""
    tensors, producers = infer_shapes(graph), graph.producers()
    nodes = []
    for node in graph.nodes:
        if node.op == "Gather" and not node.domain and node.inputs[0] in graph.constants and (
                graph.constants[node.inputs[0]].ndim and node.inputs[1] in producers):
            source = _source(node.inputs[1], producers, graph.constants, tensors)
            rows = graph.constants[node.inputs[0]].shape[node.attributes.get("axis", 0)]
            if source not in (None, node.inputs[1]) and _changes_no_row(graph, tensors, node.inputs[1], source, rows):
                node = replace(node, inputs=(node.inputs[0], source))
        nodes.append(node)
    return replace(graph, nodes=tuple(nodes))


def _source(name: str, producers: Mapping[str, Node], constants: Mapping[str, np.ndarray],
            tensors: Mapping[str, Tensor]) -> str | None:
    """The one value of integers that `name` is made of element by element, with scalars."""
    found, queue, seen = set(), [name], set()
    while queue:
        current = queue.pop()
        if current in seen:
            continue
        seen.add(current)
        node = producers.get(current)
        if current in constants:
            if constants[current].size != 1:
                return None
        elif node is None or node.domain or node.op not in _ELEMENTWISE or _is_read_as_integer(node, tensors):
            found.add(current)
        else:
            queue += node.reads
    source = found.pop() if len(found) == 1 else None
    known = source in tensors and name in tensors
    if not known or tensors[source].dtype not in INTEGERS or tensors[source].shape != tensors[name].shape:
        return None
    return source


def _is_read_as_integer(node: Node, tensors: Mapping[str, Tensor]) -> bool:
    """Whether it casts ids that come as floats."""
    return node.op == "Cast" and node.inputs[0] in tensors and tensors[node.inputs[0]].dtype.startswith("float") and (
        tensors[node.outputs[0]].dtype in INTEGERS if node.outputs[0] in tensors else False)


def _changes_no_row(graph: Graph, tensors: Mapping[str, Tensor], name: str, source: str, rows: int) -> bool:
    if rows > LARGEST_TABLE:
        return False
    ids = np.arange(-rows, rows).astype(tensors[source].dtype)
    try:
        made = evaluate(graph.nodes, graph.constants, tensors, {source: ids}, {}, [name])[name]
    except Unknown:
        return False
    return made.shape == ids.shape and bool((made % rows == ids % rows).all() and (made >= -rows).all() and (made < rows).all())
