"""What a value is as a formula: a normal form in which two ways to write one function of rows are the same thing.

A value has rows (all its axes but the last) and a width. Its Formula is a sum of terms: a vector of coefficients times a
product of factors. Factors are read values, activations of formulas, and products of a term with a matrix. Products of sums
are multiplied out and matrices are handed on to terms, so that operand orders, splits and joined gates, Gemm or MatMul and
Add, and z*h + (1-z)*g or (h-g)*z + g come out alike. Rows do not mix in anything that is taken apart here; what mixes
them is a read value.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from ..activations import Activation, elementwise_activation
from ..graph import Node
from ..operators import attributes
from ..shapes import DTYPES, Tensor

LARGEST = 24  # terms of a sum and factors of a product; what is longer is no gate


class Opaque(Exception):
    """A formula that would be too long, or a node that has none."""


@dataclass(frozen=True)
class Read:
    """Columns [start, stop) of a value; `width` None: a mask, one number for each row."""

    name: str
    start: int = 0
    stop: int | None = None

    @property
    def key(self) -> tuple:
        return "read", self.name, self.start, -1 if self.stop is None else self.stop

    @property
    def is_mask(self) -> bool:
        return self.stop is None

    def cut(self, start: int, stop: int) -> Read:
        return self if self.is_mask else Read(self.name, self.start + start, self.start + stop)


@dataclass(frozen=True)
class Activated:
    activation: Activation
    of: Formula

    @cached_property
    def key(self) -> tuple:
        return "activated", self.activation, self.of.key

    def cut(self, start: int, stop: int) -> Activated:
        return Activated(self.activation, self.of.cut(start, stop))


class Matrix:
    """Weights, which the steps of a layer share: what takes a pass over all of them is done once."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array
        self._cuts: dict[tuple[int, int], Matrix] = {}

    @cached_property
    def digest(self) -> bytes:
        return hashlib.sha256(np.ascontiguousarray(self.array)).digest()

    def cut(self, start: int, stop: int) -> Matrix:
        """Columns [start, stop)."""
        if (start, stop) not in self._cuts:
            self._cuts[start, stop] = Matrix(self.array[:, start:stop])
        return self._cuts[start, stop]

    def scaled(self, columns: np.ndarray) -> Matrix:
        return self if (columns == 1).all() else Matrix(self.array * columns)

    def weighted(self, rows: np.ndarray) -> Matrix:
        return self if (rows == 1).all() else Matrix(rows[:, None] * self.array)


@dataclass(frozen=True)
class Multiplied:
    """The product of some factors, as a row, times a matrix."""

    factors: tuple[Factor, ...]
    matrix: Matrix

    @property
    def source(self) -> tuple:
        return "multiplied", *(factor.key for factor in self.factors)

    @cached_property
    def key(self) -> tuple:
        return *self.source, self.matrix.digest, self.matrix.array.shape

    def cut(self, start: int, stop: int) -> Multiplied:
        return Multiplied(self.factors, self.matrix.cut(start, stop))


Factor = "Read | Activated | Multiplied"


@dataclass(frozen=True)
class Formula:
    """`terms`: what they are products of -> (coefficients, factors); no factors: a constant row."""

    width: int
    terms: Mapping[tuple, tuple[np.ndarray, tuple[Factor, ...]]] = field(default_factory=dict)

    @cached_property
    def key(self) -> tuple:
        terms = (((*(factor.key for factor in factors),), coefficients.tobytes())
                 for coefficients, factors in self.terms.values())
        return tuple(sorted(terms, key=repr))

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Formula) and self.width == other.width and self.key == other.key

    def __add__(self, other: Formula) -> Formula:
        return formula(self.width, [*self.terms.values(), *other.terms.values()])

    def scaled(self, by: np.ndarray) -> Formula:
        return formula(self.width, [(coefficients * by, factors) for coefficients, factors in self.terms.values()])

    def __mul__(self, other: Formula) -> Formula:
        return formula(self.width, [(a * b, f + g) for a, f in self.terms.values() for b, g in other.terms.values()])

    def cut(self, start: int, stop: int) -> Formula:
        return formula(stop - start, [(coefficients[start:stop], tuple(factor.cut(start, stop) for factor in factors))
                                      for coefficients, factors in self.terms.values()])

    def times(self, matrix: Matrix) -> Formula:
        terms = []
        for coefficients, factors in self.terms.values():
            weighted = matrix.weighted(coefficients)
            if not factors:
                terms.append((weighted.array.sum(0), ()))
            elif len(factors) == 1 and isinstance(factors[0], Multiplied):
                terms.append(_linear(factors[0].factors, Matrix(factors[0].matrix.array @ weighted.array)))
            else:
                terms.append(_linear(factors, weighted))
        return formula(matrix.array.shape[1], terms)

    @property
    def constant(self) -> np.ndarray:
        """The row that stands alone."""
        return self.terms[()][0] if () in self.terms else np.zeros(self.width)


