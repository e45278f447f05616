"""Native programs of values with all sizes known: convolutions, recurrent layers, and what stands around them.

A value is one row of a matrix, all of its elements side by side; a row for each element of the batch where that alone
is free. What only moves elements computes nothing: a `Flat` says where in which native values a graph's value has its
elements, and transposes, slices, pads, concatenations and scattered updates are such lists made of others. Steps read
what they need of them with a GATHER; a convolution is a GATHER of its windows and a product.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..activations import Activation, elementwise_activation
from ..gates import ONNX
from ..graph import Node
from ..operators import attributes, find, is_recurrent
from ..reference import run_node
from ..shapes import normal_axis
from .estimates import PROGRAM, recurrent
from .flat_layers import FlatLayers
from .flat_values import FLOATS, IDS, Flat, broadcast
from .flat_windows import NOWHERE, Misfit
from .native import PORT_DTYPES, Port, Program
from .roles import BATCH, TIME

FIXED = "fixed"  # the role of an axis whose size is known
_FAR = 1 << 30  # between the places of two rows

_MOVES = frozenset(("Concat", "Expand", "Flatten", "Gather", "GatherElements", "GatherND", "Identity", "Pad", "Reshape",
                    "ScatterElements", "ScatterND", "Slice", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"))


class FlatRegion(FlatLayers):
    """A growing set of nodes that one such program can hold, in execution order."""

    is_flat = True

    def take(self, node: Node) -> bool:
        """Adds `node` if it can run so, and its free size is the region's."""
        before = {name: copy.copy(value) for name, value in vars(self).items() if name.startswith("_")}
        try:
            self._lower(node)
        except Misfit:
            vars(self).update(before)
            return False
        self.nodes.append(node)
        return True

    def settle(self) -> list[Node]:
        """Nodes that do not work out after all: those of what others read of another dtype, as each mask is floats here, and
        each integer one of 64 bits."""
        return [node for node in self.nodes if any(
            self.facts.dtype(name) in ("bool", "int32") and self._leaves(name) for name in node.outputs)]

    def _leaves(self, name: str) -> bool:
        return name in self.facts.outputs or any(
            all(reader is not node for node in self.nodes) for reader in self.facts.consumers.get(name, ()))

    def lower(self) -> tuple[Program, list[Node]]:
        """As native.lower."""
        inside = dict.fromkeys(name for node in self.nodes for name in node.outputs if name)
        names = [name for name in inside if self._leaves(name)]
        ids: list[int] = []
        for name in names:
            id = self._whole(self._flats[name])
            ids.append(self._gather(self._flats[name]) if id in self._inputs.values() or id in ids else id)
        whole = "one" if self._batch is None else "batch"
        values = [(dtype, rows or whole, width, "") for width, (dtype, rows) in zip(self._widths, self._kinds)]
        return Program(values, _read_steps(self._steps, ids), list(self._inputs.values()), ids,
                       [self._port(name, id) for name, id in self._inputs.items()],
                       [self._port(name, id) for name, id in zip(names, ids)],
                       {BATCH: self._sizes[0] or 1, TIME: self._sizes[1] or 1}), []

    def microseconds(self) -> float:
        """About what this program takes for a row, as measured on one core: see estimates.py."""
        ours = PROGRAM + 0.1 * len(self._steps) + sum(recurrent(node, self.facts) for node in self.nodes if is_recurrent(node))
        for step in self._steps:
            width = self._widths[step["outputs"][0]]
            if step["op"] in ONNX:
                continue
            if step["op"] == "MATMUL":
                ours += width * step["constant"] / 30e3
            elif step["op"] in ("SOFTMAX", "LOG_SOFTMAX"):
                ours += 0.0015 * width
            elif step["op"] == "TOPK":
                ours += 0.001 * self._widths[step["inputs"][0]]
            elif step["op"] == "GATHER":
                runs = 1 + np.count_nonzero(np.diff(step["indices"], 2)) / 2
                ours += 0.0003 * width + 0.002 * runs
            else:
                ours += width * len(step["weights"][0]) / 55e3 if step["op"] == "CONV" else 0.0004 * width
        return ours

    def _port(self, name: str, id: int) -> Port:
        sizes = tuple(size if isinstance(size, int) else None for size in self.facts.shape(name))
        roles = tuple(BATCH if size is None else FIXED for size in sizes)
        return Port(name, PORT_DTYPES[self._kinds[id][0]], roles, self._widths[id], self._vocabularies.get(id), sizes)

    # ---- nodes ----

    def _lower(self, node: Node) -> None:
        if is_recurrent(node):
            self._recurrent(node)
            return
        if find(node) is None or node.domain:
            raise Misfit
        activation = elementwise_activation(node, self.facts.constants)
        if node.op == "Gather" and node.inputs[0] in self.facts.constants:
            self._embedding(node)
        elif node.op in _MOVES:
            self._move(node)
        elif activation is not None:
            self._activate(node, activation)
        elif node.op in _LOWER:
            _LOWER[node.op](self, node)
        else:
            raise Misfit

    def _move(self, node: Node) -> None:
        """Runs the node on places instead of numbers; with a free batch on those of two rows and of three, which must not mix."""
        if attributes(node).get("reduction", "none") != "none":
            raise Misfit
        fixed = [name for name in node.inputs if name in self.facts.constants]
        moved = {"Concat": node.inputs, "ScatterND": node.inputs[::2], "ScatterElements": node.inputs[::2]}.get(
            node.op, node.inputs[:1])
        if not set(moved).isdisjoint(fixed):
            raise Misfit
        flats = {name: self._flat(name, FLOATS + IDS) for name in node.reads if name not in fixed}
        if flats.keys() != set(moved):
            raise Misfit
        for name in filter(None, node.outputs):
            self._shape(name)  # before anything is made of it
        sources = tuple(dict.fromkeys(id for flat in flats.values() for id in flat.sources))
        if sum(self._widths[id] for id in sources) >= _FAR:
            raise Misfit
        starts = dict(zip(sources, np.cumsum([0] + [self._widths[id] for id in sources]).tolist()))
        places = {name: self._places(flat, starts) for name, flat in flats.items()}
        for rows in (1,) if self._batch is None else (2, 3):  # what is so of two sizes is so of all
            made = self._moved(node, {name: _rows(index, rows) for name, index in places.items()})
            for name, index in zip(node.outputs, made):
                if name:
                    self._keep(name, Flat(sources, _one_row(index, rows)))

    def _moved(self, node: Node, places: Mapping[str, np.ndarray]) -> tuple[np.ndarray, ...]:
        given = [places[name] if name in places else self.facts.constants[name] if name else None for name in node.inputs]
        if node.op == "Pad":
            given = self._with_padding(node, given)
        try:
            return run_node(node, given)
        except (ValueError, IndexError):
            raise Misfit from None

    def _places(self, flat: Flat, starts: Mapping[int, int]) -> np.ndarray:
        moved = [np.arange(starts[id], starts[id] + self._widths[id]) for id in flat.sources]
        return np.concatenate([*moved, [NOWHERE]])[flat.index]  # NOWHERE is -1, the last one's place too

    def _with_padding(self, node: Node, given: list) -> list:
        given = (given + [None] * 4)[:4]
        if given[2] is not None and given[2].size and given[2].item() != 0:
            raise Misfit
        return [given[0], given[1], np.array(NOWHERE), given[3]]

    def _activate(self, node: Node, activation: Activation) -> None:
        x = self._flat(node.inputs[0])
        convs = self._open_convs(node, x)
        c_activation = (activation.c_name, activation.alpha, activation.beta)
        if activation.function == "Identity":
            self._finish(node, x)
        elif convs and x.index.min() >= 0:
            for place in convs.values():
                self._steps[place] = {**self._steps[place], "activations": [c_activation]}
            self._finish(node, x)
        else:
            self._finish(node, self._map(x, "ACTIVATE", activations=[c_activation]))

    def _arithmetic(self, node: Node) -> None:
        a, b = node.inputs
        shape = self._shape(node.outputs[0])
        if a in self.facts.constants:
            if node.op == "Div":
                raise Misfit
            x, op = self._flat(b), node.op
            if op == "Sub":  # row - x = -1 x + row, exactly
                x, op = self._with_row(node, x, "Mul", np.array(-1.0)), "Add"
            self._finish(node, self._with_row(node, self._spread(x, shape), op, self._constant(a)))
        elif b in self.facts.constants:
            self._finish(node, self._with_row(node, self._spread(self._flat(a), shape), node.op, self._constant(b)))
        else:
            self._finish(node, self._pair(node.op.upper(), *(self._spread(self._flat(name), shape) for name in (a, b))))

    def _power(self, node: Node) -> None:
        exponent = self._constant(node.inputs[1])
        if exponent.size != 1 or exponent.item() not in (2, 0.5):
            raise Misfit
        x = self._compact(self._flat(node.inputs[0]))
        if exponent.item() == 2:
            self._finish(node, self._pair("MUL", x, x))
        else:
            self._finish(node, self._map(x, "ACTIVATE", activations=[("SQRT", 0.0, 0.0)]))

    def _prelu(self, node: Node) -> None:
        slope = self._constant(node.inputs[1])
        if slope.size == 1:
            self._activate(node, Activation("LeakyRelu", float(slope.reshape(()))))
            return
        x, relu = self._compact(self._flat(node.inputs[0])), [("RELU", 0.0, 0.0)]
        positive = self._map(x, "ACTIVATE", activations=relu)  # max(x, 0) - slope max(-x, 0), exactly
        negative = self._map(self._with_row(node, x, "Mul", np.array(-1.0)), "ACTIVATE", activations=relu)
        self._finish(node, self._pair("SUB", positive, self._with_row(node, negative, "Mul", slope)))

    def _batch_normalization(self, node: Node) -> None:
        x = self._flat(node.inputs[0])
        scale, shift, mean, variance = (self._constant(name).astype(np.float64).reshape(
            -1, *(1,) * (x.index.ndim - 2)) for name in node.inputs[1:])
        scale = scale / np.sqrt(variance + attributes(node)["epsilon"])
        self._finish(node, self._with_row(node, self._with_row(node, x, "Mul", scale), "Add", shift - mean * scale))

    def _layer_normalization(self, node: Node) -> None:
        x, options = self._flat(node.inputs[0]), attributes(node)
        shape = x.index.shape[normal_axis(options["axis"], x.index.ndim):]
        if any(map(self.facts.used, filter(None, node.outputs[1:]))) or (self._batch and len(shape) == x.index.ndim):
            raise Misfit
        rows = [np.ascontiguousarray(broadcast(self._constant(name), shape).ravel(), np.float32)
                for name in node.inputs[1:] if name]
        id = self._emit("LAYER_NORM", [self._whole(x)], x.index.size, weights=rows, epsilon=options["epsilon"])
        self._finish(node, self._plain(id, x.index.shape))

    def _instance_normalization(self, node: Node) -> None:
        x = self._flat(node.inputs[0])
        scale, shift = (self._constant(name).reshape(-1, *(1,) * (x.index.ndim - 2)) for name in node.inputs[1:])
        ones = np.ones(math.prod(x.index.shape[2:]), np.float32)
        id = self._emit("LAYER_NORM", [self._whole(x)], x.index.size, weights=[ones], epsilon=attributes(node)["epsilon"])
        normal = self._with_row(node, self._plain(id, x.index.shape), "Mul", scale)
        self._finish(node, self._with_row(node, normal, "Add", shift))

    def _hard_swish(self, node: Node) -> None:
        x = self._compact(self._flat(node.inputs[0]))
        self._finish(node, self._pair("MUL", x, self._map(x, "ACTIVATE", activations=[("HARD_SIGMOID", 1 / 6, 0.5)])))


