"""Paths as callers give them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from .errors import InputError

ONNX_EXTENSION = ".onnx"
FOREIGN_EXTENSIONS = (".keras", ".h5", ".hdf5", ".tflite", ".pb")


def path_of(given: Any, what: str = "path") -> str:
    """`given` as text. Raises InputError for what is no path, or none that a file can have."""
    try:
        path = os.fsdecode(given)
    except TypeError:
        raise InputError(f"{what}: expected a path, got {type(given).__name__}") from None
    if "\0" in path:
        raise InputError(f"{what}: no file can have a NUL in its name: {path!r}")
    return path


def check_destination(destination: str | os.PathLike, force: bool) -> Path:
    """The path to write to. Raises InputError where there is a file, without `force`, or for a name that says another format."""
    destination = Path(path_of(destination, "destination"))
    if destination.suffix.lower() in FOREIGN_EXTENSIONS:
        raise InputError(f"{destination}: lstmrt writes .lstmrt and .onnx files, no {destination.suffix}")
    if os.path.lexists(destination) and not force:
        raise InputError(f"{destination} exists already: use force=True (--force) to replace it")
    return destination
