"""The one table of the operators a graph knows: ONNX's at opset 20 and the extensions of the domain `lstmrt`.

`find(node)` gives a node's Operator; None means a foreign operator: a graph may hold it, nobody here can run it.

Extensions: LSTM, GRU and RNN of the domain `lstmrt` are ONNX's, and also
* take a `mask`: bool, (batch, time) with layout 1, (time, batch) with layout 0. At a masked step the states stay and
  Y is, with masked_output "carry", the output of the step processed before (0 before the first valid one, whatever
  the initial state), with "zero", 0;
* may leave W out: then X is the input part X·Wᵀ + Wb itself, gates in ONNX's order, (..., gates * hidden_size);
* know the further functions in activations.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Callable, Mapping

from . import shapes
from .graph import EXTENSION, Attribute, Node

REQUIRED = object()


@dataclass(frozen=True)
class AttributeSpec:
    """`kind` is ONNX's: int, float, string, ints, floats, strings. A `default` of None: may be left out."""

    kind: str
    default: Any = None
    allowed: tuple = ()  # empty: any value


@dataclass(frozen=True)
class Operator:
    """Names end in `?` where they may be left out, and in `*` where any number of them (at least one) follow."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    infer: Callable  # (*input tensors, **attributes with defaults) -> output tensors; see shapes.py
    attributes: Mapping[str, AttributeSpec] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def input_names(self) -> tuple[str, ...]:
        return tuple(name.rstrip("?*") for name in self.inputs)

    @property
    def output_names(self) -> tuple[str, ...]:
        return tuple(name.rstrip("?*") for name in self.outputs)


def find(node: Node) -> Operator | None:
    """The operator of `node`, or None if it is foreign."""
    return OPERATORS.get((node.domain, node.op))


def named_inputs(node: Node) -> dict[str, str]:
    """The formal name of each input of a known, non-variadic operator -> the value's name, '' where it is left out."""
    formal = OPERATORS[node.domain, node.op].input_names
    return dict(zip(formal, node.inputs + ("",) * (len(formal) - len(node.inputs))))


def named_outputs(node: Node) -> dict[str, str]:
    """As named_inputs, of the outputs."""
    formal = OPERATORS[node.domain, node.op].output_names
    return dict(zip(formal, node.outputs + ("",) * (len(formal) - len(node.outputs))))


def attributes(node: Node) -> dict[str, Attribute | None]:
    """All attributes of a known operator's node, defaults filled in; None where one has no default and is not given."""
    specs = OPERATORS[node.domain, node.op].attributes
    return {name: node.attributes.get(name, spec.default) for name, spec in specs.items()}


def is_recurrent(node: Node) -> bool:
    return node.op in ("LSTM", "GRU", "RNN") and node.domain in ("", EXTENSION)


_AXIS_0 = {"axis": AttributeSpec("int", 0)}
_RECURRENT = {
    "hidden_size": AttributeSpec("int", REQUIRED),
    "direction": AttributeSpec("string", "forward", ("forward", "reverse", "bidirectional")),
    "layout": AttributeSpec("int", 0, (0, 1)),
    "activations": AttributeSpec("strings"),
    "activation_alpha": AttributeSpec("floats"),
    "activation_beta": AttributeSpec("floats"),
    "clip": AttributeSpec("float"),
}
_FLAG = AttributeSpec("int", 0, (0, 1))
_CELLS = {
    "LSTM": (("initial_c?", "P?"), ("Y_c?",), {"input_forget": _FLAG}),
    "GRU": ((), (), {"linear_before_reset": _FLAG}),
    "RNN": ((), (), {}),
}


def _recurrent(op: str, extension: bool) -> Operator:
    inputs, outputs, further = _CELLS[op]
    inputs = ("X", "W?" if extension else "W", "R", "B?", "sequence_lens?", "initial_h?") + inputs
    if extension:
        inputs += ("mask?",)
        further = {**further, "masked_output": AttributeSpec("string", "carry", ("carry", "zero"))}
    return Operator(inputs, ("Y?", "Y_h?") + outputs, shapes.RECURRENT[op], {**_RECURRENT, **further})


