"""The one table of the operators a graph knows: ONNX's at opset 20 and the extensions of the domain `lstmrt`.

`find(node)` gives a node's Operator; None means a foreign operator: a graph may hold it, nobody here can run it.

Extensions: LSTM, GRU and RNN of the domain `lstmrt` are ONNX's, and also
* take a `mask`: bool, (batch, time) with layout 1, (time, batch) with layout 0. At a masked step the states stay and
  Y is, with masked_output "carry", the output of the step processed before (0 before the first valid one, whatever
  the initial state), with "zero", 0;
* may leave W out: then X is the input part X·Wᵀ + Wb itself, gates in ONNX's order, (..., gates * hidden_size);
* know the further functions in activations.py;
* an LSTM may have W and R in int8: it is onnxruntime's DynamicQuantizeLSTM, each sequence by itself. A weight is scale *
  (byte - zero point); scales are float32, (directions,) or (directions, 4 * hidden_size), zero points int8, (directions,).
  What W is multiplied with, the time steps of a sequence before its length, becomes unsigned bytes as DynamicQuantizeLinear
  makes them of a tensor, and so does what R is multiplied with, h of a sequence at a step.

Attention of the domain `lstmrt`: for each query of Q (batch, time, heads * a) the softmax, over the keys of K (batch, length,
heads * a), of their scores, Y (batch, time, heads * b) the sums of V (batch, length, heads * b) so weighted, each head on its
own. A score is scale * (query . key) or, with a column (a,), scale * the sum of column * tanh(query + key). It is `hidden` where
a mask, query_mask (batch, time) or key_mask (batch, length), is not set and, with causal 1, where the key is later than the
query. weights: (batch, time, heads, length).

ConvLSTM of the domain `lstmrt`: an LSTM whose products are convolutions over one to three axes of an image, channels last. X
(batch, time, *sizes, channels), Y (batch, time, *counts, filters), states (batch, *counts, filters), mask (batch, time) as
above; W (4 * filters, *kernel, channels) and R (4 * filters, *kernel, filters) with the gates in ONNX's order, B (4 * filters,).
The attributes of windows, as Conv has them, are those of X; R goes over h by single steps, with pads that leave its size
(SAME_UPPER).

DynamicQuantizeMatMul of the domain `lstmrt`: A (..., inputs) times the weights b_scale * (B - b_zero_point), B (inputs, outputs) in
int8, b_scale () or (outputs,), b_zero_point (). A becomes unsigned bytes before, as DynamicQuantizeLinear makes them, of each
sequence along batch_axis by itself, and of all at once where that is -1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from . import shapes, shapes_axes, shapes_layers
from .graph import EXTENSION, Attribute, Node

REQUIRED = object()


class AttributeSpec(NamedTuple):
    """`kind` is ONNX's: int, float, string, ints, floats, strings. A `default` of None: may be left out."""

    kind: str
    default: Any = None
    allowed: tuple = ()  # empty: any value


