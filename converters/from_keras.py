"""A Keras model file as a graph."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from types import MappingProxyType

from ..errors import ModelFileError
from ..generation_config import GenerationDefaults
from ..graph import Graph
from ..one_hot import reads_one_hot
from ..text_inputs import TextInput
from ..vocabulary import input_vocabulary, makes_its_ids
from .keras.apply import apply_model
from .keras.builder import GraphBuilder, Scope, Tensor
from .keras.calls import Reference
from .keras.config import Architecture, Layer, parse_architecture
from .keras.custom import CustomLayers
from .keras.file import KerasFile
from .keras.json import field, shown
from .keras.support import refuse_unsupported
from .keras.weights import LayerWeights, NoWeights
from .located import located
from .source import Source


def read_keras(container: AbstractContextManager[KerasFile], custom_layers: CustomLayers = MappingProxyType({})) -> Source:
    """The model in an open `container` (open_archive or open_hdf5_model); `custom_layers` as in keras/custom.py.

    Raises UnsupportedError that names every layer and option lstmrt lacks, and ModelFileError for a file that is
    not as Keras would have written it.
    """
    with container as file:
        try:
            architecture = parse_architecture(file.model)
            keras_version = _major_and_minor(file.version)
            refuse_unsupported(architecture, keras_version[0], custom_layers)
            return _first_that_fits(file, architecture, keras_version, custom_layers)
        except RecursionError:
            raise ModelFileError("the configuration is nested too deep") from None


def _major_and_minor(version: str) -> tuple[int, int]:
    digits = re.match(r"([0-9]{1,4})(?:\.([0-9]{1,4}))?(?![0-9])", version)
    if not digits:
        raise ModelFileError(f"keras_version: expected a version such as 3.15.1, got {shown(version)}")
    return int(digits[1]), int(digits[2] or 0)


def _first_that_fits(file: KerasFile, architecture: Architecture, keras_version: tuple[int, int],
                     custom: CustomLayers) -> Source:
    """The model with the first of the file's assignments whose weights have the shapes that the layers need."""
    faults = []
    for assignment in file.assignments(architecture):
        try:
            graph, text_inputs = _graph(architecture, assignment.weights, keras_version, custom)
        except ModelFileError as fault:
            faults.append(fault)
            continue
        (tokenizer,) = [given.tokenizer for given in text_inputs.values()] if len(text_inputs) == 1 else [None]
        return Source(graph, "keras", file.version, _generation(architecture, graph, text_inputs), assignment.rule,
                      text_inputs, tokenizer)
    raise faults[0]


def _graph(architecture: Architecture, weights: Mapping[str, LayerWeights], keras_version: tuple[int, int],
           custom: CustomLayers) -> tuple[Graph, Mapping[str, TextInput]]:
    builder = GraphBuilder()
    inputs = []
    for name, reference in architecture.inputs:
        layer = architecture.layer(reference.layer)
        with located(f"layer {layer}"):
            inputs.append(_input(builder, name, layer, architecture))
    outputs = apply_model(Scope(builder, "", NoWeights(), keras_version, custom), architecture, weights, inputs)
    names = [name for name, _ in architecture.outputs]
    return builder.graph(list(zip(names, outputs)), architecture.name), builder.text_inputs


# ---- inputs ----


def _input(builder: GraphBuilder, name: str, layer: Layer, architecture: Architecture) -> Tensor:
    key = "batch_shape" if "batch_shape" in layer.config else "batch_input_shape"
    sizes = field(layer.config, key, list)
    if not sizes or not all(size is None or type(size) is int and size > 0 for size in sizes):
        raise ModelFileError(f"{key}: expected sizes (batch, ...) above 0 or null, got {shown(sizes)}")
    alone = len(architecture.inputs) == 1
    free = ["batch", "time" if alone else f"{name}_time"]
    free += [f"{name}_axis_{axis}" for axis in range(2, len(sizes))]
    # Keras bakes in the batch size of the first call.
    shape = ("batch", *(free[axis] if size is None else size for axis, size in enumerate(sizes) if axis > 0))
    return builder.input(name, _dtype(layer, architecture), shape)


def _dtype(layer: Layer, architecture: Architecture) -> str:
    dtype = layer.config.get("dtype")
    if _holds_ids(architecture, Reference(layer.name, 0, 0)) or str(dtype).startswith(("int", "uint")):
        return "int64"
    return dtype if dtype in ("bool", "string") else "float32"


def _holds_ids(model: Architecture, reference: Reference) -> bool:
    """Whether all that reads this input looks it up in a table, whatever its dtype is said to be."""
    layers = {layer.name: layer for layer in model.layers}
    readers = [(layers[call.layer], list(call.inputs).index(reference)) for call in model.calls
               if reference in call.inputs]
    return bool(readers) and all(_reads_ids(layer, position) for layer, position in readers)


def _reads_ids(layer: Layer, position: int) -> bool:
    if layer.model:
        return position < len(layer.model.inputs) and _holds_ids(layer.model, layer.model.inputs[position][1])
    if layer.class_name == "TimeDistributed":
        return _reads_ids(layer.inner("layer"), position)
    return layer.class_name == "Embedding"


# ---- generation ----


def _generation(architecture: Architecture, graph: Graph,
                text_inputs: Mapping[str, TextInput]) -> GenerationDefaults | None:
    """How the model was meant to be used for generation, told from its input's length and its layers' options; None where it
    does not make the ids that it reads."""
    vectors = reads_one_hot(graph) and _ends_in_softmax(architecture)
    if not vectors and (len(graph.inputs) != 1 or graph.inputs[0].dtype != "int64" or len(graph.inputs[0].shape) != 2):
        return None
    made = graph.outputs[0].shape
    if not vectors and not makes_its_ids(made[-1] if made else None, input_vocabulary(graph, graph.inputs[0].name)):
        return None
    length = graph.inputs[0].shape[1]
    if length == 1 or _any_option(architecture, "stateful"):
        return GenerationDefaults("stateful")
    if not isinstance(length, int):
        return GenerationDefaults("growing")
    if vectors:
        return GenerationDefaults("window", length, pad_id=graph.inputs[0].shape[2])
    mode = "masked_window" if _any_option(architecture, "mask_zero") else "window"
    return GenerationDefaults(mode, length, padding="right" if any(t.texts for t in text_inputs.values()) else "left")


def _ends_in_softmax(architecture: Architecture) -> bool:
    layer = architecture.layer(architecture.outputs[0][1].layer)
    while layer.class_name == "TimeDistributed":
        layer = layer.inner("layer")
    return layer.class_name == "Softmax" or layer.config.get("activation") == "softmax"


def _any_option(architecture: Architecture, name: str) -> bool:
    return any(layer.config.get(name) is True for layer in architecture.every_layer())
