"""Read an ONNX file: nodes map one to one, initializers and Constant nodes become constants."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..containers import is_array, kind_of
from ..errors import GraphError, MissingDependencyError, ModelFileError, UnsupportedError
from ..graph import OPSET, Attribute, Graph, Node, Value
from ..operators import is_recurrent
from ..shapes import DTYPES
from .located import located
from .onnx_file import tensors
from .onnx_upgrade import MICROSOFT, STABLE, from_microsoft, upgraded
from .source import Source

LARGEST_DENSE = 1 << 28  # elements of a tensor that a file stores as a sparse one
FLOAT, BFLOAT16 = 1, 16
_SAY_DTYPES = frozenset(("dtype", "output_datatype", "output_dtype", "stash_type", "to"))  # attributes


def read_onnx(path: str | os.PathLike) -> Graph:
    """The graph of an ONNX file of any opset, its weights in memory.

    Raises ModelFileError for a damaged or inconsistent file, UnsupportedError that names all that has no place in a
    graph, MissingDependencyError without the onnx package.
    """
    with located(os.fspath(path)):
        return read_source(path).graph


def read_source(path: str | os.PathLike) -> Source:
    """As read_onnx; errors do not name the file."""
    try:
        import onnx  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError("reading ONNX files needs onnx: pip install lstmrt[onnx]") from error
    from .onnx_file import open_onnx

    model = open_onnx(Path(path))
    return Source(from_proto(model), "onnx", f"{model.producer_name} {model.producer_version}".strip())


def from_proto(model: Any) -> Graph:
    """The graph of an onnx.ModelProto that onnx's checker finds sound. Raises ModelFileError and UnsupportedError."""
    from .onnx_file import with_inlined_functions

    model = with_inlined_functions(model)
    opsets = {_domain(entry.domain): entry.version for entry in model.opset_import}
    try:
        return _validated(_Reader(model.graph, opsets, _Types.of(model, opsets), widens=_is_of_bfloat16(model.graph)).graph())
    except (GraphError, ValueError) as error:
        raise ModelFileError(str(error)) from error


def _is_of_bfloat16(graph: Any) -> bool:
    """Whether weights, inputs or outputs are, so that all is to be computed in float32: NumPy has no such dtype, onnxruntime
    few such kernels. What merely casts to it and back is left to onnxruntime, which rounds."""
    return any(value.type.tensor_type.elem_type == BFLOAT16 for value in (*graph.input, *graph.output)) or any(
        tensor.data_type == BFLOAT16 for tensor in tensors(graph.node, graph.initializer))


def _validated(graph: Graph) -> Graph:
    """`graph`, without the declared shapes of its outputs where they are not what the nodes make: exporters get those of
    pools that round up wrong, and onnxruntime does not mind."""
    try:
        return graph.validate()
    except GraphError:
        return replace(graph, outputs=tuple(value._replace(shape=None) for value in graph.outputs)).validate()


class _Types:
    """Ranks and dtypes of values, as far as onnx infers them; for old opsets, which need them."""

    def __init__(self, infos: Iterable[Any] = ()) -> None:
        self._infos = {info.name: info.type.tensor_type for info in infos if info.type.HasField("tensor_type")}

    @classmethod
    def of(cls, model: Any, opsets: Mapping[str, int]) -> _Types:
        import onnx

        if opsets.get("", OPSET) >= STABLE:
            return cls()
        try:
            graph = onnx.shape_inference.infer_shapes(model).graph
        except Exception:  # whatever its C++ raises; without it what needs a rank stays foreign
            graph = model.graph
        constants = (onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
                     for tensor in graph.initializer)
        return cls((*graph.value_info, *graph.input, *graph.output, *constants))

    def rank(self, name: str) -> int | None:
        known = self._infos.get(name)
        return len(known.shape.dim) if known is not None and known.HasField("shape") else None

    def dtype(self, name: str) -> str | None:
        known = self._infos.get(name)
        return DTYPES.get(known.elem_type) if known is not None else None


