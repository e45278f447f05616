"""Dequantize a table of bytes once, not what is gathered from it in each call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ..graph import Graph, Node, fresh_names

LARGEST = 1 << 24  # elements of a table that may take four times its memory
_MOVES = frozenset(("Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"))


def dequantized_tables(graph: Graph) -> Graph:
    """DequantizeLinear of rows of a constant table, moved about or not, by one scale -> the rows of the dequantized table."""
    if not any(node.op == "DequantizeLinear" for node in graph.nodes):
        return graph
    producers, names, nodes = graph.producers(), fresh_names(graph), []
    tables: dict[tuple[str, ...], str] = {}  # what a DequantizeLinear reads -> the table it makes
    for node in graph.nodes:
        chain = _chain(node, producers, graph.constants)
        if chain is None:
            nodes.append(node)
            continue
        gather, *moves = chain
        whole = (gather.inputs[0], *node.inputs[1:])
        if whole not in tables:
            tables[whole] = next(names)
            nodes.append(replace(node, inputs=whole, outputs=(tables[whole],)))
        made = tables[whole]
        for i, moved in enumerate(chain):
            inputs = (made, *moved.inputs[1:])
            made = node.outputs[0] if i == len(moves) else next(names)
            nodes.append(replace(moved, inputs=inputs, outputs=(made,)))
    return replace(graph, nodes=tuple(nodes))


def _chain(node: Node, producers: Mapping[str, Node], constants: Mapping[str, np.ndarray]) -> list[Node] | None:
    """The Gather, and what moves its rows, that make what `node` dequantizes; None where it is anything else."""
    if node.op != "DequantizeLinear" or node.domain or not all(
            name in constants and constants[name].size == 1 for name in node.inputs[1:] if name):
        return None
    chain: list[Node] = []
    name = node.inputs[0]
    while (before := producers.get(name)) is not None and not before.domain and before.op in _MOVES:
        chain.insert(0, before)
        name = before.inputs[0]
    if before is None or before.op != "Gather" or before.domain or before.attributes.get("axis", 0) != 0:
        return None
    table = constants.get(before.inputs[0])
    return [before, *chain] if table is not None and table.ndim == 2 and table.size <= LARGEST else None
