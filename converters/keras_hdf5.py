"""The whole-model `.h5` container of Keras 1 to 3: configuration in an attribute, weights in groups by layer name."""

from __future__ import annotations

import os
from contextlib import contextmanager
from itertools import count
from typing import Iterator, Mapping

from ..errors import ModelFileError, UnsupportedError
from .keras_config import Architecture
from .keras_file import KerasFile
from .keras_json import parse
from .keras_weights import LayerWeights, member, open_hdf5, subgroup, text, texts


@contextmanager
def open_whole_model(path: str) -> Iterator[KerasFile]:
    """The model in the HDF5 file at `path`, for as long as the block runs."""
    with open_hdf5(path) as file:
        if "model_config" not in file.attrs:
            raise UnsupportedError("an HDF5 file with weights alone, or none of Keras's: lstmrt needs the whole model, "
                                   "as model.save writes it")
        group = subgroup(file, "model_weights")
        written = next((node for node in (file, group) if "keras_version" in node.attrs), None)
        version = text(written, "keras_version") if written else "1"
        model = parse(text(file, "model_config"), "model_config")
        yield KerasFile(model, version, lambda architecture: _weights(group, architecture))


def _weights(group, architecture: Architecture) -> Mapping[str, LayerWeights]:
    stored = set(_names(group, "layer_names"))
    return {layer.name: LegacyWeights.of(subgroup(group, layer.name))
            for layer in architecture.layers if layer.name in stored}


def _names(group, attribute: str) -> list[str]:
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


class LegacyWeights:
    """Weights listed by name; a name is a path from the layer's group, and says which inner layer a weight is of."""

    def __init__(self, group, names: list[str]) -> None:
        self._group, self._names = group, names

    @classmethod
    def of(cls, group) -> LegacyWeights:
        return cls(group, _names(group, "weight_names"))

    def datasets(self) -> list:
        return [member(self._group, name) for name in self._names]

    def child(self, attribute: str) -> LegacyWeights:
        """Of Bidirectional's two halves the one asked for; any other child has all the weights."""
        if attribute not in ("forward_layer", "backward_layer"):
            return self
        paths = {name: name.split("/") for name in self._names}
        depth = len(os.path.commonprefix(list(paths.values())))
        halves = {True: [], False: []}
        for name, path in paths.items():
            halves[path[depth].startswith("forward_")].append(name)
        return LegacyWeights(self._group, halves[attribute == "forward_layer"])
