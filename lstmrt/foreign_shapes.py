"""What operators that are in no table make, as the onnx package says it where it is installed."""

from __future__ import annotations

import importlib.util

from .errors import UnsupportedError
from .graph import EXTENSION, Dim, Node, Value
from .onnx_proto import model_proto
from .shapes import DTYPES, Tensor
from .sizes import LONGEST

_INFERRED = "_foreign"  # where a node, which never changes, keeps what was found


def foreign_tensors(node: Node, given: list[Tensor | None]) -> list[Tensor | None]:
    """The outputs of a foreign node of one step with these inputs, None where nothing is known of one; none of them where onnx
    does not know the operator."""
    if node.domain == EXTENSION or node.subgraphs or importlib.util.find_spec("onnx") is None:
        return []
    key = [(tensor.dtype, tensor.shape, id(tensor.value)) if tensor else None for tensor in given]
    known = node.__dict__.get(_INFERRED)
    if known is None or known[0] != key:
        known = node.__dict__[_INFERRED] = key, _asked(node, given), given  # which keeps the constants of these ids
    return known[1]


def _asked(node: Node, given: list[Tensor | None]) -> list[Tensor | None]:
    import onnx

    named = [(name, tensor) for name, tensor in dict(zip(node.inputs, given)).items() if name]
    constants = {name: tensor.value for name, tensor in named if tensor.value is not None and tensor.value.size <= LONGEST}
    try:
        model = model_proto(
            "foreign", [Value(name, tensor.dtype, tensor.shape) for name, tensor in named if name not in constants],
            [Value(name, "", None) for name in node.outputs if name], [node], constants)
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except (onnx.shape_inference.InferenceError, UnsupportedError, TypeError, ValueError):  # inputs that do not fit, or cannot be said
        return []
    made = {value.name: _tensor(value.type) for value in inferred.graph.output}
    return [made.get(name) for name in node.outputs]


def _tensor(kind) -> Tensor | None:
    """Of an onnx.TypeProto, if it is that of an array that there is a dtype for."""
    if not kind.HasField("tensor_type") or not kind.tensor_type.elem_type:
        return None
    dtype = DTYPES.get(kind.tensor_type.elem_type)
    if dtype is None:
        return None
    if not kind.tensor_type.HasField("shape"):
        return Tensor(dtype, None)
    return Tensor(dtype, tuple(_size(size) for size in kind.tensor_type.shape.dim))


def _size(size) -> Dim:
    return size.dim_value if size.HasField("dim_value") else size.dim_param or None
