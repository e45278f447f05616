"""Keras's model configuration as a list of layers and the calls that connect them.

Keras 1, 2 and 3 write different JSON for one model; what leaves this module is the same for all of them. A chain of
layers (Sequential) is a Functional model whose calls follow each other.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any, Iterable, Mapping, NamedTuple, Union

from ..errors import ModelFileError, UnsupportedError
from .keras_1 import as_keras_2
from .keras_json import field, shown
from .located import located

KERAS_MODULE = re.compile(r"(tensorflow(\.python)?\.|tf_)?keras(_core)?(\.|$)")
MODELS = ("Sequential", "Functional", "Model")
OPERATOR_MODULE = re.compile(r"keras\.src\.ops(\.|$)")


@dataclass(frozen=True)
class Layer:
    """One layer as the file describes it. A function of keras.ops in a Functional model has the class `ops.NAME`."""

    class_name: str
    name: str
    config: Mapping[str, Any]
    custom: bool = False

    def __str__(self) -> str:
        return f"{self.class_name} '{self.name}'"

    def inner(self, key: str) -> Layer:
        """The layer that this wrapper holds in its option `key`."""
        return parse_layer(field(self.config, key, dict))

    def wrapped(self) -> list[Layer]:
        """All layers that this one wraps: those of Bidirectional and TimeDistributed."""
        return [self.inner(key) for key in ("layer", "backward_layer") if isinstance(self.config.get(key), dict)]


class Reference(NamedTuple):
    """One output of the `node`-th call of a layer."""

    layer: str
    node: int
    tensor: int


@dataclass(frozen=True)
class Call:
    """A layer applied to tensors; its outputs are Reference(layer.name, node, 0...)."""

    layer: Layer
    node: int
    inputs: tuple[Reference, ...]
    arguments: Mapping[str, Any]  # further keyword arguments as the file has them, but those that say nothing


@dataclass(frozen=True)
class Architecture:
    """All layers in the file's order, and the calls that the outputs need, each after those that it uses."""

    name: str
    layers: tuple[Layer, ...]
    calls: tuple[Call, ...]
    outputs: tuple[Reference, ...]


def parse_architecture(model: Mapping[str, Any]) -> Architecture:
    """The architecture of a serialised model: `{"class_name": ..., "config": ...}`.

    Raises UnsupportedError for a subclassed model, whose architecture only its Python code knows, and
    ModelFileError for anything that Keras would not have written.
    """
    class_name = field(model, "class_name", str)
    config = field(model, "config", Union[dict, list])
    if class_name == "Sequential":
        return _sequential({"layers": config} if isinstance(config, list) else config)
    if class_name in ("Functional", "Model") and "layers" in config:
        return _functional(config)
    raise UnsupportedError(f"the model is of the class '{class_name}', whose Python code the file does not hold: "
                           "rebuild it as a Functional or Sequential model, load its weights, and save that")


def parse_layer(entry: Mapping[str, Any]) -> Layer:
    """One serialised layer."""
    class_name = field(entry, "class_name", str)
    config = field(entry, "config", dict)
    name = field(config, "name", str, default=field(entry, "name", str, default=""))
    module = field(entry, "module", str, default="keras.layers")
    registered = field(entry, "registered_name", str, default=class_name)
    if OPERATOR_MODULE.match(module):
        return Layer(f"ops.{class_name}", name, config)
    if not KERAS_MODULE.match(module) or ">" in registered + class_name:
        return Layer(registered, name, config, custom=True)
    return Layer(*as_keras_2(class_name, name, config))


def _layers(config: Mapping[str, Any]) -> list[Layer]:
    layers = []
    for i, entry in enumerate(field(config, "layers", list)):
        with located(f"layers[{i}]"):
            if not isinstance(entry, dict):
                raise ModelFileError(f"expected an object, got {shown(entry)}")
            layers.append(parse_layer(entry))
    names = [layer.name for layer in layers]
    for name in names:
        if not name or names.count(name) > 1:
            raise ModelFileError(f"layer names must be there and differ, got {names.count(name)} layers called '{name}'")
    return layers


# ---- Sequential ----


def _sequential(config: Mapping[str, Any]) -> Architecture:
    layers = _layers(config)
    if not layers:
        raise ModelFileError("the model has no layers")
    if layers[0].class_name != "InputLayer":
        layers.insert(0, _input_of(layers[0], config))
    calls, previous = [], ()
    for layer in layers:
        calls.append(Call(layer, 0, previous, {}))
        previous = (Reference(layer.name, 0, 0),)
    return Architecture(field(config, "name", str, default=""), tuple(layers), tuple(calls), previous)


def _input_of(first: Layer, model: Mapping[str, Any]) -> Layer:
    """The InputLayer that files of Keras 1 and of TF1 leave out, under the name that Keras gives it."""
    shape = first.config.get("batch_input_shape") or first.config.get("batch_shape") or model.get("build_input_shape")
    if shape is None:
        raise ModelFileError(f"{first} is the first layer, and nothing says its input shape: build the model before saving")
    return Layer("InputLayer", f"{first.name}_input", {"batch_shape": shape, "dtype": first.config.get("dtype")})


# ---- Functional ----


