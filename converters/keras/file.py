"""What a container of Keras gives to the importer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .config import Architecture
from .weights import LayerWeights


@dataclass(frozen=True)
class Assignment:
    """Which weights are which layer's, by the layer's name; `rule` says how that was told, where a file leaves it open."""

    weights: Mapping[str, LayerWeights]
    rule: str = ""


@dataclass(frozen=True)
class KerasFile:
    """An open model file. `assignments` gives what may be, the likeliest first; weights are there while it is open."""

    model: Mapping[str, Any]
    version: str
    assignments: Callable[[Architecture], Sequence[Assignment]]
