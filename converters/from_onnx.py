"""Read an ONNX file: nodes map one to one, initializers and Constant nodes become constants."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any, Iterable, Iterator

import numpy as np

from ..errors import GraphError, MissingDependencyError, ModelFileError, UnsupportedError
from ..graph import OPSET, Attribute, Graph, Node, Value
from ..operators import is_recurrent
from ..shapes import DTYPES

OLDEST_OPSET = 7  # before it, arithmetic broadcast by other rules


def read_onnx(path: str | os.PathLike) -> Graph:
    """The graph of an ONNX file of opset 7 or later, its weights in memory.

    Raises ModelFileError for a damaged or inconsistent file, UnsupportedError that names every node that has no place in
    a graph (operators that differ from those of opset 20, say), MissingDependencyError without the onnx package.
    """
    try:
        import onnx
    except ImportError as error:
        raise MissingDependencyError("reading ONNX files needs onnx: pip install lstmrt[onnx]") from error
    path = Path(path)
    model = _load(path)
    opsets = {_domain(entry.domain): entry.version for entry in model.opset_import}
    if opsets.get("", OPSET) < OLDEST_OPSET:
        raise UnsupportedError(f"{path}: ONNX opset {opsets['']}, expected at least {OLDEST_OPSET}")
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    try:
        return _Reader(model.graph, opsets.get("", OPSET)).graph().validate()
    except UnsupportedError as error:
        raise UnsupportedError(f"{path}: {error}") from error
    except (GraphError, ValueError) as error:
        raise ModelFileError(f"{path}: {error}") from error


def _load(path: Path) -> Any:
    """The checked model, with its external data, which must lie in the file's own folder."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(path, load_external_data=False)
    except DecodeError as error:
        raise ModelFileError(f"{path}: not an ONNX file: {error}") from error
    for tensor in (*_tensors(model.graph.node, model.graph.initializer),
                   *(tensor for function in model.functions for tensor in _tensors(function.node))):
        _check_location(path, tensor)
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
        model.ir_version = max(model.ir_version, 4)  # since 4 an initializer need not be an input too; keras2onnx knew
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, OSError, ValueError) as error:
        raise ModelFileError(f"{path}: not a sound ONNX file: {error}") from error
    return model


def _tensors(nodes: Iterable, initializers: Iterable = ()) -> Iterator[Any]:
    """Every tensor that could have external data, those in attributes and subgraphs included."""
    yield from initializers
    for attribute in (attribute for node in nodes for attribute in node.attribute):
        yield from (attribute.t, *attribute.tensors)
        for graph in (attribute.g, *attribute.graphs):
            yield from _tensors(graph.node, graph.initializer)


def _check_location(path: Path, tensor: Any) -> None:
    folder = path.parent.resolve()
    for entry in tensor.external_data:
        if entry.key == "location" and not (folder / entry.value).resolve().is_relative_to(folder):
            raise ModelFileError(f"{path}: the data of '{tensor.name}' is in {entry.value!r}, outside its folder")


class _Reader:
    """Collects nodes, constants and faults of one GraphProto; the reader of a subgraph shares those of the one around."""

    def __init__(self, proto: Any, opset: int, around: _Reader | None = None):
        self.proto, self.opset, self.inner = proto, opset, around is not None
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
        if self.proto.sparse_initializer:
            self.faults.append("sparse initializers")
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
        value = _value(info, typed=not self.inner)
        return replace(value, name=self.renamed.get(value.name, value.name))

    def made_inside(self, output: Value) -> Value:
        """An output of a subgraph, copied where it is a constant or from around it: onnxruntime wants it so."""
        if output.name in self.defined and output.name not in self.constants:
            return output
        copy = self.fresh_name(output.name)
        self.nodes.append(Node("Identity", (output.name,), (copy,)))
        return replace(output, name=copy)

    def fresh_name(self, stem: str) -> str:
        name = next(name for i in range(len(self.taken) + 1) if (name := f"{stem}_{i}") not in self.taken)
        self.taken.add(name)
        return name

    def add_constant(self, name: str, tensor: Any) -> None:
        from onnx import numpy_helper

        if tensor.data_type not in DTYPES:
            self.faults.append(f"constant '{name}': dtype {_dtype_name(tensor.data_type)}")
            return
        array = np.array(numpy_helper.to_array(tensor))
        array.flags.writeable = False
        self.constants[self.renamed.get(name, name)] = array

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
            self.add_upgraded(node, attributes)

    def attribute(self, attribute: Any) -> Attribute | None:
        """The attribute's value, or None if a graph has no place for such a thing."""
        from onnx import numpy_helper

        kind = _attribute_type(attribute)
        if kind == "graph":
            return _Reader(attribute.g, self.opset, self).graph()
        if kind == "tensor" and attribute.t.data_type in DTYPES:
            return np.array(numpy_helper.to_array(attribute.t))
        return _plain_attribute(attribute)

    def add_constant_node(self, node: Node, proto: Any) -> None:
        attribute = proto.attribute[0]
        if attribute.name == "value":
            self.add_constant(proto.output[0], attribute.t)
        elif attribute.name in ("value_int", "value_ints", "value_float", "value_floats"):
            dtype = np.int64 if "int" in attribute.name else np.float32
            self.constants[node.outputs[0]] = np.array(_plain_attribute(attribute), dtype)
        else:
            self.faults.append(f"{node}: {attribute.name}")

    def add_constant_of_shape(self, node: Node, proto: Any) -> None:
        """ConstantOfShape(shape) is Expand(value, shape), which needs no tensor attribute."""
        from onnx import numpy_helper

        fill = numpy_helper.to_array(proto.attribute[0].t) if proto.attribute else np.zeros(1, np.float32)
        value = self.add_array(np.array(fill.reshape(())))
        self.nodes.append(Node("Expand", (value, *node.inputs), node.outputs, {}, node.name))

    def add_upgraded(self, node: Node, attributes: dict[str, Attribute]) -> None:
        inputs = list(node.inputs)
        if not node.domain and node.op in _UPGRADES and self.opset < _UPGRADES[node.op][0]:
            problem = _UPGRADES[node.op][1](self, inputs, attributes)
        else:
            problem = None if node.domain else _difference(node, attributes, self.opset)
        if problem:
            self.faults.append(f"{node}: {problem} (the file has opset {self.opset}, graphs have {OPSET})")
        if is_recurrent(node):
            self.look_at_recurrent_weights(node, inputs, attributes)
        self.nodes.append(Node(node.op, tuple(inputs), node.outputs, attributes, node.name, node.domain))

    def look_at_recurrent_weights(self, node: Node, inputs: list[str], attributes: dict[str, Attribute]) -> None:
        r = self.constants.get(inputs[2]) if len(inputs) > 2 else None
        if r is None or r.ndim != 3:
            return
        if r.dtype != np.float32:
            self.faults.append(f"{node} R: dtype {r.dtype.name}, expected float32")
        attributes.setdefault("hidden_size", r.shape[2])