def _functional(config: Mapping[str, Any]) -> Architecture:
    layers = _layers(config)
    calls = {}
    for layer, entry in zip(layers, config["layers"]):
        with located(f"inbound_nodes of {layer}"):
            for call in _calls(layer, field(entry, "inbound_nodes", list)):
                calls[Reference(layer.name, call.node, 0)] = call
    outputs = tuple(_references(config.get("output_layers")))
    calls = _numbered_as_used(calls, outputs)
    calls = {reference: _without_automatic_mask(call, calls) for reference, call in calls.items()}
    return Architecture(field(config, "name", str, default=""), tuple(layers), _needed(calls, outputs), outputs)


def _calls(layer: Layer, nodes: list) -> list[Call]:
    if layer.class_name == "InputLayer":
        return [Call(layer, 0, (), {})]
    return [Call(layer, i, *(_keras3_node if isinstance(node, dict) else _keras2_node)(node))
            for i, node in enumerate(nodes)]


def _keras2_node(node: Any) -> tuple[tuple[Reference, ...], dict]:
    """`[[layer, node, tensor, arguments], ...]`, one entry for each input; TensorFlow's functions have theirs bare."""
    if isinstance(node, list) and node and isinstance(node[0], str):
        node = [node]
    if not isinstance(node, list) or not all(isinstance(entry, list) and len(entry) in (3, 4) for entry in node):
        raise ModelFileError(f"expected lists of [layer, node, tensor, arguments], got {shown(node)}")
    arguments: dict = {}
    for entry in node:
        arguments.update(field({"arguments": (entry + [{}])[3]}, "arguments", dict))
    return tuple(_reference(entry[:3]) for entry in node), _telling(arguments)


def _keras3_node(node: dict) -> tuple[tuple[Reference, ...], dict]:
    """`{"args": [...], "kwargs": {...}}`, in which a tensor is a `__keras_tensor__` object."""
    positional, arguments = field(node, "args", list), field(node, "kwargs", dict)
    tensors = [_tensor(value) for value in _flat(positional)]
    constants = {f"args[{i}]": value for i, (value, tensor) in enumerate(zip(_flat(positional), tensors)) if not tensor}
    return tuple(filter(None, tensors)), _telling({**constants, **arguments})


def _numbered_as_used(calls: Mapping[Reference, Call], outputs: tuple[Reference, ...]) -> dict[Reference, Call]:
    """Keras up to 2 counts the making of a nested model as its node 0, which the file does not hold."""
    used = {(reference.layer, reference.node) for call in calls.values() for reference in call.inputs}
    used |= {(reference.layer, reference.node) for reference in outputs}
    numbered = {}
    for reference, call in calls.items():
        if call.layer.class_name in MODELS and (reference.layer, 0) not in used:
            reference = reference._replace(node=reference.node + 1)
        numbered[reference] = replace(call, node=reference.node)
    return numbered


def _without_automatic_mask(call: Call, calls: Mapping[Reference, Call]) -> Call:
    """Keras 3 writes the masks it derived by itself into the call: the ids that an Embedding reads, compared with 0.

    The importer derives them again; a mask of any other kind stays in the arguments.
    """
    source = calls.get(_tensor(call.arguments.get("mask")) or Reference("", 0, 0))
    if source is None or source.layer.class_name not in ("ops.NotEqual", "NotEqual") or source.arguments != {"args[1]": 0}:
        return call
    masked = [other.inputs for other in calls.values()
              if other.layer.class_name == "Embedding" and other.layer.config.get("mask_zero") is True]
    if source.inputs not in masked:
        return call
    return replace(call, arguments={key: value for key, value in call.arguments.items() if key != "mask"})


def _telling(arguments: Mapping[str, Any]) -> dict:
    return {key: value for key, value in arguments.items() if value is not None and key != "training"}


def _flat(values: Iterable[Any]) -> list:
    return [item for value in values for item in (value if isinstance(value, list) else [value])]


def _tensor(value: Any) -> Reference | None:
    if not isinstance(value, dict) or value.get("class_name") != "__keras_tensor__":
        return None
    return _reference(field(field(value, "config", dict), "keras_history", list))


def _reference(entry: list) -> Reference:
    if [type(part) for part in entry] != [str, int, int]:
        raise ModelFileError(f"expected [layer, node, tensor], got {shown(entry)}")
    return Reference(*entry)


def _references(entries: Any) -> list[Reference]:
    """`output_layers`: a list of references; Keras 3 writes a single one without the list, and a dict for a dict."""
    if isinstance(entries, dict):
        entries = list(entries.values())
    if not isinstance(entries, list) or not entries:
        raise ModelFileError(f"output_layers: expected [layer, node, tensor] or a list of them, got {shown(entries)}")
    with located("output_layers"):
        return [_reference(entry) for entry in ([entries] if isinstance(entries[0], str) else entries)]


def _needed(calls: Mapping[Reference, Call], outputs: tuple[Reference, ...]) -> tuple[Call, ...]:
    """The calls that `outputs` need, in an order of execution. What only masks need stays behind."""
    ordered: dict[Reference, Call] = {}
    entered: set[Reference] = set()
    stack = [reference._replace(tensor=0) for reference in reversed(outputs)]
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
