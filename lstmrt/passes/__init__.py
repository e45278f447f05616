"""Rewrites, each a function Graph -> Graph that keeps what the graph computes, and the orders in which they run."""

from __future__ import annotations

import operator

from ..graph import Graph
from .dequantized_tables import dequantized_tables
from .drop_noops import drop_noops
from .drop_unused import drop_unused
from .dynamic_products import dynamic_products
from .fold_constants import fold_constants, fold_weights
from .fuse_attention import fuse_attention
from .infer_shapes import infer_shapes
from .join_directions import join_directions
from .last_step_only import last_step_only
from .narrow_expands import narrow_expands
from .pointwise_convolutions import pointwise_convolutions
from .repeated_parts import repeated_parts
from .split_directions import split_directions
from .widen_halves import widen_halves

LOAD = (widen_halves, dequantized_tables, fold_weights, dynamic_products, repeated_parts, fuse_attention, narrow_expands,
        split_directions, join_directions, last_step_only, pointwise_convolutions, drop_noops, drop_unused)


def canonical(graph: Graph) -> Graph:
    """The form that is saved: what an importer made, without what inference does not need. Makes no file larger."""
    from .conversion import CANONICAL

    while True:  # what one rewrite lays open, another takes up
        before = _structure(graph)
        graph = _run(CANONICAL, graph)
        if _structure(graph) == before:
            return graph


def load(graph: Graph) -> Graph:
    """The form that is compiled: single directions, tables in place of embeddings, only the steps that are used."""
    return _run(LOAD, graph)


def _run(passes, graph: Graph) -> Graph:
    for rewrite in passes:
        rewritten = rewrite(graph)
        if not _is_same(graph, rewritten):  # the same graph keeps what was inferred of it
            graph = rewritten
    return graph


def _is_same(a: Graph, b: Graph) -> bool:
    """Whether both are made of the same objects."""
    return (a.inputs == b.inputs and a.outputs == b.outputs and len(a.nodes) == len(b.nodes)
            and all(map(operator.is_, a.nodes, b.nodes)) and a.constants.keys() == b.constants.keys()
            and all(array is b.constants[name] for name, array in a.constants.items()))


def _structure(graph: Graph) -> list[tuple]:
    return [(node.op, node.inputs, node.outputs) for node in graph.nodes]
