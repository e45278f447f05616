"""Nodes and constants as an ONNX model in memory: for files that are written, and for what onnxruntime is to run."""

from __future__ import annotations

from collections import Counter
from typing import Any, Callable, Iterable, Mapping

import numpy as np

from .errors import UnsupportedError
from .graph import OPSET, Attribute, Graph, Node, Value

IR_VERSION = 9  # the one that came with opset 20
LARGEST_MODEL = 2**31 - 2**20  # bytes of constants: protobuf's limit, less some room for the nodes


def model_proto(name: str, inputs: Iterable[Value], outputs: Iterable[Value], nodes: Iterable[Node],
                constants: Mapping[str, np.ndarray]) -> Any:
    """An onnx.ModelProto of opset OPSET. An output of dtype "" is left for the reader to infer.

    Raises UnsupportedError for more than 2 GiB of constants, ImportError without the onnx package.
    """
    import onnx

    if sum(array.nbytes for array in constants.values()) > LARGEST_MODEL:
        raise UnsupportedError("an ONNX model cannot hold more than 2 GiB of weights")
    graph = Graph(tuple(inputs), tuple(outputs), tuple(nodes), constants, name)
    domains = sorted(_domains(graph) - {""})
    return onnx.helper.make_model(
        _graph_proto(graph, _unique_names()),
        producer_name="lstmrt",
        ir_version=IR_VERSION,
        opset_imports=[onnx.OperatorSetIdProto(version=OPSET)]
        + [onnx.OperatorSetIdProto(domain=domain, version=1) for domain in domains],
    )


def _graph_proto(graph: Graph, names: Callable[[str], str | None]) -> Any:
    from onnx import helper, numpy_helper

    def attribute(value: Attribute) -> Any:
        if isinstance(value, Graph):
            return _graph_proto(value, names)
        return numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value

    return helper.make_graph(
        [helper.make_node(node.op, node.inputs, node.outputs, names(node.name), domain=node.domain or None,
                          **{name: attribute(value) for name, value in node.attributes.items()})
         for node in graph.nodes],
        graph.name or "graph",
        [_value_info(value) for value in graph.inputs],
        [_value_info(value) for value in graph.outputs],
        [numpy_helper.from_array(array, constant) for constant, array in graph.constants.items()],
    )


def _value_info(value: Value) -> Any:
    import onnx

    if not value.dtype:
        return onnx.ValueInfoProto(name=value.name)
    dtype = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(value.dtype))
    return onnx.helper.make_tensor_value_info(value.name, dtype, value.shape)


def _domains(graph: Graph) -> set[str]:
    inner = (_domains(subgraph) for node in graph.nodes for subgraph in node.subgraphs)
    return {node.domain for node in graph.nodes}.union(*inner)


def _unique_names() -> Callable[[str], str | None]:
    """A function that gives each name as it is, and numbered where it comes again: onnxruntime wants it so."""
    seen: Counter[str] = Counter()

    def unique(name: str) -> str | None:
        seen[name] += 1
        return f"{name}#{seen[name]}" if name and seen[name] > 1 else name or None

    return unique
