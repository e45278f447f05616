"""The graph while an importer makes it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Mapping, Sequence

import numpy as np

from ..activations import Activation
from ..errors import ModelFileError
from ..graph import Dim, Graph, Node, Value
from .keras_activations import SOFTMAX
from .keras_weights import LayerWeights


ELEMENTWISE_ATTRIBUTES = {"HardSigmoid": ("alpha", "beta"), "Elu": ("alpha",), "LeakyRelu": ("alpha",),
                          "ThresholdedRelu": ("alpha",), "Selu": ("alpha", "gamma")}


@dataclass(frozen=True)
class Tensor:
    """What flows between layers. `mask` is the name of its bool mask (batch, time), or '' where all steps count."""

    name: str
    shape: tuple[Dim, ...]
    dtype: str = "float32"
    mask: str = ""

    @property
    def width(self) -> int:
        """The size of the last axis."""
        if not isinstance(self.shape[-1], int):
            raise ModelFileError(f"needs an input whose last axis has a known size, got shape {self.shape}")
        return self.shape[-1]


@dataclass
class GraphBuilder:
    """Collects inputs, nodes and constants under names that are used once."""

    inputs: list[Value] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)

    def name(self, wanted: str) -> str:
        """`wanted`, or `wanted` with a number where that name is taken."""
        name, count = wanted, 1
        while name in self.used:
            name, count = f"{wanted}_{count}", count + 1
        self.used.add(name)
        return name

    def graph(self, output: Tensor, output_name: str, name: str) -> Graph:
        """The finished graph, whose one output is `output` under the name `output_name`."""
        output_name = self.name(output_name)
        if any(value.name == output.name for value in self.inputs):
            self.nodes.append(Node("Identity", (output.name,), (output_name,)))
        else:
            self.nodes = [_renamed(node, {output.name: output_name}) for node in self.nodes]
        result = Value(output_name, output.dtype, output.shape)
        return Graph(tuple(self.inputs), (result,), tuple(self.nodes), self.constants, name)


def _renamed(node: Node, names: Mapping[str, str]) -> Node:
    return replace(node, inputs=tuple(names.get(name, name) for name in node.inputs),
                   outputs=tuple(names.get(name, name) for name in node.outputs))


@dataclass(frozen=True)
class Scope:
    """What the function that handles a layer works with."""

    builder: GraphBuilder
    layer: str  # the layer's name: nodes carry it, values and constants begin with it
    weights: LayerWeights
    keras_major: int

    def child(self, attribute: str, suffix: str = "") -> Scope:
        """The scope of the layer or cell that this layer keeps in `attribute`; its names have the suffix."""
        return replace(self, layer=self.layer + suffix, weights=self.weights.child(attribute))

    def add(self, op: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Appends a node with one output and returns the output's name."""
        output = self.builder.name(f"{self.layer}/{op}")
        self.builder.nodes.append(Node(op, inputs, (output,), attributes, self.layer, domain))
        return output

    def constant(self, name: str, value: np.ndarray) -> str:
        """Appends a constant, read-only from here on, and returns its name."""
        name = self.builder.name(f"{self.layer}/{name}")
        value.flags.writeable = False
        self.builder.constants[name] = value
        return name

    def ints(self, name: str, values: Sequence[int]) -> str:
        """An int64 vector as a constant: axes, starts, steps."""
        return self.constant(name, np.array(values, np.int64))

    def activate(self, x: str, activation: Activation) -> str:
        """`activation` of the value `x` as nodes."""
        function, alpha, beta = activation.function, activation.alpha, activation.beta
        if function == "Identity":
            return x
        if activation == SOFTMAX:
            return self.add("Softmax", x, axis=-1)
        if function == "Swish":
            return self.add("Mul", x, self.add("Sigmoid", x))
        if function == "Clip":
            return self.add("Clip", x, *(self.constant(name, np.array(bound, np.float32))
                                         for name, bound in (("min", alpha), ("max", beta))))
        keys = ELEMENTWISE_ATTRIBUTES.get(function, ())
        return self.add(function, x, **dict(zip(keys, (alpha, beta))))

