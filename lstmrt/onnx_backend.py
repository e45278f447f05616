"""lstmrt as a backend of the onnx package, for its conformance suite and for tools that take backends.

    import lstmrt.onnx_backend as backend
    y, = backend.run_model(onnx.load("model.onnx"), [x])
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from . import passes
from .converters.from_onnx import from_proto
from .converters.onnx_file import check
from .errors import MissingDependencyError
from .execution.compile import compile_graph
from .graph import Graph

try:
    import onnx
    from onnx.backend.base import Backend, BackendRep, Device, DeviceType
except ImportError as error:
    raise MissingDependencyError("a backend for onnx needs onnx: pip install lstmrt[onnx]") from error


class LstmrtBackend(Backend):
    """Whole models and single nodes on the CPU."""

    @classmethod
    def supports_device(cls, device: str) -> bool:
        return Device(device).type == DeviceType.CPU

    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> LstmrtRep:
        """`model`, checked and compiled. Raises what lstmrt.load raises for a file, but for the file's name."""
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        check(copy)
        return LstmrtRep(from_proto(copy), [value.type.tensor_type.elem_type == onnx.TensorProto.BFLOAT16
                                            for value in copy.graph.output])

    @classmethod
    def run_node(cls, node: onnx.NodeProto, inputs: Sequence[Any], device: str = "CPU", outputs_info: Any = None,
                 **kwargs: Any) -> tuple[np.ndarray, ...]:
        """The outputs of one node at the newest opset that onnx knows; inputs that are left out are not in `inputs`."""
        names = [name for name in node.input if name]
        arrays = [np.asarray(array) for array in inputs]
        values = [onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
                  for name, array in zip(names, arrays, strict=True)]
        opset = kwargs.get("opset_version", onnx.defs.onnx_opset_version())
        bare = onnx.helper.make_model(onnx.helper.make_graph([node], "node", values, [
            onnx.ValueInfoProto(name=name) for name in node.output if name]),
            opset_imports=[onnx.helper.make_opsetid(node.domain, opset)])
        return cls.prepare(onnx.shape_inference.infer_shapes(bare), device).run(arrays)


class LstmrtRep(BackendRep):
    """A compiled model. `kinds` says what runs it: some of "native", "NumPy" and "onnxruntime". Outputs that are to be `narrow`
    are rounded to bfloat16 in the end."""

    def __init__(self, graph: Graph, narrow: Sequence[bool] = ()) -> None:
        self._narrow = narrow
        self._executable = compile_graph(passes.load(passes.canonical(graph)))
        self.kinds = {segment.kind for segment in self._executable.segments}

    def run(self, inputs: Sequence[Any], **kwargs: Any) -> tuple[np.ndarray, ...]:
        """All outputs, in the model's order; `inputs` in its order."""
        names = [value.name for value in self._executable.inputs]
        made = tuple(self._executable.run(dict(zip(names, inputs, strict=True))).values())
        if not any(self._narrow):
            return made
        dtype = onnx.helper.tensor_dtype_to_np_dtype(onnx.TensorProto.BFLOAT16)
        return tuple(array.astype(dtype) if narrow else array for array, narrow in zip(made, self._narrow))


prepare = LstmrtBackend.prepare
run_model = LstmrtBackend.run_model
run_node = LstmrtBackend.run_node
supports_device = LstmrtBackend.supports_device
is_compatible = LstmrtBackend.is_compatible
