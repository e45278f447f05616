"""Weights for the comparisons, and the graphs that the runtimes get: one set of weights, the same function for all.

Weights are in ONNX's layouts and gate orders; other forms are made from them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from lstmrt.gates import ORDERS, reorder
from lstmrt.graph import Graph, Node, Value
from shapes import LayerShape, StackShape, TokenShape

GATES = {"LSTM": 4, "GRU": 3}
STATES = {"LSTM": 2, "GRU": 1}  # h and c, or h alone
PADDING = 0  # index 0 is padding, as in Keras's vocabularies


@dataclass(frozen=True)
class Layer:
    """W (gates hidden, inputs), R (gates hidden, hidden), B (2 gates hidden): ONNX's, without the direction axis."""

    W: np.ndarray
    R: np.ndarray
    B: np.ndarray


@dataclass(frozen=True)
class Weights:
    """Of a language model."""

    shape: TokenShape
    table: np.ndarray  # (vocabulary, embedding)
    layers: tuple[Layer, ...]
    output: np.ndarray  # (hidden, vocabulary)
    output_bias: np.ndarray  # (vocabulary)


def random_layer(rng: np.random.Generator, cell: str, inputs: int, hidden: int, gain: float = 1) -> Layer:
    """Weights about as large as a trained layer's; more gain makes its text livelier."""
    rows = GATES[cell] * hidden
    return Layer(
        W=normal(rng, (rows, inputs), gain / np.sqrt(inputs)),
        R=normal(rng, (rows, hidden), gain / np.sqrt(hidden)),
        B=normal(rng, (2 * rows,), 0.1),
    )


def random_layers(shape: LayerShape, seed: int = 0) -> tuple[Layer, ...]:
    """One for each direction."""
    rng = np.random.default_rng(seed)
    return tuple(random_layer(rng, shape.cell, shape.inputs, shape.hidden) for _ in range(shape.directions))


def random_input(shape: LayerShape, seed: int = 1) -> np.ndarray:
    """(batch, time, inputs)"""
    return normal(np.random.default_rng(seed), (shape.batch, shape.time, shape.inputs), 1)


def random_weights(shape: TokenShape, seed: int = 0) -> Weights:
    """Weights whose greedy text varies, has clear winners, and never holds padding."""
    rng = np.random.default_rng(seed)
    widths = [shape.embedding] + [shape.hidden] * (shape.layers - 1)
    bias = normal(rng, (shape.vocabulary,), 0.1)
    bias[PADDING] = -100
    return Weights(
        shape=shape,
        table=normal(rng, (shape.vocabulary, shape.embedding), 1),
        layers=tuple(random_layer(rng, shape.cell, width, shape.hidden, gain=2) for width in widths),
        output=normal(rng, (shape.hidden, shape.vocabulary), 12 / np.sqrt(shape.hidden)),
        output_bias=bias,
    )


def normal(rng: np.random.Generator, shape: tuple[int, ...], scale: float) -> np.ndarray:
    return (scale * rng.standard_normal(shape)).astype(np.float32)


# ---- a layer alone ----


def layer_graph(shape: LayerShape, layers: tuple[Layer, ...]) -> Graph:
    """As a Keras file gives it: x (batch, time, inputs) to y (batch, time, directions x hidden)."""
    constants = {**layer_constants(layers), "directions": np.array([2]), "whole": np.array([0, 0, -1])}
    flatten = (
        Node("Reshape", ("Y", "whole"), ("y",))
        if shape.bidirectional
        else Node("Squeeze", ("Y", "directions"), ("y",))
    )
    nodes = (Node(shape.cell, ("x", "W", "R", "B"), ("Y",), {"layout": 1, **layer_attributes(shape)}), flatten)
    x = Value("x", "float32", ("batch", "time", shape.inputs))
    y = Value("y", "float32", ("batch", "time", shape.directions * shape.hidden))
    read = {name for node in nodes for name in node.inputs}
    return Graph((x,), (y,), nodes, {name: array for name, array in constants.items() if name in read})


