"""Hypothesis strategies: random recurrent graphs with inputs to run them on.

Sizes differ from one another, batch > 1, weights are distinct for each gate and small enough that nothing saturates,
initial states are not zero.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from hypothesis import strategies as st

from lstmrt.activations import FUNCTIONS, REQUIRED
from lstmrt.activations import EXTENSIONS as EXTENSION_FUNCTIONS
from lstmrt.gates import ONNX
from lstmrt.graph import EXTENSION, Graph, Node, Value

GATE_FUNCTIONS = {"LSTM": 3, "GRU": 2, "RNN": 1}
ONNX_FUNCTIONS = sorted(set(FUNCTIONS) - EXTENSION_FUNCTIONS)
WIDE = (31, 32, 33, 97, 128, 135, 257)  # around the blocks of 32 in which sums over k run
DENSE_ACTIVATIONS = ("Sigmoid", "Tanh", "Relu", "Softmax", "HardSigmoid", "Elu", "LeakyRelu", "Softplus", "Gelu", "Mish")


@dataclass(frozen=True)
class Case:
    """A graph and one array for each of its inputs."""

    graph: Graph
    inputs: Mapping[str, np.ndarray]

    def __repr__(self) -> str:
        shapes = {name: array.shape for name, array in self.inputs.items()}
        return "\n".join([f"Case {shapes}", *(f"  {node} {dict(node.attributes)} {node.inputs} -> {node.outputs}"
                                              for node in self.graph.nodes)])

    def _repr_pretty_(self, printer, cycle) -> None:  # hypothesis prints a dataclass field by field otherwise
        printer.text(repr(self))


@dataclass
class Builder:
    """A graph in the making, and the inputs for it."""

    rng: np.random.Generator
    batch: int
    time: int
    layout: int
    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    values: list[Value] = field(default_factory=list)
    inputs: dict[str, np.ndarray] = field(default_factory=dict)
    outputs: list[Value] = field(default_factory=list)
    count: int = 0

    def name(self, stem: str) -> str:
        self.count += 1
        return f"{stem}_{self.count}"

    def constant(self, stem: str, array: np.ndarray) -> str:
        name = self.name(stem)
        array.flags.writeable = False
        self.constants[name] = array
        return name

    def weights(self, stem: str, *shape: int, gates: int = 1, axis: int = 0) -> str:
        """Normal weights of deviation about 1 / sqrt(last size), a little different for each gate block."""
        array = self.rng.normal(size=shape) / np.sqrt(shape[-1] + 1)
        scales = np.repeat(1 + 0.3 * np.arange(gates), shape[axis] // gates)
        return self.constant(stem, np.float32(array * np.expand_dims(scales, tuple(range(1, len(shape) - axis)))))

    def input(self, stem: str, array: np.ndarray, shape: tuple) -> str:
        name = self.name(stem)
        self.values.append(Value(name, array.dtype.name, shape))
        self.inputs[name] = array
        return name

    def node(self, op: str, inputs: list[str], output: str, **attributes) -> str:
        self.nodes.append(Node(op, tuple(inputs), (output,), attributes))
        return output

    def floats(self, *shape: int) -> np.ndarray:
        return self.rng.normal(size=shape).astype(np.float32)

    def rows(self) -> tuple[int, int]:
        return (self.batch, self.time) if self.layout else (self.time, self.batch)

    def symbols(self) -> tuple[str, str]:
        return ("batch", "time") if self.layout else ("time", "batch")


@st.composite
def activation_attributes(draw, op: str, directions: int, functions=tuple(ONNX_FUNCTIONS)) -> dict:
    """{} or activations with as many alphas and betas as the first few of them want."""
    if draw(st.booleans()):
        return {}
    names = draw(st.lists(st.sampled_from(functions), min_size=directions * GATE_FUNCTIONS[op],
                          max_size=directions * GATE_FUNCTIONS[op]))
    attributes = {"activations": tuple(draw(st.sampled_from((name, name.lower()))) for name in names)}
    for position, key in enumerate(("activation_alpha", "activation_beta")):
        defaults = [FUNCTIONS[name][position] for name in names if len(FUNCTIONS[name]) > position]
        least = max((i + 1 for i, default in enumerate(defaults) if default is REQUIRED), default=0)
        count = draw(st.integers(least, len(defaults)))
        if count:
            attributes[key] = tuple(draw(st.sampled_from((0.25, 0.375, 0.5, 0.75))) for _ in range(count))
    return attributes


@st.composite
def widths(draw, taken: set[int]) -> int:
    usual, wide = st.integers(1, 70), st.sampled_from(WIDE)
    return draw(st.one_of(usual, usual, usual, wide).filter(lambda size: size not in taken))


@st.composite
def recurrent_graphs(draw, ops=("LSTM", "GRU", "RNN"), layouts=(0, 1), extensions=False, layers=2) -> Case:
    """One or more recurrent layers with any options, perhaps followed by a dense layer.

    `extensions` adds masks of both kinds and the functions ONNX lacks.
    """
    batch, time = draw(st.sampled_from(((2, 3), (3, 5), (5, 2), (4, 9), (7, 1), (2, 17))))
    builder = Builder(np.random.default_rng(draw(st.integers(0, 2**32))), batch, time, draw(st.sampled_from(layouts)))
    taken = {batch, time}
    width = draw(widths(taken))
    x = builder.input("x", builder.floats(*builder.rows(), width), (*builder.symbols(), width))
    for _ in range(draw(st.integers(1, layers))):
        taken.add(width)
        x, width = draw(_layer(builder, draw(st.sampled_from(ops)), x, width, draw(widths(taken)), extensions))
    if draw(st.booleans()):
        x = draw(_dense(builder, x, width, draw(widths(taken | {width}))))
    builder.outputs.append(Value(x, "float32", None))
    return Case(Graph(tuple(builder.values), tuple(builder.outputs), tuple(builder.nodes), builder.constants,
                      "random").validate(), builder.inputs)


@st.composite
def _layer(draw, builder: Builder, op: str, x: str, width: int, hidden: int, extensions: bool) -> tuple[str, int]:
    """One recurrent node; returns the name and width of its outputs side by side, (rows..., directions * hidden)."""
    direction = draw(st.sampled_from(("forward", "reverse", "bidirectional")))
    directions, gates = 2 if direction == "bidirectional" else 1, len(ONNX[op])
    attributes = {"hidden_size": hidden, "direction": direction, "layout": builder.layout}
    extended = extensions and draw(st.booleans())
    attributes |= draw(activation_attributes(op, directions, tuple(FUNCTIONS) if extended else ONNX_FUNCTIONS))
    if draw(st.integers(0, 3)) == 0:
        attributes["clip"] = draw(st.sampled_from((0.25, 0.5, 2.0)))
    for option in {"LSTM": ("input_forget",), "GRU": ("linear_before_reset",), "RNN": ()}[op]:
        attributes[option] = draw(st.integers(0, 1))

    def optional(make) -> str:
        return make() if draw(st.booleans()) else ""

    states = (builder.batch, directions, hidden) if builder.layout else (directions, builder.batch, hidden)
    symbols = ("batch", directions, hidden) if builder.layout else (directions, "batch", hidden)
    inputs = [
        x,
        builder.weights("W", directions, gates * hidden, width, gates=gates, axis=1),
        builder.weights("R", directions, gates * hidden, hidden, gates=gates, axis=1),
        optional(lambda: builder.weights("B", directions, 2 * gates * hidden, gates=2 * gates, axis=1)),
        optional(lambda: builder.input("lengths", np.array(draw(st.lists(
            st.integers(0, builder.time), min_size=builder.batch, max_size=builder.batch)), np.int32), ("batch",))),
        optional(lambda: builder.input("h", builder.floats(*states), symbols)),
    ]
    if op == "LSTM":
        inputs += [optional(lambda: builder.input("c", builder.floats(*states), symbols)),
                   optional(lambda: builder.weights("P", directions, 3 * hidden, gates=3, axis=1))]
    if extended:
        attributes["masked_output"] = draw(st.sampled_from(("carry", "zero")))
        inputs.append(optional(lambda: builder.input(
            "mask", builder.rng.random(builder.rows()) < draw(st.sampled_from((0.0, 0.3, 0.7, 1.0))), builder.symbols())))
    outputs = [builder.name("Y")] + [optional(lambda: builder.name("state")) for _ in range(2 if op == "LSTM" else 1)]
    builder.outputs += [Value(name, "float32", None) for name in outputs[1:] if name]
    builder.nodes.append(Node(op, tuple(inputs), tuple(outputs), attributes, builder.name(op.lower()),
                              EXTENSION if extended else ""))
    return _side_by_side(builder, outputs[0], directions), directions * hidden


def _side_by_side(builder: Builder, y: str, directions: int) -> str:
    if directions == 1:
        axes = builder.constant("axes", np.array([2 if builder.layout else 1]))
        return builder.node("Squeeze", [y, axes], builder.name("squeezed"))
    if not builder.layout:
        y = builder.node("Transpose", [y], builder.name("transposed"), perm=(0, 2, 1, 3))
    return builder.node("Reshape", [y, builder.constant("shape", np.array([0, 0, -1]))], builder.name("reshaped"))


@st.composite
def _dense(draw, builder: Builder, x: str, width: int, units: int) -> str:
    """MatMul + Add + activation, of all steps or of the last one."""
    if draw(st.booleans()):
        x = builder.node("Gather", [x, builder.constant("last", np.array(-1))], builder.name("last_step"),
                         axis=builder.layout)
    x = builder.node("MatMul", [x, builder.weights("kernel", width, units)], builder.name("product"))
    x = builder.node("Add", [x, builder.weights("bias", units)], builder.name("sum"))
    return builder.node(draw(st.sampled_from(DENSE_ACTIVATIONS)), [x], builder.name("activated"))


def damaged(draw: Callable, content: bytes, changes: bool = True) -> bytes:
    """`content` cut off somewhere or, with `changes`, perhaps with a few bytes changed instead."""
    if not changes or draw(st.booleans()):
        return content[:draw(st.integers(0, len(content) - 1))]
    content = bytearray(content)
    for place in draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=8)):
        content[place] = draw(st.integers(0, 255))
    return bytes(content)
