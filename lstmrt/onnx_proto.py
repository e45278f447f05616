"""Nodes and constants as an ONNX model in memory: for files that are written, and for what onnxruntime is to run."""

from __future__ import annotations

from collections import Counter
from typing import Any, Callable, Iterable, Mapping

import numpy as np

from .errors import UnsupportedError
from .graph import OPSET, Node, Value

IR_VERSION = 9  # the one that came with opset 20
LARGEST_MODEL = 2**31 - 2**20  # bytes of constants: protobuf's limit, less some room for the nodes


def model_proto(name: str, inputs: Iterable[Value], outputs: Iterable[Value], nodes: Iterable[Node],
                constants: Mapping[str, np.ndarray]) -> Any:
    """An onnx.ModelProto of opset OPSET. An output of dtype "" is left for the reader to infer.

    Raises UnsupportedError for more than 2 GiB of constants, ImportError without the onnx package.
    """
    import onnx
    from onnx import helper, numpy_helper

    if sum(array.nbytes for array in constants.values()) > LARGEST_MODEL:
        raise UnsupportedError("an ONNX model cannot hold more than 2 GiB of weights")

    def value_info(value: Value) -> Any:
        if not value.dtype:
            return onnx.ValueInfoProto(name=value.name)
        dtype = helper.np_dtype_to_tensor_dtype(np.dtype(value.dtype))
        return helper.make_tensor_value_info(value.name, dtype, value.shape)

    nodes, names = list(nodes), _unique_names()
    domains = sorted({node.domain for node in nodes} - {""})
    return helper.make_model(
        helper.make_graph(
            [helper.make_node(node.op, node.inputs, node.outputs, names(node.name), domain=node.domain or None,
                              **node.attributes) for node in nodes],
            name or "graph",
            [value_info(value) for value in inputs],
            [value_info(value) for value in outputs],
            [numpy_helper.from_array(array, constant) for constant, array in constants.items()],
        ),
        producer_name="lstmrt",
        ir_version=IR_VERSION,
        opset_imports=[onnx.OperatorSetIdProto(version=OPSET)]
        + [onnx.OperatorSetIdProto(domain=domain, version=1) for domain in domains],
    )


def _unique_names() -> Callable[[str], str | None]:
    """A function that gives each name as it is, and numbered where it comes again: onnxruntime wants it so."""
    seen: Counter[str] = Counter()

    def unique(name: str) -> str | None:
        seen[name] += 1
        return f"{name}#{seen[name]}" if name and seen[name] > 1 else name or None

    return unique
