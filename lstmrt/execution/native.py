"""A region's values and steps, as the C core wants them (csrc/lstmrt.h, LSTMRT_OPS)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from ..activations import Activation, elementwise_activation, recurrent_activations
from ..gates import ONNX, gate_rows
from ..graph import Node
from ..operators import (
    WEIGHTS,
    attributes,
    is_attention,
    is_conv_lstm,
    is_dynamic,
    is_dynamic_product,
    is_recurrent,
    named_inputs,
    named_outputs,
)
from ..shapes import normal_axis
from ..shapes_layers import window_pads, windowed
from .regions import Region
from .roles import ACROSS, BATCH, DTYPES, ONE, ROWS, ROWS_OF_ONE, SOURCE, TIME, WIDTH, Facts, Roles, width_of
from .ties import column_slice, row, smaller_first


PORT_DTYPES = {"f32": "float32", "i64": "int64", "bool": "bool"}
LARGEST_TABLE = 64 << 20  # bytes; beyond it a lookup costs more memory than the multiplication it saves is worth


class Port(NamedTuple):
    """A graph value that enters or leaves a program; `vocabulary` limits ids to [-vocabulary, vocabulary)."""

    name: str
    dtype: str  # NumPy's name of what the program reads or writes
    roles: Roles
    width: int
    vocabulary: int | None = None
    sizes: tuple[int | None, ...] = ()  # of a program of flat.py, None for the batch's
    image: tuple[int, ...] = ()  # sizes of the axes that are the width, where these are several

    def shape(self, batch: int, time: int | None, source: int = 1) -> tuple[int, ...]:
        """The value's shape; without a `time`, that of one step, which has no axes of time or of size 1."""
        if self.sizes:
            return tuple(batch if size is None else size for size in self.sizes)
        roles = self.roles if time is not None else [role for role in self.roles if role in (BATCH, WIDTH)]
        sizes = {BATCH: batch, TIME: time, SOURCE: source, WIDTH: self.width, ONE: 1}
        image = iter(self.image)
        return tuple(next(image) if self.image and role == WIDTH else sizes[ACROSS.get(role, role)] for role in roles)


class Program(NamedTuple):
    """The arguments of _core.Model, and the ports in the order of `inputs` and of `outputs`."""

    values: list[tuple[str, str, int, str]]
    steps: list[dict[str, Any]]
    inputs: list[int]
    outputs: list[int]
    input_ports: list[Port]
    output_ports: list[Port]
    sizes: Mapping[str, int] = MappingProxyType({})  # of a program of flat.py: of the batch and time of its layers


def lower(region: Region) -> tuple[Program, list[Node]]:
    """The region's program, and the nodes of it that only rename an input of ids or masks: no work for a program."""
    lowering = _Lowering(region)
    for node in region.nodes:
        lowering.lower(node)
    return lowering.finish()