# ---- operators that older opsets wrote otherwise: op -> (since when as now, function that rewrites or says what is wrong)


def _axes_to_input(reader: _Reader, inputs: list[str], attributes: dict) -> None:
    if "axes" in attributes:
        inputs.append(reader.add_array(np.array(attributes.pop("axes"), np.int64)))


def _clip_bounds_to_inputs(reader: _Reader, inputs: list[str], attributes: dict) -> None:
    for name in ("min", "max"):
        inputs.append(reader.add_array(np.array(attributes.pop(name), np.float32)) if name in attributes else "")


def _slice_bounds_to_inputs(reader: _Reader, inputs: list[str], attributes: dict) -> None:
    for name in ("starts", "ends", "axes"):
        if name in attributes:
            inputs.append(reader.add_array(np.array(attributes.pop(name), np.int64)))


def _drop_ratio(reader: _Reader, inputs: list[str], attributes: dict) -> None:
    attributes.pop("ratio", None)


def _softmax_axis(reader: _Reader, inputs: list[str], attributes: dict) -> str | None:
    """Before opset 13 Softmax ran over all axes from `axis`, by default 1, on; over the last alone it is the same."""
    if attributes.get("axis", 1) == -1:
        return None
    ranks = {info.name: len(info.type.tensor_type.shape.dim)
             for info in (*reader.proto.value_info, *reader.proto.input, *reader.proto.output)}
    rank = ranks.get(inputs[0])
    if rank is not None and attributes.get("axis", 1) == rank - 1:
        attributes["axis"] = -1
        return None
    return "runs over several axes"


_UPGRADES = {
    "Squeeze": (13, _axes_to_input),
    "Unsqueeze": (13, _axes_to_input),
    "ReduceSum": (13, _axes_to_input),
    "Softmax": (13, _softmax_axis),
    "Clip": (11, _clip_bounds_to_inputs),
    "Slice": (10, _slice_bounds_to_inputs),
    "Dropout": (12, _drop_ratio),
}


def _difference(node: Node, attributes: dict, opset: int) -> str | None:
    """What makes `node` mean something else at opset 20 than at the file's: None if its schemas agree on what it uses."""
    import onnx

    try:
        there, here = (onnx.defs.get_schema(node.op, version) for version in (opset, OPSET))
    except onnx.defs.SchemaError:
        return f"opset {OPSET} has no such operator"
    if there.since_version == here.since_version:
        return None
    if [i.name for i in there.inputs][:len(node.inputs)] != [i.name for i in here.inputs][:len(node.inputs)]:
        return "its inputs are others"
    for name in attributes:
        if name not in here.attributes:
            return f"attribute {name} does not exist"
    for name, attribute in here.attributes.items():
        if name in there.attributes and name not in attributes and (
                attribute.default_value != there.attributes[name].default_value):
            return f"attribute {name} has another default"
    return None


# ---- small things ----


def _domain(domain: str) -> str:
    """ONNX's own domain has two names."""
    return "" if domain == "ai.onnx" else domain


def _value(info: Any, typed: bool) -> Value:
    """Name, dtype and shape; without `typed` they may be unknown, as "" and None."""
    tensor = info.type.tensor_type
    if tensor.elem_type not in DTYPES:
        if not typed:
            return Value(info.name, "", None)
        raise UnsupportedError(f"'{info.name}': dtype {_dtype_name(tensor.elem_type)}")
    shape = tuple(_sizes(tensor.shape)) if tensor.HasField("shape") else None
    return Value(info.name, DTYPES[tensor.elem_type], shape)


def _sizes(shape: Any) -> Iterator[int | str | None]:
    for size in shape.dim:
        yield size.dim_value if size.HasField("dim_value") else size.dim_param or None


def _dtype_name(data_type: int) -> str:
    import onnx

    return onnx.TensorProto.DataType.Name(data_type).lower()


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
