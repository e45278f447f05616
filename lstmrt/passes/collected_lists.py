"""A list that a Loop appends a step's value to, and that is joined behind it, as an output that the Loop scans."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from ..graph import Graph, Node, Value, fresh_names
from .infer_shapes import infer


def collected_lists(graph: Graph) -> Graph:
    """For each list that a Loop begins with empty, appends one value to and hands on, where nobody reads it but a
    ConcatFromSequence that stacks it along a new axis, or joins parts of size 1 along the first one: as torch.jit.script leaves
    `ys.append(y)` with `torch.stack(ys)` or `torch.cat(ys)`."""
    names = fresh_names(graph)
    while True:
        made = next((made for node in graph.nodes if (made := _with_scanned_list(graph, node, names)) is not None), None)
        if made is None:
            return graph
        graph = made


def _with_scanned_list(graph: Graph, joined: Node, names: Iterator[str]) -> Graph | None:
    """`graph` without the list that `joined` joins; None where that is not of this kind."""
    if joined.op != "ConcatFromSequence" or joined.domain:
        return None
    producers, (collected,) = graph.producers(), joined.inputs
    loop = producers.get(collected)
    outputs = {value.name for value in graph.outputs}
    if loop is None or loop.op != "Loop" or loop.domain or len(graph.consumers()[collected]) > 1 or collected in outputs:
        return None
    place = loop.outputs.index(collected)
    begun = producers.get(loop.inputs[2 + place]) if place < len(loop.inputs) - 2 else None
    if begun is None or begun.op != "SequenceEmpty" or begun.domain:
        return None
    whole = next(names)
    scanning = _scanning(loop, place, graph.constants, bool(joined.attributes.get("new_axis", 0)), whole, next(names))
    last = scanning and _joined(joined, whole, replace(graph, nodes=tuple(
        scanning if node is loop else node for node in graph.nodes if node is not joined)))
    if last is None:
        return None
    return replace(graph, nodes=tuple(scanning if node is loop else last if node is joined else node for node in graph.nodes))


def _joined(joined: Node, whole: str, scanned: Graph) -> Node | None:
    """What `joined` makes, of `whole`, which has the steps first; `scanned` makes that."""
    axis = joined.attributes["axis"]
    if axis == 0:
        return Node("Identity", (whole,), joined.outputs, {}, joined.name)
    tensor = infer(scanned)[0].get(whole)
    if not joined.attributes.get("new_axis", 0) or tensor is None or tensor.shape is None:
        return None
    axes = list(range(1, len(tensor.shape)))
    axes.insert(axis if axis >= 0 else len(tensor.shape) + axis, 0)
    return Node("Transpose", (whole,), joined.outputs, {"perm": tuple(axes)}, joined.name)


def _scanning(loop: Node, place: int, constants: Mapping[str, np.ndarray], is_stacked: bool, whole: str,
              step: str) -> Node | None:
    """The loop with the output `whole`, of values that the body calls `step`, in place of the list, its state number `place`;
    None where the body does more to that than append to it. Parts that are not stacked must have an axis put in front."""
    body = loop.attributes["body"]
    before, after = body.inputs[2 + place].name, body.outputs[1 + place].name
    append = next((node for node in body.nodes if after in node.outputs), None)
    if append is None or append.domain or append.op != "SequenceInsert" or len(append.inputs) != 2 or append.inputs[0] != before:
        return None
    if [node for node in body.nodes if {before, after}.intersection(node.reads)] != [append]:
        return None
    if [value.name for value in body.outputs].count(after) > 1 or before in {value.name for value in body.outputs}:
        return None
    appended = append.inputs[1]
    if not is_stacked:
        put_in_front = next((node for node in body.nodes if appended in node.outputs), None)
        if put_in_front is None or put_in_front.op != "Unsqueeze" or put_in_front.domain:
            return None
        axes = constants.get(put_in_front.inputs[1])
        if axes is None or axes.tolist() != [0]:
            return None
        appended = put_in_front.inputs[0]
    inside = replace(body, inputs=(*body.inputs[:2 + place], *body.inputs[3 + place:]),
                     outputs=(*body.outputs[:1 + place], *body.outputs[2 + place:], Value(step, "", None)),
                     nodes=tuple(Node("Identity", (appended,), (step,)) if node is append else node for node in body.nodes))
    return replace(loop, inputs=(*loop.inputs[:2 + place], *loop.inputs[3 + place:]),
                   outputs=(*loop.outputs[:place], *loop.outputs[place + 1:], whole),
                   attributes={**loop.attributes, "body": inside})