class _Lowering:
    def __init__(self, region: Region) -> None:
        self.facts, self.roles, self.nodes = region.facts, region.roles, region.nodes
        self.values: list[tuple[str, str, int, str]] = []
        self.steps: list[dict[str, Any]] = []
        self.inputs: dict[str, int] = {}
        self.ids: dict[str, int] = {}  # graph value -> native value; several names of one array share one
        self.embedded: dict[str, tuple[np.ndarray, str]] = {}  # not yet looked up: table and ids
        self.compared: dict[str, tuple[str, int]] = {}  # the Equal half of a NOT_EQUAL: ids and constant
        self.vocabularies: dict[int, int] = {}

    def lower(self, node: Node) -> None:
        if is_recurrent(node):
            self._recurrent(node)
        elif is_conv_lstm(node):
            self._conv_lstm(node)
        elif is_dynamic_product(node):
            self._dynamic_product(node)
        elif is_attention(node):
            self._attention(node)
        elif node.op in _LOWER:
            _LOWER[node.op](self, node)
        else:
            self._activate(node, elementwise_activation(node, self.facts.constants))

    def finish(self) -> tuple[Program, list[Node]]:
        inside = {name for node in self.nodes for name in node.outputs}
        read = [name for name in self.facts.consumers
                if name in inside and any(reader not in self.nodes for reader in self.facts.consumers[name])]
        outputs, renaming = {}, []
        for name in dict.fromkeys([*read, *(name for name in self.facts.outputs if name in inside)]):
            id = self._value(name)
            if id not in self.inputs.values():
                outputs[name] = id
            elif self.values[id][0] == "f32":  # every output must be made by a step: this one copies
                outputs[name] = self._make(name)
                self._emit("ACTIVATE", [id], [outputs[name]], activations=[_c_activation(Activation("Identity"))])
            else:
                renaming += [node for node in self._chain(name) if node not in renaming]
        return Program(
            self.values, self.steps, list(self.inputs.values()), list(outputs.values()),
            [self._port(name, id) for name, id in self.inputs.items()],
            [self._port(name, id) for name, id in outputs.items()],
        ), renaming

    def _chain(self, name: str) -> list[Node]:
        """The nodes that rename an input, one after the other, until it is `name`."""
        nodes: list[Node] = []
        while name not in self.inputs:
            nodes.insert(0, self.facts.producers[name])
            name = nodes[0].inputs[0]
        return nodes

    def _port(self, name: str, id: int) -> Port:
        dtype, _, width, _ = self.values[id]
        image = tuple(size for role, size in zip(self.roles[name], self.facts.shape(name)) if role == WIDTH)
        return Port(name, PORT_DTYPES[dtype], self.roles[name], width, self.vocabularies.get(id),
                    image=image if len(image) > 1 else ())

    # ---- values ----

    def _value(self, name: str) -> int:
        """The native value of a name that a step reads; a name that nobody has made is an input of the program."""
        if name in self.embedded:
            table, ids = self.embedded.pop(name)
            self._emit("EMBEDDING", [self._ids_value(ids, table)], [self._make(name)], weights=[table])
        elif name not in self.ids:
            self.inputs[name] = self._make(name)
        return self.ids[name]

    def _optional(self, name: str) -> int:
        return self._value(name) if name else -1

    def _make(self, name: str) -> int:
        roles = self.roles[name]
        rows = _rows(roles)
        width = width_of(roles, self.facts.shape(name))
        self.values.append((DTYPES[self.facts.dtype(name)], rows, width, ACROSS.get(roles[-1], "") if roles else ""))
        self.ids[name] = len(self.values) - 1
        return self.ids[name]

    def _ids_value(self, name: str, table: np.ndarray) -> int:
        id = self._value(name)
        self.vocabularies[id] = min(len(table), self.vocabularies.get(id, len(table)))
        return id

    def _alias(self, node: Node) -> None:
        self.ids[node.outputs[0]] = self._value(node.inputs[0])

    # ---- steps ----

    def _emit(self, op: str, inputs: list[int], outputs: list[int], **fields: Any) -> None:
        self.steps.append({"op": op, "inputs": inputs, "outputs": outputs, **fields})

    def _emit_for(self, node: Node, op: str, *inputs: str, **fields: Any) -> None:
        self._emit(op, [self._value(name) for name in inputs], [self._make(node.outputs[0])], **fields)

    def _open_dense(self, name: str) -> dict[str, Any] | None:
        """The DENSE step that made `name`, if only one node reads that and no activation closes it yet."""
        id = self.ids.get(name)
        step = next((step for step in self.steps if id in step["outputs"]), None)
        if step is None or step["op"] != "DENSE" or "activations" in step or not self.facts.read_once(name):
            return None
        return step

    def _matmul(self, node: Node) -> None:
        if node.inputs[1] not in self.facts.constants:
            self._emit_for(node, "TIME_SUM", node.inputs[1], node.inputs[0])
            return
        self._emit_for(node, "DENSE", node.inputs[0], weights=[_float32(self.facts.constants[node.inputs[1]])])

    def _dynamic_product(self, node: Node) -> None:
        matrix, scale, zero = (self.facts.constants[name] for name in node.inputs[1:])
        self._emit_for(node, "DENSE", node.inputs[0], weights=[_bytes(np.ascontiguousarray(matrix.T), scale, zero)])

    def _gemm(self, node: Node) -> None:
        options, constants = attributes(node), self.facts.constants
        w = _float32(constants[node.inputs[1]])
        weights = [_float32(options["alpha"] * (w.T if options["transB"] else w))]
        if len(node.inputs) > 2 and node.inputs[2]:
            weights.append(row(options["beta"] * constants[node.inputs[2]], self.facts.shape(node.outputs[0])))
        self._emit_for(node, "DENSE", node.inputs[0], weights=weights)

    def _arithmetic(self, node: Node) -> None:
        a, b = node.inputs
        if not {a, b} & set(self.facts.constants):
            self._emit_for(node, node.op.upper(), *((b, a) if smaller_first(node, self.facts) else (a, b)))
        elif b in self.facts.constants:
            self._with_row(node, node.op, a, b)
        elif node.op != "Sub":
            self._with_row(node, node.op, b, a)
        else:  # row - x = -1 x + row, exactly
            minus = [np.full(self.facts.shape(b)[-1], -1, np.float32)]
            self._emit_for(node, "MUL", b, weights=minus)
            id = self.ids[node.outputs[0]]
            self._emit("ADD", [id], [self._make(node.outputs[0])], weights=[self._row(node, a)])

    def _with_row(self, node: Node, op: str, x: str, constant: str) -> None:
        dense = self._open_dense(x)
        if op == "Add" and dense is not None and len(dense["weights"]) == 1:
            dense["weights"].append(self._row(node, constant))
            self._alias_to(node, x)
        else:
            self._emit_for(node, op.upper(), x, weights=[self._row(node, constant)])

    def _row(self, node: Node, constant: str) -> np.ndarray:
        """The same for each place of an image."""
        shape, roles = self.facts.shape(node.outputs[0]), self.roles[node.outputs[0]]
        return np.tile(row(self.facts.constants[constant], shape), width_of(roles, shape) // shape[-1])

    def _alias_to(self, node: Node, name: str) -> None:
        self.ids[node.outputs[0]] = self._value(name)

    def _activate(self, node: Node, activation: Activation) -> None:
        dense = self._open_dense(node.inputs[0])
        if activation.function == "Identity":
            self._alias(node)
        elif dense is not None:
            dense["activations"] = [_c_activation(activation)]
            self._alias(node)
        else:
            self._emit_for(node, "ACTIVATE", node.inputs[0], activations=[_c_activation(activation)])

    def _power(self, node: Node) -> None:
        self._emit_for(node, "MUL", node.inputs[0], node.inputs[0])

    def _hard_swish(self, node: Node) -> None:
        self._emit_for(node, "ACTIVATE", node.inputs[0], activations=[("HARD_SIGMOID", 1 / 6, 0.5)])
        factors = [self._value(node.inputs[0]), self.ids[node.outputs[0]]]
        self._emit("MUL", factors, [self._make(node.outputs[0])])

    def _layer_normalization(self, node: Node) -> None:
        weights = [self._row(node, name) for name in node.inputs[1:] if name]
        self._emit_for(node, "LAYER_NORM", node.inputs[0], weights=weights, epsilon=attributes(node)["epsilon"])

    def _batch_normalization(self, node: Node) -> None:
        scale, shift, mean, variance = (self.facts.constants[name].astype(np.float64) for name in node.inputs[1:])
        scale = scale / np.sqrt(variance + attributes(node)["epsilon"])
        self._emit_for(node, "MUL", node.inputs[0], weights=[_float32(scale)])
        id = self.ids[node.outputs[0]]
        self._emit("ADD", [id], [self._make(node.outputs[0])], weights=[_float32(shift - mean * scale)])

    def _split(self, node: Node) -> None:
        first, x = 0, self._value(node.inputs[0])
        for name in node.outputs:
            self._emit("COLUMNS", [x], [self._make(name)], constant=first)
            first += self.facts.shape(name)[-1]

    def _softmax(self, node: Node) -> None:
        roles = self.roles[node.inputs[0]]
        over_time = roles[normal_axis(attributes(node)["axis"], len(roles))] == TIME
        op = "SOFTMAX" if node.op == "Softmax" else "LOG_SOFTMAX"
        self._emit_for(node, "TIME_SOFTMAX" if over_time else op, node.inputs[0])

    def _over_time(self, node: Node) -> None:
        (axis,) = self.facts.ints(node.inputs[1])
        self._emit_over(node, axis, node.op.replace("Reduce", "TIME_").upper())

    def _emit_over(self, node: Node, axis: int, op: str) -> None:
        """A step over time, if that is what the axis is; of one of size 1 there is nothing to do."""
        roles = self.roles[node.inputs[0]]
        if roles[normal_axis(axis, len(roles))] == TIME:
            self._emit_for(node, op, node.inputs[0])
        else:
            self._alias(node)

    def _cast(self, node: Node) -> None:
        self._emit_for(node, "CAST", node.inputs[0])

    def _where(self, node: Node) -> None:
        mask, *choices = node.inputs
        self._emit_for(node, "CAST", mask)
        inputs, rows = [self.ids[node.outputs[0]]], []
        for name in choices:
            constant = self.facts.constants.get(name)
            inputs.append(self._value(name) if constant is None else -1)
            rows.append(None if constant is None else _float32(constant.reshape(1)))
        self._emit("WHERE", inputs, [self._make(node.outputs[0])], weights=rows)

    def _concat(self, node: Node) -> None:
        self._emit_for(node, "CONCAT", *node.inputs)

    def _gather(self, node: Node) -> None:
        data, indices = node.inputs
        if data in self.facts.constants:
            self.embedded[node.outputs[0]] = _float32(self.facts.constants[data]), indices
        else:
            self._emit_over(node, attributes(node)["axis"], "FIRST" if self.facts.ints(indices) == [0] else "LAST")

    def _slice(self, node: Node) -> None:
        columns = column_slice(node, self.facts)
        if columns:
            self._emit_for(node, "COLUMNS", node.inputs[0], constant=columns[0])
        else:
            (axis,) = self.facts.ints(named_inputs(node)["axes"])
            self._emit_over(node, axis, "REVERSE")

    def _equal(self, node: Node) -> None:
        self.compared[node.outputs[0]] = node.inputs[0], self.facts.ints(node.inputs[1])[0]

    def _not(self, node: Node) -> None:
        ids, constant = self.compared[node.inputs[0]]
        self._emit_for(node, "NOT_EQUAL", ids, constant=constant)

    def _move(self, node: Node) -> None:
        before, after = (_rows(self.roles[name]) for name in (node.inputs[0], node.outputs[0]))
        if before == after:
            self._alias(node)
        else:
            self._emit_for(node, "SWAP", node.inputs[0])

    def _attention(self, node: Node) -> None:
        given, made, options = named_inputs(node), named_outputs(node), attributes(node)
        column = given["column"]
        self._emit("ATTENTION", [self._optional(given[name]) for name in ("Q", "K", "V", "query_mask", "key_mask")],
                   [self._make(name) if name and self.facts.used(name) else -1 for name in made.values()],
                   weights=[_float32(self.facts.constants[column])] if column else [], constant=options["heads"],
                   scale=options["scale"], hidden=options["hidden"], causal=bool(options["causal"]))

    # ---- recurrent steps ----

    def _recurrent(self, node: Node) -> None:
        given, made, options = named_inputs(node), named_outputs(node), attributes(node)
        w, r, b, p, *quantization = (one_direction(self.facts, given.get(name, "")) for name in WEIGHTS)
        table = self._table(node, w, b)
        if table is not None:
            x = self._ids_value(self.embedded[given["X"]][1], table)
            b = b if w is not None or options.get("linear_before_reset") else None
        else:
            x = self._value(given["X"])
        if is_dynamic(node):
            w, r = _bytes(w, *quantization[:2]), _bytes(r, *quantization[2:])
        elif w is None and table is None:
            w = np.eye(len(r), dtype=np.float32)  # X is the input part already
        states = [self._optional(given.get(name, "")) for name in ("initial_h", "initial_c")]
        self._emit(
            node.op,
            [x, self._optional(given["sequence_lens"]), *states, self._optional(given.get("mask", ""))],
            [self._make(name) if name and self.facts.used(name) else -1 for name in made.values()],
            **recurrent_fields(node, [w, r, b, p, table]),
        )
        if table is not None and self.facts.read_once(given["X"]):
            del self.embedded[given["X"]]

    def _conv_lstm(self, node: Node) -> None:
        given, made, options = named_inputs(node), named_outputs(node), attributes(node)
        w, r, b = (_float32(self.facts.constants[given[name]]) if given[name] else None for name in "WRB")
        self._emit(
            "CONV_LSTM",
            [self._value(given["X"]), -1, *(self._optional(given[name]) for name in ("initial_h", "initial_c", "mask"))],
            [self._make(name) if name and self.facts.used(name) else -1 for name in made.values()],
            weights=[w.reshape(len(w), -1), r.reshape(len(r), -1), b],
            activations=[_c_activation(activation) for activation in recurrent_activations(node)[0]],
            reverse=options["direction"] == "reverse", zero_masked_output=options["masked_output"] == "zero",
            windows=_windows(self.facts.shape(given["X"])[2:-1], w.shape[1:-1], options))

    def _table(self, node: Node, w: np.ndarray | None, b: np.ndarray | None) -> np.ndarray | None:
        """What ids look up as X: embeddings that the core multiplies with W ahead or, without W, input parts."""
        x = named_inputs(node)["X"]
        if x not in self.embedded or is_dynamic(node):
            return None
        table, _ = self.embedded[x]
        if w is None:
            return table if _table_has_biases(node, b) else None
        return table if is_multiplied_ahead(node, self.facts) else None


def _windows(sizes: tuple[int, ...], kernel: tuple[int, ...], options: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Those of csrc/lstmrt.h, of the attributes of a Conv: always three axes, those in front of size 1."""
    where = {name: options[name] for name in ("auto_pad", "dilations", "pads", "strides")}
    strides, dilations = (where[name] or (1,) * len(sizes) for name in ("strides", "dilations"))
    axes = [(1, 1, 1, 1, 1, 0)] * (3 - len(sizes))
    axes += zip(sizes, windowed(sizes, kernel, where), kernel, strides, dilations,
                [before for before, _ in window_pads(sizes, kernel, **where)])
    return dict(zip(("sizes", "counts", "kernel", "strides", "dilations", "before"), zip(*axes)))


def recurrent_fields(node: Node, weights: list) -> dict[str, Any]:
    """The fields of a recurrent step, but for its values."""
    options = attributes(node)
    return {
        "weights": weights,
        "activations": [_c_activation(activation) for activation in recurrent_activations(node)[0]],
        "clip": options["clip"] or 0.0,
        "reverse": options["direction"] == "reverse",
        "linear_before_reset": bool(options.get("linear_before_reset")),
        "input_forget": bool(options.get("input_forget")),
        "zero_masked_output": options.get("masked_output") == "zero",
    }


def one_direction(facts: Facts, name: str) -> np.ndarray | None:
    """The only direction of a weight, None where it is left out."""
    if not name:
        return None
    part = facts.constants[name][0]
    return np.ascontiguousarray(part) if part.dtype == np.int8 else _float32(part)


def _bytes(matrix: np.ndarray, scale: np.ndarray, zero: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """A weight that the core multiplies as it is: bytes, a scale for each row, the zero point."""
    return matrix, np.ascontiguousarray(np.broadcast_to(scale, len(matrix))), int(zero.item())


def is_multiplied_ahead(node: Node, facts: Facts) -> bool:
    """Whether X of a recurrent node is rows of a table that are read as X of recurrent nodes alone, so that each can be
    multiplied with W (directions, gates * hidden, inputs) once, and the products are not too large to be kept."""
    given = named_inputs(node)
    x, gather = given["X"], facts.producers.get(given["X"])
    if gather is None or gather.op != "Gather" or gather.domain or gather.inputs[0] not in facts.constants:
        return False
    if x in facts.outputs or not all(_reads_rows(reader, x) for reader in facts.consumers[x]):
        return False
    table, w = facts.constants[gather.inputs[0]], facts.constants.get(given["W"])
    return w is not None and 4 * len(table) * w.shape[1] <= LARGEST_TABLE


def _reads_rows(reader: Node, x: str) -> bool:
    return is_recurrent(reader) and not is_dynamic(reader) and reader.inputs[0] == x and reader.inputs.count(x) == 1


def _table_has_biases(node: Node, b: np.ndarray | None) -> bool:
    """Whether B holds nothing but what a step with a table still reads: Rb of a GRU's gate h, under the reset gate."""
    if b is None:
        return True
    rest = b.copy()
    if attributes(node).get("linear_before_reset"):
        rest[len(b) // 2:][gate_rows(ONNX["GRU"], "h", attributes(node)["hidden_size"])] = 0
    return not rest.any()


def _rows(roles: Roles) -> str:
    """The core's name for what rows run over."""
    rows = tuple(role for role in roles if role in (BATCH, TIME, SOURCE))
    return ROWS[rows] if rows in ROWS else ROWS_OF_ONE[rows]


def _float32(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array, np.float32)


def _c_activation(activation: Activation) -> tuple[str, float, float]:
    return activation.c_name, activation.alpha, activation.beta


_LOWER: Mapping[str, Callable[[_Lowering, Node], None]] = {
    "MatMul": _Lowering._matmul, "Gemm": _Lowering._gemm, "Add": _Lowering._arithmetic, "Sub": _Lowering._arithmetic,
    "Mul": _Lowering._arithmetic, "Div": _Lowering._arithmetic, "Softmax": _Lowering._softmax,
    "LogSoftmax": _Lowering._softmax,
    "Pow": _Lowering._power, "HardSwish": _Lowering._hard_swish,
    "LayerNormalization": _Lowering._layer_normalization, "BatchNormalization": _Lowering._batch_normalization,
    "Split": _Lowering._split, "Concat": _Lowering._concat, "Gather": _Lowering._gather, "Slice": _Lowering._slice,
    "Equal": _Lowering._equal, "Not": _Lowering._not, "Transpose": _Lowering._move, "Squeeze": _Lowering._move,
    "Unsqueeze": _Lowering._move, "Reshape": _Lowering._move, "ReduceSum": _Lowering._over_time,
    "ReduceMean": _Lowering._over_time, "ReduceMax": _Lowering._over_time, "Cast": _Lowering._cast,
    "Where": _Lowering._where,
}
