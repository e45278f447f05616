"""Which nodes of a graph can run as one native program.

The C core knows values as matrices: rows (batch, batch x time or time x batch) by a width. A graph's values have axes.
Within a program every axis of a value plays one role: it runs over the batch, over time, over the width, or it has
size 1 and means nothing. A recurrent node fixes the roles of what it touches; every other node hands roles on between
its inputs and outputs, in both directions; a node that contradicts them does not belong to this program.
"""

from __future__ import annotations

from collections import ChainMap
from typing import Callable, Iterable, Mapping, NamedTuple

import numpy as np

from .activations import elementwise_activation
from .graph import Dim, Graph, Node
from .operators import attributes, is_recurrent, named_inputs, named_outputs
from .shapes import Tensor, normal_axis

BATCH, TIME, WIDTH, ONE = "batch", "time", "width", "one"
Roles = "tuple[str, ...]"  # of the four above, one for each axis

ROWS = {(BATCH,): "batch", (BATCH, TIME): "batch_time", (TIME, BATCH): "time_batch"}
DTYPES = {"float32": "f32", "int64": "i64", "int32": "i64", "bool": "bool"}
_WIDEST = 1 << 28  # floats in a row
_SEQUENCE_END = -(2**31)  # a Slice that goes backwards to here or further takes the whole axis


class Contradiction(Exception):
    """Roles that do not go together."""


class Facts(NamedTuple):
    """What the rules look up about a graph."""

    tensors: Mapping[str, Tensor]
    constants: Mapping[str, np.ndarray]
    consumers: Mapping[str, list[Node]]
    producers: Mapping[str, Node]
    outputs: frozenset[str]

    @classmethod
    def of(cls, graph: Graph, tensors: Mapping[str, Tensor]) -> Facts:
        return cls(tensors, graph.constants, graph.consumers(), graph.producers(),
                   frozenset(value.name for value in graph.outputs))

    def shape(self, name: str) -> tuple[Dim, ...] | None:
        return self.tensors[name].shape if name in self.tensors else None

    def dtype(self, name: str) -> str | None:
        return self.tensors[name].dtype if name in self.tensors else None

    def read_once(self, name: str) -> bool:
        return len(self.consumers.get(name, ())) == 1 and name not in self.outputs

    def used(self, name: str) -> bool:
        return name in self.consumers or name in self.outputs

    def ints(self, name: str) -> list[int] | None:
        """The elements of a constant, or None if it is no constant of integers."""
        constant = self.constants.get(name)
        return None if constant is None or constant.dtype.kind not in "iu" else constant.ravel().tolist()


class Tie(NamedTuple):
    """What a node says about the roles of the values `names`: the known roles of some imply the roles of others."""

    names: tuple[str, ...]
    imply: Callable[[Mapping[str, Roles]], Mapping[str, Roles]]