class Operator(NamedTuple):
    """Names end in `?` where they may be left out, and in `*` where any number of them (at least one) follow."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    infer: Callable  # (*input tensors, **attributes with defaults) -> output tensors; see shapes.py
    attributes: Mapping[str, AttributeSpec] = MappingProxyType({})

    @property
    def input_names(self) -> tuple[str, ...]:
        return tuple(name.rstrip("?*") for name in self.inputs)

    @property
    def output_names(self) -> tuple[str, ...]:
        return tuple(name.rstrip("?*") for name in self.outputs)


def find(node: Node) -> Operator | None:
    """The operator of `node`, or None if it is foreign."""
    return OPERATORS.get((node.domain, node.op)) if node.opset is None else None


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


def is_attention(node: Node) -> bool:
    return node.domain == EXTENSION and node.op == "Attention"


def is_dynamic_product(node: Node) -> bool:
    return node.domain == EXTENSION and node.op == "DynamicQuantizeMatMul"


def is_conv_lstm(node: Node) -> bool:
    return node.domain == EXTENSION and node.op == "ConvLSTM"


def has_states(node: Node) -> bool:
    """Whether a node reads initial_h and gives Y_h back."""
    return is_recurrent(node) or is_conv_lstm(node)


def is_recurrent(node: Node) -> bool:
    return node.op in ("LSTM", "GRU", "RNN") and node.domain in ("", EXTENSION)


def is_dynamic(node: Node) -> bool:
    """Whether a recurrent node has weights in int8, and quantizes what it multiplies them with."""
    return node.domain == EXTENSION and node.op == "LSTM" and bool(named_inputs(node)["W_scale"])


_AXIS_0 = {"axis": AttributeSpec("int", 0)}
_ACTIVATIONS = {
    "activations": AttributeSpec("strings"),
    "activation_alpha": AttributeSpec("floats"),
    "activation_beta": AttributeSpec("floats"),
}
_RECURRENT = {
    "hidden_size": AttributeSpec("int", REQUIRED),
    "direction": AttributeSpec("string", "forward", ("forward", "reverse", "bidirectional")),
    "layout": AttributeSpec("int", 0, (0, 1)),
    **_ACTIVATIONS,
    "clip": AttributeSpec("float"),
}
_MASKED_OUTPUT = {"masked_output": AttributeSpec("string", "carry", ("carry", "zero"))}
_FLAG = AttributeSpec("int", 0, (0, 1))
_CELLS = {
    "LSTM": (("initial_c?", "P?"), ("Y_c?",), {"input_forget": _FLAG}),
    "GRU": ((), (), {"linear_before_reset": _FLAG}),
    "RNN": ((), (), {}),
}

# Inputs of recurrent nodes that each direction has its own of, and that are the model's.
WEIGHTS = ("W", "R", "B", "P", "W_scale", "W_zero_point", "R_scale", "R_zero_point")


def _recurrent(op: str, extension: bool) -> Operator:
    inputs, outputs, further = _CELLS[op]
    inputs = ("X", "W?" if extension else "W", "R", "B?", "sequence_lens?", "initial_h?") + inputs
    if extension:
        inputs += ("mask?", *(("W_scale?", "W_zero_point?", "R_scale?", "R_zero_point?") if op == "LSTM" else ()))
        further = {**further, **_MASKED_OUTPUT}
    return Operator(inputs, ("Y?", "Y_h?") + outputs, shapes.RECURRENT[op], {**_RECURRENT, **further})


def _function(**specs: AttributeSpec) -> Operator:
    return Operator(("X",), ("Y",), shapes.floats, specs)


def _pair(infer: Callable, **specs: AttributeSpec) -> Operator:
    return Operator(("A", "B"), ("C",), infer, specs)


def _reduction(infer: Callable) -> Operator:
    return Operator(("data", "axes?"), ("reduced",), infer,
                    {"keepdims": AttributeSpec("int", 1, (0, 1)), "noop_with_empty_axes": _FLAG})


_ARITHMETIC = _pair(shapes.arithmetic)
_COMPARISON = _pair(shapes.compare)
_LOGIC = _pair(shapes.logic)
_NUMBERS = Operator(("X",), ("Y",), shapes.numbers)
_VARIADIC = Operator(("data*",), ("result",), shapes.broadcast_all)
_AVERAGE = Operator(("data*",), ("result",), shapes.float_broadcast_all)
_SOFTMAX = Operator(("input",), ("output",), shapes.softmax, {"axis": AttributeSpec("int", -1)})
_ARG = Operator(("data",), ("reduced",), shapes_axes.arg, {
    **_AXIS_0, "keepdims": AttributeSpec("int", 1, (0, 1)), "select_last_index": _FLAG})
_EPSILON = AttributeSpec("float", 1e-5)
_SATURATE = AttributeSpec("int", 1, (0, 1))
_WINDOW = {
    "auto_pad": AttributeSpec("string", "NOTSET", ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER")),
    "dilations": AttributeSpec("ints"), "pads": AttributeSpec("ints"), "strides": AttributeSpec("ints"),
}
_POOL = {**_WINDOW, "kernel_shape": AttributeSpec("ints", REQUIRED), "ceil_mode": _FLAG}
_GLOBAL_POOL = Operator(("X",), ("Y",), shapes_layers.global_pool)
_REDUCTION = AttributeSpec("string", "none", ("none", "add", "mul", "max", "min"))

OPERATORS: Mapping[tuple[str, str], Operator] = MappingProxyType({
    (EXTENSION, "Attention"): Operator(
        ("Q", "K", "V", "query_mask?", "key_mask?", "column?"), ("Y", "weights?"), shapes_layers.attention, {
            "heads": AttributeSpec("int", 1), "scale": AttributeSpec("float", 1.0),
            "hidden": AttributeSpec("float", -1e9), "causal": _FLAG}),
    (EXTENSION, "DynamicQuantizeMatMul"): Operator(
        ("A", "B", "b_scale", "b_zero_point"), ("Y",), shapes_layers.dynamic_quantize_matmul, {
            "batch_axis": AttributeSpec("int", -1)}),
    (EXTENSION, "ConvLSTM"): Operator(
        ("X", "W", "R", "B?", "initial_h?", "initial_c?", "mask?"), ("Y?", "Y_h?", "Y_c?"), shapes_layers.conv_lstm, {
            **_WINDOW, **_ACTIVATIONS, **_MASKED_OUTPUT,
            "direction": AttributeSpec("string", "forward", ("forward", "reverse"))}),
    **{(EXTENSION if extension else "", op): _recurrent(op, extension) for op in _CELLS for extension in (False, True)},
    ("", "MatMul"): Operator(("A", "B"), ("Y",), shapes.matmul),
    ("", "Gemm"): Operator(("A", "B", "C?"), ("Y",), shapes.gemm, {
        "alpha": AttributeSpec("float", 1.0), "beta": AttributeSpec("float", 1.0), "transA": _FLAG, "transB": _FLAG}),
    ("", "Add"): _ARITHMETIC,
    ("", "Sub"): _ARITHMETIC,
    ("", "Mul"): _ARITHMETIC,
    ("", "Div"): _ARITHMETIC,
    ("", "Mod"): _pair(shapes.mod, fmod=_FLAG),
    ("", "Pow"): Operator(("X", "Y"), ("Z",), shapes.power),
    **{("", op): _VARIADIC for op in ("Max", "Min")},
    **{("", op): _AVERAGE for op in ("Sum", "Mean")},
    ("", "Equal"): _pair(shapes.equal),
    **{("", op): _COMPARISON for op in ("Less", "LessOrEqual", "Greater", "GreaterOrEqual")},
    **{("", op): _LOGIC for op in ("And", "Or", "Xor")},
    ("", "Not"): Operator(("X",), ("Y",), shapes.logical),
    **{("", op): _pair(shapes.bitwise) for op in ("BitwiseAnd", "BitwiseOr", "BitwiseXor")},
    ("", "BitwiseNot"): Operator(("X",), ("Y",), shapes.integers_only),
    ("", "BitShift"): Operator(("X", "Y"), ("Z",), shapes.bitwise, {
        "direction": AttributeSpec("string", REQUIRED, ("LEFT", "RIGHT"))}),
    ("", "Where"): Operator(("condition", "X", "Y"), ("output",), shapes.where),
    ("", "IsNaN"): Operator(("X",), ("Y",), shapes.predicate),
    ("", "IsInf"): Operator(("X",), ("Y",), shapes.predicate, {
        "detect_negative": AttributeSpec("int", 1, (0, 1)), "detect_positive": AttributeSpec("int", 1, (0, 1))}),
    **{("", op): _NUMBERS for op in ("Abs", "Neg", "Sign")},
    **{("", op): _function() for op in (
        "Sqrt", "Reciprocal", "Log", "Erf", "Floor", "Ceil", "Round", "Sin", "Cos", "Tan", "Asin", "Acos", "Atan",
        "Sinh", "Cosh", "Asinh", "Acosh", "Atanh", "HardSwish")},
    ("", "Celu"): _function(alpha=AttributeSpec("float", 1.0)),
    ("", "Shrink"): _function(lambd=AttributeSpec("float", 0.5), bias=AttributeSpec("float", 0.0)),
    ("", "PRelu"): Operator(("X", "slope"), ("Y",), shapes.prelu),
    ("", "Gather"): Operator(("data", "indices"), ("output",), shapes.gather, _AXIS_0),
    **{("", op): _SOFTMAX for op in ("Softmax", "LogSoftmax", "Hardmax")},
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
        "to": AttributeSpec("int", REQUIRED, tuple(shapes.DTYPES)), "saturate": _SATURATE}),
    ("", "CastLike"): Operator(("input", "target_type"), ("output",), shapes.cast_like, {"saturate": _SATURATE}),
    ("", "Concat"): Operator(("inputs*",), ("concat_result",), shapes.concat, {"axis": AttributeSpec("int", REQUIRED)}),
    ("", "Slice"): Operator(("data", "starts", "ends", "axes?", "steps?"), ("output",), shapes.slice_),
    ("", "Squeeze"): Operator(("data", "axes?"), ("squeezed",), shapes.squeeze),
    ("", "Unsqueeze"): Operator(("data", "axes"), ("expanded",), shapes.unsqueeze),
    ("", "Reshape"): Operator(("data", "shape"), ("reshaped",), shapes.reshape, {"allowzero": _FLAG}),
    ("", "Transpose"): Operator(("data",), ("transposed",), shapes.transpose, {"perm": AttributeSpec("ints")}),
    ("", "Expand"): Operator(("input", "shape"), ("output",), shapes.expand),
    ("", "Shape"): Operator(("data",), ("shape",), shapes.shape_of, {
        "start": AttributeSpec("int", 0), "end": AttributeSpec("int")}),
    ("", "Size"): Operator(("data",), ("size",), shapes_axes.size),
    ("", "Flatten"): Operator(("input",), ("output",), shapes_axes.flatten, {"axis": AttributeSpec("int", 1)}),
    ("", "Split"): Operator(("input", "split?"), ("outputs*",), shapes_axes.split, {
        **_AXIS_0, "num_outputs": AttributeSpec("int")}),
    ("", "Tile"): Operator(("input", "repeats"), ("output",), shapes_axes.tile),
    ("", "Pad"): Operator(("data", "pads", "constant_value?", "axes?"), ("output",), shapes_axes.pad, {
        "mode": AttributeSpec("string", "constant", ("constant", "reflect", "edge", "wrap"))}),
    ("", "Range"): Operator(("start", "limit", "delta"), ("output",), shapes_axes.range_),
    ("", "Trilu"): Operator(("input", "k?"), ("output",), shapes_axes.trilu, {
        "upper": AttributeSpec("int", 1, (0, 1))}),
    ("", "OneHot"): Operator(("indices", "depth", "values"), ("output",), shapes_axes.one_hot, {
        "axis": AttributeSpec("int", -1)}),
    ("", "NonZero"): Operator(("X",), ("Y",), shapes_axes.non_zero),
    ("", "ReverseSequence"): Operator(("input", "sequence_lens"), ("Y",), shapes_axes.reverse_sequence, {
        "batch_axis": AttributeSpec("int", 1), "time_axis": AttributeSpec("int", 0)}),
    ("", "CumSum"): Operator(("x", "axis"), ("y",), shapes_axes.cumsum, {"exclusive": _FLAG, "reverse": _FLAG}),
    ("", "TopK"): Operator(("X", "K"), ("Values", "Indices"), shapes_axes.topk, {
        "axis": AttributeSpec("int", -1), "largest": AttributeSpec("int", 1, (0, 1)),
        "sorted": AttributeSpec("int", 1, (0, 1))}),
    ("", "ArgMax"): _ARG,
    ("", "ArgMin"): _ARG,
    **{("", op): _reduction(shapes_axes.reduce_) for op in ("ReduceMax", "ReduceMin")},
    **{("", op): _reduction(shapes_axes.numbers_reduce) for op in (
        "ReduceSum", "ReduceMean", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp",
        "ReduceSumSquare")},
    ("", "GatherElements"): Operator(("data", "indices"), ("output",), shapes_axes.gather_elements, _AXIS_0),
    ("", "GatherND"): Operator(("data", "indices"), ("output",), shapes_axes.gather_nd, {
        "batch_dims": AttributeSpec("int", 0)}),
    ("", "ScatterElements"): Operator(("data", "indices", "updates"), ("output",), shapes_axes.scatter_elements, {
        **_AXIS_0, "reduction": _REDUCTION}),
    ("", "ScatterND"): Operator(("data", "indices", "updates"), ("output",), shapes_axes.scatter_nd, {
        "reduction": _REDUCTION}),
    ("", "Einsum"): Operator(("Inputs*",), ("Output",), shapes_axes.einsum, {
        "equation": AttributeSpec("string", REQUIRED)}),
    ("", "Conv"): Operator(("X", "W", "B?"), ("Y",), shapes_layers.conv, {
        **_WINDOW, "kernel_shape": AttributeSpec("ints"), "group": AttributeSpec("int", 1)}),
    ("", "ConvTranspose"): Operator(("X", "W", "B?"), ("Y",), shapes_layers.conv_transpose, {
        **_WINDOW, "kernel_shape": AttributeSpec("ints"), "group": AttributeSpec("int", 1),
        "output_padding": AttributeSpec("ints"), "output_shape": AttributeSpec("ints")}),
    ("", "MaxPool"): Operator(("X",), ("Y",), shapes_layers.pool, {**_POOL, "storage_order": _FLAG}),
    ("", "AveragePool"): Operator(("X",), ("Y",), shapes_layers.pool, {**_POOL, "count_include_pad": _FLAG}),
    ("", "GlobalMaxPool"): _GLOBAL_POOL,
    ("", "GlobalAveragePool"): _GLOBAL_POOL,
    ("", "BatchNormalization"): Operator(
        ("X", "scale", "B", "input_mean", "input_var"), ("Y",), shapes_layers.batch_normalization, {
            "epsilon": _EPSILON, "momentum": AttributeSpec("float", 0.9), "training_mode": AttributeSpec("int", 0, (0,))}),
    ("", "InstanceNormalization"): Operator(("input", "scale", "B"), ("output",), shapes_layers.instance_normalization, {
        "epsilon": _EPSILON}),
    ("", "LayerNormalization"): Operator(
        ("X", "Scale", "B?"), ("Y", "Mean?", "InvStdDev?"), shapes_layers.layer_normalization, {
            "axis": AttributeSpec("int", -1), "epsilon": _EPSILON, "stash_type": AttributeSpec("int", 1, (1,))}),
    ("", "LpNormalization"): Operator(("input",), ("output",), shapes_layers.lp_normalization, {
        "axis": AttributeSpec("int", -1), "p": AttributeSpec("int", 2, (1, 2))}),
    ("", "MeanVarianceNormalization"): Operator(("X",), ("Y",), shapes_layers.mean_variance, {
        "axes": AttributeSpec("ints", (0, 2, 3))}),
    ("", "QuantizeLinear"): Operator(("x", "y_scale", "y_zero_point?"), ("y",), shapes_layers.quantize, {
        "axis": AttributeSpec("int", 1), "saturate": _SATURATE}),
    ("", "DequantizeLinear"): Operator(("x", "x_scale", "x_zero_point?"), ("y",), shapes_layers.dequantize, {
        "axis": AttributeSpec("int", 1)}),
    ("", "DynamicQuantizeLinear"): Operator(("x",), ("y", "y_scale", "y_zero_point"), shapes_layers.dynamic_quantize),
    ("", "MatMulInteger"): Operator(("A", "B", "a_zero_point?", "b_zero_point?"), ("Y",), shapes_layers.matmul_integer),
    ("", "QLinearMatMul"): Operator(
        ("a", "a_scale", "a_zero_point", "b", "b_scale", "b_zero_point", "y_scale", "y_zero_point"), ("y",),
        shapes_layers.qlinear_matmul),
})
