"""Weights that a file keeps under the names of layers, for the layers of a configuration that stands elsewhere.

Keras matches the two in order, and so does this; names decide where the order does not fit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ...errors import ModelFileError
from .config import Architecture, Layer
from .file import Assignment
from .named import NamedWeights

WITH_WEIGHTS = re.compile("Embedding|Dense|RNN|LSTM|GRU|Conv|LocallyConnected|(?<!Unit)Normalization|MultiHeadAttention|PReLU")


def match(stored: Mapping[str, NamedWeights], architecture: Architecture) -> list[Assignment]:
    """How the layers in `stored` may be those of `architecture`: in order, by name. Raises ModelFileError for neither."""
    stored = {name: weights for name, weights in stored.items() if weights.names}
    wanted = [layer.name for layer in architecture.layers if has_weights(layer)]
    found = []
    if len(stored) == len(wanted):
        found.append(_assignment("in order", stored, dict(zip(wanted, stored))))
    if list(stored) != wanted and (both := [name for name in wanted if name in stored]):
        found.append(_assignment("by name", stored, {name: name for name in both}))
    if not found:
        raise ModelFileError(f"the file has weights for {_listed(stored)}, the configuration needs them for "
                             f"{_listed(wanted)}: neither number nor names agree")
    return found


def has_weights(layer: Layer) -> bool:
    """Whether Keras gives the layer weights, as far as its class tells; a class that Keras does not have is taken to."""
    if layer.model:
        return any(map(has_weights, layer.model.layers))
    if inner := layer.wrapped():
        return any(map(has_weights, inner))
    if layer.class_name in ("Attention", "AdditiveAttention"):
        return layer.config.get("use_scale", layer.class_name == "AdditiveAttention") is True
    return layer.custom or bool(WITH_WEIGHTS.search(layer.class_name))


def _assignment(rule: str, stored: Mapping[str, NamedWeights], names: Mapping[str, str]) -> Assignment:
    """`names` maps a layer of the configuration to one of the file."""
    pairs = [name if name == source else f"{source} as {name}" for name, source in names.items()]
    unused = [name for name in stored if name not in names.values()]
    report = f"{rule}: {_listed(pairs)}" + (f"; not used: {_listed(unused)}" if unused else "")
    return Assignment({name: stored[source] for name, source in names.items()}, report)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "no layer"