class Region:
    """A growing set of nodes that one native program can hold, in execution order."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.nodes: list[Node] = []
        self.roles: dict[str, Roles] = {}
        self._ties: list[Tie] = []
        self._touching: dict[str, list[Tie]] = {}
        self._sizes: dict[str, Dim] = {}

    def take(self, node: Node) -> bool:
        """Adds `node` if it can run natively and its roles and its batch and time sizes agree with the region's."""
        tie = _tie(node, self.facts)
        if tie is None or not self._spread([tie], {}):
            return False
        self.nodes.append(node)
        self._ties.append(tie)
        for name in tie.names:
            self._touching.setdefault(name, []).append(tie)
        return True

    def settle(self) -> list[Node]:
        """Gives what no recurrent node reaches its usual roles; returns the nodes for which they do not work out."""
        return [node for node, tie in zip(self.nodes, self._ties) if not all(map(self._settle, tie.names))]

    def _settle(self, name: str) -> bool:
        return name in self.roles or self._spread(self._touching[name], {name: self._usual(name)})

    def _usual(self, name: str) -> Roles:
        """Floats have their width last; rows are batch, then time."""
        rank = len(self.facts.shape(name) or ())
        if self.facts.dtype(name) == "float32" and rank > 1:
            return (BATCH, TIME)[:rank - 1] + (ONE,) * (rank - 3) + (WIDTH,)
        return (BATCH, TIME)[:rank] + (ONE,) * (rank - 2)

    def _spread(self, ties: list[Tie], new: dict[str, Roles]) -> bool:
        """Follows `ties` from the known and the `new` roles; keeps all of them if nothing is contradicted."""
        known, sizes = ChainMap(new, self.roles), dict(self._sizes)
        queue = list(ties)
        try:
            for name, roles in new.items():
                self._check(name, roles, sizes)
            while queue:
                tie = queue.pop()
                for name, roles in tie.imply(known).items():
                    if name not in known:
                        self._check(name, roles, sizes)
                        new[name] = roles
                        queue += [tie, *self._touching.get(name, ())]
                    elif known[name] != roles:
                        return False
        except Contradiction:
            return False
        self.roles.update(new)
        self._sizes = sizes
        return True

    def _check(self, name: str, roles: Roles, sizes: dict[str, Dim]) -> None:
        """Raises Contradiction unless a native value can have these roles and the region's `sizes`, which it fills."""
        shape = self.facts.shape(name)
        if shape is None or len(shape) != len(roles) or self.facts.dtype(name) not in DTYPES:
            raise Contradiction
        seen = tuple(role for role in roles if role != ONE)
        if (seen[:-1] if seen[-1:] == (WIDTH,) else seen) not in ROWS:
            raise Contradiction
        for role, size in zip(roles, shape):
            if (role == ONE and size != 1) or (role == WIDTH and not (isinstance(size, int) and size <= _WIDEST)):
                raise Contradiction
            if role in (BATCH, TIME) and size is not None:
                if not self._same(sizes.setdefault(role, size), size):
                    raise Contradiction

    def _same(self, a: Dim, b: Dim) -> bool:
        """Sizes must be the same for sure, but the inputs of a first node fit one another by its own definition."""
        return a == b or (not self.nodes and not (isinstance(a, int) and isinstance(b, int)))


# ---- a rule for each operator: the node's Tie, or None if it never runs natively ----


def _tie(node: Node, facts: Facts) -> Tie | None:
    if is_recurrent(node):
        return _recurrent(node, facts)
    if node.domain:
        return None
    if elementwise_activation(node, facts.constants) is not None:
        return _elementwise(node, facts)
    return _RULES[node.op](node, facts) if node.op in _RULES else None


def _alike(names: Iterable[str], width_last: bool = False) -> Tie:
    """All of `names` have the same roles."""
    names = tuple(names)

    def imply(known: Mapping[str, Roles]) -> Mapping[str, Roles]:
        roles = next((known[name] for name in names if name in known), None)
        if roles is None:
            return {}
        if width_last and roles[-1:] != (WIDTH,):
            raise Contradiction
        return dict.fromkeys(names, roles)

    return Tie(names, imply)


def _mapped(source: str, target: str, forward: Callable[[Roles], Roles], backward: Callable[[Roles], Roles]) -> Tie:
    def imply(known: Mapping[str, Roles]) -> Mapping[str, Roles]:
        if target in known:
            return {source: backward(known[target])}
        return {target: forward(known[source])} if source in known else {}

    return Tie((source, target), imply)


def _recurrent(node: Node, facts: Facts) -> Tie | None:
    """One direction with constant weights. What else it reads and makes has fixed roles."""
    given, options = named_inputs(node), attributes(node)
    weights = [given[name] for name in ("W", "R", "B", "P") if given.get(name)]
    if options["direction"] == "bidirectional" or not all(name in facts.constants for name in weights):
        return None
    rows = (BATCH, TIME) if options["layout"] else (TIME, BATCH)
    state = (BATCH, ONE, WIDTH) if options["layout"] else (ONE, BATCH, WIDTH)
    y = (*rows, ONE, WIDTH) if options["layout"] else (TIME, ONE, BATCH, WIDTH)
    roles = {"X": (*rows, WIDTH), "sequence_lens": (BATCH,), "initial_h": state, "initial_c": state, "mask": rows,
             "Y": y, "Y_h": state, "Y_c": state}
    fixed = {name: roles[formal] for formal, name in {**given, **named_outputs(node)}.items()
             if name and formal in roles}
    return Tie(tuple(fixed), lambda known: fixed)


