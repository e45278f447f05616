"""The `.keras` container: a zip of config.json, metadata.json and model.weights.h5 (Keras 2.13 and later)."""

from __future__ import annotations

import io
import os
import re
import zipfile
import zlib
from contextlib import contextmanager
from typing import Iterator, Mapping

from ..errors import ModelFileError, UnsupportedError
from .keras_config import Architecture
from .keras_file import KerasFile
from .keras_json import field, parse
from .keras_weights import LARGEST_RATIO, LayerWeights, member, open_hdf5, subgroup, text

CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
LAYER_GROUPS = ("layers", "_layer_checkpoint_dependencies")  # the second up to Keras 2.14


@contextmanager
def open_archive(path: str) -> Iterator[KerasFile]:
    """The model in the zip at `path`, for as long as the block runs."""
    config, metadata, weights = _read_members(path)
    version = field(parse(metadata, METADATA), "keras_version", str)
    with open_hdf5(io.BytesIO(weights)) as file:
        yield KerasFile(parse(config, CONFIG), version, lambda architecture: _weights(file, architecture))


def _read_members(path: str) -> list[bytes]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if CONFIG not in names:
                raise ModelFileError(f"a zip without {CONFIG} is no Keras model")
            if WEIGHTS not in names:
                raise UnsupportedError(f"a .keras file without {WEIGHTS}")
            return [_read_member(archive, name, os.path.getsize(path)) for name in (CONFIG, METADATA, WEIGHTS)]
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, KeyError, UnicodeError) as error:
        if isinstance(error, UnsupportedError):
            raise
        raise ModelFileError(f"damaged zip: {error}") from error


def _read_member(archive: zipfile.ZipFile, name: str, available: int) -> bytes:
    if archive.namelist().count(name) > 1:
        raise ModelFileError(f"{name} is there twice")
    info = archive.getinfo(name)
    if info.compress_size > available or info.file_size > LARGEST_RATIO * info.compress_size:
        raise ModelFileError(f"{name} says {info.file_size} bytes out of {info.compress_size} packed ones")
    return archive.read(info)


def _weights(file, architecture: Architecture) -> Mapping[str, LayerWeights]:
    """Each layer's group. Groups are called after classes, numbered in the order of the configuration."""
    root = next((name for name in LAYER_GROUPS if name in file), None)
    if root is None:
        raise ModelFileError(f"{WEIGHTS}: expected a group {' or '.join(LAYER_GROUPS)}, got {', '.join(file) or 'none'}")
    groups = subgroup(file, root)
    weights = {}
    for class_name in dict.fromkeys(layer.class_name for layer in architecture.layers):
        layers = [layer for layer in architecture.layers if layer.class_name == class_name]
        for layer, name in zip(layers, _numbered(groups, snake_case(class_name))):
            weights[layer.name] = ArchiveWeights(groups, name, layer.name)
    return weights


def snake_case(class_name: str) -> str:
    """As Keras does it: SimpleRNN -> simple_rnn, CuDNNLSTM -> cu_dnnlstm."""
    name = re.sub(r"\W+", "", class_name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def _numbered(groups, stem: str) -> list[str]:
    """`stem`, `stem_1`, ... as far as they are there, by number; Keras up to 2.13 leaves numbers out."""
    found = [re.fullmatch(rf"{stem}(?:_([0-9]{{1,9}}))?", name) for name in groups]
    return [match.string for match in sorted(filter(None, found), key=lambda match: int(match[1] or 0))]


class ArchiveWeights:
    """The weights below one group: variables are `vars/0`, `vars/1`, ...; children are groups."""

    def __init__(self, parent, name: str, layer: str = "") -> None:
        self._group = subgroup(parent, name)
        self._check_name(layer)

    def _check_name(self, layer: str) -> None:
        """Keras from 3.6 on writes down whose variables they are."""
        if not layer or "vars" not in self._group:
            return
        variables = subgroup(self._group, "vars")
        written = text(variables, "name") if "name" in variables.attrs else layer
        if written != layer:
            raise ModelFileError(f"'{self._group.name}' holds the weights of '{written}', expected '{layer}'")

    def datasets(self) -> list:
        variables = subgroup(self._group, "vars")
        return [member(variables, str(i)) for i in range(len(variables))]

    def child(self, attribute: str) -> ArchiveWeights:
        return ArchiveWeights(self._group, attribute)