def stack_graph(shape: StackShape, seed: int = 0) -> Graph:
    """x (batch, time, hidden) to y of the last layer."""
    rng = np.random.default_rng(seed)
    layers = [random_layer(rng, shape.cell, shape.hidden, shape.hidden) for _ in range(shape.layers)]
    nodes, y = batch_first("x", shape)
    steps = ("batch", "time", shape.hidden)
    constants = {**numbered(layers), "direction": np.array([2])}
    return Graph((Value("x", "float32", steps),), (Value(y, "float32", steps),), tuple(nodes), constants)


def batch_first(x: str, shape: StackShape | TokenShape) -> tuple[list[Node], str]:
    """The layers of a shape on top of each other, as a Keras file gives them, with weights of their number; the last y."""
    nodes = []
    for i in range(shape.layers):
        attributes = {"layout": 1, **recurrent_attributes(shape.cell, shape.hidden)}
        nodes.append(Node(shape.cell, (x, f"W{i}", f"R{i}", f"B{i}"), (f"Y{i}",), attributes))
        nodes.append(Node("Squeeze", (f"Y{i}", "direction"), (f"y{i}",)))
        x = f"y{i}"
    return nodes, x


def numbered(layers: Iterable[Layer]) -> dict[str, np.ndarray]:
    return {f"{name}{i}": getattr(layer, name)[None] for i, layer in enumerate(layers) for name in "WRB"}


def ragged_layer_graph(shape: LayerShape, layers: tuple[Layer, ...], time_first: bool) -> Graph:
    """x and the sequences' lengths (batch) to Y, which is 0 beyond them; batch first, or time."""
    layout = {} if time_first else {"layout": 1}
    node = Node(shape.cell, ("x", "W", "R", "B", "lengths"), ("Y",), {**layer_attributes(shape), **layout})
    rows, directions = (shape.time, shape.batch) if time_first else (shape.batch, shape.time), (shape.directions,)
    y = (rows[0], *directions, rows[1]) if time_first else (*rows, *directions)
    return Graph(
        (Value("x", "float32", (*rows, shape.inputs)), Value("lengths", "int32", (shape.batch,))),
        (Value("Y", "float32", (*y, shape.hidden)),),
        (node,),
        layer_constants(layers),
    )


def bare_layer_graph(shape: LayerShape, layers: tuple[Layer, ...], states: bool) -> Graph:
    """What suits ONNX runtimes best: x (time, batch, inputs) to Y (time, directions, batch, hidden); with `states`
    h0 (and c0) come in and h1 (and c1) go out, (directions, batch, hidden)."""
    before = [f"{kind}0" for kind in "hc"[: STATES[shape.cell]]] if states else []
    after = [f"{kind}1" for kind in "hc"[: STATES[shape.cell]]] if states else []
    inputs = ("x", "W", "R", "B", *(("", *before) if states else ()))
    node = Node(shape.cell, inputs, ("Y", *after), layer_attributes(shape))
    carried = (shape.directions, shape.batch, shape.hidden)
    x = Value("x", "float32", (shape.time, shape.batch, shape.inputs))
    y = Value("Y", "float32", (shape.time, shape.directions, shape.batch, shape.hidden))
    return Graph(
        (x, *(Value(name, "float32", carried) for name in before)),
        (y, *(Value(name, "float32", carried) for name in after)),
        (node,),
        layer_constants(layers),
    )


def layer_constants(layers: tuple[Layer, ...]) -> dict[str, np.ndarray]:
    return {name: np.stack([getattr(layer, name) for layer in layers]) for name in "WRB"}


def layer_attributes(shape: LayerShape) -> dict:
    direction = {"direction": "bidirectional"} if shape.bidirectional else {}
    return {**recurrent_attributes(shape.cell, shape.hidden), **direction}


# ---- language models ----


def keras_like(weights: Weights, time: int | str = "time") -> Graph:
    """The graph that a Keras file gives: ids (batch, time) to the next word's probabilities (batch, vocabulary)."""
    shape = weights.shape
    constants, nodes = start(weights)
    layers, x = batch_first("embedded", shape)
    nodes += layers
    constants |= {"direction": np.array([2]), "newest": np.array(-1)}
    nodes += [
        Node("Gather", (x, "newest"), ("last",), {"axis": 1}),
        Node("MatMul", ("last", "output"), ("product",)),
        Node("Add", ("product", "output_bias"), ("logits",)),
        Node("Softmax", ("logits",), ("probabilities",)),
    ]
    ids = Value("ids", "int64", ("batch", time))
    out = Value("probabilities", "float32", ("batch", shape.vocabulary))
    return Graph((ids,), (out,), tuple(nodes), constants)