def _elementwise(node: Node, facts: Facts) -> Tie | None:
    if facts.dtype(node.inputs[0]) != "float32":
        return None
    return _alike((node.inputs[0], node.outputs[0]))


def _softmax(node: Node, facts: Facts) -> Tie | None:
    shape = facts.shape(node.inputs[0])
    if not shape or normal_axis(attributes(node)["axis"], len(shape)) != len(shape) - 1:
        return None
    return _alike((node.inputs[0], node.outputs[0]), width_last=True)


def _matmul(node: Node, facts: Facts) -> Tie | None:
    x, w = node.inputs
    if w not in facts.constants or facts.constants[w].ndim != 2 or facts.dtype(x) != "float32":
        return None
    return _alike((x, node.outputs[0]), width_last=True)


def _gemm(node: Node, facts: Facts) -> Tie | None:
    x, *rest = filter(None, node.inputs)
    if attributes(node)["transA"] or facts.dtype(x) != "float32" or not all(name in facts.constants for name in rest):
        return None
    if len(rest) == 2 and row(facts.constants[rest[1]], facts.shape(node.outputs[0])) is None:
        return None
    return _alike((x, node.outputs[0]), width_last=True)


def _arithmetic(node: Node, facts: Facts) -> Tie | None:
    """Of two values of one shape, or of a value and a constant row."""
    out = node.outputs[0]
    shape = facts.shape(out)
    if facts.dtype(out) != "float32" or not shape or None in shape:
        return None
    if node.op == "Div" and node.inputs[0] in facts.constants:
        return None
    values = [name for name in node.inputs if name not in facts.constants]
    rows = [facts.constants[name] for name in node.inputs if name in facts.constants]
    if not values or any(facts.shape(name) != shape for name in values) or any(row(r, shape) is None for r in rows):
        return None
    return _alike((*values, out), width_last=bool(rows))


def row(constant: np.ndarray, shape: tuple[Dim, ...] | None) -> np.ndarray | None:
    """`constant` as the float32 vector (width,) that it adds to each row of `shape`, or None if it is no such thing."""
    if not shape or not isinstance(shape[-1], int) or constant.ndim > len(shape) or constant.size not in (1, shape[-1]):
        return None
    if constant.size > 1 and constant.shape[-1] != constant.size:
        return None
    return np.ascontiguousarray(np.broadcast_to(constant.reshape(-1), shape[-1:]), np.float32)


def _power(node: Node, facts: Facts) -> Tie | None:
    """A square."""
    exponent = facts.constants.get(node.inputs[1])
    if exponent is None or exponent.size != 1 or exponent.reshape(()) != 2:
        return None
    return _elementwise(node, facts) if exponent.ndim <= len(facts.shape(node.inputs[0]) or ()) else None


def _layer_normalization(node: Node, facts: Facts) -> Tie | None:
    """Over the width, its scale and shift constant."""
    shape, options = facts.shape(node.inputs[0]), attributes(node)
    if not shape or facts.dtype(node.inputs[0]) != "float32" or any(map(facts.used, filter(None, node.outputs[1:]))):
        return None
    if normal_axis(options["axis"], len(shape)) != len(shape) - 1 or not _constant_rows(node.inputs[1:], shape, facts):
        return None
    return _alike((node.inputs[0], node.outputs[0]), width_last=True)


def _batch_normalization(node: Node, facts: Facts) -> Tie | None:
    """Of rows: its channels are the width."""
    shape = facts.shape(node.inputs[0])
    if not shape or len(shape) != 2 or facts.dtype(node.inputs[0]) != "float32":
        return None
    if not _constant_rows(node.inputs[1:], shape, facts):
        return None
    return _alike((node.inputs[0], node.outputs[0]), width_last=True)


def _constant_rows(names: Iterable[str], shape: tuple[Dim, ...], facts: Facts) -> bool:
    return all(name in facts.constants and row(facts.constants[name], shape) is not None for name in names if name)


