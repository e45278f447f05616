"""Products of quantized values with constant bytes, as onnxruntime's quantizer writes them out, as one node each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ..graph import EXTENSION, Dim, Graph, Node, fresh_names
from ..operators import attributes, is_dynamic, is_recurrent, named_inputs
from ..shapes import Tensor
from .infer_shapes import infer_shapes

FLOAT = 1  # ONNX's number of float32


def dynamic_products(graph: Graph) -> Graph:
    """Cast(MatMulInteger(DynamicQuantizeLinear(x), w)) * (its scale * w's) -> DynamicQuantizeMatMul(x, w), beside quantized
    recurrent nodes, which say what the batch is and keep its sequences apart; alone they are quantized as one, as ONNX has it."""
    if not any(node.op == "MatMulInteger" for node in graph.nodes) or not any(map(is_dynamic, graph.nodes)):
        return graph
    matcher, names, constants, replaced = _Matcher(graph), fresh_names(graph), dict(graph.constants), {}
    for node in graph.nodes:
        found = matcher.product(node) if node.op == "MatMulInteger" and not node.domain else None
        if found is None:
            continue
        x, last, arrays, batch_axis = found
        inputs = [x]
        for array in arrays:
            inputs.append(next(names))
            constants[inputs[-1]] = array
        replaced[id(last)] = Node("DynamicQuantizeMatMul", tuple(inputs), last.outputs, {"batch_axis": batch_axis}, node.name,
                                  EXTENSION)
    return replace(graph, constants=constants, nodes=tuple(replaced.get(id(node), node) for node in graph.nodes))


class _Matcher:
    def __init__(self, graph: Graph) -> None:
        self._constants, self._producers, self._consumers = graph.constants, graph.producers(), graph.consumers()
        self._outputs = {value.name for value in graph.outputs}
        self._tensors = infer_shapes(graph)
        self._batches = _batches(graph, self._tensors)

    def product(self, node: Node) -> tuple[str, Node, tuple[np.ndarray, np.ndarray, np.ndarray], int] | None:
        """x, the node that makes the product of floats, w (inputs, outputs) in int8 with its scale and zero point, and x's axis
        of the batch, -1 where there is one sequence."""
        quantize = self._producers.get(node.inputs[0])
        if quantize is None or quantize.op != "DynamicQuantizeLinear" or node.inputs[2:3] != quantize.outputs[2:]:
            return None
        cast = self._only_reader(node.outputs[0], "Cast")
        last = cast and attributes(cast)["to"] == FLOAT and self._only_reader(cast.outputs[0], "Mul")
        if not last:
            return None
        scale = self._weight_scale([name for name in last.inputs if name != cast.outputs[0]], quantize.outputs[1])
        weights = self._weights(node)
        batch_axis = self._batch_axis(quantize.inputs[0])
        if scale is None or weights is None or batch_axis is None or scale.size not in (1, weights[0].shape[1]):
            return None
        return quantize.inputs[0], last, (weights[0], np.float32(scale), weights[1]), batch_axis

    def _only_reader(self, name: str, op: str) -> Node | None:
        readers = self._consumers.get(name, ())
        return readers[0] if len(readers) == 1 and readers[0].op == op and name not in self._outputs else None

    def _weight_scale(self, others: list[str], x_scale: str) -> np.ndarray | None:
        """The constant that is multiplied with x's scale to make the one value in `others`."""
        both = self._producers.get(others[0]) if len(others) == 1 else None
        if both is None or both.op != "Mul" or both.domain or both.inputs.count(x_scale) != 1:
            return None
        array = self._constants.get(both.inputs[1 - both.inputs.index(x_scale)])
        return array if array is not None and array.ndim < 2 else None

    def _weights(self, node: Node) -> tuple[np.ndarray, np.ndarray] | None:
        """In int8, and their one zero point."""
        w = self._constants.get(node.inputs[1])
        name = "".join(node.inputs[3:])
        zero = self._constants.get(name) if name else None
        if w is None or w.ndim != 2 or not w.size or (name and (zero is None or not zero.size or (zero != zero.flat[0]).any())):
            return None
        shift = 128 if w.dtype == np.uint8 else 0
        whole = 0 if zero is None else int(zero.flat[0])
        return (w.astype(np.int16) - shift).astype(np.int8), np.array(whole - shift, np.int8)

    def _batch_axis(self, x: str) -> int | None:
        shape = self._tensors[x].shape if x in self._tensors else None
        if shape is None or len(shape) not in (2, 3) or len(self._batches) != 1:  # of which rows of native values are
            return None
        (batch,) = self._batches
        axes = [axis for axis, size in enumerate(shape[:-1]) if size == batch]
        if batch == 1:
            return -1
        return axes[0] if len(axes) == 1 else None


def _batches(graph: Graph, tensors: Mapping[str, Tensor]) -> set[Dim]:
    """The sizes of the batch of recurrent nodes."""
    found = set()
    for node in filter(is_recurrent, graph.nodes):
        x = tensors.get(named_inputs(node)["X"])
        found.add(x.shape[0 if attributes(node)["layout"] else 1] if x is not None and x.shape else None)
    return found if None not in found else set()
