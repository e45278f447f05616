"""Pictures of attention, with matplotlib where it is installed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import InputError, MissingDependencyError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INCHES = 0.32  # of a token
VISIBLE = str.maketrans({" ": "␣", "\n": "\\n", "\t": "\\t", "$": r"\$"})  # a dollar would begin a formula


def plot_alignment(attentions: Any, source_tokens: Sequence, target_tokens: Sequence, ax: Axes | None = None) -> Axes:
    """Draws which source tokens each token that was made looked at: source along the top, made tokens down the side, the
    lighter the more.

    attentions  weights (target, source), or (target, heads, source), of whose heads the mean is drawn; or, as
                GenerationOutput has them, a dict of these by layer, of which the first is drawn and named
    ax          where to draw; None: in a new figure of a size that fits

    Returns the Axes; `ax.figure.savefig(path)` saves it. Raises InputError where the weights do not fit the tokens,
    MissingDependencyError without matplotlib.
    """
    title = ""
    if isinstance(attentions, Mapping):
        if not attentions:
            raise InputError("attentions: there are none: the model has no attention over its source")
        title, attentions = next(iter(attentions.items()))
    weights = np.asarray(attentions)
    if weights.ndim == 3:
        weights = weights.mean(axis=1)
    expected = (len(target_tokens), len(source_tokens))
    if weights.shape != expected or not weights.size:
        raise InputError(f"attentions: expected weights {expected} for these tokens, got {np.shape(attentions)}")
    ax = ax or _new_axes(*expected)
    ax.imshow(weights, cmap="gray", vmin=0, aspect="equal", interpolation="nearest")
    ax.xaxis.tick_top()
    ax.set_xticks(range(expected[1]), [_label(token) for token in source_tokens])
    ax.set_yticks(range(expected[0]), [_label(token) for token in target_tokens])
    if max(len(_label(token)) for token in source_tokens) > 2:
        ax.tick_params(axis="x", labelrotation=90)
    ax.tick_params(length=0)
    ax.set_title(title)
    return ax


def _new_axes(rows: int, columns: int) -> Axes:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingDependencyError("plot_alignment needs matplotlib: pip install lstmrt[plot]") from None
    return Figure(figsize=(2 + INCHES * columns, 2 + INCHES * rows), layout="constrained").subplots()


def _label(token: object) -> str:
    return str(token).translate(VISIBLE)