def _split(node: Node, facts: Facts) -> Tie | None:
    """Along the width."""
    shapes = [facts.shape(name) for name in (node.inputs[0], *node.outputs)]
    if facts.dtype(node.inputs[0]) != "float32" or not all(shapes) or not all(node.outputs):
        return None
    if normal_axis(attributes(node)["axis"], len(shapes[0])) != len(shapes[0]) - 1:
        return None
    if not all(isinstance(shape[-1], int) and shape[-1] > 0 for shape in shapes):
        return None
    return _alike((node.inputs[0], *node.outputs), width_last=True)


def column_slice(node: Node, facts: Facts) -> tuple[int, int] | None:
    """The first column and the number of columns that a Slice takes out of the width, or None if it does nothing such."""
    data, starts, ends, axes, steps = named_inputs(node).values()
    shape, first, last = facts.shape(data), facts.ints(starts), facts.ints(ends)
    if not shape or not isinstance(shape[-1], int) or first is None or last is None or len(first) != 1:
        return None
    axis = facts.ints(axes) if axes else [0]
    if axis is None or normal_axis(axis[0], len(shape)) != len(shape) - 1 or (steps and facts.ints(steps) != [1]):
        return None
    taken = range(shape[-1])[first[0]:last[0]]
    return (taken.start, len(taken)) if len(taken) else None


def _concat(node: Node, facts: Facts) -> Tie | None:
    shape = facts.shape(node.outputs[0])
    if facts.dtype(node.outputs[0]) != "float32" or not shape or any(name in facts.constants for name in node.inputs):
        return None
    if normal_axis(attributes(node)["axis"], len(shape)) != len(shape) - 1:
        return None
    return _alike((*node.inputs, node.outputs[0]), width_last=True)


def _gather(node: Node, facts: Facts) -> Tie | None:
    """Rows of a constant table, or the first or last step of a sequence."""
    data, indices = node.inputs
    axis, shape = attributes(node)["axis"], facts.shape(data)
    if facts.dtype(data) != "float32" or not shape:
        return None
    if data in facts.constants and indices not in facts.constants:
        if normal_axis(axis, len(shape)) != 0 or len(shape) != 2:
            return None
        return _mapped(indices, node.outputs[0], lambda roles: (*roles, WIDTH), _without_width)
    if facts.shape(indices) != () or facts.ints(indices) not in ([0], [-1]):
        return None
    axis = normal_axis(axis, len(shape))

    def one_step(roles: Roles) -> Roles:
        if roles[axis] != TIME:
            raise Contradiction
        return roles[:axis] + roles[axis + 1:]

    return _mapped(data, node.outputs[0], one_step, lambda roles: roles[:axis] + (TIME,) + roles[axis:])


def _without_width(roles: Roles) -> Roles:
    if roles[-1:] != (WIDTH,):
        raise Contradiction
    return roles[:-1]


def _slice(node: Node, facts: Facts) -> Tie | None:
    """Some columns, or all steps of a sequence, the last one first."""
    if facts.dtype(node.inputs[0]) == "float32" and column_slice(node, facts):
        return _alike((node.inputs[0], node.outputs[0]), width_last=True)
    data, starts, ends, axes, steps = named_inputs(node).values()
    shape, end = facts.shape(data), facts.ints(ends)
    if not shape or facts.dtype(data) != "float32" or not end or end[0] > _SEQUENCE_END:
        return None
    if facts.ints(starts) != [-1] or facts.ints(steps) != [-1] or not facts.ints(axes):
        return None
    axis = normal_axis(facts.ints(axes)[0], len(shape))

    def imply(known: Mapping[str, Roles]) -> Mapping[str, Roles]:
        roles = known.get(data, known.get(node.outputs[0]))
        if roles is None:
            return {}
        if roles[axis] != TIME:
            raise Contradiction
        return {data: roles, node.outputs[0]: roles}

    return Tie((data, node.outputs[0]), imply)


def _not(node: Node, facts: Facts) -> Tie | None:
    """Together with the Equal before it: ids != constant."""
    equal = facts.producers.get(node.inputs[0])
    if equal is None or _equal(equal, facts) is None:
        return None
    return _alike((node.inputs[0], node.outputs[0]))


