"""HDF5 files of Keras: whole models, and weights alone beside a configuration that stands elsewhere."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Iterator, Mapping

from ..errors import UnsupportedError
from .keras_file import Assignment, KerasFile
from .keras_json import field, parse
from .keras_matching import match
from .keras_named import is_named, named_layers
from .keras_numbered import NumberedWeights, is_numbered
from .keras_weights import open_hdf5, subgroup, text

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
        if config is not None:
            yield KerasFile(config, version_of(config, _written_version(file, group)), _matching(group))
            return
        model = parse(text(file, "model_config"), "model_config")
        yield KerasFile(model, _written_version(file, group) or "1", lambda _: [Assignment(named_layers(group))])


def version_of(config: Mapping[str, Any], of_weights: str | None) -> str:
    """The Keras of a configuration: what it says itself, or its weights say, or else what its words look like."""
    version = field(config, "keras_version", str, default=of_weights)
    return version or ("3" if "build_config" in config or "registered_name" in config else "2")


def _written_version(file: h5py.File, group: h5py.Group) -> str | None:
    return next((text(node, "keras_version") for node in (file, group) if "keras_version" in node.attrs), None)


def _matching(group: h5py.Group):
    if is_named(group):
        return lambda architecture: match(named_layers(group), architecture)
    weights = NumberedWeights(group, check_names=False)
    return lambda architecture: [Assignment(weights.layers(architecture.layers), "in order, class by class")]
