"""Readers of other frameworks' model files. What a file is, is decided by what is in it, never by its name."""

from __future__ import annotations

import os
from typing import Any, Mapping, Union

from ..errors import InputError, ModelFileError
from .located import located
from .source import Source

__all__ = ["ConfigSpec", "Source", "load_source"]

ZIP, HDF5 = b"PK\x03\x04", b"\x89HDF\r\n\x1a\n"
ONNX_FIRST_FIELDS = (b"\x08", b"\x12", b"\x3a")  # ir_version, producer_name or graph, as protobuf writes them

ConfigSpec = Union[str, os.PathLike, Mapping[str, Any]]  # JSON text, a path to it, or what it says


def load_source(path: Union[str, os.PathLike], config: Union[ConfigSpec, None] = None) -> Source:
    """Reads a model of Keras (`.keras`, HDF5) or ONNX.

    config  a Keras model's configuration, what `model.to_json()` gives, in place of the file's own; weights alone need it

    Raises ModelFileError for a damaged file or none of these, UnsupportedError for a model that asks for what lstmrt
    does not have, InputError for a configuration beside a file that is none of Keras's, MissingDependencyError where h5py
    or onnx is not installed. Messages begin with the path.
    """
    path = os.fspath(path)
    start = _start(path)
    with located(path):
        if start.startswith((ZIP, HDF5)):
            return _read_keras(path, start, None if config is None else _config(config))
        if config is not None:
            raise InputError("a config is for a Keras file, which this is not")
        if start.startswith(ONNX_FIRST_FIELDS):
            return _read_onnx(path)
        raise ModelFileError(f"neither a Keras nor an ONNX file: it begins with {start[:8]!r}")


def _start(path: str) -> bytes:
    if os.path.isdir(path):
        raise ModelFileError(f"{path}: a folder; lstmrt reads single files: save the model as .keras")
    try:
        with open(path, "rb") as file:
            return file.read(8)
    except OSError as error:
        raise ModelFileError(f"{path}: {error.strerror}") from error


def _config(given: ConfigSpec) -> Mapping[str, Any]:
    """The serialised model in `given`."""
    from .keras_json import parse

    if isinstance(given, Mapping):
        return given
    if not isinstance(given, (str, os.PathLike)):
        raise InputError(f"config: expected JSON text, a path or a dict, got {type(given).__name__}")
    if isinstance(given, str) and given.lstrip().startswith(("{", '"')):
        return parse(given, "config")
    try:
        with open(given, encoding="utf-8-sig") as file:
            text = file.read()
    except (OSError, UnicodeError) as error:
        raise ModelFileError(f"config {os.fspath(given)}: {getattr(error, 'strerror', None) or error}") from error
    return parse(text, f"config {os.fspath(given)}")


def _read_keras(path: str, start: bytes, config: Union[Mapping[str, Any], None]) -> Source:
    from .from_keras import read_keras
    from .keras_archive import open_archive
    from .keras_hdf5 import open_hdf5_model

    return read_keras((open_archive if start.startswith(ZIP) else open_hdf5_model)(path, config))


def _read_onnx(path: str) -> Source:
    from .from_onnx import read_onnx

    return Source(read_onnx(path), "onnx", "")
