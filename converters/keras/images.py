"""What layers of one to three spatial axes have in common: sizes along them, and where the channels are."""

from __future__ import annotations

from typing import Literal, Union

from ...errors import ModelFileError
from .builder import Scope, Tensor
from .json import shown

ImageFormat = Literal["channels_last", "channels_first", None]
Sizes = Union[int, list]


def as_sizes(name: str, value: Sizes, axes: int, least: int = 1) -> tuple[int, ...]:
    """One size for each spatial axis; one number stands for all."""
    sizes = [value] * axes if isinstance(value, int) else value
    if len(sizes) != axes or not all(type(size) is int and size >= least for size in sizes):
        raise ModelFileError(f"{name}: expected {axes} numbers of at least {least}, got {shown(value)}")
    return tuple(sizes)


def channels_first(scope: Scope, x: Tensor, data_format: str | None) -> str:
    """(batch, channels, ...), as ONNX has it."""
    x = scope.floats(x)
    if data_format == "channels_first":
        return x.name
    return scope.add("Transpose", x.name, perm=(0, x.rank - 1, *range(1, x.rank - 1)))


def channels_last(scope: Scope, y: str, data_format: str | None) -> Tensor:
    """Back from what `channels_first` made."""
    if data_format == "channels_first":
        return scope.tensor(y)
    rank = scope.tensor(y).rank
    return scope.tensor(scope.add("Transpose", y, perm=(0, *range(2, rank), 1)))
