"""An ONNX file, or a model in memory, as one checked ModelProto: external data loaded, functions inlined."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterable, Iterator

from ..errors import ModelFileError, UnsupportedError

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
    inner = [tensor for function in model.functions for tensor in _tensors(function.node)]
    for tensor in (*_tensors(model.graph.node), *inner):
        _load_data(path.parent.resolve(), tensor)
    check(model)
    for tensor in model.graph.initializer:
        _load_data(path.parent.resolve(), tensor)
    return model


def check(model: Any) -> None:
    """Raises ModelFileError for what onnx's checker finds wrong. Initializers whose data is elsewhere are taken for
    inputs meanwhile: the checker would look for their files."""
    import onnx

    graph, external = model.graph, onnx.TensorProto.EXTERNAL
    elsewhere = [tensor for tensor in graph.initializer if tensor.data_location == external]
    if elsewhere:
        here = [tensor for tensor in graph.initializer if tensor.data_location != external]
        known = {value.name for value in graph.input}
        inputs = [onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
                  for tensor in elsewhere if tensor.name not in known]
        del graph.initializer[:]
        graph.initializer.extend(here)
        graph.input.extend(inputs)
    model.ir_version = max(model.ir_version, FIRST_IR_WITHOUT_INPUTS)
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, ValueError, RuntimeError) as error:
        raise ModelFileError(f"not a sound ONNX file: {error}") from error
    if elsewhere:
        del graph.input[len(graph.input) - len(inputs):]
        graph.initializer.extend(elsewhere)


def _tensors(nodes: Iterable, initializers: Iterable = ()) -> Iterator[Any]:
    """Every tensor that could have external data: those in attributes, and in subgraphs the initializers too."""
    yield from initializers
    for attribute in (attribute for node in nodes for attribute in node.attribute):
        yield from (attribute.t, *attribute.tensors)
        for graph in (attribute.g, *attribute.graphs):
            yield from _tensors(graph.node, graph.initializer)


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


def with_inlined_functions(model: Any) -> Any:
    """`model` with what its functions say in place of the nodes that call them."""
    import onnx

    if not model.functions:
        return model
    try:
        model = onnx.inliner.inline_local_functions(model, True)
    except Exception as error:  # the inliner raises whatever its C++ does
        raise ModelFileError(f"its functions cannot be inlined: {error}") from error
    if model.functions:
        raise UnsupportedError(f"functions: {', '.join(sorted(function.name for function in model.functions))}")
    return model
