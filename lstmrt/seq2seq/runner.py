"""Both halves of an encoder-decoder, compiled, and the token loop: the encoder runs once, the decoder a step a token."""

from __future__ import annotations

from typing import Iterator, Mapping

import numpy as np

from .. import passes
from .._core import Picker
from ..compile import compile_graph
from ..vocabulary import input_vocabulary
from .halves import Halves


class Runner:
    """Immutable: any number of threads may use one.

    inputs        what the encoder reads
    vocabularies  encoder input of ids -> how many there are
    tokens_in     how many tokens the decoder can read
    attentions    the names of the layers whose weights `decode` gives
    """

    def __init__(self, halves: Halves, isa: str | None, threads: int | None, precision: str = "f32") -> None:
        self._encoder, self._decoder = (
            compile_graph(passes.load(passes.canonical(half)), isa, threads=threads, precision=precision)
            for half in (halves.encoder, halves.decoder))
        self._token, self._logits, self._states = halves.token, halves.logits, halves.states
        self._memory, self._attentions = halves.memory, halves.attentions
        self.inputs = halves.encoder.inputs
        self.vocabularies = {value.name: input_vocabulary(halves.encoder, value.name) for value in self.inputs}
        self._rows = halves.token.dtype == "float32"
        self.tokens_in = halves.token.shape[2] if self._rows else input_vocabulary(halves.decoder, halves.token.name)
        self.attentions = tuple(halves.attentions)

    @property
    def segments(self) -> dict[str, list[str]]:
        """What runs each half, in order."""
        halves = {"encoder": self._encoder, "decoder step": self._decoder}
        return {name: [segment.kind for segment in half.segments] for name, half in halves.items()}

    def decode(self, source: Mapping[str, np.ndarray], start: int, most: int, ending: frozenset[int],
               choice: Mapping) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        """Each token made after `start`, at most `most` of them, until one is in `ending`; with each the attentions'
        weights, a name to an array (..., source). `source` is the encoder's inputs of one sequence, `choice` the
        keywords of Picker."""
        encoded = self._encoder.run(source)
        values = {name: encoded[name] for name in self._memory}
        for state in self._states:
            values[state.name] = encoded[state.initial] if state.initial else state.zeros()
        picker, token = None, start
        for _ in range(most):
            values[self._token.name] = self._token_array(token)
            made = self._decoder.compute(values)
            logits = np.ascontiguousarray(made[self._logits], np.float32).reshape(-1)
            if picker is None:
                picker = Picker(logits.size, **choice)
            picker.see(token)
            token = picker.pick(logits)
            if token in ending:
                return
            yield token, {name: made[output] for name, output in self._attentions.items()}
            values.update((state.name, made[state.output]) for state in self._states)

    def _token_array(self, token: int) -> np.ndarray:
        if not self._rows:
            return np.array([[token]], self._token.dtype)
        row = np.zeros((1, 1, self.tokens_in), np.float32)
        row[0, 0, token] = 1
        return row