def windowed(weights: Weights) -> Graph:
    """What suits ONNX runtimes best for a whole window: time first, no states, ids (time, batch) to logits."""
    constants, nodes = start(weights)
    logits = recurrent_stack(weights.shape, constants, nodes, states=False)
    ids = Value("ids", "int64", ("time", "batch"))
    return Graph((ids,), (Value(logits, "float32", ("batch", weights.shape.vocabulary)),), tuple(nodes), constants)


def stepwise(weights: Weights, streams: int) -> Graph:
    """One token of every stream, states as inputs and outputs: ids (1, streams), h0 (1, streams, hidden) ... to logits
    (streams, vocabulary), h0_next ..."""
    shape = weights.shape
    constants, nodes = start(weights)
    logits = recurrent_stack(shape, constants, nodes, states=True)
    carried = [Value(name, "float32", (1, streams, shape.hidden)) for name in state_names(shape)]
    after = [Value(f"{state.name}_next", state.dtype, state.shape) for state in carried]
    return Graph(
        (Value("ids", "int64", (1, streams)), *carried),
        (Value(logits, "float32", (streams, shape.vocabulary)), *after),
        tuple(nodes),
        constants,
    )


def state_names(shape: TokenShape) -> list[str]:
    return [f"{kind}{i}" for i in range(shape.layers) for kind in "hc"[: STATES[shape.cell]]]


def start(weights: Weights) -> tuple[dict[str, np.ndarray], list[Node]]:
    """The constants that all forms share, and the embedding."""
    constants = {"table": weights.table, "output": weights.output, "output_bias": weights.output_bias}
    constants |= numbered(weights.layers)
    return constants, [Node("Gather", ("table", "ids"), ("embedded",), {"axis": 0})]


def recurrent_attributes(cell: str, hidden: int) -> dict[str, int]:
    """The GRU is the one that Keras and torch have: it resets after its recurrent product."""
    reset = {"linear_before_reset": 1} if cell == "GRU" else {}
    return {"hidden_size": hidden, **reset}


def recurrent_stack(shape: TokenShape, constants: dict, nodes: list[Node], states: bool) -> str:
    """Adds the layers (time, batch, width) and the output layer; the last layer hands on its final state alone."""
    x = "embedded"
    constants["axis0"] = np.array([0])
    if shape.layers > 1:
        constants["axis1"] = np.array([1])
    for i in range(shape.layers):
        last = i == shape.layers - 1
        before = [f"{kind}{i}" for kind in "hc"[: STATES[shape.cell]]] if states else []
        after = [f"{name}_next" for name in before] or ["h_end"] * last
        inputs = (x, f"W{i}", f"R{i}", f"B{i}", *(["", *before] if before else []))
        outputs = ("" if last else f"Y{i}", *after)
        nodes.append(Node(shape.cell, inputs, outputs, recurrent_attributes(shape.cell, shape.hidden)))
        if last:
            nodes.append(Node("Squeeze", (after[0], "axis0"), ("last",)))
        else:
            nodes.append(Node("Squeeze", (f"Y{i}", "axis1"), (f"y{i}",)))
            x = f"y{i}"
    nodes.append(Node("MatMul", ("last", "output"), ("product",)))
    nodes.append(Node("Add", ("product", "output_bias"), ("logits",)))
    return "logits"


# ---- as the weights of Keras's layers ----


def keras_layer_weights(cell: str, layer: Layer) -> list[np.ndarray]:
    """kernel, recurrent kernel and bias: of one row for an LSTM, of two for a GRU that resets after its product."""
    onnx, keras = ORDERS["onnx"][cell], ORDERS["keras"][cell]
    biases = layer.B.reshape(2, -1)
    bias = biases.sum(0) if cell == "LSTM" else biases
    return [reorder(array, onnx, keras, axis=-1) for array in (layer.W.T, layer.R.T, bias)]
