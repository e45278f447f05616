"""Nodes of other opsets, said as opset 20 says them.

An operator of operators.py that an older (or newer) opset writes in other words is rewritten; one whose meaning there
cannot be said at opset 20 stays as it is, with its own opset, and is foreign.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from ..errors import ModelFileError
from ..graph import EXTENSION, OPSET, Attribute, Node
from ..operators import OPERATORS, is_recurrent
from ..shapes import MOST_AXES
from ..validate import operator_faults

MICROSOFT = "com.microsoft"  # onnxruntime's own operators
NEVER = 2**31  # no opset
STABLE = 13  # from this opset on no rewriting needs to know ranks or dtypes


class Stays(Exception):
    """A node that cannot be said at opset 20."""


class Surroundings(Protocol):
    """What rewriting asks of the graph around a node."""

    def add_array(self, array: np.ndarray) -> str:
        """A new constant; returns its name."""

    def constant(self, name: str) -> np.ndarray | None: ...

    def fresh_name(self, stem: str) -> str: ...

    def rank(self, name: str) -> int | None: ...

    def dtype(self, name: str) -> str | None: ...


@dataclass
class Draft:
    """A node in the making; `before` and `after` are nodes that go around it."""

    node: Node
    around: Surroundings
    inputs: list[str]
    attributes: dict[str, Attribute]
    before: list[Node]
    after: list[Node]

    def array(self, values: Any, dtype: str = "int64") -> str:
        return self.around.add_array(np.array(values, dtype))

    def take(self, name: str, default: Attribute | None = None) -> Attribute | None:
        return self.attributes.pop(name, default)

    def input_from(self, position: int, attribute: str, dtype: str = "int64", otherwise: Any = None) -> None:
        """An attribute becomes the input at `position`."""
        value = self.take(attribute, otherwise)
        if value is None:
            return
        self.inputs += [""] * (position + 1 - len(self.inputs))
        self.inputs[position] = self.array(value, dtype)


def _check_rest(node: Node, there: Any) -> None:
    """Refuses a gap among inputs of any number, which onnx's checker lets through and onnxruntime may crash on."""
    if there.inputs and there.inputs[-1].option.name == "Variadic" and not all(node.inputs[len(there.inputs) - 1:]):
        raise ModelFileError(f"{node}: one of its inputs is left out")


def upgraded(node: Node, opset: int, around: Surroundings) -> list[Node]:
    """`node`, of the file's `opset` of ONNX's own domain, as nodes of a graph; foreign where it has to be."""
    there, here = schema(node.op, opset), schema(node.op, OPSET)
    if there is not None:
        _check_rest(node, there)
    if there is None or (here is None and node.op not in _RENAMED):
        return [replace(node, opset=opset)]
    same = here is not None and there.since_version == here.since_version
    operator = OPERATORS.get(("", _RENAMED.get(node.op, node.op)))
    if operator is None:
        return [node if same or _alike(there, here) else replace(node, opset=opset)]
    draft = Draft(node, around, list(node.inputs), dict(node.attributes), [], [])
    try:
        _rewrite(draft, opset, there)
        made = replace(draft.node, inputs=tuple(draft.inputs), attributes=draft.attributes)
        if not is_recurrent(made) and any(operator_faults(made, operator)):
            raise Stays
    except Stays:
        return [replace(node, opset=OPSET if same else opset)]
    return [*draft.before, made, *draft.after]


@functools.lru_cache(maxsize=1024)
def schema(op: str, opset: int) -> Any | None:
    """An operator as an opset has it, or None where the opset has none of that name."""
    import onnx

    try:
        found = onnx.defs.get_schema(op, opset)
    except onnx.defs.SchemaError:
        return None
    return None if found.deprecated else found


def _alike(there: Any, here: Any) -> bool:
    """Whether two versions of an operator differ in the dtypes they take alone, as those of Loop do."""
    def words(schema: Any) -> tuple:
        return ([formal.name for formal in schema.inputs], [formal.name for formal in schema.outputs],
                {name: attribute.default_value.SerializeToString() for name, attribute in schema.attributes.items()})

    return words(there) == words(here)


def _trimmed(inputs: list[str]) -> list[str]:
    while inputs and not inputs[-1]:
        inputs = inputs[:-1]
    return inputs


