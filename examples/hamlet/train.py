"""Train the sample model: the next-word tutorial, on Hamlet's soliloquy.

    python examples/hamlet/train.py FOLDER

writes hamlet.keras, hamlet.h5 and tokenizer.json to FOLDER and recites the speech. It needs TensorFlow with Keras 3 and
takes about half a minute on one core. The sample in the package is made from what it writes:

    lstmrt convert FOLDER/hamlet.keras lstmrt/data/sample.lstmrt --tokenizer FOLDER/tokenizer.json
"""

from __future__ import annotations

import argparse
from pathlib import Path

import keras
import numpy as np
from tensorflow.keras.preprocessing.sequence import pad_sequences
from tensorflow.keras.preprocessing.text import Tokenizer

HERE = Path(__file__).parent
PROMPT = "To be or not"
EPOCHS, BATCH = 100, 64
THE_END = 0  # padding's index has no word, so as a prediction it can say that the speech is over


def examples(lines: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Inputs (examples, window), padded in front, and the word after each (examples,).

    A tutorial takes the n-grams of each line, so its model forgets the play at a line's end. Here an n-gram that has
    begun with a line goes on into the next, and every full window of the running text is there too. The window is
    one word shorter than the longest line, as in the tutorial.
    """
    window = max(map(len, lines)) - 1
    text = sum(lines, []) + [THE_END]
    line_starts = np.cumsum([0] + [len(line) for line in lines[:-1]])
    grown = [text[start:end] for start in line_starts for end in range(start + 2, start + window + 1)]
    full = [text[end - window - 1 : end] for end in range(window + 1, len(text) + 1)]
    grams = pad_sequences([gram for gram in grown + full if len(gram) > 1], maxlen=window + 1, padding="pre")
    return grams[:, :-1], grams[:, -1]


def build(vocabulary: int, window: int) -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((window,), dtype="int32"),
            keras.layers.Embedding(vocabulary, 64),
            keras.layers.LSTM(150),
            keras.layers.Dense(vocabulary, activation="softmax"),
        ],
        name="hamlet",
    )


def recite(model: keras.Model, tokenizer: Tokenizer, prompt: str, words: int) -> str:
    """The tutorial's loop: the last `window` words, padded, through the model again for each new word."""
    text = prompt
    window = model.input_shape[1]
    for _ in range(words):
        ids = pad_sequences(tokenizer.texts_to_sequences([text]), maxlen=window, padding="pre")
        best = int(np.argmax(model(ids)[0]))
        if best == THE_END:
            break
        text += " " + tokenizer.index_word[best]
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the sample model of lstmrt.")
    parser.add_argument("folder", type=Path, help="where to write the model")
    folder = parser.parse_args().folder

    keras.utils.set_random_seed(1603)
    lines = (HERE / "soliloquy.txt").read_text(encoding="utf-8").splitlines()
    tokenizer = Tokenizer()
    tokenizer.fit_on_texts(lines)
    encoded = tokenizer.texts_to_sequences(lines)
    x, y = examples(encoded)

    model = build(len(tokenizer.word_index) + 1, x.shape[1])
    rate = keras.optimizers.schedules.CosineDecay(0.01, decay_steps=EPOCHS * -(-len(x) // BATCH))
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(x, y, batch_size=BATCH, epochs=EPOCHS, verbose=0)
    print(f"{len(x)} examples, {model.count_params()} parameters, accuracy {history.history['accuracy'][-1]:.3f}")

    folder.mkdir(parents=True, exist_ok=True)
    model.save(folder / "hamlet.keras")
    model.save(folder / "hamlet.h5")
    (folder / "tokenizer.json").write_text(tokenizer.to_json(), encoding="utf-8")

    words = tokenizer.sequences_to_texts([sum(encoded, [])])[0]
    recited = recite(model, tokenizer, PROMPT, words=len(words.split()))
    print(recited)
    if recited.lower() != words:
        raise SystemExit("the model has not learnt the speech by heart")


if __name__ == "__main__":
    main()
