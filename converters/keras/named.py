"""Weights in groups that are called after layers, with a list of names in each: the `.h5` files of Keras 1 to 3."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from itertools import count
from typing import TYPE_CHECKING

from ...errors import ModelFileError
from .config import Layer
from .weights import LayerWeights, NoWeights, Stored, Variable, subgroup, texts

if TYPE_CHECKING:
    import h5py

HALVES = ("forward_layer", "backward_layer")
HEADS = {"query_dense": "query", "key_dense": "key", "value_dense": "value", "output_dense": "attention_output"}
KERNEL = re.compile(r"kernel(_\d+)?(:0)?")
# Classes whose weights have these names.
WITH_KERNEL = re.compile("Dense|RNN|LSTM|GRU|Conv")
HOLDERS = {"embeddings": re.compile("Embedding"), "kernel": WITH_KERNEL, "bias": WITH_KERNEL,
           "recurrent_kernel": re.compile("RNN|LSTM|GRU"), "depthwise_kernel": re.compile("Separable|Depthwise"),
           "pointwise_kernel": re.compile("Separable"), "gamma": re.compile("Normalization"), "beta": re.compile("Normalization"),
           "moving_mean": re.compile("BatchNormalization"), "moving_variance": re.compile("BatchNormalization")}


def is_named(group: h5py.Group) -> bool:
    """Whether the group is one of weights in this layout."""
    return "layer_names" in group.attrs or "layer_names0" in group.attrs


def named_layers(group: h5py.Group) -> dict[str, NamedWeights]:
    """The weights of each layer that the file names, in the file's order."""
    return {name: NamedWeights(part := subgroup(group, name), _names(part, "weight_names"))
            for name in _names(group, "layer_names")}


def _names(group: h5py.Group, attribute: str) -> list[str]:
    """A list of names; one that HDF5's attributes cannot hold is split over `attribute`0, `attribute`1, ..."""
    if attribute in group.attrs:
        return texts(group, attribute)
    parts = []
    for i in count():
        if f"{attribute}{i}" not in group.attrs:
            break
        parts += texts(group, f"{attribute}{i}")
    if not parts:
        raise ModelFileError(f"'{group.name}' lacks its attribute {attribute}")
    return parts


class NamedWeights:
    """Weights listed by name; a name is a path from the layer's group, and says which inner layer a weight is of."""

    def __init__(self, group: h5py.Group, names: Sequence[str]) -> None:
        self._group, self.names = group, list(names)

    def variables(self) -> list[Variable]:
        return [Stored.at(self._group, name) for name in self.names]

    def child(self, attribute: str) -> NamedWeights:
        """Of Bidirectional's two halves or MultiHeadAttention's parts the one asked for; any other child has all weights.

        Keras puts `forward_` before the first half's name, but nothing before that of a backward layer of its own.
        """
        if attribute in HEADS:
            return self._part(name for name in self.names if HEADS[attribute] in name.split("/")[-2:-1])
        if attribute not in HALVES:
            return self
        paths = [name.split("/") for name in self.names]
        depth = len(os.path.commonprefix(paths))
        forward = [any(part.startswith("forward_") for part in path[depth:]) for path in paths]
        return self._part(name for name, half in zip(self.names, forward) if half == (attribute == "forward_layer"))

    def layers(self, layers: Sequence[Layer]) -> Mapping[str, LayerWeights]:
        """Of a nested model's layers. Frozen weights come last, whatever layer they are of: only names tell.

        Keras up to 2 does not write the name of a model within the nested one before those of its layers. Keras 3.0 writes
        no layers, and could not save a model with two weights of one name.
        """
        holders = {inner: layer.name for layer in layers for inner in layer.inner_names()}
        holders.update((layer.name, layer.name) for layer in layers)
        owners = [holders.get(_owner(name, list(holders))) or _holder(name, layers) for name in self.names]
        return {layer: self._part(name for name, owner in zip(self.names, owners) if owner == layer)
                for layer in dict.fromkeys(filter(None, owners))}

    def cells(self, cells: Sequence[Layer]) -> Sequence[LayerWeights]:
        """Each cell's weights begin with its kernel."""
        starts = [i for i, name in enumerate(self.names) if KERNEL.fullmatch(name.split("/")[-1])]
        parts = [self._part(self.names[start:end]) for start, end in zip(starts, [*starts[1:], len(self.names)])]
        return parts + [NoWeights()] * (len(cells) - len(parts))

    def everything(self) -> Mapping[str, Variable]:
        short = [name.split("/")[-1].split(":")[0] for name in self.names]
        return dict(zip(short if len(set(short)) == len(short) else self.names, self.variables()))

    def asset(self, name: str) -> None:
        return None

    def _part(self, names) -> NamedWeights:
        return NamedWeights(self._group, list(names))


def _holder(weight: str, layers: Sequence[Layer]) -> str | None:
    """The first layer that has a weight of this bare name, or holds one that has."""
    classes = HOLDERS.get(weight)
    return classes and next((layer.name for layer in layers
                             if any(classes.search(one.class_name) for one in (layer, *layer.held()))), None)


def _owner(weight: str, layers: Sequence[str]) -> str | None:
    """The layer that the name of a weight begins with; Keras 1 writes lstm_1_W_i, the later ones lstm_1/kernel:0."""
    parts = weight.split("/")
    if len(parts) > 1:
        return next((part for part in parts if part in layers), None)
    return max((layer for layer in layers if weight.startswith(f"{layer}_")), key=len, default=None)
