"""Every option of LSTM, GRU and RNN as a small graph with inputs, named after what is special about it.

The onnx package's own suite has none of most of these. test_onnx_options.py runs them; docs/ONNX.md lists them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from oracles import OLD_ONNXRUNTIME

from lstmrt.gates import ONNX
from lstmrt.graph import Graph, Node, Value

TIME, BATCH, INPUTS, HIDDEN = 5, 3, 4, 7
DIRECTIONS = ("forward", "reverse", "bidirectional")
STATES = {"LSTM": ("h", "c"), "GRU": ("h",), "RNN": ("h",)}
FUNCTIONS = {"LSTM": 3, "GRU": 2, "RNN": 1}
# name -> the alphas and betas that it takes, and values for them
PARAMETERS = {"Relu": ((), ()), "Tanh": ((), ()), "Sigmoid": ((), ()), "Softsign": ((), ()), "Softplus": ((), ()),
              "Affine": ((0.75,), (0.125,)), "LeakyRelu": ((0.5,), ()), "ThresholdedRelu": ((0.25,), ()),
              "ScaledTanh": ((1.25,), (0.5,)), "HardSigmoid": ((0.25,), (0.375,)), "Elu": ((0.5,), ())}


@dataclass(frozen=True)
class Option:
    """`op` with something special about it; `onnxruntime` where that runs it, and runs it right."""

    op: str
    name: str
    graph: Graph
    inputs: Mapping[str, np.ndarray]
    onnxruntime: bool = True
    runs: str = "native"

    def __repr__(self) -> str:
        return f"{self.op} {self.name}"


def options() -> Iterator[Option]:
    for op in ("LSTM", "GRU", "RNN"):
        yield from _common(op)
    yield from _lstm()
    yield from _gru()


def _common(op: str) -> Iterator[Option]:
    count = FUNCTIONS[op]
    for direction in DIRECTIONS:
        yield _option(op, f"direction {direction}", direction=direction)
        yield _option(op, f"direction {direction}, layout 1", direction=direction, layout=1, onnxruntime=False)
        yield _option(op, f"{direction}, initial states", direction=direction, states=True)
        yield _option(op, f"{direction}, lengths mixed", direction=direction, lengths=(5, 2, 4))
        yield _option(op, f"{direction}, shorter sequence in the middle", direction=direction, lengths=(5, 3, 5), states=True)
        runs_none = op != "RNN" or not OLD_ONNXRUNTIME
        yield _option(op, f"{direction}, a length 0 in the middle", direction=direction, lengths=(4, 0, 5), states=True,
                      onnxruntime=runs_none)
        yield _option(op, f"{direction}, all lengths 0", direction=direction, lengths=(0, 0, 0), states=True,
                      onnxruntime=runs_none)
        yield _option(op, f"{direction}, lengths all below the input's", direction=direction, lengths=(2, 1, 2))
        yield _option(op, f"{direction}, layout 1, lengths, initial states", direction=direction, layout=1,
                      lengths=(1, 5, 0), states=True, onnxruntime=False)
    yield _option(op, "no bias", bias=False)
    yield _option(op, "Y alone", outputs=("Y",))
    yield _option(op, "Y_h alone", outputs=("Y_h",))
    yield _option(op, "clip", clip=0.25, direction="bidirectional")
    yield _option(op, "clip, large batch", clip=0.5, batch=33)
    yield _option(op, "large batch", batch=33)
    yield _option(op, "large inputs", scale=1e20)
    yield _option(op, "one step", time=1, states=True)
    for name, (alphas, betas) in PARAMETERS.items():
        yield _option(op, f"activation {name}", activations=(name,) * count, activation_alpha=alphas * count,
                      activation_beta=betas * count)
    mixed = ("LeakyRelu", "ScaledTanh", "HardSigmoid", "Tanh", "Affine", "Sigmoid")
    names = mixed[:2 * count] if count < 3 else mixed
    yield _option(op, "activations mixed, alpha and beta consumed in order, both directions", direction="bidirectional",
                  activations=names, activation_alpha=_taken(names, 0), activation_beta=_taken(names, 1),
                  onnxruntime=op != "RNN" or not OLD_ONNXRUNTIME)
    yield _option(op, "alpha and beta left out", activations=("HardSigmoid",) + ("LeakyRelu",) * (count - 1))
    yield _option(op, "activations in lower case", activations=("relu", "sigmoid", "softsign")[:count])
    yield _option(op, "float16", dtype="float16", onnxruntime=False)
    yield _option(op, "double", dtype="float64", direction="bidirectional", lengths=(5, 2, 4), states=True,
                  onnxruntime=False, runs="NumPy")
    yield _option(op, "weights that are inputs", weights_vary=True, direction="bidirectional", states=True, runs="NumPy")


def _lstm() -> Iterator[Option]:
    for direction in DIRECTIONS:
        yield _option("LSTM", f"{direction}, peepholes", direction=direction, peepholes=True, states=True)
        yield _option("LSTM", f"{direction}, peepholes, lengths", direction=direction, peepholes=True, lengths=(3, 5, 1))
    yield _option("LSTM", "input_forget", input_forget=1, states=True, onnxruntime=False)
    yield _option("LSTM", "input_forget, peepholes, clip", input_forget=1, peepholes=True, clip=0.5, onnxruntime=False)
    yield _option("LSTM", "initial cell state alone", states=("c",))
    yield _option("LSTM", "initial hidden state alone", states=("h",))
    yield _option("LSTM", "Y_c alone", outputs=("Y_c",))
    yield _option("LSTM", "clip, peepholes", clip=0.25, peepholes=True)


def _gru() -> Iterator[Option]:
    for direction in DIRECTIONS:
        yield _option("GRU", f"{direction}, linear_before_reset", direction=direction, linear_before_reset=1, states=True)
        yield _option("GRU", f"{direction}, linear_before_reset, lengths", direction=direction, linear_before_reset=1,
                      lengths=(5, 0, 3), states=True)
    yield _option("GRU", "linear_before_reset, no bias", linear_before_reset=1, bias=False)
    yield _option("GRU", "linear_before_reset, clip, layout 1", linear_before_reset=1, clip=0.25, layout=1, onnxruntime=False)


def _taken(names: tuple[str, ...], which: int) -> tuple[float, ...]:
    """The parameters of functions in a row, a little different for each."""
    return tuple(value + i / 16 for i, name in enumerate(names) for value in PARAMETERS[name][which])


def _option(op: str, name: str, *, direction: str = "forward", layout: int = 0, batch: int = BATCH, time: int = TIME,
            lengths: tuple[int, ...] = (), states: Any = False, bias: bool = True, peepholes: bool = False,
            weights_vary: bool = False, dtype: str = "float32", scale: float = 1.0, outputs: tuple[str, ...] = (),
            onnxruntime: bool = True, runs: str = "native", **attributes: Any) -> Option:
    random = np.random.default_rng(sum(map(ord, op + name)))
    gates, directions = len(ONNX[op]), 2 if direction == "bidirectional" else 1

    def floats(*shape: int, width: int = 1) -> np.ndarray:
        return (random.normal(size=shape) / np.sqrt(width)).astype(dtype)

    x = floats(*((batch, time) if layout else (time, batch)), INPUTS) * np.dtype(dtype).type(scale)
    state = (batch, directions, HIDDEN) if layout else (directions, batch, HIDDEN)
    constants = {"W": floats(directions, gates * HIDDEN, INPUTS, width=INPUTS),
                 "R": floats(directions, gates * HIDDEN, HIDDEN, width=HIDDEN**2)}  # small: unbounded functions
    if bias:
        constants["B"] = floats(directions, 2 * gates * HIDDEN) / 4
    if peepholes:
        constants["P"] = floats(directions, 3 * HIDDEN)
    inputs = {"x": x}
    if lengths:
        inputs["lengths"] = np.array(lengths, np.int32)
    wanted = STATES[op] if states is True else states or ()
    inputs.update((name, floats(*state)) for name in wanted)
    if weights_vary:
        inputs |= constants
        constants = {}
    names = {*inputs, *constants}
    formal = ["x", "W", "R", "B", "lengths", "h"] + (["c", "P"] if op == "LSTM" else [])
    given = [name if name in names else "" for name in formal]
    while not given[-1]:
        given.pop()
    made = ("Y", "Y_h", "Y_c")[:1 + len(STATES[op])]
    outputs = outputs or made
    node = Node(op, tuple(given), tuple(name if name in outputs else "" for name in made), {
        "hidden_size": HIDDEN, "direction": direction, "layout": layout,
        **{key: value for key, value in attributes.items() if value != ()}}, "layer")
    graph = Graph(tuple(Value(name, array.dtype.name, array.shape) for name, array in inputs.items()),
                  tuple(Value(name, dtype, None) for name in made if name in outputs), (node,), constants, "option")
    return Option(op, name, graph.validate(), inputs, onnxruntime, runs)
