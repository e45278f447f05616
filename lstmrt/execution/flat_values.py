"""Values of the programs of flat.py: where they are, and steps that compute element by element.

A `Flat` says where in which native values a graph's value has its elements; steps read what they need of them with a GATHER.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..graph import Node
from .flat_windows import MOST_ELEMENTS, NOWHERE, Misfit
from .roles import Facts

MOST_INPUTS = 8  # of a step
FLOATS = ("float32", "bool")  # masks are numbers, 0 and 1
IDS = ("int64", "int32")  # what only moves, is chosen by or compared with one number
_NATIVE = {"float32": "f32", "bool": "bool", "int64": "i64", "int32": "i64"}


@dataclass(frozen=True)
class Flat:
    """Where a graph's value is: `index`, of its shape (a free batch counts as 1), in the rows of the native values
    `sources` put side by side."""

    sources: tuple[int, ...]
    index: np.ndarray


class FlatValues:
    """The values and steps of a program in the making."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.nodes: list[Node] = []
        self._batch: str | None = None  # the name of the free size
        self._sizes = 0, 0  # sequences of recurrent layers, and their time steps, where there are more than one
        self._widths: list[int] = []  # of native values
        self._kinds: list[tuple[str, str]] = []  # dtypes and rows of those, '' for rows with all elements
        self._steps: list[dict[str, Any]] = []
        self._inputs: dict[str, int] = {}
        self._vocabularies: dict[int, int] = {}  # of ids
        self._in_other_rows: dict[tuple[int, str, int], int] = {}  # a value, and the rows that it is in as another one
        self._flats: dict[str, Flat] = {}

    def _shape(self, name: str, kinds: Iterable[str] = FLOATS + IDS) -> tuple[int, ...]:
        """With 1 for a free batch, whose name is the region's from its first value on."""
        shape = self.facts.shape(name)
        if shape is None or None in shape or self.facts.dtype(name) not in kinds:
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

    def _flat(self, name: str, kinds: Iterable[str] = FLOATS) -> Flat:
        """A value that somebody reads; one that nobody has made is an input."""
        shape = self._shape(name, kinds)
        if name not in self._flats:
            id = self._given(name, _NATIVE[self.facts.dtype(name)], "", math.prod(shape))
            if self._kinds[id][0] == "bool":
                id = self._emit("CAST", [id], self._widths[id])
            self._flats[name] = self._plain(id, shape)
        return self._flats[name]

    def _ids(self, name: str) -> int:
        """All elements of a value of integers, side by side."""
        return self._whole(self._flat(name, IDS))

    def _given(self, name: str, dtype: str, rows: str, width: int) -> int:
        """An input of the program in such rows."""
        if name in self.facts.constants or any(name in node.outputs for node in self.nodes):
            raise Misfit
        if name not in self._inputs:
            self._inputs[name] = self._value(width, dtype, rows)
        id = self._inputs[name]
        if (self._widths[id], *self._kinds[id]) != (width, dtype, rows):
            raise Misfit
        return id

    def _plain(self, id: int, shape: Iterable[int]) -> Flat:
        return Flat((id,), np.arange(self._widths[id], dtype=np.int32).reshape(tuple(shape)))

    def _value(self, width: int, dtype: str = "f32", rows: str = "") -> int:
        self._widths.append(width)
        self._kinds.append((dtype, rows))
        return len(self._widths) - 1

    def _constant(self, name: str) -> np.ndarray:
        if name not in self.facts.constants:
            raise Misfit
        return self.facts.constants[name]

    def _emit(self, op: str, inputs: list[int], width: int, rows: str = "", dtype: str = "f32", **fields: Any) -> int:
        id = self._value(width, dtype, rows)
        self._steps.append({"op": op, "inputs": inputs, "outputs": [id], **fields})
        return id

    def _keep(self, name: str, flat: Flat) -> None:
        kind = "i64" if self.facts.dtype(name) in IDS else "f32"
        if flat.index.shape != self._shape(name) or self._kinds[flat.sources[0]][0] != kind:
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
            whole = self._emit("GATHER", list(some), width, dtype=self._kinds[some[0]][0], indices=np.arange(width, dtype=np.int32))
            sources = (whole, *sources[MOST_INPUTS:])
        return self._emit("GATHER", list(sources), index.size, dtype=self._kinds[sources[0]][0],
                          indices=np.ascontiguousarray(index.ravel(), np.int32))

    def _used(self, flat: Flat) -> tuple[tuple[int, ...], np.ndarray]:
        """Sources and index without the sources that nothing comes from."""
        if len(flat.sources) == 1:
            return flat.sources, flat.index
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
        if len(sources) != 1 or self._widths[sources[0]] > 2 * index.size or index.min() < 0:
            return False
        seen = np.zeros(self._widths[sources[0]], bool)
        seen[index] = True
        return np.count_nonzero(seen) == index.size

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

    # ---- element by element ----

    def _map(self, x: Flat, op: str, **fields: Any) -> Flat:
        x = self._compact(x)
        return Flat((self._emit(op, [x.sources[0]], self._widths[x.sources[0]], **fields),), x.index)

    def _open_convs(self, node: Node, x: Flat) -> dict[int, int]:
        """Source of `x` -> the place of the CONV that made it; empty unless such steps made all of `x`, only `node` still reads
        of them, and no activation closes them yet."""
        found = {id: i for i, step in enumerate(self._steps) for id in step["outputs"] if id in x.sources}
        steps = [self._steps[place] for place in found.values()]
        if len(found) < len(x.sources) or any(step["op"] != "CONV" or "activations" in step for step in steps):
            return {}
        names = [name for name, flat in self._flats.items() if not found.keys().isdisjoint(flat.sources)]
        if not all(map(self.facts.read_once, names)) or any(id in step["inputs"] for step in self._steps for id in found):
            return {}
        readers = [reader for name in names for reader in self.facts.consumers[name]]
        return found if all(any(reader is one for one in (node, *self.nodes)) for reader in readers) else {}

    def _spread(self, x: Flat, shape: tuple[int, ...]) -> Flat:
        if self._batch is not None and x.index.ndim < len(shape):
            raise Misfit  # its batch lies along another axis of the result
        return x if x.index.shape == shape else Flat(x.sources, broadcast(x.index, shape))

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
        if self._folded(node, x, op, broadcast(values, x.index.shape)):
            return x
        x = self._compact(x)
        row = self._row(values, x, 0 if op in ("Add", "Sub") else 1)
        return Flat((self._emit(op.upper(), [x.sources[0]], row.size, weights=[row]),), x.index)

    def _folded(self, node: Node, x: Flat, op: str, values: np.ndarray) -> bool:
        """Puts values that are the same for all windows of a convolution into its weights."""
        convs = self._open_convs(node, x)
        if not convs or op not in ("Add", "Mul") or x.index.min() < 0:
            return False
        folded, start = {}, 0
        for id in x.sources:
            place, inside = convs[id], (start <= x.index) & (x.index < start + self._widths[id])
            w, b = self._steps[place]["weights"]
            row = np.full(w.shape[1], 0 if op == "Add" else 1, np.float32)
            filters, wanted = (x.index[inside] - start) % w.shape[1], values[inside].astype(np.float32)
            row[filters] = wanted
            if (row[filters] != wanted).any():
                return False
            folded[place] = [w, b + row] if op == "Add" else [w * row, b * row]
            start += self._widths[id]
        for place, weights in folded.items():
            self._steps[place] = {**self._steps[place], "weights": weights}
        return True


def broadcast(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    try:
        return np.broadcast_to(array, shape)
    except ValueError:
        raise Misfit from None