class _Reader:
    """Collects nodes, constants and faults of one GraphProto; the reader of a subgraph shares those of the one around."""

    def __init__(self, proto: Any, opsets: Mapping[str, int], types: _Types, around: _Reader | None = None,
                 widens: bool = False):
        self.proto, self.opsets, self.types, self.inner = proto, opsets, types, around is not None
        self.widens = around.widens if around else widens  # bfloat16
        self.constants: dict[str, np.ndarray] = around.constants if around else {}
        self.faults: list[str] = around.faults if around else []
        self.nodes: list[Node] = []
        self.renamed: dict[str, str] = dict(around.renamed) if around else {}  # names of subgraphs that are in use around
        self.taken: set[str] = around.taken if around else {name for node in proto.node for name in node.input}
        defined = [value.name for value in (*proto.initializer, *proto.input)]
        defined += [name for node in proto.node for name in node.output if name]
        for name in dict.fromkeys(defined):
            if around and name in self.taken:
                self.renamed[name] = self.fresh_name(name)
            self.taken.add(name)
        self.defined = {self.renamed.get(name, name) for name in defined}

    def graph(self) -> Graph:
        for tensor in self.proto.initializer:
            self.add_constant(tensor.name, tensor)
        for tensor in self.proto.sparse_initializer:
            self.keep_constant(tensor.values.name, _dense(tensor))
        for proto in self.proto.node:
            self.add_node(proto)
        inputs = [self.value(info) for info in self.proto.input]
        inputs = [value for value in inputs if value.name not in self.constants]
        outputs = [self.value(info) for info in self.proto.output]
        if self.inner:
            return Graph(tuple(inputs), tuple(map(self.made_inside, outputs)), tuple(self.nodes), {}, self.proto.name)
        if self.faults:
            raise UnsupportedError("\n".join(self.faults))
        return Graph(tuple(inputs), tuple(outputs), tuple(self.nodes), self.constants, self.proto.name)

    def value(self, info: Any) -> Value:
        value = _value(info, not self.inner, self.widens)
        return value._replace(name=self.renamed.get(value.name, value.name))

    def made_inside(self, output: Value) -> Value:
        """An output of a subgraph, copied where it is a constant or from around it: onnxruntime wants it so."""
        if output.name in self.defined and output.name not in self.constants:
            return output
        copy = self.fresh_name(output.name)
        self.nodes.append(Node("Identity", (output.name,), (copy,)))
        return output._replace(name=copy)

    def fresh_name(self, stem: str) -> str:
        name = next(name for i in range(len(self.taken) + 1) if (name := f"{stem}_{i}") not in self.taken)
        self.taken.add(name)
        return name

    def add_constant(self, name: str, tensor: Any) -> None:
        self.keep_constant(name, _array(tensor))

    def keep_constant(self, name: str, array: np.ndarray) -> None:
        """Under its name; of a dtype that only onnxruntime knows, as a node of its own."""
        name = self.renamed.get(name, name)
        if array.ndim > 1 and array.dtype.kind == "f" and np.isnan(array).any():
            raise ModelFileError(f"constant '{name}' of shape {array.shape} holds NaN")  # one number may be NaN on purpose
        array.flags.writeable = False
        if array.dtype.name in DTYPES.values():
            self.constants[name] = array
        else:
            self.nodes.append(Node("Constant", (), (name,), {"value": array}))

    def add_array(self, array: np.ndarray) -> str:
        """A new constant; returns its name."""
        name = self.fresh_name("constant")
        array.flags.writeable = False
        self.constants[name] = array
        return name

    def add_node(self, proto: Any) -> None:
        inputs, outputs = (tuple(self.renamed.get(name, name) for name in names) for names in (proto.input, proto.output))
        node = Node(proto.op_type, inputs, outputs, {}, proto.name, _domain(proto.domain))
        if not node.domain and node.op == "Constant":
            self.add_constant_node(node, proto)
        elif not node.domain and node.op == "ConstantOfShape":
            self.add_constant_of_shape(node, proto)
        else:
            attributes = {}
            for attribute in proto.attribute:
                value = self.attribute(attribute)
                if value is None:
                    self.faults.append(f"{node} {attribute.name}: a {_attribute_type(attribute)} has no place in a graph")
                attributes[attribute.name] = value
            self.add_in_words_of_today(replace(node, attributes=attributes))

    def attribute(self, attribute: Any) -> Attribute | None:
        """The attribute's value, or None if a graph has no place for such a thing."""
        kind = _attribute_type(attribute)
        if kind == "graph":
            return _Reader(attribute.g, self.opsets, self.types, self).graph()
        if kind == "tensor":
            return _array(attribute.t)
        value = _plain_attribute(attribute)
        return FLOAT if self.widens and value == BFLOAT16 and attribute.name in _SAY_DTYPES else value

    def add_constant_node(self, node: Node, proto: Any) -> None:
        if not proto.attribute:  # which onnx's checker lets through
            raise ModelFileError(f"{node}: has no value")
        attribute = proto.attribute[0]
        if attribute.name == "value":
            array = _array(attribute.t)
        elif attribute.name == "sparse_value":
            array = _dense(attribute.sparse_tensor)
        else:
            dtype = {"int": np.int64, "float": np.float32, "string": object}[_attribute_type(attribute).rstrip("s")]
            array = np.array(_plain_attribute(attribute), dtype)
        self.keep_constant(proto.output[0], array)

    def add_constant_of_shape(self, node: Node, proto: Any) -> None:
        """ConstantOfShape(shape) is Expand(value, shape), which needs no tensor attribute."""
        fill = _array(proto.attribute[0].t) if proto.attribute else np.zeros(1, np.float32)
        if fill.dtype.name not in DTYPES.values():
            self.nodes.append(replace(node, attributes={"value": fill}))
            return
        value = self.add_array(np.array(fill.reshape(())))
        self.nodes.append(Node("Expand", (value, *node.inputs), node.outputs, {}, node.name))

    def add_in_words_of_today(self, node: Node) -> None:
        if node.domain:
            version = self.opsets.get(node.domain, 1)
            self.nodes += (from_microsoft(node, version, self) if node.domain == MICROSOFT
                           else [replace(node, opset=version)])
            return
        for made in upgraded(node, self.opsets.get("", OPSET), self):
            self.nodes.append(self.with_hidden_size(made) if is_recurrent(made) else made)

    def constant(self, name: str) -> np.ndarray | None:
        return self.constants.get(name)

    def rank(self, name: str) -> int | None:
        return self.constants[name].ndim if name in self.constants else self.types.rank(name)

    def dtype(self, name: str) -> str | None:
        return self.constants[name].dtype.name if name in self.constants else self.types.dtype(name)

    def with_hidden_size(self, node: Node) -> Node:
        """The attribute is required of old; R tells it."""
        r = self.constants.get(node.inputs[2]) if len(node.inputs) > 2 else None
        if r is None or r.ndim != 3 or "hidden_size" in node.attributes:
            return node
        return replace(node, attributes={**node.attributes, "hidden_size": r.shape[2]})


