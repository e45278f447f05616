"""Calls of layers in a Functional model, in the two dialects in which Keras writes them (`inbound_nodes`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field as dataclass_field
from typing import Any, NamedTuple

import numpy as np

from ...errors import ModelFileError
from .json import field, shown

CONSTANT = "_CONSTANT_VALUE"  # what Keras 2 writes in place of a layer


class Reference(NamedTuple):
    """One output of the `node`-th call of a layer."""

    layer: str
    node: int
    tensor: int


@dataclass(frozen=True)
class Call:
    """A layer applied; its outputs are Reference(layer, node, 0...).

    In the arguments a tensor is a Reference; lists, dicts, slices, numbers and texts are what they are. Keyword
    arguments that say nothing at inference are left out.
    """

    layer: str
    node: int
    args: tuple = ()
    kwargs: Mapping[str, Any] = dataclass_field(default_factory=dict)

    @property
    def inputs(self) -> tuple[Reference, ...]:
        """All tensors in the arguments."""
        return tuple(references((*self.args, *self.kwargs.values())))


def references(value: Any) -> Iterator[Reference]:
    """The Reference leaves of nested arguments."""
    if isinstance(value, Reference):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from references(item)
    elif isinstance(value, dict):
        yield from references(list(value.values()))


def parse_calls(layer: str, nodes: list, known: set[str]) -> list[Call]:
    """The calls of `layer`; `known` are the names of all layers of the model."""
    calls = []
    for i, node in enumerate(nodes):
        args, kwargs = _keras3_node(node) if is_keras3_node(node) else _keras2_node(node, known)
        telling = {key: value for key, value in kwargs.items() if value is not None and key != "training"}
        calls.append(Call(layer, i, args, telling))
    return calls


# ---- Keras 3: {"args": [...], "kwargs": {...}} ----


def is_keras3_node(node: Any) -> bool:
    return isinstance(node, dict) and "args" in node


def _keras3_node(node: dict) -> tuple[tuple, dict]:
    args, kwargs = field(node, "args", list), field(node, "kwargs", dict)
    return tuple(map(_keras3_value, args)), {key: _keras3_value(value) for key, value in kwargs.items()}


def _keras3_value(value: Any) -> Any:
    if isinstance(value, list):
        return [_keras3_value(item) for item in value]
    if not isinstance(value, dict):
        return value
    kind = value.get("class_name")
    if kind is None:
        return {key: _keras3_value(item) for key, item in value.items()}
    if kind == "__tuple__":
        return [_keras3_value(item) for item in field(value, "items", list)]
    if kind == "__ellipsis__":
        return Ellipsis
    if isinstance(kind, str) and kind in KERAS3_VALUES:
        return KERAS3_VALUES[kind](field(value, "config", dict))
    return value


def _slice(config: Mapping[str, Any]) -> slice:
    return slice(*(_keras3_value(config.get(key)) for key in ("start", "stop", "step")))


def _array(config: Mapping[str, Any]) -> np.ndarray:
    try:
        return np.array(config.get("value"), field(config, "dtype", str))
    except (TypeError, ValueError) as error:
        raise ModelFileError(f"a constant: {error}") from error


KERAS3_VALUES = {
    "__keras_tensor__": lambda config: _reference(field(config, "keras_history", list)),
    "__slice__": _slice,
    "__tensor__": _array,
    "__numpy__": _array,
}


# ---- Keras 1 and 2: [[layer, node, tensor, {arguments}], ...], one entry for each input ----


def _keras2_node(node: Any, known: set[str]) -> tuple[tuple, dict]:
    if isinstance(node, dict):  # a layer called with a dict
        entries, keys = list(node.values()), list(node)
    else:
        entries = [node] if isinstance(node, list) and node and isinstance(node[0], str) else node
        keys = None
    if not isinstance(entries, list) or not entries or not all(map(_is_entry, entries)):
        raise ModelFileError(f"expected lists of [layer, node, tensor, arguments], got {shown(node)}")
    kwargs: dict = {}
    for entry in entries:
        kwargs.update(field({"arguments": (entry + [{}])[3]}, "arguments", dict))
    values = [entry[2] if entry[0] == CONSTANT else _reference(entry[:3]) for entry in entries]
    first = dict(zip(keys, values)) if keys else values[0] if len(values) == 1 else values
    return (first,), {key: _keras2_value(value, known) for key, value in kwargs.items()}


def _is_entry(entry: Any) -> bool:
    return isinstance(entry, list) and len(entry) in (3, 4)


def _keras2_value(value: Any, known: set[str]) -> Any:
    if isinstance(value, list):
        if len(value) == 3 and isinstance(value[0], str) and value[0] in known | {CONSTANT}:
            return value[2] if value[0] == CONSTANT else _reference(value)
        return [_keras2_value(item, known) for item in value]
    if isinstance(value, dict):
        if set(value) == {"start", "stop", "step"}:
            return slice(*(_keras2_value(value[key], known) for key in ("start", "stop", "step")))
        return {key: _keras2_value(item, known) for key, item in value.items()}
    return value


def _reference(entry: Any) -> Reference:
    if not isinstance(entry, list) or [type(part) for part in entry] != [str, int, int]:
        raise ModelFileError(f"expected [layer, node, tensor], got {shown(entry)}")
    return Reference(*entry)


# ---- input_layers and output_layers ----


def named_references(entries: Any) -> list[tuple[str, Reference]]:
    """References by the names of their layers, or by the keys of a dict.

    Keras 3 writes a single reference without a list around it.
    """
    if isinstance(entries, dict):
        return [(key if isinstance(value, list) and value and isinstance(value[0], str) else reference.layer, reference)
                for key, value in entries.items() for reference in _listed(value)]
    return [(reference.layer, reference) for reference in _listed(entries)]


def _listed(entries: Any) -> list[Reference]:
    """Lists within the list are of one layer's outputs, as cells side by side have them; here all stand in one."""
    if not isinstance(entries, list) or not entries:
        raise ModelFileError(f"expected [layer, node, tensor] or a list of them, got {shown(entries)}")
    if isinstance(entries[0], str):
        return [_reference(entries)]
    return [reference for entry in entries for reference in _listed(entry)]
