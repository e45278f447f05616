"""Remove nodes whose output is their input."""

from __future__ import annotations

from dataclasses import replace

from ..graph import Graph, Node, rename_inputs
from ..shapes import DTYPES, Tensor
from .infer_shapes import infer_shapes


def drop_noops(graph: Graph) -> Graph:
    """Removes Identity, Dropout, Cast to the same dtype, and Reshape and Transpose that change nothing.

    Graph outputs keep their names; an Identity stays where an output is an input, a constant or another output.
    """
    tensors = infer_shapes(graph)
    used = set(graph.consumers()) | {value.name for value in graph.outputs}
    sources: dict[str, str] = {}  # output of a removed node -> the value it equals
    kept = []
    for node in graph.nodes:
        node = rename_inputs(node, sources)
        if _changes_nothing(node, tensors, used):
            sources[node.outputs[0]] = node.inputs[0]
        else:
            kept.append(node)
    return replace(graph, nodes=_with_output_names(graph, kept, sources))


def _with_output_names(graph: Graph, nodes: list[Node], sources: dict[str, str]) -> tuple[Node, ...]:
    made = {name for node in nodes for name in node.outputs}
    outputs = [value.name for value in graph.outputs]
    renamed: dict[str, str] = {}
    for name in filter(sources.__contains__, outputs):
        source = sources[name]
        if source in made and source not in outputs and source not in renamed:
            renamed[source] = name
        else:
            nodes.append(Node("Identity", (source,), (name,)))
    if not renamed:
        return tuple(nodes)
    return tuple(replace(rename_inputs(node, renamed), outputs=tuple(renamed.get(name, name) for name in node.outputs))
                 for node in nodes)


def _changes_nothing(node: Node, tensors: dict[str, Tensor], used: set[str]) -> bool:
    if node.domain:
        return False
    if node.op == "Identity":
        return True
    if node.op == "Dropout":
        return not used & set(node.outputs[1:]) and not "".join(node.inputs[2:])
    before, after = tensors.get(node.inputs[0]) if node.inputs else None, tensors.get(node.outputs[0])
    if before is None or after is None:
        return False
    if node.op == "Cast":
        return before.dtype == DTYPES[node.attributes["to"]]
    if node.op == "Reshape":
        return before.shape is not None and None not in before.shape and before.shape == after.shape
    if node.op == "Transpose":
        return list(node.attributes.get("perm", ())) == list(range(len(before.shape or "?")))
    return False
