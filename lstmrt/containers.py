"""Values that are no arrays: sequences, which are lists of arrays of one dtype, and optional values, which may be None.

The dtype of a graph.Value says so: seq(float32), optional(float32), optional(seq(float32)). onnxruntime alone computes with them.
"""

from __future__ import annotations

from typing import NamedTuple

from .shapes import DTYPES


class Kind(NamedTuple):
    """What a dtype says: `element` is the NumPy dtype of the arrays."""

    is_optional: bool
    is_sequence: bool
    element: str


_KINDS = {template.format(dtype): Kind("optional" in template, "seq" in template, dtype) for dtype in DTYPES.values()
          for template in ("{}", "seq({})", "optional({})", "optional(seq({}))")}


def kind_of(dtype: str) -> Kind | None:
    """None for what is no dtype of a value."""
    return _KINDS.get(dtype)


def is_array(dtype: str) -> bool:
    return "(" not in dtype
