"""What a caller gives, as arrays that a graph's inputs take."""

from __future__ import annotations

import numbers
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..containers import is_array, kind_of
from ..errors import InputError
from ..graph import Dim, Value


class Binding:
    """The inputs of one graph."""

    def __init__(self, values: tuple[Value, ...]) -> None:
        self._values = {value.name: (value, np.dtype(value.dtype) if is_array(value.dtype) else None) for value in values}
        self._fitting: list[tuple[int, ...]] | None = None  # shapes that were last seen to fit: the next ones are often the same

    def bind(self, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """`inputs` as arrays of the graph's dtypes. Integers and integral floats serve as ids, any number as a float. A
        sequence is a list of such arrays; an optional value may be None.

        Raises InputError for missing and unknown names, other dtypes, and shapes that do not fit; a symbolic size is what
        the first input that has it says.
        """
        if not isinstance(inputs, Mapping):
            raise InputError(
                f"expected a mapping of the inputs {list(self._values)} to arrays, got {type(inputs).__name__}")
        if inputs.keys() != self._values.keys():
            raise InputError(f"expected the inputs {list(self._values)}, got {list(inputs)}")
        arrays = {name: _array(value, dtype, inputs[name]) for name, (value, dtype) in self._values.items()}
        shapes = [getattr(array, "shape", ()) for array in arrays.values()]
        if shapes != self._fitting:
            self._check(shapes)
            self._fitting = shapes
        return arrays

    def _check(self, shapes: list[tuple[int, ...]]) -> None:
        sizes: dict[str, int] = {}
        for (value, _), shape in zip(self._values.values(), shapes):
            if value.shape is None:
                continue
            wanted = tuple([sizes.get(size, size) for size in value.shape])
            if len(wanted) != len(shape):
                raise _misfit(value, wanted, shape)
            for size, actual in zip(wanted, shape):
                if isinstance(size, str):
                    sizes.setdefault(size, actual)
                elif size is not None and size != actual:
                    raise _misfit(value, wanted, shape)


def _array(value: Value, dtype: np.dtype | None, given: Any) -> np.ndarray | list[np.ndarray] | None:
    if type(given) is np.ndarray and given.dtype is dtype:
        return given
    return _contained(value, given) if dtype is None else as_dtype(value, given)


def _contained(value: Value, given: Any) -> np.ndarray | list[np.ndarray] | None:
    kind = kind_of(value.dtype)
    if given is None and kind.is_optional:
        return None
    element = Value(value.name, kind.element, None)
    if not kind.is_sequence:
        return as_dtype(element, given)
    if not isinstance(given, (list, tuple)):
        raise InputError(f"input '{value.name}': expected a list of arrays of {kind.element}{' or None' * kind.is_optional}, "
                         f"got {type(given).__name__}")
    return [as_dtype(element, one) for one in given]


def _misfit(value: Value, wanted: tuple[Dim, ...], shape: tuple[int, ...]) -> InputError:
    return InputError(f"input '{value.name}': expected shape {_shown(wanted)}, got {_shown(shape)}")


def _shown(shape: tuple) -> str:
    return "(" + ", ".join("any" if size is None else str(size) for size in shape) + ("," * (len(shape) == 1)) + ")"


def as_dtype(value: Value, given: Any) -> np.ndarray:
    """`given` as an array of the value's dtype, if that loses nothing that matters: no number may become infinite."""
    try:
        array = np.asarray(given)
    except ValueError as error:
        raise InputError(f"input '{value.name}': {error}") from None
    kind = np.dtype(value.dtype).kind
    if array.dtype == value.dtype:
        return array
    if kind == "f" and (array.dtype.kind in "fiub" or array.dtype.name == "bfloat16" or _numbers(array)):
        return _as_floats(value, array)
    if kind == "O" and array.dtype.kind == "U":
        return array.astype(object)
    if kind in "iu" and (array.dtype.kind in "iub" or (array.dtype.kind == "f" and _integral(array))):
        return _as_integers(value, array)
    raise InputError(f"input '{value.name}': expected {value.dtype}, got {array.dtype}")


def _as_floats(value: Value, array: np.ndarray) -> np.ndarray:
    try:
        with np.errstate(over="raise"):
            return array.astype(value.dtype)
    except (FloatingPointError, OverflowError):
        raise InputError(f"input '{value.name}': a number is too large for {value.dtype}") from None


def _numbers(array: np.ndarray) -> bool:
    """Whether an array of Python objects holds nothing but numbers."""
    return array.dtype.kind == "O" and all(isinstance(one, numbers.Real) for one in array.flat)


def _integral(array: np.ndarray) -> bool:
    return bool(np.isfinite(array).all() and (array == np.trunc(array)).all())


def _as_integers(value: Value, array: np.ndarray) -> np.ndarray:
    limits = np.iinfo(value.dtype)
    if array.size and not (limits.min <= int(array.min()) and int(array.max()) <= limits.max):
        raise InputError(f"input '{value.name}': {array.min()} to {array.max()} does not fit {value.dtype}")
    return array.astype(value.dtype)
