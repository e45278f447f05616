"""Recurrent nodes of one step as the formulas that they stand for, for what looks for cells in a loop's body."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from ..activations import recurrent_activations
from ..gates import ONNX
from ..graph import Node
from ..operators import attributes, is_recurrent, named_inputs, named_outputs

_PLAIN = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}


def written_out_cells(nodes: tuple[Node, ...], constants: Mapping[str, np.ndarray],
                      names: Iterator[str]) -> tuple[tuple[Node, ...], dict[str, np.ndarray]]:
    """Each recurrent node of constant weights, with states and the usual functions, whose x got its axis of time by an Unsqueeze,
    as torch.jit.script leaves an LSTMCell; and the constants that there are then."""
    made, known = [], dict(constants)
    single = {node.outputs[0] for node in nodes if node.op == "Unsqueeze" and not node.domain
              and _ints(node.inputs[1], constants) == [0]}
    for node in nodes:
        writer = _Writer(node, known, names) if is_recurrent(node) and not node.domain else None
        made += writer.nodes() if writer is not None and node.inputs[0] in single and writer.is_plain() else [node]
    return tuple(made), known


def _ints(name: str, constants: Mapping[str, np.ndarray]) -> list[int]:
    return constants[name].ravel().tolist() if name in constants else []


class _Writer:
    def __init__(self, node: Node, constants: dict[str, np.ndarray], names: Iterator[str]) -> None:
        self._node, self._constants, self._names = node, constants, names
        self._given, self._options = named_inputs(node), attributes(node)
        self._made: list[Node] = []

    def is_plain(self) -> bool:
        given, options = self._given, self._options
        states = ("initial_h", "initial_c") if self._node.op == "LSTM" else ("initial_h",)
        functions = tuple(activation.function for activation in recurrent_activations(self._node)[0])
        return (all(given[name] in self._constants for name in ("W", "R")) and (not given["B"] or given["B"] in self._constants)
                and all(given[name] for name in states) and not given["sequence_lens"] and not given.get("P")
                and options["direction"] == "forward" and not options["layout"] and not options["clip"]
                and not options.get("input_forget") and functions == _PLAIN[self._node.op])

    def nodes(self) -> list[Node]:
        node, made = self._node, named_outputs(self._node)
        x, h = (self._without_axis(self._given[name]) for name in ("X", "initial_h"))
        if node.op == "LSTM":
            h, c = self._lstm(x, h, self._without_axis(self._given["initial_c"]))
            self._with_axes(c, made["Y_c"], 0)
        else:
            h = self._gru(x, h) if node.op == "GRU" else self._add("Tanh", self._gates(x, h))
        self._with_axes(h, made["Y_h"], 0)
        self._with_axes(h, made["Y"], 0, 1)
        return self._made

    # ---- cells ----

    def _lstm(self, x: str, h: str, c: str) -> tuple[str, str]:
        i, o, f, g = self._split(self._gates(x, h), 4)
        i, o, f, g = self._add("Sigmoid", i), self._add("Sigmoid", o), self._add("Sigmoid", f), self._add("Tanh", g)
        c = self._add("Add", self._add("Mul", f, c), self._add("Mul", i, g))
        return self._add("Mul", o, self._add("Tanh", c)), c

    def _gru(self, x: str, h: str) -> str:
        w, r = (self._split(one, 3) for one in (self._part(x, "W", 0), self._part(h, "R", 1)))
        z, reset = (self._add("Sigmoid", self._add("Add", w[k], r[k])) for k in (0, 1))
        if self._options["linear_before_reset"]:
            recurrent = self._add("Mul", reset, r[2])
        else:
            hidden = self._options["hidden_size"]
            matrix, bias = self._matrix("R")[:, 2 * hidden:], self._bias(1)[2 * hidden:]
            product = self._add("MatMul", self._add("Mul", reset, h), self._constant(matrix))
            recurrent = self._add("Add", product, self._constant(bias))
        candidate = self._add("Tanh", self._add("Add", w[2], recurrent))
        kept = self._add("Sub", self._constant(np.ones((), np.float32)), z)
        return self._add("Add", self._add("Mul", kept, candidate), self._add("Mul", z, h))

    def _gates(self, x: str, h: str) -> str:
        return self._add("Add", self._part(x, "W", 0), self._part(h, "R", 1))

    def _part(self, value: str, weight: str, half: int) -> str:
        product = self._add("MatMul", value, self._constant(self._matrix(weight)))
        return self._add("Add", product, self._constant(self._bias(half)))

    def _matrix(self, name: str) -> np.ndarray:
        return self._constants[self._given[name]][0].T

    def _bias(self, half: int) -> np.ndarray:
        gates = len(ONNX[self._node.op]) * self._options["hidden_size"]
        biases = self._constants[self._given["B"]][0] if self._given["B"] else np.zeros(2 * gates, np.float32)
        return biases[half * gates:(half + 1) * gates]

    # ---- nodes ----

    def _add(self, op: str, *inputs: str) -> str:
        self._made.append(Node(op, inputs, (next(self._names),)))
        return self._made[-1].outputs[0]

    def _constant(self, array: np.ndarray) -> str:
        name = next(self._names)
        self._constants[name] = np.ascontiguousarray(array)
        return name

    def _split(self, value: str, count: int) -> list[str]:
        parts = [next(self._names) for _ in range(count)]
        self._made.append(Node("Split", (value,), tuple(parts), {"axis": -1, "num_outputs": count}))
        return parts

    def _without_axis(self, value: str) -> str:
        return self._add("Squeeze", value, self._constant(np.array([0])))

    def _with_axes(self, value: str, made: str, *axes: int) -> None:
        if made:
            self._made.append(Node("Unsqueeze", (value, self._constant(np.array(axes))), (made,)))
