"""How many ids a model reads and makes: whether it can read what it makes."""

from __future__ import annotations

from .graph import Graph

SPARE = 3  # rows that a table may have beyond the ids that a model makes: padding, unknown, beginning


_PASS_IDS_ON = frozenset(("Cast", "Gather", "Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"))


def input_vocabulary(graph: Graph, name: str) -> int | None:
    """The rows of the smallest table that an input of ids, or a part of it, is looked up in; None where there is none."""
    ids, tables = {name}, []
    for node in graph.nodes:
        if node.op == "Gather" and node.inputs[1] in ids and node.inputs[0] in graph.constants:
            tables.append(graph.constants[node.inputs[0]])
        elif node.op in _PASS_IDS_ON and not node.domain and node.inputs[0] in ids:
            ids.update(node.outputs)
    return min(map(len, tables), default=None)


def makes_its_ids(width: object, vocabulary: int | None) -> bool:
    """Whether an output `width` wide is one number for each id of the input: classes and tags are not."""
    return isinstance(width, int) and vocabulary is not None and max(2, vocabulary - SPARE) <= width <= vocabulary
