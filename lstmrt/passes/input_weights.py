"""Input weights that an exporter multiplied ahead of the recurrence go into the recurrent node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ..graph import Graph, Node, fresh_names
from ..lifting.symbolic import Formula, Multiplied, Opaque, Read, Reader
from ..operators import is_dynamic, is_recurrent, named_inputs
from ..shapes import Tensor
from .infer_shapes import infer_shapes


def input_weights(graph: Graph) -> Graph:
    """LSTM(X·M + b, W, ...), where W only picks columns, -> LSTM(X, W·Mᵀ, ...) with W·b added to B."""
    tensors, names = infer_shapes(graph), fresh_names(graph)
    constants, nodes, producers = dict(graph.constants), [], graph.producers()
    for node in graph.nodes:
        given = named_inputs(node) if is_recurrent(node) and not is_dynamic(node) else {}
        w = graph.constants.get(given.get("W", ""))
        if w is not None and len(w) == 1 and ((w != 0).sum(2) == 1).all() and (not given["B"] or given["B"] in constants):
            reader = Reader(producers, graph.constants, tensors, lambda name: False)
            found = _product(given["X"], reader)
            if found is not None and _is_alike(tensors[found[0]], tensors[given["X"]]):
                node = _with_weights(node, given, *found, constants, names)
        nodes.append(node)
    return replace(graph, nodes=tuple(nodes), constants=constants)


def _is_alike(a: Tensor, b: Tensor) -> bool:
    """Whether these are rows of the same sequences: masks and integers can be multiplied, but not be an X."""
    return a.dtype == b.dtype and a.shape[:-1] == b.shape[:-1]


def _product(x: str, reader: Reader) -> tuple[str, np.ndarray, np.ndarray] | None:
    """(value, matrix (width, columns), row) if `x` is the value times the matrix plus the row."""
    try:
        formula = reader.inside(x)
    except Opaque:
        return None
    return _parts(formula, reader)


def _parts(formula: Formula, reader: Reader) -> tuple[str, np.ndarray, np.ndarray] | None:
    products = [factors for _, factors in formula.terms.values() if factors]
    if len(products) != 1 or len(products[0]) != 1 or not isinstance(products[0][0], Multiplied):
        return None
    (product,) = products[0]
    if len(product.factors) != 1 or not isinstance(product.factors[0], Read):
        return None
    source = product.factors[0]
    if (source.start, source.stop) != (0, reader.width(source.name)):
        return None
    return source.name, product.matrix.array, formula.constant


def _with_weights(node: Node, given: Mapping[str, str], x: str, matrix: np.ndarray, row: np.ndarray,
                  constants: dict[str, np.ndarray], names) -> Node:
    w = constants[given["W"]][0].astype(np.float64)
    b = constants[given["B"]][0].astype(np.float64) if given["B"] else np.zeros(2 * len(w))
    b[:len(w)] += w @ row
    new_w, new_b = next(names), next(names)
    dtype = constants[given["W"]].dtype
    constants[new_w], constants[new_b] = (w @ matrix.T)[None].astype(dtype), b[None].astype(dtype)
    return replace(node, inputs=(x, new_w, node.inputs[2], new_b, *node.inputs[4:]))
