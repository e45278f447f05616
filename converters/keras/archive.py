"""The `.keras` container, a zip or an unpacked folder, and weights that Keras 3 split over several files."""

from __future__ import annotations

import io
import os
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, BinaryIO, Protocol, Union

from ...errors import LstmrtError, ModelFileError, UnsupportedError
from ..located import located
from .file import Assignment, KerasFile
from .hdf5 import version_of
from .json import field, parse
from .numbered import NumberedWeights
from .weights import LARGEST_RATIO, open_hdf5

CONFIG, METADATA = "config.json", "metadata.json"
WEIGHTS, SHARDED_WEIGHTS, PICKLED_WEIGHTS = "model.weights.h5", "model.weights.json", "model.weights.npz"
LARGEST_TEXT = 1 << 28  # bytes of JSON


class Members(Protocol):
    """Files by name."""

    def names(self) -> list[str]:
        """Those that there are."""

    def open(self, name: str) -> Union[str, BinaryIO]:
        """What h5py opens: a path, or a file in memory."""

    def text(self, name: str) -> bytes:
        """What the file holds: JSON, or a vocabulary."""

    def asset(self, path: str) -> bytes | None:
        """What the file at `path`, which slashes part, holds; None where there is none."""


class Folder:
    """The files that lie in one folder."""

    def __init__(self, path: str) -> None:
        self._path = path

    def names(self) -> list[str]:
        return os.listdir(self._path)

    def open(self, name: str) -> str:
        path = os.path.join(self._path, name)
        if os.path.basename(name) != name or not os.path.isfile(path):
            raise ModelFileError(f"the folder has no file '{name}'")
        return path

    def text(self, name: str) -> bytes:
        path = self.open(name)
        if os.path.getsize(path) > LARGEST_TEXT:
            raise ModelFileError(f"{name} has {os.path.getsize(path)} bytes, expected {LARGEST_TEXT} at most")
        with open(path, "rb") as file:
            return file.read()

    def asset(self, path: str) -> bytes | None:
        *folders, name = path.split("/")
        found = os.path.join(self._path, *folders, name)
        if not set(folders) & {"", os.curdir, os.pardir} and os.path.isfile(found):
            return Folder(os.path.dirname(found)).text(name)
        return None


class Archive:
    """The files in a zip. None is unpacked to more than a hundred times its size."""

    def __init__(self, path: str, archive: zipfile.ZipFile) -> None:
        self._archive, self._available = archive, os.path.getsize(path)

    def names(self) -> list[str]:
        return self._archive.namelist()

    def open(self, name: str) -> BinaryIO:
        return io.BytesIO(self.text(name))

    def text(self, name: str) -> bytes:
        count = self.names().count(name)
        if count != 1:
            raise ModelFileError(f"{name} is there {'twice' if count > 1 else 'no more'}")
        info = self._archive.getinfo(name)
        if info.compress_size > self._available or info.file_size > LARGEST_RATIO * info.compress_size:
            raise ModelFileError(f"{name} says {info.file_size} bytes out of {info.compress_size} packed ones")
        return self._archive.read(info)

    def asset(self, path: str) -> bytes | None:
        return self.text(path) if path in self.names() else None


@contextmanager
def open_archive(path: str, config: Mapping[str, Any] | None = None) -> Iterator[KerasFile]:
    """The model in the zip at `path`, for as long as the block runs; `config` stands in for its own configuration."""
    try:
        with zipfile.ZipFile(path) as archive, _model_in(Archive(path, archive), "a zip", config) as file:
            yield file
    except LstmrtError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, KeyError, UnicodeError) as error:
        raise ModelFileError(f"damaged zip: {error}") from error


def open_folder(path: str, config: Mapping[str, Any] | None = None):
    """The same for a model that Keras saved without zipping it."""
    return _model_in(Folder(path), "a folder", config)


@contextmanager
def open_shards(path: str, config: Mapping[str, Any]) -> Iterator[KerasFile]:
    """`config` with the weights that the JSON file at `path` says lie in which file beside it."""
    folder, name = os.path.split(path)
    with _sharded(Folder(folder or os.curdir), name, check_names=False) as weights:
        yield KerasFile(config, version_of(config, None), lambda architecture: [
            Assignment(weights.layers(architecture.layers), "in order, class by class")])


@contextmanager
def _model_in(members: Members, kind: str, config: Mapping[str, Any] | None) -> Iterator[KerasFile]:
    names = members.names()
    if any(name.endswith("/data.pkl") for name in names):
        raise UnsupportedError("a PyTorch file, which would run code of its own: export the model as ONNX")
    if CONFIG not in names:
        raise ModelFileError(f"{kind} without {CONFIG} is no Keras model")
    model = parse(members.text(CONFIG), CONFIG) if config is None else config
    version = field(parse(members.text(METADATA), METADATA), "keras_version", str)
    with _weights(members, names, check_names=config is None) as weights:
        yield KerasFile(model, version, lambda architecture: [Assignment(weights.layers(architecture.layers))])


@contextmanager
def _weights(members: Members, names: list[str], check_names: bool) -> Iterator[NumberedWeights]:
    if WEIGHTS in names:
        with open_hdf5(members.open(WEIGHTS)) as file:
            yield NumberedWeights([file], check_names, members.asset)
    elif SHARDED_WEIGHTS in names:
        with _sharded(members, SHARDED_WEIGHTS, check_names) as weights:
            yield weights
    elif PICKLED_WEIGHTS in names:
        raise UnsupportedError(f"its weights are {PICKLED_WEIGHTS}: pickled objects, which lstmrt never runs and Keras "
                               "itself no longer loads; save the model with Keras's default, HDF5")
    else:
        raise ModelFileError(f"a .keras file without {WEIGHTS}")


@contextmanager
def _sharded(members: Members, name: str, check_names: bool) -> Iterator[NumberedWeights]:
    """Weights whose groups lie in several HDF5 files: one group may be split between two of them."""
    with located(name):
        places = field(parse(members.text(name), name), "weight_map", dict).values()
        files = [file for place in places for file in (place if isinstance(place, list) else [place])]
        if not files or not all(isinstance(file, str) for file in files):
            raise ModelFileError("weight_map: expected names of files")
        with ExitStack() as stack:
            opened = [stack.enter_context(open_hdf5(members.open(file))) for file in dict.fromkeys(files)]
            yield NumberedWeights(opened, check_names, members.asset)