_LOWER: Mapping[str, Callable[[FlatRegion, Node], None]] = {
    "Add": FlatRegion._arithmetic, "Sub": FlatRegion._arithmetic, "Mul": FlatRegion._arithmetic,
    "Div": FlatRegion._arithmetic, "Pow": FlatRegion._power, "PRelu": FlatRegion._prelu,
    "BatchNormalization": FlatRegion._batch_normalization, "LayerNormalization": FlatRegion._layer_normalization,
    "MatMul": FlatRegion._matmul, "Gemm": FlatRegion._gemm, "ReduceMean": FlatRegion._reduce,
    "ReduceSum": FlatRegion._reduce, "ReduceMax": FlatRegion._reduce, "MaxPool": FlatRegion._pool,
    "AveragePool": FlatRegion._pool, "GlobalMaxPool": FlatRegion._global_pool,
    "GlobalAveragePool": FlatRegion._global_pool, "InstanceNormalization": FlatRegion._instance_normalization,
    "HardSwish": FlatRegion._hard_swish, "Conv": FlatRegion._conv, "ConvTranspose": FlatRegion._conv_transpose,
    "Cast": FlatRegion._cast, "Softmax": FlatRegion._softmax, "LogSoftmax": FlatRegion._softmax, "Where": FlatRegion._where,
    "TopK": FlatRegion._top_k, "ArgMax": FlatRegion._arg_max, "Less": FlatRegion._less, "Greater": FlatRegion._less,
    "Equal": FlatRegion._equal, "Not": FlatRegion._not, "And": FlatRegion._logic, "Or": FlatRegion._logic,
    "Einsum": FlatRegion._einsum, "Trilu": FlatRegion._triangle,
}


