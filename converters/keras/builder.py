"""The graph while an importer makes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ... import shapes
from ...activations import Activation
from ...errors import ModelFileError, UnsupportedError
from ...graph import Dim, Graph, Node, Value
from ...operators import attributes as with_defaults
from ...operators import find
from ...sizes import with_sizes
from ...text_inputs import TextInput
from .functions import COMPOSED
from .weights import LayerWeights

ELEMENTWISE_ATTRIBUTES = {"HardSigmoid": ("alpha", "beta"), "Elu": ("alpha",), "LeakyRelu": ("alpha",),
                          "ThresholdedRelu": ("alpha",), "Selu": ("alpha", "gamma")}


@dataclass(frozen=True)
class Tensor:
    """What flows between layers. `mask` is the name of its bool mask (batch, time, ...), or '' where all steps count."""

    name: str
    shape: tuple[Dim, ...]
    dtype: str = "float32"
    mask: str = ""

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def width(self) -> int:
        """The size of the last axis."""
        return self.size(-1)

    def size(self, axis: int) -> int:
        """The size of `axis`, which must be known."""
        if not -self.rank <= axis < self.rank or not isinstance(self.shape[axis], int):
            raise ModelFileError(f"needs an input whose axis {axis} has a known size, got shape {self.shape}")
        return self.shape[axis]


Tensors = "list[Tensor]"


@dataclass
class GraphBuilder:
    """Collects inputs, nodes and constants under names that are used once, and knows the shape of each value."""

    inputs: list[Value] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    tensors: dict[str, shapes.Tensor] = field(default_factory=dict)
    equal: dict[str, Dim] = field(default_factory=dict)  # a symbolic size -> the one that it turned out to be
    used: set[str] = field(default_factory=set)
    text_inputs: dict[str, TextInput] = field(default_factory=dict)

    def name(self, wanted: str) -> str:
        """`wanted`, or `wanted` with a number where that name is taken."""
        name, count = wanted, 1
        while name in self.used:
            name, count = f"{wanted}_{count}", count + 1
        self.used.add(name)
        return name

    def input(self, name: str, dtype: str, shape: tuple[Dim, ...]) -> Tensor:
        """Appends an input of the graph."""
        value = Value(self.name(name), dtype, shape)
        self.inputs.append(value)
        self.tensors[value.name] = shapes.Tensor(dtype, shape)
        return Tensor(value.name, shape, dtype)

    def take_text(self, x: Tensor, given: TextInput, shape: tuple[Dim, ...]) -> Tensor:
        """Makes the input of text `x` one of ids (shape), which `given` makes of the text."""
        if self.text_inputs.setdefault(x.name, given) != given:
            raise UnsupportedError("reads text that another layer reads otherwise")
        places = [i for i, value in enumerate(self.inputs) if value.name == x.name and value.dtype in ("string", "int64")]
        if not places:
            raise UnsupportedError(f"reads {x.dtype} and not the model's input of text")
        self.inputs[places[0]] = Value(x.name, "int64", shape)
        self.tensors[x.name] = shapes.Tensor("int64", shape)
        return Tensor(x.name, shape, "int64")

    def append(self, node: Node) -> None:
        """Appends a node whose inputs are there and infers what it makes."""
        try:
            given = [self.tensors.get(name) for name in node.inputs]
            made = with_sizes(node, given, find(node).infer(*given, **with_defaults(node)))
        except shapes.Mismatch as mismatch:
            raise ModelFileError(f"{node.op}: {'; '.join(mismatch.args)}") from mismatch
        self.nodes.append(node)
        self.tensors.update((name, shapes.with_named_sizes(name, tensor)) for name, tensor in zip(node.outputs, made))

    def constant(self, wanted: str, value: np.ndarray) -> str:
        """The name of a constant, read-only from here on. What a layer that is called again needs is there already."""
        name, count = wanted, 0
        while name in self.used:
            if name in self.constants and _same(self.constants[name], value):
                return name
            count += 1
            name = f"{wanted}_{count}"
        self.used.add(name)
        value.flags.writeable = False
        self.constants[name] = value
        self.tensors[name] = shapes.Tensor.of(value)
        return name

    def resolved(self, size: Dim) -> Dim:
        while size in self.equal:
            size = self.equal[size]
        return size

    def same_size(self, a: Dim, b: Dim) -> None:
        """Records that two sizes are one."""
        a, b = self.resolved(a), self.resolved(b)
        if a != b and isinstance(a, str) and isinstance(b, (str, int)):
            self.equal[a] = b
        elif a != b and isinstance(b, str) and isinstance(a, int):
            self.equal[b] = a

    def graph(self, outputs: Sequence[tuple[str, Tensor]], name: str) -> Graph:
        """The finished graph; `outputs` are named, and one tensor may be several of them."""
        known = {size for value in self.inputs for size in value.shape}
        renamed: dict[str, str] = {}
        values = []
        made = {output for node in self.nodes for output in node.outputs}
        for wanted, tensor in outputs:
            output = self.name(wanted)
            if tensor.name in made and tensor.name not in renamed:
                renamed[tensor.name] = output
            else:
                self.nodes.append(Node("Identity", (tensor.name,), (output,)))
            shape = tuple(size if isinstance(size, int) or size in known else None for size in tensor.shape)
            values.append(Value(output, tensor.dtype, tuple(map(self.resolved, shape))))
        inputs = tuple(value._replace(shape=tuple(map(self.resolved, value.shape))) for value in self.inputs)
        return Graph(inputs, tuple(values), tuple(_renamed(node, renamed) for node in self.nodes), self.constants, name)


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and bool(np.array_equal(a, b))


def _renamed(node: Node, names: Mapping[str, str]) -> Node:
    return replace(node, inputs=tuple(names.get(name, name) for name in node.inputs),
                   outputs=tuple(names.get(name, name) for name in node.outputs))


@dataclass(frozen=True)
class Scope:
    """What the function that handles a layer works with."""

    builder: GraphBuilder
    layer: str  # the layer's name: nodes carry it, values and constants begin with it
    weights: LayerWeights
    keras_version: tuple[int, int]  # major, minor
    custom: Mapping[str, Callable] = field(default_factory=dict)  # the caller's functions for layers: keras/custom.py

    @property
    def keras_major(self) -> int:
        return self.keras_version[0]

    def child(self, attribute: str, suffix: str = "") -> Scope:
        """The scope of the layer or cell that this layer keeps in `attribute`; its names have the suffix."""
        return self.within(self.weights.child(attribute), suffix)

    def within(self, weights: LayerWeights, suffix: str) -> Scope:
        """The scope of an inner layer with these weights; its names have the suffix."""
        return replace(self, layer=self.layer + suffix, weights=weights)

    def add(self, op: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Appends a node with one output and returns the output's name."""
        return self.add_several(op, inputs, 1, domain, **attributes)[0]

    def add_several(self, op: str, inputs: Sequence[str], outputs: int, domain: str = "", **attributes: Any) -> list[str]:
        """Appends a node and returns the names of its first `outputs` outputs."""
        names = [self.builder.name(f"{self.layer}/{op}") for _ in range(outputs)]
        self.builder.append(Node(op, tuple(inputs), tuple(names), attributes, self.layer, domain))
        return names

    def knows(self, op: str) -> bool:
        """Whether there is an operator of ONNX called so."""
        return find(Node(op, (), ())) is not None

    def tensor(self, name: str, mask: str = "") -> Tensor:
        """The value `name` as a tensor."""
        known = self.builder.tensors[name]
        if known.shape is None:
            raise ModelFileError("a result whose number of axes is not known")
        return Tensor(name, known.shape, known.dtype, mask)

    def constant(self, name: str, value: np.ndarray) -> str:
        """A constant, read-only from here on; returns its name."""
        return self.builder.constant(f"{self.layer}/{name}", value)

    def scalar(self, value: float, dtype: str = "float32") -> str:
        """A number as a constant."""
        return self.constant(f"{value:g}" if isinstance(value, float) else str(value), np.array(value, dtype))

    def ints(self, name: str, values: Sequence[int]) -> str:
        """An int64 vector as a constant: axes, starts, steps."""
        return self.constant(name, np.array(values, np.int64))

    def floats(self, x: Tensor) -> Tensor:
        """`x` as float32."""
        return x if x.dtype == "float32" else replace(x, name=self.cast(x.name, "float32"), dtype="float32")

    def cast(self, name: str, dtype: str) -> str:
        to = next(number for number, known in shapes.DTYPES.items() if known == dtype)
        return name if self.builder.tensors[name].dtype == dtype else self.add("Cast", name, to=to)

    def squeeze(self, x: str, axis: int) -> str:
        return self.add("Squeeze", x, self.ints("axes", [axis]))

    def unsqueeze(self, x: str, axis: int) -> str:
        return self.add("Unsqueeze", x, self.ints("axes", [axis]))

    def slice(self, x: str, axis: int, start: int, end: int, step: int = 1) -> str:
        """x[start:end:step] along `axis`, with ONNX's meaning of `end`."""
        return self.add("Slice", x, *(self.ints(name, [value]) for name, value in
                                      (("starts", start), ("ends", end), ("axes", axis), ("steps", step))))

    def reshape(self, x: str, sizes: Sequence[Dim], *sources: Tensor) -> str:
        """`x` with the shape `sizes`; a size that only the call knows is taken from the source that has it."""
        return self.add("Reshape", x, self.sizes(sizes, *sources))

    def sizes(self, sizes: Sequence[Dim], *sources: Tensor) -> str:
        """`sizes` as an int64 vector: a constant, or put together from the shapes of `sources` when the model runs."""
        if all(isinstance(size, int) for size in sizes):
            return self.ints("shape", sizes)
        parts = []
        for size in sizes:
            if isinstance(size, int):
                parts.append(self.ints(f"size_{size}", [size]))
            else:
                source = next(one for one in sources if size in one.shape)
                axis = source.shape.index(size)
                parts.append(self.add("Shape", source.name, start=axis, end=axis + 1))
        return self.add("Concat", *parts, axis=0)

    def any(self, mask: str, axes: Sequence[int]) -> str:
        """Whether one of the elements along `axes` is set."""
        return self.add("ReduceMax", mask, self.ints("axes", axes), keepdims=0)

    def same_shape(self, *tensors: Tensor, but: int) -> None:
        """Records that the sizes of `tensors` are the same along every axis but `but`."""
        first = tensors[0]
        for other in tensors[1:]:
            for axis, (a, b) in enumerate(zip(first.shape, other.shape)):
                if axis != but % first.rank:
                    self.builder.same_size(a, b)

    def activate(self, x: str, activation: Activation) -> str:
        """`activation` of the value `x` as nodes."""
        function, alpha, beta = activation.function, activation.alpha, activation.beta
        if function == "Identity":
            return x
        if function in COMPOSED:
            return COMPOSED[function](self, x)
        if function == "Swish":
            return self.add("Mul", x, self.add("Sigmoid", x))
        if function == "Clip":
            return self.add("Clip", x, *(self.constant(name, np.array(bound, np.float32))
                                         for name, bound in (("min", alpha), ("max", beta))))
        keys = ELEMENTWISE_ATTRIBUTES.get(function, ())
        return self.add(function, x, **dict(zip(keys, (alpha, beta))))