def _linear(factors: tuple[Factor, ...], matrix: Matrix) -> tuple:
    return np.ones(matrix.array.shape[1]), (Multiplied(factors, matrix),)


def formula(width: int, terms: Iterable[tuple[np.ndarray, tuple[Factor, ...]]]) -> Formula:
    """The sum of `terms`, like ones added up and those of coefficients 0 left out."""
    found: dict[tuple, tuple[np.ndarray, tuple[Factor, ...]]] = {}
    for coefficients, factors in terms:
        if not coefficients.any():
            continue
        factors = _ordered(factors)
        if len(factors) == 1 and isinstance(factors[0], Multiplied):
            _add_linear(found, factors[0].factors, factors[0].matrix.scaled(coefficients))
            continue
        key = tuple(factor.key for factor in factors)
        before = found[key][0] if key in found else 0
        found[key] = _even(before + coefficients) if factors else before + coefficients, factors
    kept = {key: term for key, term in found.items() if term[0].any()}
    if len(kept) > LARGEST or any(len(factors) > LARGEST for _, factors in kept.values()):
        raise Opaque
    return Formula(width, kept)


def _even(coefficients: np.ndarray) -> np.ndarray:
    """Without the float32 rounding of, say, 6 times a sixth."""
    whole = np.rint(coefficients)
    return np.where(np.abs(coefficients - whole) < 1e-6, whole, coefficients)


def _add_linear(found: dict, factors: tuple[Factor, ...], matrix: Matrix) -> None:
    source = Multiplied(factors, matrix).source
    if source in found:
        matrix = Matrix(matrix.array + found[source][1][0].matrix.array)
    if matrix.array.any():
        found[source] = _linear(factors, matrix)
    else:
        found.pop(source, None)


def _ordered(factors: tuple[Factor, ...]) -> tuple[Factor, ...]:
    """In one order whatever the order of multiplication; a mask squared is the mask."""
    keyed = sorted(((factor.key, factor) for factor in factors), key=lambda pair: repr(pair[0]))
    return tuple(factor for i, (key, factor) in enumerate(keyed)
                 if not (i and key == keyed[i - 1][0] and isinstance(factor, Read) and factor.is_mask))


def read(name: str, width: int) -> Formula:
    return Formula(width, {(Read(name, 0, width).key,): (np.ones(width), (Read(name, 0, width),))})


def mask(name: str, width: int) -> Formula:
    return Formula(width, {(Read(name).key,): (np.ones(width), (Read(name),))})


def row(width: int, values: np.ndarray) -> Formula:
    return formula(width, [(np.broadcast_to(np.asarray(values, np.float64), (width,)), ())])


# ---- from nodes to formulas ----


