"""The next-word tutorial and a stateful character model, word for word against the frameworks that made them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

import lstmrt
from lstmrt import reference
from lstmrt.converters import load_source

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

HAMLET = Path(__file__).parent.parent / "examples" / "hamlet"
TOLERANCE = 2e-6  # largest difference of a probability
WORDS = 60
PADDING = 0
PROMPTS = (
    "To be or not",
    "Whether 'tis nobler",
    "The slings and arrows",
    "To die to sleep no more",
    "For who would bear",
    "When he himself",
    "But that the dread of something after death the undiscover'd country from whose bourn",
    "Thus conscience",
    "perchance perchance perchance",
    "of the and",
)


def soliloquy() -> list[str]:
    """The words of the speech as the tutorial's tokenizer sees them."""
    return re.findall("[a-z']+", (HAMLET / "soliloquy.txt").read_text(encoding="utf-8").lower())


# ---- the sample in the package ----


def test_the_sample_speaks_the_whole_speech():
    model = lstmrt.load(files("lstmrt") / "data" / "sample.lstmrt")
    words = soliloquy()
    text = model.generate("To be or not", max_new_tokens=len(words), echo=True)
    assert text.lower().split() == words


def test_the_sample_is_small():
    assert (Path(lstmrt.__file__).parent / "data" / "sample.lstmrt").stat().st_size < 700_000


# ---- the tutorial's model ----


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """The folder that the training script has filled."""
    pytest.importorskip("tensorflow", reason="training the tutorial's model needs TensorFlow")
    folder = tmp_path_factory.mktemp("hamlet")
    subprocess.run([sys.executable, HAMLET / "train.py", folder], check=True, capture_output=True, timeout=600)
    return folder


@pytest.mark.parametrize("name", ["hamlet.keras", "hamlet.h5"])
def test_words_are_those_of_the_keras_predict_loop(trained, name):
    import keras

    oracle = keras.models.load_model(trained / name)
    model = lstmrt.load(trained / name, tokenizer=trained / "tokenizer.json")
    graph = load_source(trained / name).graph
    prompts = [model.tokenizer.encode(prompt) for prompt in PROMPTS]
    window = oracle.input_shape[1]

    expected = predict_loop(oracle, prompts, window)
    for prompt, words in zip(prompts, expected):
        found = model.generate(prompt, max_new_tokens=WORDS).tolist()
        place = divergence(found, words)
        if place is not None:
            ids = last_window(prompt + words[:place], window)[None]
            judge(graph, ids, model(ids), oracle(ids).numpy(), choices(found, words, place))
    windows = np.stack(
        [last_window(prompt + words[:n], window) for prompt, words in zip(prompts, expected) for n in range(len(words))]
    )
    assert np.abs(model(windows) - oracle.predict(windows, verbose=0)).max() <= TOLERANCE


def test_text_is_the_words_joined(trained):
    model = lstmrt.load(trained / "hamlet.keras", tokenizer=trained / "tokenizer.json")
    words = soliloquy()
    assert model.generate(" ".join(words[:4]), max_new_tokens=7) == " " + " ".join(words[4:11])
    assert model.generate(" ".join(words[-12:-3]), max_new_tokens=7) == " " + " ".join(words[-3:])


def predict_loop(oracle, prompts: list[list[int]], window: int) -> list[list[int]]:
    """The tutorial's loop for all prompts at once; a text ends where padding's index wins."""
    texts: list[list[int]] = [[] for _ in prompts]
    running = set(range(len(prompts)))
    for _ in range(WORDS):
        ids = np.stack([last_window(prompt + text, window) for prompt, text in zip(prompts, texts)])
        best = oracle.predict(ids, verbose=0).argmax(1).tolist()
        running -= {i for i in running if best[i] == PADDING}
        for i in running:
            texts[i].append(best[i])
    return texts


def last_window(ids: list[int], window: int) -> np.ndarray:
    return np.array(([PADDING] * window + ids)[-window:])


def divergence(found: list[int], expected: list[int]) -> int | None:
    """Where two texts part, or None."""
    if found == expected:
        return None
    same = (a == b for a, b in zip(found, expected))
    return next((i for i, equal in enumerate(same) if not equal), min(len(found), len(expected)))


