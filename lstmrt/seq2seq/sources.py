"""Sources as encoders take them: text or ids into ids or one-hot rows, padded where an encoder wants one length."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Union

import numpy as np

from ..errors import InputError
from ..execution.binding import as_dtype
from ..graph import Value
from ..shapes import LARGEST_FILL
from .config import EncoderDecoderDefaults

if TYPE_CHECKING:
    from ..model import Model

Source = Union[str, "list[int]", np.ndarray, Mapping[str, Any]]


@dataclass(frozen=True)
class Fitted:
    """One sequence for one input of an encoder.

    array   (1, ...)
    tokens  what it is made of, padding left out: texts of a text, else ids or the numbers of the rows
    begin   the step of `array` that the first of the tokens is
    """

    array: np.ndarray
    tokens: list
    begin: int = 0

    @property
    def length(self) -> int:
        return self.array.shape[1] if self.array.ndim > 1 else 0


def read_source(model: Model, source: Source, window: int | None) -> dict[str, Fitted]:
    """What each input of the encoder gets, in the encoder's order. Raises InputError where that does not fit it."""
    inputs = model.encoder_decoder.inputs
    names = ", ".join(value.name for value in inputs)
    if not isinstance(source, Mapping):
        if len(inputs) > 1:
            raise InputError(f"source: expected a dict of {names}")
        source = {inputs[0].name: source}
    if set(source) != {value.name for value in inputs}:
        raise InputError(f"source: expected {names}, got {', '.join(map(str, source))}")
    return {value.name: _fitted(model, value, source[value.name], window) for value in inputs}


def _fitted(model: Model, value: Value, given: Any, window: int | None) -> Fitted:
    ids = model.tokenizer.encode(given) if isinstance(given, str) else given
    array, rank = np.asarray(ids), len(value.shape or ())
    takes_rows = value.dtype == "float32" and rank == 3
    if takes_rows and array.ndim == 1:
        array = np.eye(value.shape[2], dtype=np.float32)[_checked_ids(value, array, value.shape[2])]
    elif np.dtype(value.dtype).kind in "iu" and rank == 2:
        array = _checked_ids(value, array, model.encoder_decoder.vocabularies[value.name])
    if rank < 2 or array.ndim != rank - 1:
        return Fitted(as_dtype(value, array)[None], [])
    if isinstance(given, str):
        tokens = [model.tokenizer.piece(id, first=True) for id in ids]
    else:
        tokens = np.asarray(ids).tolist() if np.ndim(ids) == 1 else list(range(len(array)))
    return _padded(value, as_dtype(value, array), tokens, window, model.generation)


def _checked_ids(value: Value, ids: np.ndarray, known: int | None) -> np.ndarray:
    if ids.size == 0:
        raise InputError("source: expected at least one token that the model knows, got none")
    if ids.ndim != 1 or ids.dtype.kind not in "iu":
        raise InputError(f"source '{value.name}': expected text or ids, got {ids.dtype} of shape {ids.shape}")
    wrong = ids[(ids < 0) | (ids >= known)] if known is not None else ids[:0]
    if wrong.size:
        raise InputError(f"source: id {wrong[0]} is outside the encoder's vocabulary of {known}")
    return ids


def _padded(value: Value, array: np.ndarray, tokens: list, window: int | None, settings: EncoderDecoderDefaults) -> Fitted:
    """The last steps of `array` (steps, ...), as many as the input or `window` says, padded up to as many."""
    length = (value.shape[1] if isinstance(value.shape[1], int) else window) or len(array)
    if length * math.prod(array.shape[1:]) > LARGEST_FILL:
        raise InputError(f"source '{value.name}': {length} steps are more than {LARGEST_FILL} elements")
    array, tokens = array[-length:], tokens[-length:]
    padding = np.zeros((length - len(array), *array.shape[1:]), array.dtype)
    if settings.pad_id is not None:
        padding[:] = settings.pad_id if array.ndim == 1 else np.arange(array.shape[1]) == settings.pad_id
    if settings.padding == "left":
        return Fitted(np.concatenate([padding, array])[None], tokens, len(padding))
    return Fitted(np.concatenate([array, padding])[None], tokens)
