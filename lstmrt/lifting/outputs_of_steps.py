"""What a loop's body makes of a cell's output, row by row, made of all steps at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from ..activations import ELEMENTWISE
from ..graph import Node
from ..operators import attributes
from .proof import Unknown

_ARITHMETIC = frozenset(("Add", "Sub", "Mul", "Div"))


class OutputsOfSteps:
    """nodes      of a body, whose values are (batch, width)
    sequences  value of the body -> what has it for each step, (time, batch, width); those that are made are added

    `made` and `known` are the nodes and constants outside that it takes so far.
    """

    def __init__(self, nodes: tuple[Node, ...], constants: Mapping[str, np.ndarray], sequences: dict[str, str],
                 names: Iterator[str]) -> None:
        self._producers = {name: node for node in nodes for name in node.outputs if name}
        self._constants, self._sequences, self._names = constants, sequences, names
        self.made: list[Node] = []
        self.known: dict[str, np.ndarray] = {}

    def of(self, value: str) -> str:
        """The sequence of `value`. Raises Unknown where it is made of more than one row of a cell's output and constants."""
        if value not in self._sequences:
            node = self._producers.get(value)
            if node is None or node.domain or len(node.outputs) > 1:
                raise Unknown("an output that is of no cell")
            self._sequences[value] = self._over_steps(node)
        return self._sequences[value]

    def _over_steps(self, node: Node) -> str:
        if node.op == "Gemm":
            return self._product(node)
        if node.op == "MatMul" and node.inputs[1] in self._constants:
            return self._add(node, self.of(node.inputs[0]), self._row(node.inputs[1], 2))
        if node.op in _ARITHMETIC:
            return self._add(node, *(self._row(name, 1) if name in self._constants else self.of(name) for name in node.inputs))
        if node.op in ELEMENTWISE or node.op == "Identity":
            return self._add(node, self.of(node.inputs[0]), *(self._row(name, 0) if name else "" for name in node.inputs[1:]))
        if node.op in ("Softmax", "LogSoftmax") and attributes(node)["axis"] in (-1, 1):
            return self._add(replace(node, attributes={"axis": -1}), self.of(node.inputs[0]))
        raise Unknown("an output that is of no cell")

    def _product(self, node: Node) -> str:
        options, x = attributes(node), self.of(node.inputs[0])
        if options["transA"] or not all(name in self._constants for name in node.inputs[1:] if name):
            raise Unknown("an output that is of no cell")
        matrix = self._constants[node.inputs[1]]
        matrix = np.float32(options["alpha"]) * (matrix.T if options["transB"] else matrix)
        y = self._add(Node("MatMul", (), (), {}, node.name), x, self._constant(matrix))
        if len(node.inputs) < 3 or not node.inputs[2]:
            return y
        row = np.float32(options["beta"]) * self._constants[node.inputs[2]]
        return self._add(Node("Add", (), (), {}, node.name), y, self._constant(row.reshape(-1)))

    def _row(self, name: str, axes: int) -> str:
        """A constant, of no more axes than this: the same for each row of each step."""
        if name not in self._constants or self._constants[name].ndim > axes:
            raise Unknown("an output that is of no cell")
        self.known[name] = self._constants[name]
        return name

    def _constant(self, array: np.ndarray) -> str:
        name = next(self._names)
        array.flags.writeable = False
        self.known[name] = array
        return name

    def _add(self, node: Node, *inputs: str) -> str:
        self.made.append(replace(node, inputs=inputs, outputs=(next(self._names),)))
        return self.made[-1].outputs[0]