def choices(found: list[int], expected: list[int], place: int) -> list[int]:
    """The two ids that were chosen at `place`; a text that has ended there chose padding."""
    return [text[place] if place < len(text) else PADDING for text in (found, expected)]


def judge(graph, ids: np.ndarray, ours: np.ndarray, theirs: np.ndarray, pair: list[int]) -> None:
    """Fails unless the exact gap between the two choices is within the errors of both programs there."""
    (output,) = reference.run(graph, {graph.inputs[0].name: ids}).values()
    exact, ours, theirs = (np.log(np.asarray(p, np.float64).reshape(-1)[pair]) for p in (output, ours, theirs))
    gap = abs(exact[0] - exact[1])
    bound = np.abs(ours - exact).sum() + np.abs(theirs - exact).sum()
    message = f"words {pair}: the two best logits are {gap:.2e} apart, the errors sum to {bound:.2e}"
    print(message)
    assert gap <= bound, message


# ---- a stateful character model ----

TEXT = (HAMLET / "soliloquy.txt").read_text(encoding="utf-8")
VOCABULARY = {character: i + 1 for i, character in enumerate(sorted(set(TEXT)))}


def character_model(keras, start: list, **options):
    """Characters through a GRU to the probabilities of the next one."""
    layers = keras.layers
    size = len(VOCABULARY) + 1
    gru, dense = layers.GRU(53, **options), layers.Dense(size, activation="softmax")
    return keras.Sequential([*start, layers.Embedding(size, 19), gru, dense])


@pytest.fixture(scope="module")
def character_weights() -> list[np.ndarray]:
    """What a short training on the speech gives. A longer one makes Keras's own error larger than the tolerance."""
    keras = pytest.importorskip("keras")
    keras.utils.set_random_seed(1601)
    ids = np.array([VOCABULARY[character] for character in TEXT])
    sequences = np.stack([ids[start : start + 41] for start in range(0, len(ids) - 41, 8)])
    model = character_model(keras, [keras.Input((None,))], return_sequences=True)
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    model.fit(sequences[:, :-1], sequences[:, 1:], batch_size=30, epochs=30, verbose=0)
    return model.get_weights()


@pytest.mark.parametrize("framework, name", [("keras", "characters.keras"), ("tf_keras", "characters.h5")])
def test_characters_are_those_of_the_stateful_loop(tmp_path, character_weights, framework, name):
    keras = pytest.importorskip(framework)
    oracle = character_model(keras, [keras.Input(batch_shape=(1, 1))], stateful=True)
    oracle.set_weights(character_weights)
    oracle.save(tmp_path / name)
    model = lstmrt.load(tmp_path / name, tokenizer=VOCABULARY)
    graph = load_source(tmp_path / name).graph

    for prompt in PROMPTS:
        prompt = [VOCABULARY[character] for character in prompt]
        expected, distributions = stateful_loop(oracle, prompt)
        found = model.generate(prompt, max_new_tokens=WORDS).tolist()
        ours = stepped(model, prompt + expected[:-1])
        place = divergence(found, expected)
        if place is not None:
            at = len(prompt) - 1 + place
            ids = np.array([(prompt + expected)[: at + 1]])
            judge(graph, ids, ours[at], distributions[at], choices(found, expected, place))
        assert np.abs(ours - distributions).max() <= TOLERANCE


def stateful_loop(oracle, prompt: list[int]) -> tuple[list[int], np.ndarray]:
    """The greedy text, and the distribution (vocabulary) after each character that went in."""
    for layer in oracle.layers:
        if getattr(layer, "stateful", False):
            layer.reset_states()
    text, distributions = [], []
    for i in range(len(prompt) + WORDS - 1):
        token = (prompt + text)[i]
        distributions.append(oracle.predict_on_batch(np.array([[token]]))[0])
        if i >= len(prompt) - 1:
            text.append(int(distributions[-1].argmax()))
    return text, np.stack(distributions)


def stepped(model: lstmrt.Model, ids: list[int]) -> np.ndarray:
    state = model.new_state()
    return np.concatenate([model.step(np.array([token]), state) for token in ids])
