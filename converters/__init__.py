"""Readers of other frameworks' model files. What a file is, is decided by what is in it, never by its name.

A reader is imported when a file wants it: a model of one framework should not wait for the other's.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Union

from ..errors import InputError, ModelFileError, UnsupportedError
from ..paths import path_of
from .keras.json import parse
from .keras.tensor_bundle import INDEX
from .located import located
from .source import Source

if TYPE_CHECKING:
    from .keras.custom import CustomLayers

__all__ = ["ConfigSpec", "Source", "load_source"]

ZIP, HDF5, JSON = b"PK\x03\x04", b"\x89HDF\r\n\x1a\n", b"{"
ONNX_FIRST_FIELDS = (b"\x08", b"\x12", b"\x3a")  # ir_version, producer_name or graph, as protobuf writes them
# Where which bytes tell a file that is not read, and what to do instead.
REFUSED = (
    (4, b"TFL3", "a TensorFlow Lite file, which has lost its layers: convert the .keras or .h5 file it was made from"),
    (0, b"\x80", "a pickle, which would run code of the file's own: save the model in its framework's format"),
)

ConfigSpec = Union[str, os.PathLike, Mapping[str, Any]]  # JSON text, a path to it, or what it says


def load_source(path: Union[str, os.PathLike], config: Union[ConfigSpec, None] = None,
                custom_layers: Union[CustomLayers, None] = None) -> Source:
    """Reads a model of Keras (`.keras`, HDF5, a folder of either kind, a checkpoint's `.index`) or ONNX.

    config         a Keras model's configuration, what `model.to_json()` gives, in place of the file's own; weights
                   alone need it
    custom_layers  class or name of a layer -> the function that says what it computes: keras/custom.py

    Raises ModelFileError for a damaged file or none of these, UnsupportedError for a model that asks for what lstmrt
    does not have, InputError for a configuration or custom layers beside a file that is none of Keras's,
    MissingDependencyError where h5py or onnx is not installed. Messages begin with the path.
    """
    path = path_of(path)
    with located(path):
        is_folder = os.path.isdir(path)
        start = b"" if is_folder else _start(path)
        is_checkpoint = config is not None and path.endswith(INDEX)
        if is_folder or is_checkpoint or start.startswith((ZIP, HDF5, JSON)):
            from .from_keras import read_keras
            from .keras.containers import open_container

            return read_keras(open_container(path, start, _config(config)), custom_layers or {})
        if config is not None or custom_layers:
            raise InputError("config and custom_layers are for a Keras file, which this is not")
        for place, magic, refusal in REFUSED:
            if start[place:place + len(magic)] == magic:
                raise UnsupportedError(refusal)
        if start.startswith(ONNX_FIRST_FIELDS):
            from .from_onnx import read_source

            return read_source(path)
        raise ModelFileError(f"neither a Keras nor an ONNX file: it {f'begins with {start!r}' if start else 'is empty'}")


def _start(path: str) -> bytes:
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ModelFileError("not a regular file")
        with open(path, "rb") as file:
            return file.read(8)
    except OSError as error:
        raise ModelFileError(error.strerror) from error


def _config(given: Union[ConfigSpec, None]) -> Union[Mapping[str, Any], None]:
    """The serialised model in `given`, if any."""
    if given is None:
        return None
    if isinstance(given, Mapping):
        try:
            return parse(json.dumps(given), "config")
        except (TypeError, ValueError, RecursionError) as error:
            raise InputError(f"config: expected what JSON can say: {error}") from error
    if isinstance(given, str) and given.lstrip().startswith(("{", '"')):
        return parse(given, "config")
    path = path_of(given, "config, which is JSON text, a path or a dict")
    try:
        with open(path, encoding="utf-8-sig") as file:
            text = file.read()
    except (OSError, UnicodeError) as error:
        raise ModelFileError(f"config {path}: {getattr(error, 'strerror', None) or error}") from error
    return parse(text, f"config {path}")
