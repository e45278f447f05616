"""Dates as people write them to dates as machines do: "3rd march 2017" -> "2017-03-03".

    python examples/dates/train.py [FOLDER]

Trains a masked GRU that reads both ways and a GRU with additive attention, saves `dates.keras` and the characters of both
sides as JSON. Needs TensorFlow with Keras 3.
"""

from __future__ import annotations

import argparse
import datetime
import json
from pathlib import Path

import numpy as np

FORMS = ("{d} {month} {y}", "{d}{th} {month} {y}", "{month} {d} {y}", "{month} {d}{th}, {y}", "{d}/{m}/{y}", "{d}.{m}.{y}",
         "{weekday} {d} {month} {y}", "{d} {mon} {y}", "{mon} {d}, {y}")
START, END = "\t", "\n"
SOURCE_LETTERS = ["", *" ,./0123456789abcdefghijklmnopqrstuvwxyz"]
TARGET_LETTERS = ["", START, END, *"-0123456789"]


def written(date: datetime.date, form: str) -> str:
    th = "th" if 4 <= date.day % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(date.day % 10, "th")
    return form.format(d=date.day, m=date.month, y=date.year, th=th, month=date.strftime("%B"), mon=date.strftime("%b"),
                       weekday=date.strftime("%A")).lower()


def pairs(count: int, seed: int) -> list[tuple[str, str]]:
    random = np.random.default_rng(seed)
    days = random.integers(datetime.date(1950, 1, 1).toordinal(), datetime.date(2050, 1, 1).toordinal(), count)
    dates = [datetime.date.fromordinal(int(day)) for day in days]
    return [(written(date, FORMS[i % len(FORMS)]), date.isoformat()) for i, date in enumerate(dates)]


def padded(texts: list[str], letters: list[str]) -> np.ndarray:
    """Ids (texts, longest), 0 behind each text."""
    ids = np.zeros((len(texts), max(map(len, texts))), np.int64)
    for row, text in zip(ids, texts):
        row[:len(text)] = [letters.index(letter) for letter in text]
    return ids


def build(keras, units: int = 96):
    layers = keras.layers
    source, target = keras.Input((None,), name="source"), keras.Input((None,), name="target")
    letters = layers.Embedding(len(SOURCE_LETTERS), 32, mask_zero=True)(source)
    memory = layers.Bidirectional(layers.GRU(units, return_sequences=True))(letters)
    memory = layers.Dense(units)(memory)
    y = layers.GRU(units, return_sequences=True)(layers.Embedding(len(TARGET_LETTERS), 16)(target))
    context = layers.AdditiveAttention(name="attention")([y, memory])
    y = layers.Dense(units, activation="tanh")(layers.Concatenate()([context, y]))
    return keras.Model([source, target], layers.Dense(len(TARGET_LETTERS), activation="softmax")(y))


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a small encoder-decoder that reads dates.")
    parser.add_argument("folder", nargs="?", default=".", type=Path, help="where the files go")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--pairs", type=int, default=8_000)
    arguments = parser.parse_args()

    import keras

    keras.utils.set_random_seed(1)
    model = build(keras)
    model.compile(keras.optimizers.Adam(4e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    sources, targets = zip(*pairs(arguments.pairs, seed=1))
    ids = padded([START + target + END for target in targets], TARGET_LETTERS)
    model.fit([padded(sources, SOURCE_LETTERS), ids[:, :-1]], ids[:, 1:], batch_size=128, epochs=arguments.epochs, verbose=2)

    arguments.folder.mkdir(parents=True, exist_ok=True)
    model.save(arguments.folder / "dates.keras")
    for name, letters in (("source", SOURCE_LETTERS), ("target", TARGET_LETTERS)):
        (arguments.folder / f"{name}_letters.json").write_text(json.dumps(letters), encoding="utf-8")


if __name__ == "__main__":
    main()
