"""SavedModel folders of Keras 2, and TensorFlow's checkpoints beside a configuration.

Keras 2 writes its configuration into `keras_metadata.pb`; the weights lie in a checkpoint, which also says which object holds
which. The traced functions in `saved_model.pb` are not looked at.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ...errors import ModelFileError, UnsupportedError
from ..located import located
from .config import Layer
from .file import Assignment, KerasFile
from .hdf5 import version_of
from .json import field, parse
from .tensor_bundle import INDEX, Bundle, Message, field_bytes, message, messages, number
from .weights import LayerWeights, NoWeights, Variable

METADATA, VARIABLES = "keras_metadata.pb", os.path.join("variables", "variables")
OBJECTS = "_CHECKPOINTABLE_OBJECT_GRAPH"
VALUE = b"VARIABLE_VALUE"
LARGEST_METADATA = 1 << 28


@contextmanager
def open_saved_model(path: str, config: Mapping[str, Any] | None = None) -> Iterator[KerasFile]:
    """The model in the SavedModel folder at `path`; `config` stands in for its own configuration."""
    if config is None:
        config = _written_config(os.path.join(path, METADATA))
    with open_checkpoint(os.path.join(path, VARIABLES), config) as file:
        yield file


@contextmanager
def open_checkpoint(prefix: str, config: Mapping[str, Any]) -> Iterator[KerasFile]:
    """`config` with the weights of the checkpoint whose files begin with `prefix`."""
    bundle = Bundle(prefix.removesuffix(INDEX))
    with located(OBJECTS):
        objects = _objects(bundle)
    root = ObjectWeights(bundle, objects, 0)
    yield KerasFile(config, version_of(config, None), lambda architecture: [Assignment(root.layers(architecture.layers))])


def _written_config(path: str) -> Mapping[str, Any]:
    if not os.path.isfile(path):
        raise UnsupportedError("a SavedModel without Keras's configuration, as model.export of Keras 3 writes it: save the "
                               "model as .keras")
    if os.path.getsize(path) > LARGEST_METADATA:
        raise ModelFileError(f"{METADATA} has {os.path.getsize(path)} bytes, expected {LARGEST_METADATA} at most")
    with located(METADATA), open(path, "rb") as file:
        nodes = messages(message(file.read()), 1)
        root = next((node for node in nodes if field_bytes(node, 3) == b"root"), None)
        if root is None:
            raise ModelFileError("nothing in it is called root")
        written = parse(field_bytes(root, 5), "root")
        return {**written, **field(written, "model_config", dict, default={})}


@dataclass(frozen=True)
class Object:
    """What the checkpoint holds at one place: objects by the attribute that they are, or a tensor by its key."""

    children: Mapping[str, int]
    key: str | None


def _objects(bundle: Bundle) -> list[Object]:
    nodes = messages(message(bundle.tensor(OBJECTS).text()), 1)
    objects = [Object({_name(child, 2): number(child, 1) for child in messages(node, 1)}, _key(node)) for node in nodes]
    if not objects or any(not 0 <= child < len(objects) for one in objects for child in one.children.values()):
        raise ModelFileError("expected objects, each among its own")
    return objects


def _key(node: Message) -> str | None:
    keys = [_name(attribute, 3) for attribute in messages(node, 2) if field_bytes(attribute, 1) == VALUE]
    return keys[0] if keys else None


def _name(fields: Message, number_of_field: int) -> str:
    return field_bytes(fields, number_of_field).decode("utf-8", "replace")


class ObjectWeights:
    """The weights of one object: its attributes that are tensors, in the order in which Keras made them."""

    def __init__(self, bundle: Bundle, objects: Sequence[Object], place: int) -> None:
        self._bundle, self._objects, self._object = bundle, objects, objects[place]

    def variables(self) -> list[Variable]:
        keys = [self._objects[child].key for child in self._object.children.values()]
        return [self._bundle.tensor(key) for key in keys if key is not None]

    def child(self, attribute: str) -> ObjectWeights:
        if attribute not in self._object.children:
            raise ModelFileError(f"the file has no weights '{attribute}'")
        return ObjectWeights(self._bundle, self._objects, self._object.children[attribute])

    def layers(self, layers: Sequence[Layer]) -> Mapping[str, LayerWeights]:
        """Layers are numbered as in the configuration; Sequential does not count its InputLayer, which calls nothing."""
        count = sum(name.startswith("layer-") for name in self._object.children)
        counted = [layer for layer in layers if len(layers) == count or layer.class_name != "InputLayer"]
        return {layer.name: self.child(f"layer-{i}") for i, layer in enumerate(counted)
                if f"layer-{i}" in self._object.children}

    def cells(self, cells: Sequence[Layer]) -> Sequence[LayerWeights]:
        found = self.child("cells")
        return [found.child(str(i)) if str(i) in found._object.children else NoWeights() for i in range(len(cells))]

    def everything(self) -> Mapping[str, Variable]:
        return {name: self._bundle.tensor(key) for name, child in self._object.children.items()
                if (key := self._objects[child].key) is not None}

    def asset(self, name: str) -> None:
        return None
