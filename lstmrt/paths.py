"""Paths as callers give them."""

from __future__ import annotations

import os
from typing import Any

from .errors import InputError


def path_of(given: Any, what: str = "path") -> str:
    """`given` as text. Raises InputError for what is no path, or none that a file can have."""
    try:
        path = os.fsdecode(given)
    except TypeError:
        raise InputError(f"{what}: expected a path, got {type(given).__name__}") from None
    if "\0" in path:
        raise InputError(f"{what}: no file can have a NUL in its name: {path!r}")
    return path
