"""A Keras model file as a graph: the layers' calls walked in order, each appended by its handler."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Mapping, Sequence

from ..errors import ModelFileError, UnsupportedError
from ..generation_config import GenerationDefaults
from ..graph import Graph, Value
from .keras_builder import GraphBuilder, Scope, Tensor
from .keras_config import Architecture, Call, Layer, Reference, parse_architecture
from .keras_file import Assignment, KerasFile
from .keras_json import field, shown
from .keras_layers import HANDLERS, WRAPPED, apply_layer
from .keras_options import options
from .keras_weights import LayerWeights, NoWeights
from .located import located
from .source import Source

ADVICE = {"Lambda": "Python code in a model file is never run: use the layer that does the same"}


def read_keras(container: AbstractContextManager[KerasFile]) -> Source:
    """The model in an open `container` (open_archive or open_hdf5_model).

    Raises UnsupportedError that names every layer and option lstmrt lacks, and ModelFileError for a file that is
    not as Keras would have written it.
    """
    with container as file:
        architecture = parse_architecture(file.model)
        keras_major = _major(file.version)
        _refuse_unsupported(architecture, keras_major)
        assignment, graph = _first_that_fits(file.assignments(architecture), architecture, keras_major)
    return Source(graph, "keras", file.version, _generation(architecture, graph), assignment.rule)


def _major(version: str) -> int:
    digits = version.split(".")[0]
    if not digits.isdecimal() or len(digits) > 4:
        raise ModelFileError(f"keras_version: expected a version such as 3.15.1, got {shown(version)}")
    return int(digits)


# ---- what is refused, all at once ----


def _refuse_unsupported(architecture: Architecture, keras_major: int) -> None:
    faults = [fault for call in architecture.calls for fault in _call_faults(call, keras_major)]
    inputs = [call.layer.name for call in architecture.calls if call.layer.class_name == "InputLayer"]
    if len(inputs) != 1:
        faults.append(f"{len(inputs)} inputs ({', '.join(inputs)})")
    if len(architecture.outputs) != 1:
        faults.append(f"{len(architecture.outputs)} outputs")
    if faults:
        raise UnsupportedError(f"lstmrt does not have: {'; '.join(dict.fromkeys(faults))}")


def _call_faults(call: Call, keras_major: int) -> list[str]:
    if call.layer.class_name == "InputLayer":
        return []
    faults = _layer_faults(call.layer, keras_major)
    if call.layer.class_name not in HANDLERS:
        return faults
    if len(call.inputs) != 1:
        faults.append(f"{call.layer} called on {len(call.inputs)} tensors")
    return faults + [f"{call.layer} called with {name}" for name in call.arguments]


def _layer_faults(layer: Layer, keras_major: int) -> list[str]:
    if layer.custom:
        return [f"{layer} (a custom layer)"]
    if layer.class_name not in HANDLERS:
        return [f"{layer} ({ADVICE[layer.class_name]})" if layer.class_name in ADVICE else str(layer)]
    faults = []
    try:
        options(HANDLERS[layer.class_name], layer, keras_major)
    except UnsupportedError as error:
        faults.append(f"{layer} {error}")
    for inner in layer.wrapped():
        held = inner.class_name in WRAPPED.get(layer.class_name, ())
        faults += _layer_faults(inner, keras_major) if held else [f"{inner} in {layer}"]
    return faults


# ---- the walk ----


def _first_that_fits(assignments: Sequence[Assignment], architecture: Architecture,
                     keras_major: int) -> tuple[Assignment, Graph]:
    """The graph with the first of `assignments` whose weights have the shapes that the layers need."""
    faults = []
    for assignment in assignments:
        try:
            return assignment, _graph(architecture, assignment.weights, keras_major)
        except ModelFileError as fault:
            faults.append(fault)
    raise faults[0]


def _graph(architecture: Architecture, weights: Mapping[str, LayerWeights], keras_major: int) -> Graph:
    builder = GraphBuilder()
    tensors: dict[Reference, Tensor] = {}
    for call in architecture.calls:
        layer = call.layer
        with located(f"layer {layer}"):
            if layer.class_name == "InputLayer":
                tensor = _input(builder, layer, _holds_ids(architecture, layer))
            else:
                scope = Scope(builder, layer.name, weights.get(layer.name, NoWeights()), keras_major)
                tensor = apply_layer(scope, tensors[call.inputs[0]], layer)
        tensors[Reference(layer.name, call.node, 0)] = tensor
    (output,) = architecture.outputs
    if output not in tensors:
        raise ModelFileError(f"output_layers: '{output.layer}' has no output {output.tensor}")
    return builder.graph(tensors[output], output.layer, architecture.name)


def _input(builder: GraphBuilder, layer: Layer, ids: bool) -> Tensor:
    key = "batch_shape" if "batch_shape" in layer.config else "batch_input_shape"
    sizes = field(layer.config, key, list)
    if len(sizes) < 2 or not all(size is None or type(size) is int and size > 0 for size in sizes):
        raise ModelFileError(f"{key}: expected sizes (batch, ...) above 0 or null, got {shown(sizes)}")
    free = ["batch", "time"] + [f"{layer.name}_axis_{axis}" for axis in range(2, len(sizes))]
    # Keras bakes in the batch size of the first call.
    shape = ("batch", *(name if size is None else size for name, size in zip(free[1:], sizes[1:])))
    tensor = Tensor(builder.name(layer.name), shape, "int64" if ids else "float32")
    builder.inputs.append(Value(tensor.name, tensor.dtype, shape))
    return tensor


def _holds_ids(architecture: Architecture, layer: Layer) -> bool:
    readers = [call.layer for call in architecture.calls for used in call.inputs if used.layer == layer.name]
    return bool(readers) and all(reader.class_name == "Embedding" for reader in readers)


# ---- generation ----


def _generation(architecture: Architecture, graph: Graph) -> GenerationDefaults | None:
    """How the model was meant to be used for generation, told from its input's length and its layers' options."""
    (ids,) = graph.inputs
    if ids.dtype != "int64" or len(ids.shape) != 2:
        return None
    length = ids.shape[1]
    if length == 1 or _any_option(architecture, "stateful"):
        return GenerationDefaults("stateful")
    if not isinstance(length, int):
        return GenerationDefaults("growing")
    return GenerationDefaults("masked_window" if _any_option(architecture, "mask_zero") else "window", length)


def _any_option(architecture: Architecture, name: str) -> bool:
    layers = [layer for call in architecture.calls for layer in (call.layer, *call.layer.wrapped())]
    return any(layer.config.get(name) is True for layer in layers)
