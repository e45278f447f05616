"""Small encoder-decoders of Keras 3 and tf-keras with random weights, each with the usual two inference models and the loop
around them that people write."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

SOURCE_WORDS, TARGET_WORDS, WIDTH, UNITS = 29, 31, 9, 21
START = 1


@dataclass(frozen=True)
class Trio:
    """A training model and its two halves. `rows` where both sides read one-hot rows, `masked` where 0 is padding."""

    training: Any
    encoder: Any
    decoder: Any
    rows: bool = False
    masked: bool = False

    def save(self, folder: Path, container: str) -> tuple[Path, Path, Path]:
        paths = [folder / f"{name}{container}" for name in ("training", "encoder", "decoder")]
        for model, path in zip((self.training, self.encoder, self.decoder), paths):
            model.save(path)
        return tuple(paths)

    def loop(self, sources: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray | None]:
        """For each of `sources`, ids (sources, length), the `count` ids that the two models choose greedily, and the
        attention's weights (sources, count, length) where the decoder gives any.

        Fails where two probabilities are too near to each other for the result to be decided.
        """
        first, *states = _arrays(self.encoder(_inputs(sources, SOURCE_WORDS, self.rows)))
        memory = [first] if first.ndim == 3 else []
        states = states if memory else [first, *states]
        tokens, made, weights = np.full(len(sources), START), [], []
        for _ in range(count):
            given = [_inputs(tokens[:, None], TARGET_WORDS, self.rows), *memory, *states]
            probabilities, *rest = _arrays(self.decoder(given))
            states, others = rest[:len(states)], rest[len(states):]
            sorted_logits = np.sort(np.log(probabilities[:, -1]))
            assert (sorted_logits[:, -1] - sorted_logits[:, -2] > 1e-4).all(), "take another seed"
            tokens = probabilities[:, -1].argmax(axis=-1)
            made.append(tokens)
            weights += others
        return np.stack(made, axis=1), np.concatenate(weights, axis=1) if weights else None


def _arrays(result: Any) -> list[np.ndarray]:
    return [np.asarray(array) for array in (result if isinstance(result, (list, tuple)) else [result])]


def _inputs(ids: np.ndarray, width: int, rows: bool) -> np.ndarray:
    return np.eye(width, dtype=np.float32)[ids] if rows else ids


def characters(keras: ModuleType) -> Trio:
    """One-hot rows, an LSTM on either side, states handed over."""
    layers = keras.layers
    source, target = keras.Input((None, SOURCE_WORDS)), keras.Input((None, TARGET_WORDS))
    _, h, c = layers.LSTM(UNITS, return_state=True)(source)
    lstm = layers.LSTM(UNITS, return_sequences=True, return_state=True)
    dense = layers.Dense(TARGET_WORDS, activation="softmax")

    def step(states):
        y, *states = lstm(target, initial_state=states)
        return dense(y), states

    return _trio(keras, source, [h, c], [], target, step, rows=True)


def luong(keras: ModuleType) -> Trio:
    """Words, LSTMs, and an attention made of Dot layers."""
    layers = keras.layers
    source, target = keras.Input((None,)), keras.Input((None,))
    embedded = layers.Embedding(SOURCE_WORDS, WIDTH)(source)
    memory, h, c = layers.LSTM(UNITS, return_sequences=True, return_state=True)(embedded)
    table = layers.Embedding(TARGET_WORDS, WIDTH)
    lstm = layers.LSTM(UNITS, return_sequences=True, return_state=True)
    score, mix = layers.Dot(axes=[2, 2]), layers.Dot(axes=[2, 1])
    softmax, join = layers.Activation("softmax", name="attention"), layers.Concatenate()
    hidden, dense = layers.Dense(WIDTH, activation="tanh"), layers.Dense(TARGET_WORDS, activation="softmax")

    def step(states, memory=memory):
        y, *states = lstm(table(target), initial_state=states)
        weights = softmax(score([y, memory]))
        return dense(hidden(join([mix([weights, memory]), y]))), [*states, weights]

    return _trio(keras, source, [h, c], [memory], target, step)


def bidirectional(keras: ModuleType) -> Trio:
    """Words, a masked encoder that reads both ways, a decoder that begins with both states side by side."""
    layers = keras.layers
    source, target = keras.Input((None,)), keras.Input((None,))
    embedded = layers.Embedding(SOURCE_WORDS, WIDTH, mask_zero=True)(source)
    _, *states = layers.Bidirectional(layers.LSTM(UNITS, return_state=True))(embedded)
    h, c = (layers.Concatenate()([states[i], states[i + 2]]) for i in range(2))
    table = layers.Embedding(TARGET_WORDS, WIDTH)
    lstm = layers.LSTM(2 * UNITS, return_sequences=True, return_state=True)
    dense = layers.TimeDistributed(layers.Dense(TARGET_WORDS, activation="softmax"))

    def step(states):
        y, *states = lstm(table(target), initial_state=states)
        return dense(y), states

    return _trio(keras, source, [h, c], [], target, step, masked=True)


def stacked(keras: ModuleType) -> Trio:
    """Words, GRUs two deep on either side, logits that come out as they are."""
    layers = keras.layers
    source, target = keras.Input((None,)), keras.Input((None,))
    x, first = layers.GRU(UNITS, return_sequences=True, return_state=True)(layers.Embedding(SOURCE_WORDS, WIDTH)(source))
    _, second = layers.GRU(UNITS + 2, return_state=True)(x)
    table = layers.Embedding(TARGET_WORDS, WIDTH)
    grus = [layers.GRU(units, return_sequences=True, return_state=True) for units in (UNITS, UNITS + 2)]
    dense, softmax = layers.Dense(TARGET_WORDS), layers.Softmax()

    def step(states):
        y, made = table(target), []
        for gru, state in zip(grus, states):
            y, last = gru(y, initial_state=state)
            made.append(last)
        return softmax(dense(y)), made

    return _trio(keras, source, [first, second], [], target, step)


def bahdanau(keras: ModuleType) -> Trio:
    """Words, a masked GRU that reads both ways, a GRU, and additive attention that heeds the mask."""
    layers = keras.layers
    source, target = keras.Input((None,)), keras.Input((None,))
    embedded = layers.Embedding(SOURCE_WORDS, WIDTH, mask_zero=True)(source)
    memory, there, back = layers.Bidirectional(layers.GRU(UNITS, return_sequences=True, return_state=True))(embedded)
    state = layers.Concatenate()([there, back])
    table = layers.Embedding(TARGET_WORDS, WIDTH)
    gru = layers.GRU(2 * UNITS, return_sequences=True, return_state=True)
    attention, join = layers.AdditiveAttention(name="attention"), layers.Concatenate()
    dense = layers.Dense(TARGET_WORDS, activation="softmax")

    def step(states, memory=memory):
        y, last = gru(table(target), initial_state=states)
        context, weights = attention([y, memory], return_attention_scores=True)
        return dense(join([y, context])), [last, weights]

    return _trio(keras, source, [state], [memory], target, step, masked=True)


KINDS = (characters, luong, bahdanau, bidirectional, stacked)


def _trio(keras: ModuleType, source: Any, states: list, memory: list, target: Any, step: Callable,
          **facts: bool) -> Trio:
    output, _ = step(states, *memory)
    training = keras.Model([source, target], output)
    random = np.random.default_rng(7)
    training.set_weights([random.standard_normal(array.shape) * (0.3 + 0.9 * (array.ndim > 1))
                          for array in training.get_weights()])
    encoder = keras.Model(source, [*memory, *states])
    given = [keras.Input(state.shape[1:]) for state in states]
    memory_input = [keras.Input(value.shape[1:]) for value in memory]
    output, carried = step(given, *memory_input)
    return Trio(training, encoder, keras.Model([target, *memory_input, *given], [output, *carried]), **facts)
