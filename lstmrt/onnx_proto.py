"""Nodes and constants as an ONNX model in memory: for files that are written, and for what onnxruntime is to run."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from .containers import kind_of
from .errors import UnsupportedError
from .graph import OPSET, Attribute, Graph, Node, Value, all_nodes

IR_VERSION = 9  # the one that came with opset 20
LATER_IR_VERSION = 10
LARGEST_MODEL = 2**31 - 2**20  # bytes of constants: protobuf's limit, less some room for the nodes


def model_proto(name: str, inputs: Iterable[Value], outputs: Iterable[Value], nodes: Iterable[Node],
                constants: Mapping[str, np.ndarray]) -> Any:
    """An onnx.ModelProto of opset OPSET, or of the one opset that its foreign nodes name. An output of dtype "" is left
    for the reader to infer.

    Raises UnsupportedError for more than 2 GiB of constants, ImportError without the onnx package.
    """
    import onnx

    if sum(array.nbytes for array in constants.values()) > LARGEST_MODEL:
        raise UnsupportedError("an ONNX model cannot hold more than 2 GiB of weights")
    graph = Graph(tuple(inputs), tuple(outputs), tuple(nodes), constants, name)
    opsets = {"": OPSET, **{node.domain: node.opset or 1 for node in all_nodes(graph.nodes) if node.domain or node.opset}}
    return onnx.helper.make_model(
        _graph_proto(graph, _unique_names()),
        producer_name="lstmrt",
        ir_version=IR_VERSION if opsets[""] <= OPSET else LATER_IR_VERSION,
        opset_imports=[onnx.OperatorSetIdProto(domain=domain, version=version)
                       for domain, version in sorted(opsets.items())],
    )


def go_together(nodes: Iterable[Node]) -> bool:
    """Whether one model can hold `nodes`: one opset must give all of them what they mean."""
    nodes = [node for node in all_nodes(nodes) if not node.domain]
    opsets = {node.opset for node in nodes} - {None}
    if not opsets:
        return True
    return len(opsets) == 1 and all(node.opset is not None or _means_the_same(node, *opsets) for node in nodes)


# Softmax and its like took several axes before this opset, and nothing in a node says so
_FIRST_OF_ONE_AXIS = {"Softmax": 13, "LogSoftmax": 13, "Hardmax": 13}


def _means_the_same(node: Node, opset: int) -> bool:
    """Whether an operator of OPSET, written down as it is, is the same at `opset`."""
    return _is_unchanged(node.op, len(node.inputs), frozenset(node.attributes), opset)


@functools.lru_cache(maxsize=1024)
def _is_unchanged(op: str, inputs: int, attributes: frozenset[str], opset: int) -> bool:
    import onnx

    try:
        here, there = (onnx.defs.get_schema(op, version) for version in (OPSET, opset))
    except onnx.defs.SchemaError:
        return False
    if here.since_version == there.since_version:
        return True
    if opset < _FIRST_OF_ONE_AXIS.get(op, 0):
        return False
    names = [[formal.name for formal in schema.inputs][:inputs] for schema in (here, there)]
    defaults = [{name: attribute.default_value for name, attribute in schema.attributes.items()
                 if name not in attributes and attribute.default_value.name} for schema in (here, there)]
    common = defaults[0].keys() & defaults[1].keys()
    return (names[0] == names[1] and attributes <= set(there.attributes)
            and all(defaults[0][name] == defaults[1][name] for name in common))


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
    kind = kind_of(value.dtype)
    made = onnx.helper.make_tensor_type_proto(onnx.helper.np_dtype_to_tensor_dtype(np.dtype(kind.element)), value.shape)
    made = onnx.helper.make_sequence_type_proto(made) if kind.is_sequence else made
    made = onnx.helper.make_optional_type_proto(made) if kind.is_optional else made
    return onnx.helper.make_value_info(value.name, made)


def _unique_names() -> Callable[[str], str | None]:
    """A function that gives each name as it is, and numbered where it comes again: onnxruntime wants it so."""
    seen: Counter[str] = Counter()

    def unique(name: str) -> str | None:
        seen[name] += 1
        return f"{name}#{seen[name]}" if name and seen[name] > 1 else name or None

    return unique