# ---- small things ----


def _domain(domain: str) -> str:
    """ONNX's own domain has two names."""
    return "" if domain == "ai.onnx" else domain


def _value(info: Any, typed: bool, widens: bool) -> Value:
    """Name, dtype and shape; without `typed` they may be unknown, as "" and None."""
    dtype, tensor = _dtype(info.type, widens), info.type.tensor_type
    if dtype is None and typed:
        raise UnsupportedError(f"'{info.name}': {_type_name(info.type)}")
    if dtype is None or not (typed or is_array(dtype)):
        return Value(info.name, "", None)
    return Value(info.name, dtype, tuple(_sizes(tensor.shape)) if tensor.HasField("shape") else None)


def _dtype(kind: Any, widens: bool) -> str | None:
    """That of a Value, or None where a graph has no such thing."""
    container = {"sequence_type": "seq", "optional_type": "optional"}.get(kind.WhichOneof("value"))
    if container is None:
        code = kind.tensor_type.elem_type
        return DTYPES.get(FLOAT if widens and code == BFLOAT16 else code)
    made = f"{container}({_dtype(getattr(kind, kind.WhichOneof('value')).elem_type, widens)})"
    return made if kind_of(made) else None


def _sizes(shape: Any) -> Iterator[int | str | None]:
    for size in shape.dim:
        known = size.HasField("dim_value") and size.dim_value >= 0  # some write -1 for what they do not know
        yield size.dim_value if known else size.dim_param or None


