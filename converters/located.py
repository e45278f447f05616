"""Where an error happened: each level of an importer puts its own name in front of the message."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import LstmrtError


@contextmanager
def located(where: str) -> Iterator[None]:
    """Errors of ours that leave the block begin with `where`."""
    try:
        yield
    except LstmrtError as error:
        raise type(error)(f"{where}: {error}") from error
