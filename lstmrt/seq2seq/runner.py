"""Both halves of an encoder-decoder, compiled, and the token loop: the encoder runs once, the decoder a step a token."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from .. import passes
from .._core import Picker
from ..execution.compile import compile_graph
from ..passes import infer_shapes
from ..vocabulary import input_vocabulary
from .halves import Halves


class Runner:
    """Immutable: any number of threads may use one.

    inputs        what the encoder reads
    vocabularies  encoder input of ids -> how many there are
    tokens_in     how many tokens the decoder can read
    attentions    the names of the layers whose weights `decode` gives
    together      whether several sources can be decoded at once, each with the bits that it has alone
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
        axes, alone = _batch_axes(halves), {kind for kinds in self.segments.values() for kind in kinds} != {"native"}
        self.together = axes is not None and not alone
        self._axes = axes or {}

    @property
    def segments(self) -> dict[str, list[str]]:
        """What runs each half, in order."""
        halves = {"encoder": self._encoder, "decoder step": self._decoder}
        return {name: [segment.kind for segment in half.segments] for name, half in halves.items()}

    def release_graphs(self) -> None:
        """Lets go of what only further programs would be made of."""
        self._encoder.release_graph()
        self._decoder.release_graph()

    def decode(self, sources: Sequence[Mapping[str, np.ndarray]], start: int, most: int, ending: frozenset[int],
               choices: Sequence[Mapping]) -> Iterator[list[tuple[int, int, dict[str, np.ndarray]]]]:
        """Step by step the tokens made after `start`, at most `most` for a source, until one is in `ending`: each with the
        number of its source and the attentions' weights, a name to an array (1, ..., source).

        `sources` are the encoder's inputs of one sequence each, of the same shapes and, unless `together`, a single one;
        `choices` are the options of each, as generation.choice gives them.
        """
        encoded = self._encoder.run({name: np.concatenate([source[name] for source in sources]) for name in sources[0]})
        values = {name: encoded[name] for name in self._memory}
        for state in self._states:
            values[state.name] = encoded[state.initial] if state.initial else state.zeros(len(sources))
        alive, tokens, pickers = list(range(len(sources))), [start] * len(sources), []
        for _ in range(most):
            values[self._token.name] = self._token_array(tokens)
            made = self._decoder.compute(values)
            logits = np.ascontiguousarray(made[self._logits], np.float32).reshape(len(alive), -1)
            pickers = pickers or [_picker(logits.shape[1], choice) for choice in choices]
            tokens = [_next(*given) for given in zip(pickers, tokens, logits)]
            going = [row for row, token in enumerate(tokens) if token not in ending]
            yield [(alive[row], tokens[row], {name: self._of_row(made[output], output, row, len(sources))
                                              for name, output in self._attentions.items()}) for row in going]
            if not going:
                return
            values.update((state.name, made[state.output]) for state in self._states)
            if len(going) < len(alive):
                for name in (*self._memory, *(state.name for state in self._states)):
                    values[name] = values[name].take(going, self._axes[name])
                alive, tokens, pickers = ([of_rows[row] for row in going] for of_rows in (alive, tokens, pickers))

    def _of_row(self, weights: np.ndarray, output: str, row: int, count: int) -> np.ndarray:
        return weights if count == 1 else weights.take([row], self._axes[output])

    def _token_array(self, tokens: list[int]) -> np.ndarray:
        if not self._rows:
            return np.array(tokens, self._token.dtype)[:, None]
        rows = np.zeros((len(tokens), 1, self.tokens_in), np.float32)
        rows[np.arange(len(tokens)), 0, tokens] = 1
        return rows


def _picker(vocabulary: int, choice: Mapping) -> Picker:
    return Picker(vocabulary, **{name: value for name, value in choice.items() if name != "eos_ids"})


def _next(picker: Picker, token: int, logits: np.ndarray) -> int:
    picker.see(token)
    return picker.pick(logits)


def _batch_axes(halves: Halves) -> dict[str, int] | None:
    """The axis of the batch of each memory, state and attention; None where one has none that can be told."""
    batch, tensors = halves.token.shape[0], infer_shapes(halves.decoder)
    shapes = {value.name: value.shape for value in halves.decoder.inputs}
    shapes |= {output: tensors[output].shape for output in halves.attentions.values() if output in tensors}
    shapes |= {state.name: tuple(batch if isinstance(size, str) else size for size in state.shape) for state in halves.states}
    free = isinstance(batch, str) and all(value.shape and value.shape[0] == batch for value in halves.encoder.inputs)
    wanted = (*halves.memory, *(state.name for state in halves.states), *halves.attentions.values())
    if not free or any((shapes.get(name) or ()).count(batch) != 1 for name in wanted):
        return None
    return {name: shapes[name].index(batch) for name in wanted}
