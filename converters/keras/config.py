"""Keras's model configuration as a list of layers and the calls that connect them.

Keras 1, 2 and 3 write different JSON for one model; what leaves this module is the same for all of them. A chain of
layers (Sequential) is a Functional model whose calls follow each other.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field as dataclass_field, replace
from typing import Any, Union

from ...errors import ModelFileError, UnsupportedError
from ..located import located
from .calls import Call, Reference, is_keras3_node, named_references, parse_calls
from .json import field, shown
from .masks import without_automatic_masks
from .version_1 import as_keras_2

KERAS_MODULE = re.compile(r"(tensorflow(\.python)?\.|tf_)?keras(_core)?(\.|$)")
MODELS = ("Sequential", "Functional", "Model")
OPERATOR_MODULE = re.compile(r"keras\.src\.ops(\.|$)")
SILENT_LAYER = re.compile(r"SpatialDropout[123]D|Discretization|HashedCrossing")
DEEPEST = 32  # models within models


@dataclass(frozen=True)
class Layer:
    """One layer as the file describes it. A function of keras.ops in a Functional model has the class `ops.NAME`."""

    class_name: str
    name: str
    config: Mapping[str, Any]
    custom: bool = False
    model: Architecture | None = dataclass_field(default=None, repr=False)  # what a nested model holds

    def __str__(self) -> str:
        return f"{self.class_name} '{self.name}'"

    def inner(self, key: str) -> Layer:
        """The layer that this wrapper holds in its option `key`."""
        return parse_layer(field(self.config, key, dict))

    def wrapped(self) -> list[Layer]:
        """All layers that this one wraps: those of Bidirectional and TimeDistributed."""
        return [self.inner(key) for key in ("layer", "backward_layer") if isinstance(self.config.get(key), dict)]

    def held(self) -> list[Layer]:
        """All layers in this one, however deep."""
        direct = [*self.wrapped(), *(self.model.layers if self.model else ())]
        return [layer for one in direct for layer in (one, *one.held())]

    def inner_names(self) -> list[str]:
        """The names of all layers in this one."""
        return [layer.name for layer in self.held()]


@dataclass(frozen=True)
class Architecture:
    """All layers in the file's order, and the calls that the outputs need, each after those that it uses.

    inputs and outputs go by name: of the layer, or the key in a model that takes or gives a dict.
    """

    name: str
    layers: tuple[Layer, ...]
    calls: tuple[Call, ...]
    inputs: tuple[tuple[str, Reference], ...]
    outputs: tuple[tuple[str, Reference], ...]

    def layer(self, name: str) -> Layer:
        return next(layer for layer in self.layers if layer.name == name)

    def every_layer(self) -> list[Layer]:
        """All layers, those in wrappers and nested models too."""
        return [layer for one in self.layers for layer in (one, *one.held())]


def parse_architecture(model: Mapping[str, Any], depth: int = 0) -> Architecture:
    """The architecture of a serialised model: `{"class_name": ..., "config": ...}`.

    Raises UnsupportedError for a subclassed model, whose architecture only its Python code knows, and
    ModelFileError for anything that Keras would not have written.
    """
    class_name = field(model, "class_name", str)
    config = field(model, "config", Union[dict, list])
    if depth > DEEPEST:
        raise ModelFileError(f"more than {DEEPEST} models within one another")
    if class_name == "Sequential":
        return _sequential({"layers": config} if isinstance(config, list) else config, depth)
    if class_name in ("Functional", "Model") and "layers" in config:
        return _functional(config, depth)
    raise UnsupportedError(f"the model is of the class '{class_name}', whose Python code the file does not hold: "
                           "rebuild it as a Functional or Sequential model, load its weights, and save that")


def parse_layer(entry: Mapping[str, Any], depth: int = 0) -> Layer:
    """One serialised layer."""
    class_name = field(entry, "class_name", str)
    if class_name == "Sequential" and isinstance(entry.get("config"), list):  # Keras up to 2.2.2
        entry = {**entry, "config": {"layers": entry["config"]}}
    config = field(entry, "config", dict)
    name = field(config, "name", str, default=field(entry, "name", str, default=""))
    module = field(entry, "module", str, default="keras.layers")
    registered = field(entry, "registered_name", str, default=class_name)
    if OPERATOR_MODULE.match(module) or _is_operator_without_module(entry):
        return Layer(f"ops.{class_name}", name, config)
    if not KERAS_MODULE.match(module) or ">" in registered + class_name:
        return Layer(registered, name, config, custom=True)
    if class_name in MODELS and "layers" in config:
        return Layer(class_name, name, config, model=parse_architecture(entry, depth + 1))
    return Layer(*as_keras_2(class_name, name, config))


def _is_operator_without_module(entry: Mapping[str, Any]) -> bool:
    """Keras 3 writes no modules into `.h5`; layers but for a few say whether they are trainable, no operator does."""
    nodes = entry.get("inbound_nodes")
    return ("module" not in entry and isinstance(nodes, list) and bool(nodes) and is_keras3_node(nodes[0])
            and "trainable" not in entry["config"] and not SILENT_LAYER.fullmatch(entry["class_name"]))


def _layers(config: Mapping[str, Any], depth: int) -> list[Layer]:
    layers = []
    for i, entry in enumerate(field(config, "layers", list)):
        with located(f"layers[{i}]"):
            if not isinstance(entry, dict):
                raise ModelFileError(f"expected an object, got {shown(entry)}")
            layers.append(parse_layer(entry, depth))
    names = [layer.name for layer in layers]
    for name in names:
        if not name or names.count(name) > 1:
            raise ModelFileError(f"layer names must be there and differ, got {names.count(name)} layers called '{name}'")
    return layers


# ---- Sequential ----


def _sequential(config: Mapping[str, Any], depth: int) -> Architecture:
    layers = _layers(config, depth)
    if not layers:
        raise ModelFileError("the model has no layers")
    if layers[0].class_name != "InputLayer":
        layers.insert(0, _input_of(layers[0], config))
    references = [Reference(layer.name, 0, 0) for layer in layers]
    calls = [Call(layers[0].name, 0)]
    calls += [Call(layer.name, 0, (previous,)) for layer, previous in zip(layers[1:], references)]
    ends = [(reference.layer, reference) for reference in (references[0], references[-1])]
    return Architecture(field(config, "name", str, default=""), tuple(layers), tuple(calls), (ends[0],), (ends[1],))


def _input_of(first: Layer, model: Mapping[str, Any]) -> Layer:
    """The InputLayer that files of Keras 1 and of TF1 leave out, under the name that Keras gives it."""
    if first.model:
        return replace(first.model.layer(first.model.inputs[0][1].layer), name=f"{first.name}_input")
    shape = first.config.get("batch_input_shape") or first.config.get("batch_shape") or model.get("build_input_shape")
    if shape is None:
        raise ModelFileError(f"{first} is the first layer, and nothing says its input shape: build the model before saving")
    return Layer("InputLayer", f"{first.name}_input", {"batch_shape": shape, "dtype": first.config.get("dtype")})


# ---- Functional ----


def _functional(config: Mapping[str, Any], depth: int) -> Architecture:
    layers = _layers(config, depth)
    known = {layer.name for layer in layers}
    calls = {}
    for layer, entry in zip(layers, config["layers"]):
        with located(f"inbound_nodes of {layer}"):
            nodes = [] if layer.class_name == "InputLayer" else field(entry, "inbound_nodes", list)
            for call in parse_calls(layer.name, nodes, known):
                calls[Reference(layer.name, call.node, 0)] = call
    inputs = [Reference(layer.name, 0, 0) for layer in layers if layer.class_name == "InputLayer"]
    calls.update((reference, Call(reference.layer, 0)) for reference in inputs)
    with located("output_layers"):
        outputs = named_references(config.get("output_layers"))
    with located("input_layers"):
        named_inputs = named_references(config["input_layers"]) if config.get("input_layers") else [
            (reference.layer, reference) for reference in inputs]
    for _, reference in named_inputs:
        if reference._replace(tensor=0) not in inputs:
            raise ModelFileError(f"input_layers: '{reference.layer}' is no InputLayer")
    models = {layer.name: layer for layer in layers if layer.model}
    if any(is_keras3_node(node) for entry in config["layers"] for node in field(entry, "inbound_nodes", list, [])):
        outputs = [(name, _without_its_making(reference, models)) for name, reference in outputs]
    else:
        calls = _numbered_as_used(calls, models, outputs)
    calls = without_automatic_masks(calls, {layer.name: layer for layer in layers})
    return Architecture(field(config, "name", str, default=""), tuple(layers), _needed(calls, outputs),
                        tuple(named_inputs), tuple(outputs))


def _without_its_making(reference: Reference, models: Mapping[str, Layer]) -> Reference:
    """Where it lists outputs, and there alone, Keras 3 counts the making of a Functional model as its node 0."""
    made = reference.layer in models and models[reference.layer].class_name == "Functional"
    return reference._replace(node=reference.node - 1) if made else reference


def _numbered_as_used(calls: Mapping[Reference, Call], models: Mapping[str, Layer],
                      outputs: list[tuple[str, Reference]]) -> dict[Reference, Call]:
    """Keras up to 2 counts the making of a nested model as its node 0, which the file does not hold."""
    used = {(reference.layer, reference.node) for call in calls.values() for reference in call.inputs}
    used |= {(reference.layer, reference.node) for _, reference in outputs}
    numbered = {}
    for reference, call in calls.items():
        if reference.layer in models and (reference.layer, 0) not in used:
            reference = reference._replace(node=reference.node + 1)
        numbered[reference] = replace(call, node=reference.node)
    return numbered


def _needed(calls: Mapping[Reference, Call], outputs: list[tuple[str, Reference]]) -> tuple[Call, ...]:
    """The calls that `outputs` need, in an order of execution. What only masks need stays behind."""
    ordered: dict[Reference, Call] = {}
    entered: set[Reference] = set()
    stack = [reference._replace(tensor=0) for _, reference in reversed(outputs)]
    while stack:
        reference = stack[-1]
        if reference in ordered:
            stack.pop()
            continue
        if reference not in calls:
            raise ModelFileError(f"a call of '{reference.layer}' (node {reference.node}) is used, but the file has none")
        needs = [needed._replace(tensor=0) for needed in calls[reference].inputs]
        missing = [needed for needed in needs if needed not in ordered]
        if not missing:
            ordered[stack.pop()] = calls[reference]
            continue
        if reference in entered:
            raise ModelFileError(f"the calls of '{reference.layer}' need their own result")
        entered.add(reference)
        stack.extend(reversed(missing))
    return tuple(ordered.values())
