"""Models that read one-hot vectors, as models of ids: what generation runs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .graph import Graph, Node, Value, fresh_names, rename_inputs


def reads_one_hot(graph: Graph) -> bool:
    """Whether the only input is vectors as wide as the first output, step by step: (batch, time, ids) of float32."""
    if len(graph.inputs) != 1:
        return False
    (given,), made = graph.inputs, graph.outputs[0]
    shape = given.shape or ()
    return (given.dtype == "float32" and len(shape) == 3 and isinstance(shape[2], int) and shape[2] > 1
            and bool(made.shape) and made.shape[-1] == shape[2])


def with_ids(graph: Graph) -> Graph:
    """`graph` reading ids (batch, time) in place of one-hot vectors; the id behind the last is a vector of zeros.

    A table of all vectors: before a recurrent layer it becomes one of its input weights, which is what makes it fast.
    """
    (given,) = graph.inputs
    width = given.shape[2]
    table, vectors = (name for name, _ in zip(fresh_names(graph), range(2)))
    rows = np.eye(width + 1, width, dtype=np.float32)
    rows.flags.writeable = False
    look_up = Node("Gather", (table, given.name), (vectors,), {"axis": 0}, given.name)
    nodes = tuple(rename_inputs(node, {given.name: vectors}) for node in graph.nodes)
    return replace(graph, inputs=(Value(given.name, "int64", given.shape[:2]),), nodes=(look_up, *nodes),
                   constants={**graph.constants, table: rows})