def _function(**specs: AttributeSpec) -> Operator:
    return Operator(("X",), ("Y",), shapes.floats, specs)


_ARITHMETIC = Operator(("A", "B"), ("C",), shapes.arithmetic)

OPERATORS: Mapping[tuple[str, str], Operator] = MappingProxyType({
    **{(EXTENSION if extension else "", op): _recurrent(op, extension) for op in _CELLS for extension in (False, True)},
    ("", "MatMul"): Operator(("A", "B"), ("Y",), shapes.matmul),
    ("", "Gemm"): Operator(("A", "B", "C?"), ("Y",), shapes.gemm, {
        "alpha": AttributeSpec("float", 1.0), "beta": AttributeSpec("float", 1.0), "transA": _FLAG, "transB": _FLAG}),
    ("", "Add"): _ARITHMETIC,
    ("", "Sub"): _ARITHMETIC,
    ("", "Mul"): _ARITHMETIC,
    ("", "Div"): _ARITHMETIC,
    ("", "Equal"): Operator(("A", "B"), ("C",), shapes.compare),
    ("", "Not"): Operator(("X",), ("Y",), shapes.logical),
    ("", "Gather"): Operator(("data", "indices"), ("output",), shapes.gather, _AXIS_0),
    ("", "Softmax"): Operator(("input",), ("output",), shapes.softmax, {"axis": AttributeSpec("int", -1)}),
    ("", "Sigmoid"): _function(),
    ("", "Tanh"): _function(),
    ("", "Relu"): _function(),
    ("", "LeakyRelu"): _function(alpha=AttributeSpec("float", 0.01)),
    ("", "ThresholdedRelu"): _function(alpha=AttributeSpec("float", 1.0)),
    ("", "HardSigmoid"): _function(alpha=AttributeSpec("float", 0.2), beta=AttributeSpec("float", 0.5)),
    ("", "Elu"): _function(alpha=AttributeSpec("float", 1.0)),
    ("", "Selu"): _function(alpha=AttributeSpec("float", 1.67326319217681884765625),
                               gamma=AttributeSpec("float", 1.05070102214813232421875)),
    ("", "Softsign"): _function(),
    ("", "Softplus"): _function(),
    ("", "Exp"): _function(),
    ("", "Gelu"): _function(approximate=AttributeSpec("string", "none", ("none", "tanh"))),
    ("", "Mish"): _function(),
    ("", "Clip"): Operator(("input", "min?", "max?"), ("output",), shapes.clip),
    ("", "Identity"): Operator(("input",), ("output",), shapes.same),
    ("", "Dropout"): Operator(("data", "ratio?", "training_mode?"), ("output", "mask?"), shapes.dropout,
                              {"seed": AttributeSpec("int")}),
    ("", "Cast"): Operator(("input",), ("output",), shapes.cast, {
        "to": AttributeSpec("int", REQUIRED, tuple(shapes.DTYPES)), "saturate": AttributeSpec("int", 1, (0, 1))}),
    ("", "Concat"): Operator(("inputs*",), ("concat_result",), shapes.concat, {"axis": AttributeSpec("int", REQUIRED)}),
    ("", "Slice"): Operator(("data", "starts", "ends", "axes?", "steps?"), ("output",), shapes.slice_),
    ("", "Squeeze"): Operator(("data", "axes?"), ("squeezed",), shapes.squeeze),
    ("", "Unsqueeze"): Operator(("data", "axes"), ("expanded",), shapes.unsqueeze),
    ("", "Reshape"): Operator(("data", "shape"), ("reshaped",), shapes.reshape, {"allowzero": _FLAG}),
    ("", "Transpose"): Operator(("data",), ("transposed",), shapes.transpose, {"perm": AttributeSpec("ints")}),
    ("", "Expand"): Operator(("input", "shape"), ("output",), shapes.expand),
    ("", "Shape"): Operator(("data",), ("shape",), shapes.shape_of, {
        "start": AttributeSpec("int", 0), "end": AttributeSpec("int")}),
})