@dataclass
class Reader:
    """Formulas of the values of some nodes. `is_read` says which values are not to be taken apart."""

    producers: Mapping[str, Node]
    constants: Mapping[str, np.ndarray]
    tensors: Mapping[str, Tensor]
    is_read: Callable[[str], bool]
    known: dict[str, Formula] = field(default_factory=dict)
    matrices: dict[tuple, Matrix] = field(default_factory=dict)

    def matrix(self, name: str, *, transposed: bool = False, scale: float = 1.0) -> Matrix | None:
        """A constant of two axes, times `scale`; None where `name` is none."""
        array = self.constants.get(name)
        if array is None or array.ndim != 2:
            return None
        if (name, transposed, scale) not in self.matrices:
            scaled = scale * array.astype(np.float64)
            self.matrices[name, transposed, scale] = Matrix(scaled.T if transposed else scaled)
        return self.matrices[name, transposed, scale]

    def formula(self, name: str) -> Formula:
        """Of a value that is rows of a known width. Raises Opaque where there is none."""
        if name not in self.known:
            self.known[name] = self._read(name) if self.is_read(name) else self.inside(name)
        return self.known[name]

    def inside(self, name: str) -> Formula:
        """As `formula`, with the value's own node taken apart in any case."""
        if name in self.constants:
            return self._constant(name)
        node = self.producers.get(name)
        if node is None or node.domain:
            return self._read(name)
        try:
            found = self._of_node(node, name)
        except RecursionError:
            raise Opaque from None
        return self._read(name) if found is None else found

    def _read(self, name: str) -> Formula:
        if name in self.constants:
            return self._constant(name)
        width = self.width(name)
        if width is None:
            raise Opaque
        return mask(name, 1) if width == 1 and self._is_bool(name) else read(name, width)

    def _is_bool(self, name: str) -> bool:
        return name in self.tensors and self.tensors[name].dtype == "bool"

    def width(self, name: str) -> int | None:
        shape = self.tensors[name].shape if name in self.tensors else None
        return shape[-1] if shape and isinstance(shape[-1], int) else None

    def _constant(self, name: str) -> Formula:
        """A constant row, or a matrix of equal rows."""
        array = self.constants[name]
        rows = array.reshape(-1, array.shape[-1]) if array.ndim else array.reshape(1, 1)
        if array.dtype.kind not in "fiub" or not len(rows) or (rows != rows[0]).any():
            raise Opaque
        return row(rows.shape[1], rows[0])

    def _of_node(self, node: Node, name: str) -> Formula | None:
        """The formula by the node's operator; None: a value to read."""
        activation = elementwise_activation(node, self.constants)
        if activation is not None:
            return self._activated(activation, self.formula(node.inputs[0]))
        rule = _RULES.get(node.op)
        return rule(self, node, name) if rule else None

    def _activated(self, activation: Activation, of: Formula) -> Formula:
        scale, activation, of = _plain(activation, of)
        factor = Activated(activation, of)
        return formula(of.width, [(np.full(of.width, scale), (factor,))])

    def _pair(self, a: str, b: str) -> tuple[Formula, Formula]:
        """Two formulas of one width: what has width 1 serves for every column."""
        formulas = self.formula(a), self.formula(b)
        width = max(f.width for f in formulas)
        return tuple(_widened(f, width) for f in formulas)


def _plain(activation: Activation, of: Formula) -> tuple[float, Activation, Formula]:
    """A Clip from 0 up to k as k times a hard sigmoid."""
    if activation.function == "Clip" and activation.alpha == 0 and 0 < activation.beta < np.inf:
        return activation.beta, Activation("HardSigmoid", 1 / activation.beta, 0.0), of
    return 1.0, activation, of


def _widened(narrow: Formula, width: int) -> Formula:
    if narrow.width == width:
        return narrow
    if narrow.width != 1 or not all(isinstance(factor, Read) and factor.is_mask
                                    for _, factors in narrow.terms.values() for factor in factors):
        raise Opaque
    return formula(width, [(np.full(width, coefficients[0]), factors) for coefficients, factors in narrow.terms.values()])


def _add(reader: Reader, node: Node, name: str) -> Formula:
    a, b = reader._pair(*node.inputs)
    return a + b


def _subtract(reader: Reader, node: Node, name: str) -> Formula:
    a, b = reader._pair(*node.inputs)
    return a + b.scaled(np.full(b.width, -1.0))


def _multiply(reader: Reader, node: Node, name: str) -> Formula:
    a, b = reader._pair(*node.inputs)
    return a * b


def _divide(reader: Reader, node: Node, name: str) -> Formula:
    a, b = reader._pair(*node.inputs)
    if set(b.terms) != {()} or not b.constant.all():
        raise Opaque
    return a.scaled(1 / b.constant)


def _negate(reader: Reader, node: Node, name: str) -> Formula:
    x = reader.formula(node.inputs[0])
    return x.scaled(np.full(x.width, -1.0))


def _not(reader: Reader, node: Node, name: str) -> Formula:
    x = reader.formula(node.inputs[0])
    return row(x.width, 1) + x.scaled(np.full(x.width, -1.0))


def _where(reader: Reader, node: Node, name: str) -> Formula:
    condition, a, b = node.inputs
    a, b = reader._pair(a, b)
    chosen = _widened(reader.formula(condition), a.width)
    return chosen * a + b + (chosen * b).scaled(np.full(a.width, -1.0))


