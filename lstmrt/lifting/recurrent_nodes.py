"""A cell over a sequence as a recurrent node, with the nodes that bring its inputs and outputs into shape."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from ..activations import EXTENSIONS, activation_attributes
from ..graph import EXTENSION, Attribute, Node
from ..shapes import FLOATS, Tensor
from .cells import Cell
from .proof import Unknown


@dataclass(frozen=True)
class Layer:
    """A cell and what it runs over.

    step      the value that the cell reads as a step of x
    x, axis   the sequence and its time axis (0 or 1); None: x is the only step
    backwards whether it is read from its end
    initial   the states that it begins with, h and then c, (batch, hidden) or (1, batch, hidden); none: zeros
    mask      (time, batch, 1) or (time, batch), or with mask_axis 1 batch first; '': none
    """

    cell: Cell
    step: str
    x: str
    axis: int | None
    backwards: bool
    initial: tuple[str, ...]
    mask: str
    mask_axis: int
    masked_output: str
    name: str
    tensors: Mapping[str, Tensor]

    def dtype(self) -> str:
        """Of the sequence, the states and so the weights. Raises Unknown where these are no floats of one kind."""
        known = {self.tensors[name].dtype for name in (self.x, *self.initial) if name in self.tensors}
        if len(known) > 1 or not all(map(FLOATS.__contains__, known)):
            raise Unknown("a sequence and states of several dtypes")
        return next(iter(known), "float32")


@dataclass(frozen=True)
class Made:
    """What `recurrent_nodes` makes: y (time, batch, hidden) in the order of processing, and the final states h and c
    (1, batch, hidden), by name."""

    nodes: list[Node]
    constants: dict[str, np.ndarray]
    y: str
    h: str
    c: str


class _Maker:
    def __init__(self, names: Iterator[str]) -> None:
        self.names = names
        self.nodes: list[Node] = []
        self.constants: dict[str, np.ndarray] = {}

    def constant(self, array: np.ndarray) -> str:
        name = next(self.names)
        array.flags.writeable = False
        self.constants[name] = array
        return name

    def node(self, op: str, *inputs: str, **attributes: Attribute) -> str:
        output = next(self.names)
        self.nodes.append(Node(op, inputs, (output,), attributes))
        return output


def recurrent_nodes(layer: Layer, before: list[Node], constants: dict[str, np.ndarray], names: Iterator[str]) -> Made:
    """The nodes of a layer, behind those `before` that make what it reads. Raises Unknown as Layer.dtype does."""
    maker, cell, dtype = _Maker(names), layer.cell, layer.dtype()
    maker.nodes += before
    maker.constants |= constants
    x = _time_major(layer.x, layer.axis, maker)
    mask = _time_major_mask(layer, maker) if layer.mask else ""
    states = [_with_direction(state, layer, maker) for state in layer.initial] or [""] * (1 + (cell.op == "LSTM"))
    inputs = [x, *_weights(cell, layer.step, dtype, maker), "", *states]
    if cell.op == "LSTM":
        peepholes = cell.peepholes()
        inputs.append("" if peepholes is None else maker.constant(peepholes[None].astype(dtype)))
    extended = bool(mask) or any(function.function in EXTENSIONS for function in cell.functions)
    attributes = {"hidden_size": cell.hidden, "direction": "reverse" if layer.backwards else "forward",
                  **activation_attributes(cell.functions), **cell.options}
    if mask:
        inputs.append(mask)
        attributes["masked_output"] = layer.masked_output
    while not inputs[-1]:
        inputs.pop()
    whole, h, c = next(names), next(names), next(names) if cell.op == "LSTM" else ""
    maker.nodes.append(Node(cell.op, tuple(inputs), (whole, h, c) if c else (whole, h), attributes, layer.name,
                            EXTENSION if extended else ""))
    y = maker.node("Squeeze", whole, maker.constant(np.array([1])))
    if layer.backwards:
        y = maker.node("Slice", y, *(maker.constant(np.array([n])) for n in (-1, -(2**63), 0, -1)))
    return Made(maker.nodes, maker.constants, y, h, c)


def _time_major(x: str, axis: int | None, maker: _Maker) -> str:
    if axis is None:
        return maker.node("Unsqueeze", x, maker.constant(np.array([0])))
    return maker.node("Transpose", x, perm=(1, 0, 2)) if axis else x


def _with_direction(state: str, layer: Layer, maker: _Maker) -> str:
    if len(layer.tensors[state].shape or ()) == 3:
        return state
    return maker.node("Unsqueeze", state, maker.constant(np.array([0])))


def _weights(cell: Cell, step: str, dtype: str, maker: _Maker) -> list[str]:
    """W, R and B."""
    w, r, b = cell.matrix(step), cell.matrix(cell.h), cell.bias()
    if r is None:
        r = np.zeros((len(w), cell.hidden))
    w, r, b = (array[None].astype(dtype) for array in (w, r, b))
    return [maker.constant(w), maker.constant(r), maker.constant(b) if b.any() else ""]


def _time_major_mask(layer: Layer, maker: _Maker) -> str:
    mask = layer.mask
    if len(layer.tensors[mask].shape or ()) == 3:
        mask = maker.node("Squeeze", mask, maker.constant(np.array([2])))
    return maker.node("Transpose", mask, perm=(1, 0)) if layer.mask_axis else mask