def _rewrite(draft: Draft, opset: int, there: Any) -> None:
    draft.take("consumed_inputs")
    if draft.node.op in _RENAMED:
        draft.node = replace(draft.node, op=_RENAMED[draft.node.op])
    for before, function in _UPGRADES.get(draft.node.op, ()):
        if opset < before:
            function(draft)
    here = schema(draft.node.op, OPSET)
    if opset > OPSET:
        names = [[formal.name for formal in schema_.inputs][:len(draft.inputs)] for schema_ in (there, here)]
        if names[0] != names[1]:
            raise Stays
    _settle_defaults(draft, there, here)


def _settle_defaults(draft: Draft, there: Any, here: Any) -> None:
    """Attributes whose default changed are written out; one that says what is always so at opset 20 goes."""
    import onnx

    def default(attribute: Any) -> Attribute | None:
        if not attribute.default_value.name:
            return None
        value = onnx.helper.get_attribute_value(attribute.default_value)
        return value.decode() if isinstance(value, bytes) else tuple(value) if isinstance(value, list) else value

    for name, attribute in there.attributes.items():
        old = default(attribute)
        if name not in here.attributes:
            if name in draft.attributes and draft.take(name) != old:
                raise Stays
        elif name not in draft.attributes and old is not None and old != default(here.attributes[name]):
            draft.attributes[name] = old


# ---- onnxruntime's own operators ----


def from_microsoft(node: Node, version: int, around: Surroundings) -> list[Node]:
    """A node of the domain com.microsoft: DynamicQuantizeLSTM with constant weights is an LSTM with weights in int8. Others
    are foreign."""
    made = _dynamic_lstm(node, around) if node.op == "DynamicQuantizeLSTM" and len(node.inputs) == 12 else None
    return [replace(node, opset=version) if made is None else made]


def _dynamic_lstm(node: Node, around: Surroundings) -> Node | None:
    arrays = [around.constant(name) for name in (*node.inputs[1:3], *node.inputs[8:])]
    if any(array is None for array in arrays):
        return None
    w, r, w_scale, w_zero, r_scale, r_zero = arrays
    halves = [_signed(w, w_zero), _signed(r, r_zero)]
    if None in halves:
        return None
    (w, w_zero), (r, r_zero) = halves
    x, _, _, *others = node.inputs[:8]
    quantization = map(around.add_array, (w_scale, w_zero, r_scale, r_zero))
    inputs = (x, around.add_array(w), around.add_array(r), *others, "", *quantization)
    return Node("LSTM", inputs, node.outputs, node.attributes, node.name, EXTENSION)


