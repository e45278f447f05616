"""The `.keras` container: a zip of config.json, metadata.json and model.weights.h5 (Keras 2.13 and later)."""

from __future__ import annotations

import io
import os
import zipfile
import zlib
from contextlib import contextmanager
from typing import Any, Iterator, Mapping

from ..errors import ModelFileError, UnsupportedError
from .keras_file import Assignment, KerasFile
from .keras_json import field, parse
from .keras_numbered import NumberedWeights
from .keras_weights import LARGEST_RATIO, open_hdf5

CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"


@contextmanager
def open_archive(path: str, config: Mapping[str, Any] | None = None) -> Iterator[KerasFile]:
    """The model in the zip at `path`, for as long as the block runs; `config` stands in for its own configuration."""
    stored, metadata, weights = _read_members(path)
    version = field(parse(metadata, METADATA), "keras_version", str)
    with open_hdf5(io.BytesIO(weights)) as file:
        root = NumberedWeights(file, check_names=config is None)
        yield KerasFile(parse(stored, CONFIG) if config is None else config, version,
                        lambda architecture: [Assignment(root.layers(architecture.layers))])


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
