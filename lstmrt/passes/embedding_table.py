"""Fuse an embedding and the input weights of the recurrent nodes behind it into one lookup."""

from __future__ import annotations

from dataclasses import replace
from typing import Iterator

import numpy as np

from ..gates import ONNX, gate_rows
from ..graph import EXTENSION, Graph, Node, fresh_names
from ..operators import is_dynamic, is_recurrent, named_inputs

ROWS_AT_ONCE = 128  # of a table that is being made
LARGEST_TABLE = 64 << 20  # bytes; beyond it a lookup costs more memory than the multiplication it saves is worth


def embedding_table(graph: Graph, limit: int = LARGEST_TABLE) -> Graph:
    """Gather(E, ids) read only as X of recurrent nodes with constant W and B -> Gather(E·Wᵀ + Wb + Rb, ids), no W.

    E (vocabulary, inputs); each node has one direction and gets a table (vocabulary, gates * hidden), computed in
    float64 and rounded once. Of B the GRU with linear_before_reset keeps Rb of gate h, which its reset gate scales.
    """
    constants, names = dict(graph.constants), fresh_names(graph)
    consumers, outputs = graph.consumers(), {value.name for value in graph.outputs}
    gathers: dict[str, Node] = {}  # name of an embedded value -> the Gather that makes it
    for node in graph.nodes:
        if _is_embedding(node, constants) and node.outputs[0] not in outputs:
            table = constants[node.inputs[0]]
            if all(_is_eligible(reader, node.outputs[0], table, constants, limit)
                   for reader in consumers.get(node.outputs[0], [])):
                gathers[node.outputs[0]] = node
    nodes = []
    for node in graph.nodes:
        if is_recurrent(node) and node.inputs[0] in gathers:
            nodes += _fused(node, gathers[node.inputs[0]], constants, names)
        elif not gathers.keys() & set(node.outputs):
            nodes.append(node)
    return replace(graph, nodes=tuple(nodes), constants=constants)


def _is_embedding(node: Node, constants: dict[str, np.ndarray]) -> bool:
    if node.op != "Gather" or node.domain or node.attributes.get("axis", 0) != 0:
        return False
    table = constants.get(node.inputs[0])
    return table is not None and table.ndim == 2 and table.dtype == np.float32


def _is_eligible(node: Node, embedded: str, table: np.ndarray, constants: dict[str, np.ndarray], limit: int) -> bool:
    if not is_recurrent(node) or node.inputs.count(embedded) > 1 or node.attributes.get("direction") == "bidirectional":
        return False
    if is_dynamic(node):  # what is embedded is quantized before it is multiplied
        return False
    given = named_inputs(node)
    if given["X"] != embedded or given["W"] not in constants or (given["B"] and given["B"] not in constants):
        return False
    return len(table) * constants[given["W"]].shape[1] * 4 <= limit


def _fused(node: Node, gather: Node, constants: dict[str, np.ndarray], names: Iterator[str]) -> list[Node]:
    given = named_inputs(node)
    w = constants[given["W"]][0].astype(np.float64)
    b = np.zeros(2 * len(w)) if not given["B"] else constants[given["B"]][0].astype(np.float64)
    input_bias, recurrent_bias = np.split(b, 2)
    kept_bias = np.zeros_like(b)
    if node.op == "GRU" and node.attributes.get("linear_before_reset"):
        rows = gate_rows(ONNX["GRU"], "h", node.attributes["hidden_size"])
        kept_bias[len(w):][rows] = recurrent_bias[rows]
    folded_bias = input_bias + recurrent_bias - kept_bias[len(w):]
    table_name, part, bias_name = next(names), next(names), next(names) if kept_bias.any() else ""
    constants[table_name] = _table(constants[gather.inputs[0]], w, folded_bias)
    if bias_name:
        constants[bias_name] = kept_bias.astype(np.float32)[None]
    inputs = (part, "", given["R"], bias_name, *node.inputs[4:])
    return [replace(gather, inputs=(table_name, gather.inputs[1]), outputs=(part,)),
            replace(node, inputs=inputs, domain=EXTENSION)]


def _table(embeddings: np.ndarray, w: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """E·Wᵀ + b, some rows at a time: in float64 a large table would be twice as large as the model."""
    table = np.empty((len(embeddings), len(w)), np.float32)
    products = np.empty((min(ROWS_AT_ONCE, len(table)), len(w)))  # one memory for all: new pages cost as much as the sums
    for start in range(0, len(table), ROWS_AT_ONCE):
        rows = embeddings[start:start + ROWS_AT_ONCE].astype(np.float64)
        sums = np.matmul(rows, w.T, out=products[:len(rows)])
        sums += bias
        table[start:start + ROWS_AT_ONCE] = sums
    return table