def _signed(weights: np.ndarray, zero: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """(directions, inputs, outputs) bytes as (directions, outputs, inputs) signed ones, and the zero point of each direction;
    None where onnxruntime has a fault to find, as with zero points that differ from output to output."""
    if weights.ndim != 3 or weights.dtype != zero.dtype or weights.dtype.name not in ("int8", "uint8"):
        return None
    if zero.ndim not in (1, 2) or not zero.size:
        return None
    of_outputs = zero.reshape(len(zero), -1)
    first = of_outputs[:, :1]
    if (of_outputs != first).any():
        return None
    shift = np.uint8(0 if weights.dtype == np.int8 else 128)
    return (np.ascontiguousarray((weights.view(np.uint8) ^ shift).view(np.int8).transpose(0, 2, 1)),
            (first[:, 0].view(np.uint8) ^ shift).view(np.int8))


# ---- what older opsets wrote otherwise ----

_RENAMED = {"Scatter": "ScatterElements"}


def _broadcast_from_axis(draft: Draft) -> None:
    """Before opset 7 B was laid along A from `axis` on, if `broadcast` was set."""
    axis = draft.take("axis")
    if not draft.take("broadcast", 0) or axis is None:
        return
    a, b = (draft.around.rank(name) for name in draft.inputs)
    if not a or b is None:
        raise Stays
    behind = a - axis % a - b
    if behind > 0:
        spread = draft.around.fresh_name("spread")
        axes = draft.array(range(b, b + behind))
        draft.before.append(Node("Unsqueeze", (draft.inputs[1], axes), (spread,), {}, draft.node.name))
        draft.inputs[1] = spread


def _vector_of_axes(draft: Draft) -> None:
    """A single axis is a vector of one: onnxruntime takes it for that, and onnxscript writes it."""
    axes = draft.around.constant(draft.inputs[1]) if len(draft.inputs) > 1 else None
    if axes is not None and axes.ndim == 0:
        draft.inputs[1] = draft.array([axes])


def _without(*names: str) -> Callable[[Draft], None]:
    def drop(draft: Draft) -> None:
        for name in names:
            draft.take(name)

    return drop


def _batch_normalization(draft: Draft) -> None:
    draft.take("is_test")
    if not draft.take("spatial", 1) or any(draft.node.outputs[1:]):
        raise Stays
    draft.node = replace(draft.node, outputs=draft.node.outputs[:1])


def _cast_to_a_word(draft: Draft) -> None:
    import onnx

    if isinstance(draft.attributes.get("to"), str):
        draft.attributes["to"] = onnx.TensorProto.DataType.Value(draft.attributes["to"].upper())


def _axes(draft: Draft) -> None:
    draft.input_from(1, "axes")


def _clip(draft: Draft) -> None:
    dtype = draft.around.dtype(draft.inputs[0]) or "float32"
    draft.input_from(1, "min", dtype)
    draft.input_from(2, "max", dtype)


def _dropout(draft: Draft) -> None:
    draft.take("ratio")
    draft.take("is_test")


def _pad(draft: Draft) -> None:
    draft.input_from(1, "paddings" if "paddings" in draft.attributes else "pads")
    draft.input_from(2, "value", draft.around.dtype(draft.inputs[0]) or "float32")


def _parts(draft: Draft) -> None:
    if len(draft.inputs) == 1:
        draft.attributes.setdefault("num_outputs", len(draft.node.outputs))


def _slice(draft: Draft) -> None:
    for position, name in enumerate(("starts", "ends", "axes"), 1):
        draft.input_from(position, name)


def _flattened_softmax(draft: Draft) -> None:
    """Before opset 13 these ran over all axes from `axis`, by default 1, on: over the last alone it is the same."""
    axis, rank = draft.attributes.get("axis", 1), draft.around.rank(draft.inputs[0])
    draft.attributes["axis"] = -1
    if axis == -1 or (rank is not None and axis in (rank - 1, rank)):
        if axis == rank:
            raise Stays
        return
    if axis < 0:
        if rank is None:
            raise Stays
        axis += rank
    if not 0 <= axis <= MOST_AXES:
        raise Stays
    sizes, flat, normal = (draft.around.fresh_name(stem) for stem in ("sizes", "flat", "normal"))
    target = draft.array([0] * axis + [-1] if axis else [1, -1])
    draft.before += [Node("Shape", (draft.inputs[0],), (sizes,)), Node("Reshape", (draft.inputs[0], target), (flat,))]
    draft.after.append(Node("Reshape", (normal, sizes), draft.node.outputs, {}, draft.node.name))
    draft.inputs[0], draft.node = flat, replace(draft.node, outputs=(normal,))


def _top_k(draft: Draft) -> None:
    draft.inputs.append(draft.array([draft.take("k", 1)]))


def _stays(draft: Draft) -> None:
    raise Stays


# op -> (the opset from which on it needs no such thing, what is done before) in the order it is done
_UPGRADES: Mapping[str, Iterable[tuple[int, Callable[[Draft], None]]]] = {
    **{op: [(7, _broadcast_from_axis)] for op in (
        "Add", "Sub", "Mul", "Div", "Pow", "And", "Or", "Xor", "Equal", "Greater", "Less")},
    **{f"Reduce{kind}": [(18, _axes)] for kind in (
        "Mean", "Max", "Min", "Prod", "L1", "L2", "LogSum", "LogSumExp", "SumSquare")},
    "ReduceSum": [(13, _axes)],
    **{op: [(13, _axes), (NEVER, _vector_of_axes)] for op in ("Squeeze", "Unsqueeze")},
    **{op: [(13, _flattened_softmax)] for op in ("Softmax", "LogSoftmax", "Hardmax")},
    **{op: [(7, _without("output_sequence"))] for op in ("LSTM", "GRU", "RNN")},
    "BatchNormalization": [(14, _batch_normalization)],
    "Cast": [(6, _cast_to_a_word)],
    "Clip": [(11, _clip)],
    "Concat": [(4, lambda draft: draft.attributes.setdefault("axis", 1))],
    "Dropout": [(12, _dropout)],
    "Gemm": [(7, _without("broadcast"))],
    "Pad": [(11, _pad)],
    "Reshape": [(5, lambda draft: draft.input_from(1, "shape"))],
    "Slice": [(10, _slice)],
    "Split": [(13, lambda draft: draft.input_from(1, "split")), (18, _parts)],
    "Tile": [(6, _stays)],
    "TopK": [(10, _top_k)],
}
