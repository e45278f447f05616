"""Readers of other frameworks' model files. What a file is, is decided by what is in it, never by its name."""

from __future__ import annotations

import os
from typing import Union

from ..errors import ModelFileError
from .located import located
from .source import Source

__all__ = ["Source", "load_source"]

ZIP, HDF5 = b"PK\x03\x04", b"\x89HDF\r\n\x1a\n"
ONNX_FIRST_FIELDS = (b"\x08", b"\x12", b"\x3a")  # ir_version, producer_name or graph, as protobuf writes them


def load_source(path: Union[str, os.PathLike]) -> Source:
    """Reads a model of Keras (`.keras`, whole-model HDF5) or ONNX.

    Raises ModelFileError for a damaged file or none of these, UnsupportedError for a model that asks for what lstmrt
    does not have, MissingDependencyError where h5py or onnx is not installed. Messages begin with the path.
    """
    path = os.fspath(path)
    start = _start(path)
    with located(path):
        if start.startswith((ZIP, HDF5)):
            return _read_keras(path, start)
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


def _read_keras(path: str, start: bytes) -> Source:
    from .from_keras import read_keras
    from .keras_archive import open_archive
    from .keras_hdf5 import open_whole_model

    return read_keras(open_archive(path) if start.startswith(ZIP) else open_whole_model(path))


def _read_onnx(path: str) -> Source:
    from .from_onnx import read_onnx

    return Source(read_onnx(path), "onnx", "")
