"""Write a graph without extensions as an ONNX file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from ..activations import activation_attributes, recurrent_activations
from ..errors import GraphError, MissingDependencyError, UnsupportedError
from ..graph import EXTENSION, Graph, Node, fresh_names, map_subgraphs
from ..onnx_proto import model_proto
from ..operators import find, is_dynamic, is_recurrent, named_inputs
from .onnx_upgrade import MICROSOFT


def write_onnx(graph: Graph, path: str | os.PathLike) -> None:
    """Writes `graph` to `path`. Raises as to_onnx_model does."""
    content = to_onnx_model(graph).SerializeToString()
    with open(path, "wb") as file:
        file.write(content)


def to_onnx_model(graph: Graph) -> Any:
    """`graph` as an onnx.ModelProto that onnxruntime runs.

    Recurrent nodes are written with layout 0, between Transposes where the graph has layout 1: onnxruntime refuses
    layout 1. Raises UnsupportedError that names every node that ONNX cannot express, or for more than 2 GiB of
    constants; MissingDependencyError without the onnx package.
    """
    graph = _with_dynamic_lstms(_time_major(_without_extensions(graph)))
    try:
        model = model_proto(graph.name, graph.inputs, graph.outputs, graph.nodes, graph.constants)
    except ImportError as error:
        raise MissingDependencyError("writing ONNX files needs onnx: pip install lstmrt[onnx]") from error
    return model if all(value.shape is not None for value in graph.outputs) else _with_output_shapes(model)


def _with_output_shapes(model: Any) -> Any:
    """ONNX wants the shapes of outputs; a graph may leave them to be inferred."""
    from onnx import shape_inference

    inferred = shape_inference.infer_shapes(model)
    del inferred.graph.value_info[:]
    return inferred


def _without_extensions(graph: Graph) -> Graph:
    """The extension nodes as ONNX's, where they use nothing that ONNX lacks; activations with all their parameters.

    onnxruntime's defaults for ThresholdedRelu inside a recurrent node are not ONNX's, hence the parameters.
    """
    faults = list(_inexpressible_nodes(graph))
    if faults:
        raise UnsupportedError("ONNX cannot express this graph:\n" + "\n".join(faults))
    return _map_nodes(graph, lambda node: [_plain(node) if is_recurrent(node) else node])


def _map_nodes(graph: Graph, rewrite: Callable[[Node], list[Node]]) -> Graph:
    """`graph` and its subgraphs with each node replaced by what `rewrite` makes of it."""
    nodes = (map_subgraphs(node, lambda subgraph: _map_nodes(subgraph, rewrite)) for node in graph.nodes)
    return replace(graph, nodes=tuple(new for node in nodes for new in rewrite(node)))


def _inexpressible_nodes(graph: Graph, where: str = "") -> Iterator[str]:
    for i, node in enumerate(graph.nodes):
        place = f"{where}nodes[{i}] {node}"
        if reason := _inexpressible(node):
            yield f"{place}: {reason}"
        for subgraph in node.subgraphs:
            yield from _inexpressible_nodes(subgraph, f"{place} ")


def _inexpressible(node: Node) -> str | None:
    if node.domain != EXTENSION:
        return None
    if find(node) is None:
        raise GraphError(f"{node}: the domain {EXTENSION} has no such operator")
    if not is_recurrent(node):
        return "ONNX has no such operator"
    given = named_inputs(node)
    if given["mask"]:
        return "its mask"
    if not given["W"]:
        return "its input weights are folded into its input"
    try:
        recurrent_activations(replace(node, domain=""))
    except GraphError as error:
        return str(error)
    return None


def _plain(node: Node) -> Node:
    functions = [function for direction in recurrent_activations(node) for function in direction]
    attributes = {name: value for name, value in node.attributes.items()
                  if name != "masked_output" and not name.startswith("activation")}
    attributes |= activation_attributes(functions)
    if is_dynamic(node):
        return replace(node, attributes=attributes)
    given = named_inputs(replace(node, domain="", inputs=()))
    return replace(node, domain="", inputs=node.inputs[:len(given)], attributes=attributes)


def _with_dynamic_lstms(graph: Graph) -> Graph:
    """`graph` with each LSTM that has weights in int8 as onnxruntime's."""
    names, constants = fresh_names(graph), dict(graph.constants)

    def of_microsoft(node: Node) -> list[Node]:
        return [_dynamic_lstm(node, constants, names) if is_dynamic(node) else node]

    graph = _map_nodes(graph, of_microsoft)
    read = {name for node in graph.nodes for name in node.reads} | {value.name for value in graph.outputs}
    return replace(graph, constants={name: array for name, array in constants.items() if name in read})


def _dynamic_lstm(node: Node, constants: dict[str, np.ndarray], names: Iterator[str]) -> Node:
    """onnxruntime has weights (directions, inputs, outputs), zero points like its scales, and for a scale of each output
    signed weights without one."""
    given = named_inputs(node)
    del given["mask"]
    for name in "WR":
        parts = [constants.get(given[formal]) for formal in (name, f"{name}_scale", f"{name}_zero_point")]
        if any(part is None for part in parts):
            raise UnsupportedError(f"{node}: ONNX cannot express its {name} in int8, which is no constant")
        weights, scale, zero = parts
        shift = np.uint8(128 if scale.ndim == 2 and zero.any() else 0)
        weights, zero = ((array.view(np.uint8) ^ shift).view(np.uint8 if shift else np.int8) for array in (weights, zero))
        given[name], given[f"{name}_zero_point"] = next(names), next(names)
        constants[given[name]] = np.ascontiguousarray(weights.transpose(0, 2, 1))
        constants[given[f"{name}_zero_point"]] = np.broadcast_to(zero.reshape(-1, *(1,) * (scale.ndim - 1)), scale.shape)
    return replace(node, op="DynamicQuantizeLSTM", inputs=tuple(given.values()), domain=MICROSOFT, opset=1)


def _time_major(graph: Graph) -> Graph:
    """`graph` with each recurrent node of layout 1 replaced by one of layout 0 between Transposes."""
    names = fresh_names(graph)

    def time_major(node: Node) -> list[Node]:
        return _with_layout_0(node, names) if is_recurrent(node) and node.attributes.get("layout") == 1 else [node]

    return _map_nodes(graph, time_major)


def _with_layout_0(node: Node, names: Iterator[str]) -> list[Node]:
    before, inputs = [], []
    for formal, name in named_inputs(node).items():
        if name and formal in ("X", "initial_h", "initial_c"):
            swapped = next(names)
            before.append(Node("Transpose", (name,), (swapped,), {"perm": (1, 0, 2)}))
            name = swapped
        inputs.append(name)
    after, outputs = [], []
    for name, perm in zip(node.outputs, ((2, 0, 1, 3), (1, 0, 2), (1, 0, 2))):
        outputs.append(next(names) if name else "")
        if name:
            after.append(Node("Transpose", (outputs[-1],), (name,), {"perm": perm}))
    attributes = {name: value for name, value in node.attributes.items() if name != "layout"}
    return [*before, replace(node, inputs=tuple(inputs), outputs=tuple(outputs), attributes=attributes), *after]
