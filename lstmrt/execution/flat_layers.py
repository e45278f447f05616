"""Recurrent layers and what else the programs of flat.py have around them: embeddings, softmaxes, choices, masks.

A recurrent layer has rows of its own, a batch of sequences; RESHAPEs lead from rows with all elements to these and back.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..graph import Node
from ..operators import WEIGHTS, attributes, is_dynamic, named_inputs, named_outputs
from ..shapes import normal_axis
from .flat_products import FlatProducts
from .flat_values import FLOATS, IDS, Flat
from .flat_windows import LARGEST, NOWHERE, Misfit
from .native import one_direction, recurrent_fields

MOST_CHOSEN = 64  # of the largest elements along an axis


class FlatLayers(FlatProducts):
    # ---- recurrent layers ----

    def _recurrent(self, node: Node) -> None:
        """One direction with constant weights, of sequences whose number is known."""
        given, made, options = named_inputs(node), named_outputs(node), attributes(node)
        weights = [given.get(name, "") for name in WEIGHTS[:4]]
        if is_dynamic(node) or options["direction"] == "bidirectional" or not self._all_constant(weights):
            raise Misfit
        batch, steps, width = self._sequences(given["X"], options["layout"])
        rows = "batch" if steps == 1 else "batch_time" if options["layout"] else "time_batch"
        hidden = options["hidden_size"]
        w, r, b, p = (one_direction(self.facts, name) for name in weights)
        w = np.eye(width, dtype=np.float32) if w is None else w  # X is the input part already
        states = [self._in_rows(self._flat(name), "batch", hidden) if name else -1
                  for name in (given["initial_h"], given.get("initial_c", ""))]
        mask, lengths = given.get("mask", ""), given["sequence_lens"]
        inputs = [self._in_rows(self._flat(given["X"]), rows, width), self._given(lengths, "i64", "batch", 1) if lengths else -1,
                  *states, self._given(mask, "bool", rows, 1) if mask else -1]
        outputs = {formal: self._value(hidden, "f32", rows if formal == "Y" else "batch") if name and self.facts.used(name) else -1
                   for formal, name in made.items()}
        self._steps.append({"op": node.op, "inputs": inputs, "outputs": list(outputs.values()),
                            **recurrent_fields(node, [w, r, b, p, None])})
        for formal, id in outputs.items():
            if id >= 0:
                self._keep(made[formal], self._out_of_rows(id, self._shape(made[formal])))

    def _all_constant(self, names: list[str]) -> bool:
        return all(name in self.facts.constants for name in names if name)

    def _sequences(self, x: str, layout: int) -> tuple[int, int, int]:
        """Their number, time steps and width, which the program's other layers must have too; a single step goes with any."""
        shape = self._shape(x)
        if self._batch is not None or len(shape) != 3:
            raise Misfit
        batch, steps = shape[:2] if layout else shape[1::-1]
        time = self._sizes[1] if steps == 1 else steps
        if self._sizes[0] not in (0, batch) or self._sizes[1] not in (0, time):
            raise Misfit
        self._sizes = batch, time
        return batch, steps, shape[2]

    def _in_rows(self, flat: Flat, rows: str, width: int) -> int:
        """The elements of `flat`, in order, in rows of `width`."""
        whole = self._whole(flat)
        if (whole, rows, width) not in self._in_other_rows:
            self._in_other_rows[whole, rows, width] = self._emit("RESHAPE", [whole], width, rows)
        return self._in_other_rows[whole, rows, width]

    def _out_of_rows(self, id: int, shape: tuple[int, ...]) -> Flat:
        whole = self._emit("RESHAPE", [id], math.prod(shape))
        self._in_other_rows[whole, self._kinds[id][1], self._widths[id]] = id
        return self._plain(whole, shape)

    # ---- rows of tables, parts of sums ----

    def _embedding(self, node: Node) -> None:
        """Rows of a constant table."""
        table, ids = np.ascontiguousarray(self._constant(node.inputs[0]), np.float32), node.inputs[1]
        shape = self._shape(node.outputs[0])
        if table.ndim < 2 or not len(table) or normal_axis(attributes(node)["axis"], table.ndim) != 0:
            raise Misfit
        table = table.reshape(len(table), -1)
        given = self._ids(ids)
        self._vocabularies[given] = min(len(table), self._vocabularies.get(given, len(table)))
        id = self._emit("EMBEDDING", [given], self._widths[given] * table.shape[1], weights=[table])
        self._finish(node, self._plain(id, shape))

    def _softmax(self, node: Node) -> None:
        x = self._flat(node.inputs[0])
        axis = normal_axis(attributes(node)["axis"], x.index.ndim)
        if self._batch is not None and axis == 0:
            raise Misfit
        moved = np.moveaxis(x.index, axis, -1)
        op = "SOFTMAX" if node.op == "Softmax" else "LOG_SOFTMAX"
        id = self._emit(op, [self._whole(Flat(x.sources, moved))], moved.size, constant=moved.shape[-1])
        self._finish(node, Flat((id,), np.moveaxis(self._plain(id, moved.shape).index, -1, axis)))

    def _top_k(self, node: Node) -> None:
        options, count = attributes(node), self._constant(node.inputs[1])
        if not options["largest"] or count.size != 1:
            raise Misfit
        for name, flat in zip(node.outputs, self._largest(node.inputs[0], options["axis"], int(count.item()))):
            if name:
                self._keep(name, flat)

    def _arg_max(self, node: Node) -> None:
        options = attributes(node)
        if options["select_last_index"]:
            raise Misfit
        _, places = self._largest(node.inputs[0], options["axis"], 1)
        self._finish(node, Flat(places.sources, places.index.reshape(self._shape(node.outputs[0]))))

    def _largest(self, name: str, axis: int, count: int) -> tuple[Flat, Flat]:
        """The `count` largest elements along an axis, and their places."""
        x = self._flat(name)
        axis = normal_axis(axis, x.index.ndim)
        if not 0 < count <= min(MOST_CHOSEN, x.index.shape[axis]) or (self._batch is not None and axis == 0):
            raise Misfit
        moved = np.moveaxis(x.index, axis, -1)
        shape = (*moved.shape[:-1], count)
        ids = [self._value(math.prod(shape), dtype) for dtype in ("f32", "i64")]
        self._steps.append({"op": "TOPK", "inputs": [self._whole(Flat(x.sources, moved))], "outputs": ids,
                            "constant": moved.shape[-1]})
        values, places = (Flat((id,), np.moveaxis(self._plain(id, shape).index, -1, axis)) for id in ids)
        return values, places

    def _matmul(self, node: Node) -> None:
        constant = self.facts.constants.get(node.inputs[1])
        if constant is not None and constant.ndim <= 2:
            super()._matmul(node)
            return
        b = self._flat(node.inputs[1]).index if constant is None else constant
        self._finish(node, self._matrices(node.inputs, self._flat(node.inputs[0]).index, b))

    def _matrices(self, names: Sequence[str], a: np.ndarray, b: np.ndarray) -> Flat:
        """The products of (..., rows, inner) and (..., inner, columns): places in the values `names`, or a constant for b."""
        is_constant = names[1] in self.facts.constants
        if min(a.ndim, b.ndim) < 2 or (self._batch is not None and not is_constant and (a.ndim != b.ndim or a.ndim < 3)):
            raise Misfit
        outer = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        a, b = (np.broadcast_to(one, (*outer, *one.shape[-2:])) for one in (a, b))
        if max(a.size, b.size, math.prod(outer) * a.shape[-2] * b.shape[-1]) > LARGEST:
            raise Misfit
        operands = [self._whole(Flat(self._flat(names[0]).sources, a))]
        operands.append(-1 if is_constant else self._whole(Flat(self._flat(names[1]).sources, b)))
        row = [np.ascontiguousarray(b.ravel(), np.float32)] if is_constant else []
        shape = (*outer, a.shape[-2], b.shape[-1])
        return self._plain(self._emit("MATMUL", operands, math.prod(shape), weights=row, constant=a.shape[-1]), shape)

    def _einsum(self, node: Node) -> None:
        """Of two values, or of one and a constant, whose letters are each in one place of it."""
        sums, arrow, made = attributes(node)["equation"].replace(" ", "").partition("->")
        terms, names = sums.split(","), node.inputs
        if not arrow or len(terms) != 2 or "." in "".join(terms) or any(len(set(term)) < len(term) for term in (*terms, made)):
            raise Misfit
        if names[0] in self.facts.constants:
            terms, names = terms[::-1], names[::-1]
        a, b = (set(term) for term in terms)
        if (a ^ b) - set(made):
            raise Misfit  # sums over an axis of one of them
        outer, inner = [letter for letter in made if letter in a & b], sorted((a & b) - set(made))
        rows, columns = ([letter for letter in made if letter in one] for one in (a - b, b - a))
        is_constant = names[1] in self.facts.constants
        if is_constant and self._batch is not None and terms[0][0] not in rows:
            raise Misfit
        x, y = self._flat(names[0]), self._constant(names[1]) if is_constant else self._flat(names[1]).index
        sizes = dict(zip(terms[0] + terms[1], x.index.shape + y.shape))
        if is_constant and not outer:
            product = self._product(x.sources, _arranged(x.index, terms[0], rows, inner), _arranged(y, terms[1], inner, columns))
        else:
            product = self._matrices(names, _arranged(x.index, terms[0], outer, rows, inner),
                                     _arranged(y, terms[1], outer, inner, columns))
        order = [*outer, *rows, *columns]
        index = product.index.reshape([sizes[letter] for letter in order])
        self._finish(node, Flat(product.sources, index.transpose([order.index(letter) for letter in made])))

    def _triangle(self, node: Node) -> None:
        x, k = self._flat(node.inputs[0]), self._constant(node.inputs[1]).item() if "".join(node.inputs[1:]) else 0
        if self._batch is not None and x.index.ndim < 3:
            raise Misfit  # the batch is an axis of the triangle
        shown = (np.triu if attributes(node)["upper"] else np.tril)(np.ones(x.index.shape[-2:], bool), k)
        self._finish(node, Flat(x.sources, np.where(shown, x.index, NOWHERE)))

    # ---- masks, 1 where they are set and 0 where not ----

    def _equal(self, node: Node) -> None:
        number = self._constant(node.inputs[1])
        if number.size != 1 or number.dtype.kind not in "iu":
            raise Misfit
        given = self._ids(node.inputs[0])
        id = self._emit("NOT_EQUAL", [given], self._widths[given], dtype="bool", constant=int(number.item()))
        differs = self._plain(self._emit("CAST", [id], self._widths[id]), self._shape(node.outputs[0]))
        self._finish(node, self._inverted(node, differs))

    def _not(self, node: Node) -> None:
        self._finish(node, self._inverted(node, self._flat(node.inputs[0])))

    def _inverted(self, node: Node, mask: Flat) -> Flat:
        return self._with_row(node, self._with_row(node, mask, "Mul", np.array(-1.0)), "Add", np.array(1.0))

    def _logic(self, node: Node) -> None:
        shape = self._shape(node.outputs[0])
        operands = [self._spread(self._flat(name), shape) for name in node.inputs]
        self._finish(node, self._pair("MUL" if node.op == "And" else "MAX", *operands))

    def _less(self, node: Node) -> None:
        a, b = node.inputs if node.op == "Less" else node.inputs[::-1]
        shape = self._shape(node.outputs[0])
        if b in self.facts.constants:
            self._finish(node, self._with_row(node, self._spread(self._flat(a), shape), "Less", self._constant(b)))
            return
        if a in self.facts.constants:  # a < b where -b < -a, exactly
            x = self._with_row(node, self._spread(self._flat(b), shape), "Mul", np.array(-1.0))
            self._finish(node, self._with_row(node, x, "Less", -self._constant(a)))
            return
        self._finish(node, self._pair("LESS", *(self._spread(self._flat(name), shape) for name in (a, b))))

    def _where(self, node: Node) -> None:
        mask, *choices = node.inputs
        shape = self._shape(node.outputs[0])
        inputs = [self._whole(self._spread(self._flat(mask), shape))]
        rows = []
        for name in choices:
            constant = self.facts.constants.get(name)
            inputs.append(-1 if constant is not None else self._whole(self._spread(self._flat(name), shape)))
            rows.append(None if constant is None else np.ascontiguousarray(np.broadcast_to(constant, shape).ravel(), np.float32))
        self._finish(node, self._plain(self._emit("WHERE", inputs, math.prod(shape), weights=rows), shape))

    def _cast(self, node: Node) -> None:
        before, after = (self.facts.dtype(name) for name in (node.inputs[0], node.outputs[0]))
        if after == "float32" and before in IDS:
            given = self._ids(node.inputs[0])
            self._finish(node, self._plain(self._emit("CAST", [given], self._widths[given]), self._shape(node.outputs[0])))
        elif before == after or (before, after) in (("bool", "float32"), ("int32", "int64")):
            self._finish(node, self._flat(node.inputs[0], FLOATS + IDS))
        else:
            raise Misfit


def _arranged(array: np.ndarray, letters: str, *parts: list[str]) -> np.ndarray:
    """`array`, whose axes are `letters`, with those of all but the first of more than two `parts` as one axis each."""
    order = [letter for part in parts for letter in part]
    sizes = dict(zip(letters, array.shape))
    kept = parts[0] if len(parts) > 2 else []
    merged = [math.prod(sizes[letter] for letter in part) for part in parts[-2:]]
    return array.transpose([letters.index(letter) for letter in order]).reshape([*(sizes[letter] for letter in kept), *merged])
