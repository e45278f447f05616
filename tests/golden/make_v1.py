"""Writes v1.lstmrt, the golden file of format version 1: `python tests/golden/make_v1.py`, from outside the checkout.

The file is kept for ever: every later lstmrt has to read it. The script shows how it was made; it is not run again.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lstmrt.format import ModelFile, write
from lstmrt.generation_config import GenerationDefaults
from lstmrt.graph import EXTENSION, Graph, Node, Value
from lstmrt.random_calls import record
from lstmrt.tokenizers import Tokenizer

WORDS = ("the", "café", "is", "open", "every", "day")
VOCABULARY, WIDTH, HIDDEN = len(WORDS) + 1, 3, 5


def weights(*shape: int, salt: int) -> np.ndarray:
    """Numbers from -1 to 1 that look random and are the same everywhere."""
    numbers = np.arange(1000 * salt, 1000 * salt + np.prod(shape), dtype=np.uint64)
    hashed = numbers * np.uint64(2654435761) % np.uint64(2**32)
    return (hashed / 2.0**31 - 1).reshape(shape).astype(np.float32)


def graph() -> Graph:
    lstm = Node(
        "LSTM", ("embedded", "W", "R", "B", "", "", "", "", "mask"), ("Y",),
        {"hidden_size": HIDDEN, "layout": 1, "masked_output": "carry", "clip": 50.0,
         "activations": ("HardSigmoid", "Tanh", "Tanh"), "activation_alpha": (0.2,), "activation_beta": (0.5,)},
        "lstm", EXTENSION)
    nodes = (
        Node("Gather", ("table", "ids"), ("embedded",), {}, "embedding"),
        Node("Equal", ("ids", "pad"), ("is_pad",), {}, "embedding"),
        Node("Not", ("is_pad",), ("mask",), {}, "embedding"),
        lstm,
        Node("Squeeze", ("Y", "axes"), ("h",), {}, "lstm"),
        Node("Gather", ("h", "last"), ("newest",), {"axis": 1}, "lstm"),
        Node("MatMul", ("newest", "kernel"), ("product",), {}, "dense"),
        Node("Add", ("product", "bias"), ("logits",), {}, "dense"),
        Node("Softmax", ("logits",), ("probabilities",), {"axis": -1}, "dense"),
    )
    constants = {
        "table": weights(VOCABULARY, WIDTH, salt=1), "pad": np.array(0), "last": np.array(-1), "axes": np.array([2]),
        "W": weights(1, 4 * HIDDEN, WIDTH, salt=2), "R": weights(1, 4 * HIDDEN, HIDDEN, salt=3),
        "B": weights(1, 8 * HIDDEN, salt=4), "kernel": 3 * weights(HIDDEN, VOCABULARY, salt=5),
        "bias": weights(VOCABULARY, salt=6),
    }
    ids = Value("ids", "int64", ("batch", "time"))
    probabilities = Value("probabilities", "float32", ("batch", VOCABULARY))
    return Graph((ids,), (probabilities,), nodes, constants, "golden").validate()


if __name__ == "__main__":
    model = graph()
    write(Path(__file__).with_name("v1.lstmrt"), ModelFile(
        model,
        Tokenizer({word: i + 1 for i, word in enumerate(WORDS)}, char_level=False, lower=True),
        GenerationDefaults("masked_window", 4),
        {"source": "make_v1.py", "framework": "none", "version": "", "lstmrt": "0.1.0",
         "selftest": "float64 reference"},
        record(model),
    ))
