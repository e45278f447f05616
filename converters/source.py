"""What an importer hands over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..generation_config import GenerationDefaults
from ..graph import Graph

if TYPE_CHECKING:
    from ..text_inputs import TextInput
    from ..tokenizers import Tokenizer


@dataclass(frozen=True)
class Source:
    """A model as its file describes it."""

    graph: Graph
    framework: str  # "keras" or "onnx"
    version: str  # of the framework that wrote the file; for ONNX the producer and its version
    generation: GenerationDefaults | None = None  # None where the model does not turn ids into ids
    matching: str = ""  # for a file of weights alone: which of its layers became which of the configuration's
    text_inputs: Mapping[str, TextInput] = field(default_factory=dict)
    tokenizer: Tokenizer | None = None
