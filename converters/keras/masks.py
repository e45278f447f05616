"""The masks that Keras 3 derived by itself and wrote down as calls of operators.

The importer derives masks again, by the rules of the layers; a mask of any other kind stays an argument of its call.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .calls import Call, Reference

if TYPE_CHECKING:
    from .config import Layer

# What Keras derives one mask from another with; a value whose shape alone counts may be in it.
DERIVATIONS = {"ops.LogicalOr", "ops.LogicalAnd", "ops.ExpandDims", "ops.Concatenate", "ops.Any", "ops.All",
               "ops.ConvertToTensor", "ops.BroadcastTo", "ops.Cast", "ops.Reshape"}
SHAPES_ALONE = {"ops.ZerosLike", "ops.OnesLike"}
ARGUMENTS = ("mask", "query_mask", "value_mask", "key_mask")


def without_automatic_masks(calls: Mapping[Reference, Call], layers: Mapping[str, Layer]) -> dict[Reference, Call]:
    """`calls` without the masks among their arguments that come from Embedding and Masking layers alone."""
    sources = list(_sources(calls, layers))

    def automatic(value: Any) -> bool:
        if isinstance(value, list):
            return all(item is None or automatic(item) for item in value)
        stack, seen = [value], set()
        while stack:
            reference = stack.pop()
            call = calls.get(reference._replace(tensor=0)) if isinstance(reference, Reference) else None
            if call is None:
                return False
            kind = layers[call.layer].class_name
            if reference in seen or kind in SHAPES_ALONE:
                continue
            seen.add(reference)
            if kind == "ops.NotEqual" and _compares_with_number(call) and call.args in sources:
                continue
            if kind not in DERIVATIONS:
                return False
            stack += call.inputs
        return True

    return {reference: replace(call, kwargs={key: value for key, value in call.kwargs.items()
                                             if key not in ARGUMENTS or not automatic(value)})
            for reference, call in calls.items()}


def _compares_with_number(call: Call) -> bool:
    return len(call.args) == 2 and isinstance(call.args[0], Reference) and isinstance(call.args[1], (int, float))


def _sources(calls: Mapping[Reference, Call], layers: Mapping[str, Layer]) -> Iterator[tuple]:
    """What a NotEqual that begins a mask compares."""
    for call in calls.values():
        layer = layers[call.layer]
        if layer.class_name == "Embedding" and layer.config.get("mask_zero") is True:
            yield (*call.args, 0)
        elif layer.class_name == "Masking":
            yield (*call.args, layer.config.get("mask_value", 0.0))