def _matmul(reader: Reader, node: Node, name: str) -> Formula | None:
    matrix = reader.matrix(node.inputs[1])
    return None if matrix is None else reader.formula(node.inputs[0]).times(matrix)


def _gemm(reader: Reader, node: Node, name: str) -> Formula | None:
    options = attributes(node)
    matrix = reader.matrix(node.inputs[1], transposed=bool(options["transB"]), scale=options["alpha"])
    if matrix is None or options["transA"]:
        return None
    product = reader.formula(node.inputs[0]).times(matrix)
    if len(node.inputs) < 3 or not node.inputs[2]:
        return product
    c = _widened(reader.formula(node.inputs[2]), product.width)
    return product + c.scaled(np.full(c.width, options["beta"]))


def _same(reader: Reader, node: Node, name: str) -> Formula:
    return reader.formula(node.inputs[0])


def _cast(reader: Reader, node: Node, name: str) -> Formula | None:
    before = reader.tensors.get(node.inputs[0])
    if before is None or not DTYPES[node.attributes["to"]].startswith("float"):
        return None
    return reader.formula(node.inputs[0]) if before.dtype == "bool" or before.dtype.startswith("float") else None


def _moved(reader: Reader, node: Node, name: str) -> Formula | None:
    """A Squeeze, Unsqueeze or Reshape that adds or drops axes of size 1 before the last."""
    before, after = (reader.tensors[x].shape if x in reader.tensors else None for x in (node.inputs[0], name))
    if not before or not after or [s for s in before[:-1] if s != 1] != [s for s in after[:-1] if s != 1]:
        return None
    return reader.formula(node.inputs[0]) if before[-1] == after[-1] and isinstance(after[-1], int) else None


def _columns(reader: Reader, node: Node, name: str) -> Formula | None:
    """A Split or Slice of the last axis."""
    shape = reader.tensors[node.inputs[0]].shape if node.inputs[0] in reader.tensors else None
    if not shape or not isinstance(shape[-1], int):
        return None
    if node.op == "Split":
        if attributes(node)["axis"] not in (-1, len(shape) - 1):
            return None
        widths = [reader.width(output) for output in node.outputs]
        if None in widths:
            return None
        start = sum(widths[:node.outputs.index(name)])
        return reader.formula(node.inputs[0]).cut(start, start + reader.width(name))
    cut = _sliced_columns(reader, node, shape, name)
    return None if cut is None else reader.formula(node.inputs[0]).cut(cut.start, cut.stop)


def _sliced_columns(reader: Reader, node: Node, shape: tuple, name: str) -> slice | None:
    bounds = [reader.constants.get(bound) if bound else None for bound in node.inputs[1:]]
    if any(bound is None for bound, given in zip(bounds, node.inputs[1:]) if given):
        return None
    starts, ends, axes, steps = (*bounds, None, None)[:4]
    axes = range(len(starts)) if axes is None else axes.tolist()
    last = None
    for i, axis in enumerate(axes):
        if steps is not None and steps[i] != 1:
            return None
        if axis % len(shape) == len(shape) - 1:
            columns = range(shape[-1])[int(starts[i]):int(ends[i])]
            last = slice(columns.start, columns.stop)
        elif reader.tensors[name].shape is None or reader.tensors[name].shape[axis] != shape[axis]:
            return None
    return last or slice(0, shape[-1])


def _concat(reader: Reader, node: Node, name: str) -> Formula | None:
    """Values side by side: each with zeros in the columns of the others."""
    shape = reader.tensors[name].shape if name in reader.tensors else None
    if not shape or node.attributes["axis"] not in (-1, len(shape) - 1) or not isinstance(shape[-1], int):
        return None
    total, start = row(shape[-1], 0), 0
    for part in map(reader.formula, node.inputs):
        total = total + part.times(Matrix(np.eye(part.width, shape[-1], start)))
        start += part.width
    return total


_RULES: Mapping[str, Callable[[Reader, Node, str], Formula | None]] = {
    "Add": _add, "Sub": _subtract, "Mul": _multiply, "Div": _divide, "Neg": _negate, "Not": _not, "Where": _where,
    "MatMul": _matmul, "Gemm": _gemm, "Identity": _same, "Cast": _cast, "Squeeze": _moved, "Unsqueeze": _moved,
    "Reshape": _moved, "Split": _columns, "Slice": _columns, "Concat": _concat,
}
