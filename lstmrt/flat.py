"""Native programs of values with all sizes known: convolutions, and what stands around them.

A value is one row of a matrix, all of its elements side by side; a row for each element of the batch where that alone
is free. What only moves elements computes nothing: a `Flat` says where in which native values a graph's value has its
elements, and transposes, slices, pads, concatenations and scattered updates are such lists made of others. Steps read
what they need of them with a GATHER; a convolution is a GATHER of its windows and a product.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Callable, Iterable, Mapping

import numpy as np

from .activations import Activation, elementwise_activation
from .flat_windows import LARGEST, MOST_ELEMENTS, NOWHERE, Misfit, seen_windows, transposed_windows
from .graph import Node
from .native import Port, Program
from .operators import attributes, find
from .reference import run_node
from .roles import BATCH, Facts
from .shapes import DTYPES, normal_axis

FIXED = "fixed"  # the role of an axis whose size is known
PAD = 16  # filters of a CONV are a multiple of this many
MOST_INPUTS = 8  # of a step
_FAR = 1 << 30  # between the places of two rows

_MOVES = frozenset(("Concat", "Expand", "Flatten", "Gather", "GatherElements", "GatherND", "Identity", "Pad", "Reshape",
                    "ScatterElements", "ScatterND", "Slice", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"))


@dataclass(frozen=True)
class Flat:
    """Where a graph's value is: `index`, of its shape (a free batch counts as 1), in the rows of the native values
    `sources` put side by side."""

    sources: tuple[int, ...]
    index: np.ndarray


class FlatRegion:
    """A growing set of nodes that one such program can hold, in execution order."""

    is_flat = True

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.nodes: list[Node] = []
        self._batch: str | None = None  # the name of the free size
        self._widths: list[int] = []  # of native values
        self._steps: list[dict[str, Any]] = []
        self._inputs: dict[str, int] = {}
        self._flats: dict[str, Flat] = {}

    def take(self, node: Node) -> bool:
        """Adds `node` if it can run so, and its free size is the region's."""
        before = self._batch, list(self._widths), list(self._steps), dict(self._inputs), dict(self._flats)
        try:
            self._lower(node)
        except Misfit:
            self._batch, self._widths, self._steps, self._inputs, self._flats = before
            return False
        self.nodes.append(node)
        return True

    def settle(self) -> list[Node]:
        """Nodes that do not work out after all: none, as each was tried."""
        return []

    def lower(self) -> tuple[Program, list[Node]]:
        """As native.lower."""
        inside = {name for node in self.nodes for name in node.outputs}
        read = [name for name in self.facts.consumers
                if name in inside and any(reader not in self.nodes for reader in self.facts.consumers[name])]
        names = list(dict.fromkeys([*read, *sorted(self.facts.outputs & inside)]))
        ids: list[int] = []
        for name in names:
            id = self._whole(self._flats[name])
            ids.append(self._gather(self._flats[name]) if id in self._inputs.values() or id in ids else id)
        values = [("f32", "batch", width, "") for width in self._widths]
        return Program(values, self._steps, list(self._inputs.values()), ids,
                       [self._port(name, id) for name, id in self._inputs.items()],
                       [self._port(name, id) for name, id in zip(names, ids)]), []

    def microseconds(self) -> float:
        """About what this program takes for a row, as measured on one core: see estimates.py."""
        ours = 3.5 + 0.1 * len(self._steps)
        for step in self._steps:
            width = self._widths[step["outputs"][0]]
            if step["op"] == "GATHER":
                runs = 1 + np.count_nonzero(np.diff(step["indices"], 2)) / 2
                ours += 0.0003 * width + 0.002 * runs
            else:
                ours += width * len(step["weights"][0]) / 55e3 if step["op"] == "CONV" else 0.0004 * width
        return ours

    def _port(self, name: str, id: int) -> Port:
        sizes = tuple(size if isinstance(size, int) else None for size in self.facts.shape(name))
        roles = tuple(BATCH if size is None else FIXED for size in sizes)
        return Port(name, "float32", roles, self._widths[id], sizes=sizes)

    # ---- values ----

    def _shape(self, name: str) -> tuple[int, ...]:
        """With 1 for a free batch, whose name is the region's from its first value on."""
        shape = self.facts.shape(name)
        if shape is None or None in shape or self.facts.dtype(name) != "float32":
            raise Misfit
        free = shape[0] if shape and isinstance(shape[0], str) else None
        fixed = shape if free is None else shape[1:]
        if not all(isinstance(size, int) for size in fixed) or 0 in fixed:
            raise Misfit
        if not self._widths:
            self._batch = free
        if self._batch != free or math.prod(fixed) > MOST_ELEMENTS:
            raise Misfit
        return fixed if free is None else (1, *fixed)

    def _flat(self, name: str) -> Flat:
        """A value that somebody reads; one that nobody has made is an input."""
        if name not in self._flats:
            if name in self.facts.constants:
                raise Misfit
            shape = self._shape(name)
            self._inputs[name] = self._value(math.prod(shape))
            self._flats[name] = self._plain(self._inputs[name], shape)
        return self._flats[name]

    def _plain(self, id: int, shape: Iterable[int]) -> Flat:
        return Flat((id,), np.arange(self._widths[id], dtype=np.int32).reshape(tuple(shape)))

    def _value(self, width: int) -> int:
        self._widths.append(width)
        return len(self._widths) - 1

    def _constant(self, name: str) -> np.ndarray:
        if name not in self.facts.constants:
            raise Misfit
        return self.facts.constants[name]

    def _emit(self, op: str, inputs: list[int], width: int, **fields: Any) -> int:
        id = self._value(width)
        self._steps.append({"op": op, "inputs": inputs, "outputs": [id], **fields})
        return id

    def _keep(self, name: str, flat: Flat) -> None:
        if flat.index.shape != self._shape(name):
            raise Misfit
        self._flats[name] = flat

    def _finish(self, node: Node, flat: Flat) -> None:
        self._keep(node.outputs[0], flat)

    # ---- elements to where they are needed ----

    def _gather(self, flat: Flat) -> int:
        """A native value with the elements of `flat`, in order."""
        sources, index = self._used(flat)
        while len(sources) > MOST_INPUTS:
            some = sources[:MOST_INPUTS]
            width = sum(self._widths[id] for id in some)
            whole = self._emit("GATHER", list(some), width, indices=np.arange(width, dtype=np.int32))
            sources = (whole, *sources[MOST_INPUTS:])
        return self._emit("GATHER", list(sources), index.size, indices=np.ascontiguousarray(index.ravel(), np.int32))

    def _used(self, flat: Flat) -> tuple[tuple[int, ...], np.ndarray]:
        """Sources and index without the sources that nothing comes from."""
        ends = np.cumsum([self._widths[id] for id in flat.sources])
        starts = ends - [self._widths[id] for id in flat.sources]
        kept = [i for i in range(len(ends)) if ((starts[i] <= flat.index) & (flat.index < ends[i])).any()]
        if len(kept) == len(ends):
            return flat.sources, flat.index
        index, start = np.full_like(flat.index, NOWHERE), 0
        for i in kept:
            inside = (starts[i] <= flat.index) & (flat.index < ends[i])
            index[inside] = flat.index[inside] - starts[i] + start
            start += self._widths[flat.sources[i]]
        return tuple(flat.sources[i] for i in kept) or flat.sources[:1], index

    def _whole(self, flat: Flat) -> int:
        """A native value that is `flat` and nothing else: its own, where it is one."""
        if len(flat.sources) == 1 and flat.index.size == self._widths[flat.sources[0]] and (
                flat.index.ravel() == np.arange(flat.index.size)).all():
            return flat.sources[0]
        return self._gather(flat)

    def _is_compact(self, flat: Flat) -> bool:
        """Whether it is elements of one native value, each at a place of its own, and few places are left over."""
        sources, index = self._used(flat)
        return len(sources) == 1 and self._widths[sources[0]] <= 2 * index.size and index.min() >= 0 and (
            np.bincount(index.ravel()).max() == 1)

    def _compact(self, flat: Flat) -> Flat:
        if self._is_compact(flat):
            return Flat(*self._used(flat))
        order = np.argsort(flat.index, axis=None, kind="stable")  # as they lie there, in long runs
        id = self._gather(Flat(flat.sources, flat.index.ravel()[order]))
        index = np.empty(flat.index.size, np.int32)
        index[order] = np.arange(flat.index.size)
        return Flat((id,), index.reshape(flat.index.shape))

    def _laid_as(self, flat: Flat, other: Flat) -> int:
        """A native value with the elements of `flat` in the places of those of `other`, which is compact."""
        (base,) = other.sources
        if flat.sources == other.sources and (flat.index == other.index).all():
            return base
        index = np.full(self._widths[base], NOWHERE, np.int32)
        index[other.index.ravel()] = flat.index.ravel()
        return self._whole(Flat(flat.sources, index))

    def _row(self, values: np.ndarray, flat: Flat, neutral: float) -> np.ndarray:
        """A row for a step whose input is the native value of `flat`, which is compact."""
        row = np.full(self._widths[flat.sources[0]], neutral, np.float32)
        row[flat.index.ravel()] = np.broadcast_to(values, flat.index.shape).ravel()
        return row

    # ---- nodes ----

    def _lower(self, node: Node) -> None:
        if find(node) is None or node.domain:
            raise Misfit
        activation = elementwise_activation(node, self.facts.constants)
        if node.op in _MOVES:
            self._move(node)
        elif activation is not None:
            self._activate(node, activation)
        elif node.op in _LOWER:
            _LOWER[node.op](self, node)
        else:
            raise Misfit

    def _move(self, node: Node) -> None:
        """Runs the node on places instead of numbers; with a free batch on those of two rows, which must not mix."""
        if attributes(node).get("reduction", "none") != "none":
            raise Misfit
        fixed = [name for name in node.inputs if name in self.facts.constants]
        moved = {"Concat": node.inputs, "ScatterND": node.inputs[::2], "ScatterElements": node.inputs[::2]}.get(
            node.op, node.inputs[:1])
        if not set(moved).isdisjoint(fixed):
            raise Misfit
        flats = {name: self._flat(name) for name in node.reads if name not in fixed}
        if flats.keys() != set(moved):
            raise Misfit
        for name in filter(None, node.outputs):
            self._shape(name)  # before anything is made of it
        sources = tuple(dict.fromkeys(id for flat in flats.values() for id in flat.sources))
        if sum(self._widths[id] for id in sources) >= _FAR:
            raise Misfit
        starts = dict(zip(sources, np.cumsum([0] + [self._widths[id] for id in sources]).tolist()))
        given = [self._places(flats[name], starts) if name in flats else self.facts.constants[name] if name else None
                 for name in node.inputs]
        if node.op == "Pad":
            given = self._with_padding(node, given)
        try:
            made = run_node(node, given)
        except (ValueError, IndexError):
            raise Misfit from None
        for name, index in zip(node.outputs, made):
            if name:
                self._keep(name, Flat(sources, self._one_row(index)))

    def _places(self, flat: Flat, starts: Mapping[int, int]) -> np.ndarray:
        places, end = np.full(flat.index.shape, NOWHERE, np.int64), 0
        for id in flat.sources:
            start, end = end, end + self._widths[id]
            inside = (start <= flat.index) & (flat.index < end)
            places[inside] = flat.index[inside] - start + starts[id]
        if self._batch is None:
            return places
        return np.concatenate([places, np.where(places < 0, NOWHERE, places + _FAR)])

    def _one_row(self, index: np.ndarray) -> np.ndarray:
        index = np.asarray(index)
        if self._batch is not None:
            if index.ndim == 0 or len(index) != 2 or (index[0] >= _FAR).any():
                raise Misfit
            if not (index[1] == np.where(index[0] < 0, NOWHERE, index[0] + _FAR)).all():
                raise Misfit
            index = index[:1]
        return index.astype(np.int32)

    def _with_padding(self, node: Node, given: list) -> list:
        given = (given + [None] * 4)[:4]
        if given[2] is not None and given[2].size and given[2].item() != 0:
            raise Misfit
        return [given[0], given[1], np.array(NOWHERE), given[3]]

    def _activate(self, node: Node, activation: Activation) -> None:
        x = self._flat(node.inputs[0])
        conv = self._open_conv(node, x)
        c_activation = (activation.c_name, activation.alpha, activation.beta)
        if activation.function == "Identity":
            self._finish(node, x)
        elif conv is not None and x.index.min() >= 0:
            self._steps[conv] = {**self._steps[conv], "activations": [c_activation]}
            self._finish(node, x)
        else:
            self._finish(node, self._map(x, "ACTIVATE", activations=[c_activation]))

    def _map(self, x: Flat, op: str, **fields: Any) -> Flat:
        x = self._compact(x)
        return Flat((self._emit(op, [x.sources[0]], self._widths[x.sources[0]], **fields),), x.index)

    def _open_conv(self, node: Node, x: Flat) -> int | None:
        """The place of the CONV that made `x`, if only `node` still reads of that and no activation closes it yet."""
        if len(x.sources) > 1:
            return None
        (id,) = x.sources
        place = next((i for i, step in enumerate(self._steps) if id in step["outputs"]), None)
        if place is None or self._steps[place]["op"] != "CONV" or "activations" in self._steps[place]:
            return None
        names = [name for name, flat in self._flats.items() if id in flat.sources]
        if any(id in step["inputs"] for step in self._steps) or not all(map(self.facts.read_once, names)):
            return None
        readers = [reader for name in names for reader in self.facts.consumers[name]]
        return place if all(any(reader is one for one in (node, *self.nodes)) for reader in readers) else None

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

    def _spread(self, x: Flat, shape: tuple[int, ...]) -> Flat:
        if self._batch is not None and x.index.ndim < len(shape):
            raise Misfit  # its batch lies along another axis of the result
        return x if x.index.shape == shape else Flat(x.sources, _broadcast(x.index, shape))

    def _pair(self, op: str, a: Flat, b: Flat) -> Flat:
        """In the places of whichever has one for each element."""
        second = self._is_compact(b) and not self._is_compact(a)
        base = self._compact(b if second else a)
        operands = [base.sources[0] if flat is base else self._laid_as(flat, base) for flat in (
            (a, base) if second else (base, b))]
        return Flat((self._emit(op, operands, self._widths[base.sources[0]]),), base.index)

    def _with_row(self, node: Node, x: Flat, op: str, values: np.ndarray) -> Flat:
        if values.dtype != np.float32 and values.dtype != np.float64:
            raise Misfit
        if self._folded(node, x, op, _broadcast(values, x.index.shape)):
            return x
        x = self._compact(x)
        row = self._row(values, x, 0 if op in ("Add", "Sub") else 1)
        return Flat((self._emit(op.upper(), [x.sources[0]], row.size, weights=[row]),), x.index)

    def _folded(self, node: Node, x: Flat, op: str, values: np.ndarray) -> bool:
        """Puts values that are the same for all windows of a convolution into its weights."""
        conv = self._open_conv(node, x)
        if conv is None or op not in ("Add", "Mul") or x.index.min() < 0:
            return False
        w, b = self._steps[conv]["weights"]
        row = np.full(w.shape[1], 0 if op == "Add" else 1, np.float32)
        filters = x.index % w.shape[1]
        row[filters.ravel()] = values.ravel()
        if (row[filters] != values.astype(np.float32)).any():
            return False
        weights = [w, b + row] if op == "Add" else [w * row, b * row]
        self._steps[conv] = {**self._steps[conv], "weights": weights}
        return True

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
        rows = [np.ascontiguousarray(_broadcast(self._constant(name), shape).ravel(), np.float32)
                for name in node.inputs[1:] if name]
        id = self._emit("LAYER_NORM", [self._whole(x)], x.index.size, weights=rows, epsilon=options["epsilon"])
        self._finish(node, self._plain(id, x.index.shape))

    # ---- products ----

    def _product(self, sources: tuple[int, ...], seen: np.ndarray, w: np.ndarray, b: np.ndarray | None = None) -> Flat:
        """`seen`, places (windows, inputs), times `w` (inputs, filters), plus `b`: (windows, filters)."""
        if seen.size > LARGEST or w.size > LARGEST:
            raise Misfit
        order = np.argsort(seen[(seen >= 0).sum(1).argmax()], kind="stable")  # long runs, whatever the layout
        filters, inputs = w.shape[1], len(w)
        padded = -(-filters // PAD) * PAD
        weights, bias = np.zeros((inputs, padded), np.float32), np.zeros(padded, np.float32)
        weights[:, :filters] = w[order]
        seen = seen[:, order]
        if self._batch is not None:  # rows without gaps between them, so that those of all sequences are one matrix
            gap = -inputs % (PAD // math.gcd(PAD, len(seen)))
            seen = np.pad(seen, ((0, 0), (0, gap)), constant_values=NOWHERE)
            weights = np.pad(weights, ((0, gap), (0, 0)))
        x = self._whole(Flat(sources, seen))
        bias[:filters] = 0 if b is None else b
        id = self._emit("CONV", [x], len(seen) * padded, weights=[weights, bias])
        return Flat((id,), np.arange(self._widths[id], dtype=np.int32).reshape(len(seen), padded)[:, :filters])

    def _matmul(self, node: Node) -> None:
        x, w = self._flat(node.inputs[0]), self._constant(node.inputs[1])
        if w.ndim != 2 or x.index.ndim < 2:
            raise Misfit
        self._keep_product(node, self._product(x.sources, x.index.reshape(-1, len(w)), w))

    def _gemm(self, node: Node) -> None:
        x, options = self._flat(node.inputs[0]), attributes(node)
        w = self._constant(node.inputs[1])
        w = options["alpha"] * (w.T if options["transB"] else w)
        b = self._constant(node.inputs[2]) if "".join(node.inputs[2:]) else np.zeros(1)
        if options["transA"] or (b.ndim > 1 and len(b) > 1):
            raise Misfit
        self._keep_product(node, self._product(x.sources, x.index, w, options["beta"] * b.reshape(-1)))

    def _reduce(self, node: Node) -> None:
        """A sum or mean by a product, the largest element by pairs."""
        x, options = self._flat(node.inputs[0]), attributes(node)
        given = self._constant(node.inputs[1]).ravel().tolist() if "".join(node.inputs[1:]) else []
        if not given and options["noop_with_empty_axes"]:
            self._finish(node, x)
            return
        axes = sorted(normal_axis(axis, x.index.ndim) for axis in given) or list(range(x.index.ndim))
        if self._batch and 0 in axes:
            raise Misfit
        kept = [axis for axis in range(x.index.ndim) if axis not in axes]
        seen = x.index.transpose(*kept, *axes).reshape(math.prod(x.index.shape[axis] for axis in kept), -1)
        self._keep_product(node, self._reduced(node.op, Flat(x.sources, seen)))

    def _global_pool(self, node: Node) -> None:
        x = self._flat(node.inputs[0])
        seen = Flat(x.sources, x.index.reshape(math.prod(x.index.shape[:2]), -1))
        self._keep_product(node, self._reduced("ReduceMax" if node.op == "GlobalMaxPool" else "ReduceMean", seen))

    def _reduced(self, op: str, x: Flat) -> Flat:
        """Of each row of `x` (rows, elements)."""
        if op == "ReduceMax":
            return self._by_pairs("MAX", x)
        count = x.index.shape[1]
        return self._product(x.sources, x.index, np.full((count, 1), 1 / count if op == "ReduceMean" else 1))

    def _by_pairs(self, op: str, x: Flat) -> Flat:
        while (count := x.index.shape[1]) > 1:
            half = count // 2
            made = self._pair(op, *(Flat(x.sources, x.index[:, i * half:(i + 1) * half]) for i in (0, 1)))
            width = sum(self._widths[id] for id in made.sources)
            rest = x.index[:, 2 * half:]
            rest = np.where(rest < 0, NOWHERE, rest + width)
            x = Flat(made.sources + x.sources, np.concatenate([made.index, rest], 1)) if count % 2 else made
        return x

    def _pool(self, node: Node) -> None:
        options, x = attributes(node), self._flat(node.inputs[0])
        if x.index.min() < 0:
            x = self._compact(x)
        kernel, counts = options["kernel_shape"], self._shape(node.outputs[0])[2:]
        where = {key: options[key] for key in ("auto_pad", "dilations", "pads", "strides")}
        seen = seen_windows(x.index, kernel, counts, **where).reshape(-1, math.prod(kernel))
        inside = (seen >= 0).sum(1)
        if node.op == "MaxPool":
            if len(node.outputs) > 1 or not inside.all():
                raise Misfit
            seen = np.where(seen < 0, seen.max(1, keepdims=True), seen)  # what is padded counts for nothing
            self._keep_product(node, self._by_pairs("MAX", Flat(x.sources, seen)))
            return
        if options["count_include_pad"]:
            if options["ceil_mode"]:
                raise Misfit
            inside = np.full(len(seen), seen.shape[1])
        means = self._with_row(node, self._by_pairs("ADD", Flat(x.sources, seen)), "Mul", 1 / inside[:, None])
        self._keep_product(node, means)

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

    def _keep_product(self, node: Node, made: Flat) -> None:
        self._finish(node, Flat(made.sources, made.index.reshape(self._shape(node.outputs[0]))))

    def _conv(self, node: Node) -> None:
        options = attributes(node)
        x, w = self._flat(node.inputs[0]), self._constant(node.inputs[1])
        where = {key: options[key] for key in ("auto_pad", "dilations", "pads", "strides")}
        self._convolve(node, x, seen_windows(x.index, w.shape[2:], None, **where), w)

    def _conv_transpose(self, node: Node) -> None:
        """As a convolution of x with zeros between its elements."""
        options = attributes(node)
        x, w = self._flat(node.inputs[0]), self._constant(node.inputs[1])
        where = {key: options[key] for key in (
            "auto_pad", "dilations", "pads", "strides", "output_padding", "output_shape")}
        flipped = np.flip(w, tuple(range(2, w.ndim))).reshape(options["group"], -1, *w.shape[1:])
        filters = np.swapaxes(flipped, 1, 2).reshape(-1, len(w) // options["group"], *w.shape[2:])
        self._convolve(node, x, transposed_windows(x.index, w.shape[2:], **where), filters)

    def _convolve(self, node: Node, x: Flat, seen: np.ndarray, w: np.ndarray) -> None:
        """`seen` (batch, channels, *counts, *kernel) with w (filters, channels of a group, *kernel)."""
        axes, filters = w.ndim - 2, len(w)
        counts, count = seen.shape[2:2 + axes], math.prod(w.shape[2:])
        order = (1, 0, *range(2, 2 + axes), *range(2 + axes, 2 + 2 * axes))
        seen = seen.transpose(order).reshape(seen.shape[1], -1, count)  # of each channel: windows, places
        groups = attributes(node)["group"]
        by_channel = w.shape[1] == 1 < groups and (groups > MOST_INPUTS or filters == groups)
        if groups > MOST_INPUTS and not by_channel:
            raise Misfit
        b = self._constant(node.inputs[2]) if "".join(node.inputs[2:]) else np.zeros(filters, np.float32)
        made = (self._per_channel if by_channel else self._per_group)(node, x, seen, w.reshape(filters, -1), b)
        self._finish(node, Flat(made.sources, np.moveaxis(made.index.reshape(filters, -1, *counts), 0, 1)))

    def _per_group(self, node: Node, x: Flat, seen: np.ndarray, w: np.ndarray, b: np.ndarray) -> Flat:
        """A product for each group: no zeros in place of the others' weights, whose product with infinity is NaN."""
        parts = zip(*(np.split(array, attributes(node)["group"]) for array in (seen, w, b)))
        made = [self._product(x.sources, places.swapaxes(0, 1).reshape(seen.shape[1], -1), weights.T, biases)
                for places, weights, biases in parts]
        starts = np.cumsum([0] + [self._widths[one.sources[0]] for one in made]).astype(np.int32)
        return Flat(tuple(one.sources[0] for one in made),
                    np.concatenate([one.index.T + start for one, start in zip(made, starts)]))

    def _per_channel(self, node: Node, x: Flat, seen: np.ndarray, w: np.ndarray, b: np.ndarray) -> Flat:
        """Of filters that read one channel each the windows times their weights, and the sums of these."""
        seen = np.repeat(seen, len(w) // len(seen), 0)
        if seen.size > LARGEST:
            raise Misfit
        row = np.ascontiguousarray(np.broadcast_to(w[:, None], seen.shape).ravel(), np.float32)
        id = self._emit("MUL", [self._gather(Flat(x.sources, seen))], row.size, weights=[row])
        sums = self._reduced("ReduceSum", self._plain(id, (-1, w.shape[1])))
        return self._with_row(node, Flat(sums.sources, sums.index.reshape(seen.shape[:2])), "Add", b[:, None])

    def _cast(self, node: Node) -> None:
        if DTYPES[attributes(node)["to"]] != "float32":
            raise Misfit
        self._finish(node, self._flat(node.inputs[0]))


def _broadcast(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    try:
        return np.broadcast_to(array, shape)
    except ValueError:
        raise Misfit from None


_LOWER: Mapping[str, Callable[[FlatRegion, Node], None]] = {
    "Add": FlatRegion._arithmetic, "Sub": FlatRegion._arithmetic, "Mul": FlatRegion._arithmetic,
    "Div": FlatRegion._arithmetic, "Pow": FlatRegion._power, "PRelu": FlatRegion._prelu,
    "BatchNormalization": FlatRegion._batch_normalization, "LayerNormalization": FlatRegion._layer_normalization,
    "MatMul": FlatRegion._matmul, "Gemm": FlatRegion._gemm, "ReduceMean": FlatRegion._reduce,
    "ReduceSum": FlatRegion._reduce, "ReduceMax": FlatRegion._reduce, "MaxPool": FlatRegion._pool,
    "AveragePool": FlatRegion._pool, "GlobalMaxPool": FlatRegion._global_pool,
    "GlobalAveragePool": FlatRegion._global_pool, "InstanceNormalization": FlatRegion._instance_normalization,
    "HardSwish": FlatRegion._hard_swish, "Conv": FlatRegion._conv, "ConvTranspose": FlatRegion._conv_transpose,
    "Cast": FlatRegion._cast,
}
