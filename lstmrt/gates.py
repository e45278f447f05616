"""The one place that knows in which order each framework stacks the gates of a recurrent layer.

A gate is a letter. LSTM: i input, f forget, c cell candidate, o output. GRU: z update, r reset, h candidate.
RNN: h. torch calls c `g` and the GRU's h `n`; the letters here are ONNX's.
"""

from __future__ import annotations

import numpy as np

ORDERS = {
    "onnx": {"LSTM": "iofc", "GRU": "zrh", "RNN": "h"},
    "keras": {"LSTM": "ifco", "GRU": "zrh", "RNN": "h"},
    "torch": {"LSTM": "ifco", "GRU": "rzh", "RNN": "h"},
}
ONNX = ORDERS["onnx"]
PEEPHOLES = "iof"  # ONNX's order of the LSTM input P


def reorder(array: np.ndarray, source: str, target: str, axis: int = 0) -> np.ndarray:
    """`array` with its gate blocks along `axis` brought from the order `source` into the order `target`.

    Both orders name the same gates, one letter each; `axis` is len(source) blocks of equal size.

    >>> reorder(kernel, ORDERS["keras"]["LSTM"], ONNX["LSTM"], axis=1)
    """
    if sorted(source) != sorted(target):
        raise ValueError(f"gate orders {source!r} and {target!r} do not name the same gates")
    blocks = dict(zip(source, np.split(array, len(source), axis)))
    return np.concatenate([blocks[gate] for gate in target], axis)


def gate_rows(order: str, gate: str, hidden_size: int) -> slice:
    """Where `gate` lies along an axis that stacks the gates in `order`, `hidden_size` rows each."""
    start = order.index(gate) * hidden_size
    return slice(start, start + hidden_size)