def _type_name(kind: Any) -> str:
    import onnx

    if kind.WhichOneof("value") != "tensor_type":
        return f"a {(kind.WhichOneof('value') or 'value of no type').removesuffix('_type')} of what has no place in a graph"
    return f"dtype {onnx.TensorProto.DataType.Name(kind.tensor_type.elem_type).lower()}"


def _array(tensor: Any) -> np.ndarray:
    from onnx import numpy_helper

    try:
        array = numpy_helper.to_array(tensor)
        _check_words(tensor, array.dtype)
        return np.array(array, np.float32 if tensor.data_type == BFLOAT16 else array.dtype)
    except KeyError:
        raise ModelFileError(f"tensor '{tensor.name}': {tensor.data_type} is no data type") from None
    except (ValueError, TypeError, OverflowError, MemoryError) as error:
        raise ModelFileError(f"tensor '{tensor.name}': {error}") from error


def _check_words(tensor: Any, dtype: np.dtype) -> None:
    """Narrow types may come as numbers of 32 bits, which the onnx package cuts off: floats as what their 16 bits are."""
    if not tensor.int32_data or dtype.itemsize > 2:
        return
    limits = np.iinfo(dtype) if dtype.kind in "iu" else np.iinfo(np.uint8 if dtype.kind == "b" else np.uint16)
    least, most = min(tensor.int32_data), max(tensor.int32_data)
    if least < limits.min or most > limits.max:
        raise ValueError(f"{most if most > limits.max else least} does not fit into {8 * dtype.itemsize} bits")


def _dense(sparse: Any) -> np.ndarray:
    """An onnx.SparseTensorProto as an array: indices are flat, or one row for each value."""
    shape, values, indices = tuple(sparse.dims), _array(sparse.values), _array(sparse.indices)
    size = math.prod(shape)
    if min(shape, default=1) < 0 or size > LARGEST_DENSE or values.ndim != 1 or len(indices) != len(values):
        raise ModelFileError(f"sparse tensor '{sparse.values.name}' of shape {shape}")
    flat = indices if indices.ndim == 1 else np.ravel_multi_index(tuple(indices.T), shape)
    if len(flat) and not 0 <= flat.min() <= flat.max() < size:
        raise ModelFileError(f"sparse tensor '{sparse.values.name}': an index is outside shape {shape}")
    array = np.zeros(size, values.dtype)
    array[flat] = values
    return array.reshape(shape)


def _attribute_type(attribute: Any) -> str:
    import onnx

    return onnx.AttributeProto.AttributeType.Name(attribute.type).lower()


def _plain_attribute(attribute: Any) -> Attribute | None:
    """The attribute's value, or None if it is something else than a number, a text or a list of them."""
    kind = _attribute_type(attribute)
    if kind == "string":
        return attribute.s.decode(errors="replace")
    if kind == "strings":
        return tuple(text.decode(errors="replace") for text in attribute.strings)
    fields = {"int": "i", "float": "f", "ints": "ints", "floats": "floats"}
    if kind not in fields:
        return None
    value = getattr(attribute, fields[kind])
    return tuple(value) if kind in ("ints", "floats") else value
