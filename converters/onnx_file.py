"""An ONNX file, or a model in memory, as one checked ModelProto: external data loaded, functions inlined."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import ModelFileError, UnsupportedError

MOST_NODES = 1 << 20
FIRST_IR_WITHOUT_INPUTS = 4  # since then an initializer need not be an input too; keras2onnx knew before


def open_onnx(path: Path) -> Any:
    """The ModelProto in a file. Nothing outside the file's own folder is read, and nothing is fetched.

    Raises ModelFileError for a file that is damaged, unsound, or has its data elsewhere; OSError.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(path, load_external_data=False)
    except (DecodeError, ValueError) as error:
        raise ModelFileError(f"not an ONNX file: {error}") from error
    folder = path.parent.resolve()
    inner = [tensor for function in model.functions for tensor in tensors(function.node)]
    for tensor in (*tensors(model.graph.node), *inner):
        _load_data(folder, tensor)
    _type_outputs(model)
    check(model)
    for tensor in model.graph.initializer:
        _load_data(folder, tensor)
    return model


def _type_outputs(model: Any) -> None:
    """Gives outputs that have no more than a name, as those that were added by hand, the dtypes that they are found to have."""
    import onnx

    bare = {value.name: value for value in model.graph.output if not value.HasField("type")}
    if not bare:
        return
    try:
        inferred = onnx.shape_inference.infer_shapes(model)
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError, ValueError, RuntimeError):
        return  # and the checker says what is wrong
    for value in inferred.graph.output:
        if value.name in bare and value.type.tensor_type.elem_type:
            bare[value.name].type.tensor_type.elem_type = value.type.tensor_type.elem_type


def check(model: Any) -> None:
    """Raises ModelFileError for what onnx's checker finds wrong, but for what onnxruntime does without: the shapes of
    inputs and outputs."""
    import onnx

    _check_names(model)
    model.ir_version = max(model.ir_version, FIRST_IR_WITHOUT_INPUTS)
    try:
        with _without_external_data(model.graph), _with_shapes(model.graph):
            onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, ValueError, RuntimeError) as error:
        raise ModelFileError(f"not a sound ONNX file: {error}") from error


def _check_names(message: Any) -> None:
    """Refuses names that are not UTF-8: protobuf hands them over as bytes."""
    for field, value in message.ListFields():
        values = value if field.is_repeated else (value,)
        if field.type == field.TYPE_MESSAGE:
            for inner in values:
                _check_names(inner)
        elif field.type == field.TYPE_STRING and (odd := [text for text in values if not isinstance(text, str)]):
            raise ModelFileError(f"not a sound ONNX file: {field.name} is no text: {odd[0][:40]!r}")


@contextmanager
def _without_external_data(graph: Any) -> Iterator[None]:
    """Initializers whose data is elsewhere are inputs meanwhile: the checker would look for their files."""
    import onnx

    external = onnx.TensorProto.EXTERNAL
    elsewhere = [tensor for tensor in graph.initializer if tensor.data_location == external]
    if not elsewhere:
        yield
        return
    here, known = [tensor for tensor in graph.initializer if tensor.data_location != external], len(graph.input)
    names = {value.name for value in graph.input}
    del graph.initializer[:]
    graph.initializer.extend(here)
    graph.input.extend(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
                       for tensor in elsewhere if tensor.name not in names)
    try:
        yield
    finally:
        del graph.input[known:]
        graph.initializer.extend(elsewhere)


@contextmanager
def _with_shapes(graph: Any) -> Iterator[None]:
    """Inputs and outputs of no shape are taken for scalars meanwhile."""
    types = [value.type.tensor_type for value in (*graph.input, *graph.output) if value.type.HasField("tensor_type")]
    shapeless = [kind for kind in types if not kind.HasField("shape")]
    for kind in shapeless:
        kind.shape.SetInParent()
    try:
        yield
    finally:
        for kind in shapeless:
            kind.ClearField("shape")


def tensors(nodes: Iterable, initializers: Iterable = ()) -> Iterator[Any]:
    """Every tensor that could have external data: those in attributes, and in subgraphs the initializers too."""
    yield from initializers
    for attribute in (attribute for node in nodes for attribute in node.attribute):
        yield from (attribute.t, *attribute.tensors)
        for graph in (attribute.g, *attribute.graphs):
            yield from tensors(graph.node, graph.initializer)


def _load_data(folder: Path, tensor: Any) -> None:
    """Loads the data of a tensor that has it in a file of `folder`, links followed, and nowhere else."""
    import onnx

    if tensor.data_location != onnx.TensorProto.EXTERNAL:
        return
    where = {entry.key: entry.value for entry in tensor.external_data}.get("location", "")
    try:
        file = (folder / where).resolve()
        inside, regular = file.is_relative_to(folder), file.is_file()
    except (OSError, ValueError, RuntimeError) as error:  # names too long, with zeros in them, links in a circle
        raise ModelFileError(f"the data of '{tensor.name}' is in {where!r}: {error}") from None
    if not inside:
        raise ModelFileError(f"the data of '{tensor.name}' is in {where!r}, outside its folder")
    if not regular:
        raise ModelFileError(f"the data of '{tensor.name}' is in {where!r}, which is no file")
    try:
        onnx.external_data_helper.load_external_data_for_tensor(tensor, str(folder))
    except (onnx.checker.ValidationError, OSError, ValueError) as error:
        raise ModelFileError(f"the data of '{tensor.name}' in {where!r}: {error}") from error
    tensor.data_location = onnx.TensorProto.DEFAULT
    del tensor.external_data[:]


def _size(model: Any) -> int:
    """How many nodes there are once every call of a function is written out; functions that call themselves are refused."""
    functions = {(function.domain, function.name): function.node for function in model.functions}
    sizes: dict[tuple[str, str], int] = {}

    def size(nodes: Iterable, around: tuple) -> int:
        count = 0
        for node in nodes:
            called = (node.domain, node.op_type)
            if called in around:
                raise ModelFileError(f"the function '{node.op_type}' calls itself")
            if called in functions and called not in sizes:
                sizes[called] = size(functions[called], (*around, called))
            graphs = [graph for attribute in node.attribute for graph in (attribute.g, *attribute.graphs)]
            count += 1 + sizes.get(called, 0) + sum(size(graph.node, around) for graph in graphs)
        return count

    return size(model.graph.node, ())


def with_inlined_functions(model: Any) -> Any:
    """`model` with what its functions say in place of the nodes that call them."""
    import onnx.inliner

    if not model.functions:
        return model
    if _size(model) > MOST_NODES:
        raise ModelFileError(f"its functions, with each call written out, have more than {MOST_NODES} nodes")
    try:
        model = onnx.inliner.inline_local_functions(model, True)
    except Exception as error:  # the inliner raises whatever its C++ does
        raise ModelFileError(f"its functions cannot be inlined: {error}") from error
    if model.functions:
        raise UnsupportedError(f"functions: {', '.join(sorted(function.name for function in model.functions))}")
    check(model)  # which leaves much of a function unread
    return model
