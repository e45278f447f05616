"""Nodes of the programs of flat.py that add up: products, convolutions, reductions and pools.

A convolution is a GATHER of its windows and a product; a mean or sum one with weights of 1 / n or 1.
"""

from __future__ import annotations

import itertools
import math

import numpy as np

from ..graph import Node
from ..operators import attributes
from ..reference_layers import LOWEST
from ..shapes import normal_axis
from .flat_values import MOST_INPUTS, Flat, FlatValues
from .flat_windows import LARGEST, NOWHERE, Misfit, seen_windows, transposed_windows

PAD = 16  # filters of a CONV are a multiple of this many


class FlatProducts(FlatValues):
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
        largest = node.op == "GlobalMaxPool"
        x = self._numbers(node) if largest else self._flat(node.inputs[0])
        seen = Flat(x.sources, x.index.reshape(math.prod(x.index.shape[:2]), -1))
        self._keep_product(node, self._reduced("ReduceMax" if largest else "ReduceMean", seen))

    def _numbers(self, node: Node) -> Flat:
        """What a pool takes the largest of, NaN as the lowest float."""
        return self._with_row(node, self._flat(node.inputs[0]), "Max", np.array(LOWEST))

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
        options = attributes(node)
        x = self._numbers(node) if node.op == "MaxPool" else self._flat(node.inputs[0])
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

    def _keep_product(self, node: Node, made: Flat) -> None:
        self._finish(node, Flat(made.sources, made.index.reshape(self._shape(node.outputs[0]))))

    def _conv(self, node: Node) -> None:
        options = attributes(node)
        x, w = self._flat(node.inputs[0]), self._constant(node.inputs[1])
        where = {key: options[key] for key in ("auto_pad", "dilations", "pads", "strides")}
        self._finish(node, self._convolved(node, x, seen_windows(x.index, w.shape[2:], None, **where), w))

    def _conv_transpose(self, node: Node) -> None:
        """As a convolution of x with zeros between its elements: one for each place that windows have among these, of the part
        of the filters that meets elements there."""
        options = attributes(node)
        x, w = self._flat(node.inputs[0]), self._constant(node.inputs[1])
        where = {key: options[key] for key in (
            "auto_pad", "dilations", "pads", "strides", "output_padding", "output_shape")}
        flipped = np.flip(w, tuple(range(2, w.ndim))).reshape(options["group"], -1, *w.shape[1:])
        filters = np.swapaxes(flipped, 1, 2).reshape(-1, len(w) // options["group"], *w.shape[2:])
        seen, axes = transposed_windows(x.index, w.shape[2:], **where), w.ndim - 2
        kinds = [tuple(slice(first, None, stride) for first, stride in zip(firsts, options["strides"] or (1,) * axes))
                 for firsts in itertools.product(*map(range, options["strides"] or (1,) * axes))]
        index = np.empty((len(seen), len(filters), *seen.shape[2:2 + axes]), np.int32)
        sources: tuple[int, ...] = ()
        for kind in kinds:
            windows = seen[(..., *kind, *(slice(None),) * axes)]
            if not windows.size:
                continue
            met = np.ix_(*((windows >= 0).any(tuple(other for other in range(windows.ndim) if other != 2 + axes + axis))
                           for axis in range(axes)))
            met = met if all(len(places) for places in map(np.ravel, met)) else (slice(0, 1),) * axes  # a bias alone
            made = self._convolved(node, x, windows[(..., *met)], filters[(..., *met)])
            index[(..., *kind)] = made.index + sum(self._widths[id] for id in sources)
            sources += made.sources
        self._finish(node, Flat(sources, index))

    def _convolved(self, node: Node, x: Flat, seen: np.ndarray, w: np.ndarray) -> Flat:
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
        return Flat(made.sources, np.moveaxis(made.index.reshape(filters, -1, *counts), 0, 1))

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
