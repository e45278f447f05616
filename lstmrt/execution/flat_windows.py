"""Which elements the windows of a convolution see: lists of places, for the programs of flat.py."""

from __future__ import annotations

import math

import numpy as np

from ..reference_layers import windows
from ..shapes_layers import transposed_pads, window_pads

MOST_ELEMENTS = 1 << 18  # of a value: larger ones are better off elsewhere, and their lists of places take memory
LARGEST = 1 << 18  # elements of all windows of a convolution, and of a matrix made of sparse weights
NOWHERE = -1  # the place of an element that is 0


class Misfit(Exception):
    """A node, or sizes, that such a program has no place for."""


def seen_windows(index: np.ndarray, kernel, counts, **where) -> np.ndarray:
    """reference_layers.windows of places, where neither what is padded nor the windows are too many elements."""
    padded = [size + before + after for size, (before, after) in zip(index.shape[2:], window_pads(
        index.shape[2:], kernel, **where))]
    if math.prod(index.shape[:2]) * math.prod(padded) > MOST_ELEMENTS:
        raise Misfit
    seen = windows(index, kernel, NOWHERE, counts, **where)
    if seen.size > LARGEST:
        raise Misfit
    return seen


def transposed_windows(index: np.ndarray, kernel, *, dilations, strides, **where) -> np.ndarray:
    """Those of a transposed convolution: of `index` with zeros between its elements."""
    sizes, axes = index.shape[2:], len(kernel)
    dilations, strides = dilations or (1,) * axes, strides or (1,) * axes
    cuts = transposed_pads(sizes, kernel, dilations=dilations, strides=strides, **where)
    spans = [(width - 1) * dilation + 1 for width, dilation in zip(kernel, dilations)]
    length = [before + left + span - 1 for (_, before, left), span in zip(cuts, spans)]
    size = [max(room, (count - 1) * stride + span) for room, count, stride, span in zip(length, sizes, strides, spans)]
    if math.prod(index.shape[:2]) * math.prod(size) > MOST_ELEMENTS:
        raise Misfit
    apart = np.full((*index.shape[:2], *size), NOWHERE, np.int32)
    apart[(..., *(slice(span - 1, span - 1 + (count - 1) * stride + 1, stride)
                  for span, count, stride in zip(spans, sizes, strides)))] = index
    apart = apart[(..., *(slice(before, before + left + span - 1) for (_, before, left), span in zip(cuts, spans)))]
    return seen_windows(apart, kernel, None, auto_pad="VALID", dilations=dilations, pads=None, strides=None)
