"""What a container of Keras gives to the importer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Mapping

from .keras_config import Architecture
from .keras_weights import LayerWeights


@dataclass(frozen=True)
class KerasFile:
    """An open model file; `weights` finds each layer's by the layer's name, and only while the file is open."""

    model: Mapping[str, Any]
    version: str
    weights: Callable[[Architecture], Mapping[str, LayerWeights]]
