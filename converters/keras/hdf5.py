"""HDF5 files of Keras: whole models, and weights alone beside a configuration that stands elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ...errors import UnsupportedError
from .config import Architecture
from .file import Assignment, KerasFile
from .json import field, parse
from .matching import match
from .named import is_named, named_layers
from .numbered import NumberedWeights, is_numbered
from .old_weights import ModernWeights
from .weights import LayerWeights, open_hdf5, subgroup, text

if TYPE_CHECKING:
    import h5py

NEEDS_CONFIG = ("a file of weights alone: give the model's configuration, what model.to_json() gives, as config= "
                "(--config), or save the whole model with model.save")


@contextmanager
def open_hdf5_model(path: str, config: Mapping[str, Any] | None = None) -> Iterator[KerasFile]:
    """The model in the HDF5 file at `path`, for as long as the block runs.

    `config` is a serialised model that stands in for the one in the file, and has to for a file of weights alone.
    """
    with open_hdf5(path) as file:
        group = subgroup(file, "model_weights") if "model_weights" in file else file
        whole = "model_config" in file.attrs
        if not (whole or is_named(group) or is_numbered(file)):
            raise UnsupportedError("an HDF5 file, but none of Keras's: it has neither a configuration nor layers")
        if config is None and not whole:
            raise UnsupportedError(NEEDS_CONFIG)
        written = _written(file, group, "keras_version")
        if config is None:
            config, version = parse(text(file, "model_config"), "model_config"), written or "1"
            assignments = _by_name(group)
        else:
            version = version_of(config, written)
            assignments = _matching(group) if is_named(group) else _in_order(group)
        flipped = _written(file, group, "backend") == "theano"
        yield KerasFile(config, version, lambda architecture: [
            replace(found, weights=_modern(found.weights, architecture, flipped)) for found in assignments(architecture)])


def version_of(config: Mapping[str, Any], of_weights: str | None) -> str:
    """The Keras of a configuration: what it says itself, or its weights say, or else what its words look like."""
    version = field(config, "keras_version", str, default=of_weights)
    return version or ("3" if "build_config" in config or "registered_name" in config else "2")


def _written(file: h5py.File, group: h5py.Group, attribute: str) -> str | None:
    return next((text(node, attribute) for node in (file, group) if attribute in node.attrs), None)


def _by_name(group: h5py.Group) -> Callable[[Architecture], list[Assignment]]:
    return lambda architecture: [Assignment(named_layers(group))]


def _matching(group: h5py.Group) -> Callable[[Architecture], list[Assignment]]:
    return lambda architecture: match(named_layers(group), architecture)


def _in_order(group: h5py.Group) -> Callable[[Architecture], list[Assignment]]:
    weights = NumberedWeights([group], check_names=False)
    return lambda architecture: [Assignment(weights.layers(architecture.layers), "in order, class by class")]


def _modern(weights: Mapping[str, LayerWeights], architecture: Architecture, flipped: bool) -> Mapping[str, LayerWeights]:
    return {layer.name: ModernWeights(weights[layer.name], layer, flipped)
            for layer in architecture.layers if layer.name in weights}