def _rows(places: np.ndarray, rows: int) -> np.ndarray:
    """`places` of one row as those of several."""
    return places if rows == 1 else np.concatenate([np.where(places < 0, NOWHERE, places + row * _FAR) for row in range(rows)])


def _one_row(places: np.ndarray, rows: int) -> np.ndarray:
    """The reverse, where no row has anything of another one."""
    places = np.asarray(places)
    if rows > 1:
        if places.ndim == 0 or len(places) != rows or (places[0] >= _FAR).any() or (places != _rows(places[:1], rows)).any():
            raise Misfit
        places = places[:1]
    return places.astype(np.int32)


def _read_steps(steps: list[dict[str, Any]], outputs: list[int]) -> list[dict[str, Any]]:
    """Those of `steps` that something is made of, recurrent ones as early as can be: two directions run at once side by side."""
    read, kept = set(outputs), []
    for step in reversed(steps):
        if not read.isdisjoint(step["outputs"]):
            read.update(step["inputs"])
            optional = step["op"] in ONNX
            kept.insert(0, {**step, "outputs": [id if id in read or not optional else -1 for id in step["outputs"]]})
    ordered: list[dict[str, Any]] = []
    for step in kept:
        place = len(ordered)
        while step["op"] in ONNX and place > 0 and set(ordered[place - 1]["outputs"]).isdisjoint(step["inputs"]):
            place -= 1
        ordered.insert(place, step)
    return ordered