def _equal(node: Node, facts: Facts) -> Tie | None:
    if node.op != "Equal" or facts.dtype(node.inputs[0]) not in ("int64", "int32"):
        return None
    readers = facts.consumers.get(node.outputs[0], ())
    if not facts.read_once(node.outputs[0]) or (readers[0].domain, readers[0].op) != ("", "Not"):
        return None
    if len(facts.ints(node.inputs[1]) or ()) != 1:
        return None
    return _alike((node.inputs[0], node.outputs[0]))


# ---- nodes that move axes: pairs of axes (source, target) keep their roles ----


def _transpose(node: Node, facts: Facts) -> Tie | None:
    shape = facts.shape(node.inputs[0])
    perm = attributes(node)["perm"] or tuple(reversed(range(len(shape or ()))))
    return _moved(node, facts, [(axis, i) for i, axis in enumerate(perm)])


def _squeeze(node: Node, facts: Facts) -> Tie | None:
    shape = facts.shape(node.inputs[0])
    axes = facts.ints(node.inputs[1]) if len(node.inputs) > 1 else None
    if shape is None or axes is None:
        return None
    gone = {normal_axis(axis, len(shape)) for axis in axes}
    kept = [axis for axis in range(len(shape)) if axis not in gone]
    return _moved(node, facts, [(axis, i) for i, axis in enumerate(kept)])


def _unsqueeze(node: Node, facts: Facts) -> Tie | None:
    shape, axes = facts.shape(node.outputs[0]), facts.ints(node.inputs[1])
    if shape is None or axes is None:
        return None
    new = {normal_axis(axis, len(shape)) for axis in axes}
    kept = [axis for axis in range(len(shape)) if axis not in new]
    return _moved(node, facts, [(i, axis) for i, axis in enumerate(kept)])


def _reshape(node: Node, facts: Facts) -> Tie | None:
    """A Reshape that only adds or drops axes of size 1."""
    before, after = facts.shape(node.inputs[0]), facts.shape(node.outputs[0])
    if before is None or after is None or None in before + after:
        return None
    pairs, i, j = [], 0, 0
    while i < len(before) and j < len(after):
        if before[i] == after[j]:
            pairs.append((i, j))
            i, j = i + 1, j + 1
        elif before[i] == 1:
            i += 1
        elif after[j] == 1:
            j += 1
        else:
            return None
    if any(size != 1 for size in before[i:] + after[j:]):
        return None
    return _moved(node, facts, pairs)


def _moved(node: Node, facts: Facts, pairs: list[tuple[int, int]]) -> Tie | None:
    source, target = node.inputs[0], node.outputs[0]
    if source in facts.constants or facts.shape(source) is None or facts.shape(target) is None:
        return None
    floats = facts.dtype(source) == "float32"

    def carry(roles: Roles, pairs: list[tuple[int, int]], rank: int) -> Roles:
        moved = dict(pairs)
        if any(role in (BATCH, TIME) and axis not in moved for axis, role in enumerate(roles)):
            raise Contradiction
        carried = [ONE] * rank
        for axis, new_axis in pairs:
            carried[new_axis] = roles[axis]
        if floats and rank and WIDTH not in carried and rank - 1 not in moved.values():
            carried[-1] = WIDTH  # a width of 1 comes and goes as an axis of size 1 does
        return tuple(carried)

    back = [(j, i) for i, j in pairs]
    return _mapped(source, target, lambda roles: carry(roles, pairs, len(facts.shape(target))),
                   lambda roles: carry(roles, back, len(facts.shape(source))))


_RULES = {
    "Softmax": _softmax, "LogSoftmax": _softmax, "MatMul": _matmul, "Gemm": _gemm, "Add": _arithmetic,
    "Sub": _arithmetic, "Mul": _arithmetic, "Div": _arithmetic, "Concat": _concat, "Gather": _gather, "Slice": _slice, "Equal": _equal, "Not": _not,
    "Pow": _power, "HardSwish": _elementwise, "LayerNormalization": _layer_normalization,
    "BatchNormalization": _batch_normalization, "Split": _split, "Transpose": _transpose, "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze, "Reshape": _reshape,
}
