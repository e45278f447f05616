"""What each operator says about the roles of values: a rule gives a node's Tie, or None if it never runs natively."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np

from ..activations import elementwise_activation
from ..graph import Dim, Node
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
from .roles import ACROSS, BATCH, ONE, SOURCE, TIME, WIDTH, Contradiction, Facts, Roles, Tie

_MOST_BYTES = 1 << 15  # that are summed in 32 bits
_SEQUENCE_END = -(2**31)  # a Slice that goes backwards to here or further takes the whole axis


def tie_of(node: Node, facts: Facts) -> Tie | None:
    tie = _tie_of(node, facts)
    return tie if tie is None or is_attention(node) else _of_known_width(tie, node.op in _MOVES)


def _of_known_width(tie: Tie, moves: bool) -> Tie:
    """`tie`, but weights of an attention, whose width calls decide, get or lose axes of size 1 and nothing else."""
    def imply(known: Mapping[str, Roles]) -> Mapping[str, Roles]:
        found = tie.imply(known)
        seen = {tuple(role for role in found.get(name, known.get(name, ())) if role != ONE)
                for name in tie.names if name in found or name in known}
        if any(not ACROSS.keys().isdisjoint(roles) for roles in seen) and (not moves or len(seen) > 1):
            raise Contradiction
        return found

    return Tie(tie.names, imply)


def _tie_of(node: Node, facts: Facts) -> Tie | None:
    if is_recurrent(node):
        return _recurrent(node, facts)
    if is_conv_lstm(node):
        return _conv_lstm(node, facts)
    if is_attention(node):
        return _attention(node, facts)
    if is_dynamic_product(node):
        return _dynamic_product(node, facts)
    if node.domain:
        return None
    if elementwise_activation(node, facts.constants) is not None:
        return _elementwise(node, facts)
    return _RULES[node.op](node, facts) if node.op in _RULES else None


def _alike(names: Iterable[str], width_last: bool = False, images: bool = False) -> Tie:
    """All of `names` have the same roles. `images`: the width may be several axes, of which the last one counts."""
    names = tuple(names)

    def imply(known: Mapping[str, Roles]) -> Mapping[str, Roles]:
        roles = next((known[name] for name in names if name in known), None)
        if roles is None:
            return {}
        if width_last and (roles[-1:] != (WIDTH,) or (not images and roles.count(WIDTH) > 1)):
            raise Contradiction
        return dict.fromkeys(names, roles)

    return Tie(names, imply)


def _mapped(source: str, target: str, forward: Callable[[Roles], Roles], backward: Callable[[Roles], Roles]) -> Tie:
    def imply(known: Mapping[str, Roles]) -> Mapping[str, Roles]:
        if source in known:
            return {target: forward(known[source])}
        return {source: backward(known[target])} if target in known else {}

    return Tie((source, target), imply)


def _recurrent(node: Node, facts: Facts) -> Tie | None:
    """One direction with constant weights. What else it reads and makes has fixed roles."""
    given, options = named_inputs(node), attributes(node)
    weights = [given[name] for name in WEIGHTS if given.get(name)]
    if options["direction"] == "bidirectional" or not all(name in facts.constants for name in weights):
        return None
    if is_dynamic(node) and max(facts.constants[given[name]].shape[2] for name in "WR") > _MOST_BYTES:
        return None
    rows = (BATCH, TIME) if options["layout"] else (TIME, BATCH)
    state = (BATCH, ONE, WIDTH) if options["layout"] else (ONE, BATCH, WIDTH)
    y = (*rows, ONE, WIDTH) if options["layout"] else (TIME, ONE, BATCH, WIDTH)
    roles = {"X": (*rows, WIDTH), "sequence_lens": (BATCH,), "initial_h": state, "initial_c": state, "mask": rows,
             "Y": y, "Y_h": state, "Y_c": state}
    fixed = {name: roles[formal] for formal, name in {**given, **named_outputs(node)}.items()
             if name and formal in roles}
    return Tie(tuple(fixed), lambda known: fixed)


def _conv_lstm(node: Node, facts: Facts) -> Tie | None:
    """With constant weights. Its images are rows, each with all of its elements."""
    given = named_inputs(node)
    weights = [given[name] for name in WEIGHTS if given.get(name)]
    if not all(name in facts.constants for name in weights) or facts.dtype(given["X"]) != "float32":
        return None
    image = (WIDTH,) * (facts.constants[given["W"]].ndim - 1)
    roles = {"X": (BATCH, TIME, *image), "Y": (BATCH, TIME, *image), "mask": (BATCH, TIME)}
    fixed = {name: roles.get(formal, (BATCH, *image)) for formal, name in {**given, **named_outputs(node)}.items()
             if name and formal not in WEIGHTS}
    return Tie(tuple(fixed), lambda known: fixed)


def _elementwise(node: Node, facts: Facts) -> Tie | None:
    if facts.dtype(node.inputs[0]) != "float32":
        return None
    return _alike((node.inputs[0], node.outputs[0]))


def _attention(node: Node, facts: Facts) -> Tie | None:
    """Keys and values are over the time of the queries, or over that of another sequence, the source."""
    given, made = named_inputs(node), named_outputs(node)
    q, k, shapes = given["Q"], given["K"], [facts.shape(given[name]) for name in "QKV"]
    if facts.dtype(q) != "float32" or not all(shapes) or not set(given.values()) - {""} <= set(facts.tensors):
        return None
    if any(given[name] in facts.constants for name in "QKV") or given["column"] not in {"", *facts.constants}:
        return None

    def imply(known: Mapping[str, Roles]) -> Mapping[str, Roles]:
        queries = _first_known(known, (q, ()), (made["Y"], ()), (given["query_mask"], (WIDTH,)))
        keys = _first_known(known, (k, ()), (given["V"], ()), (given["key_mask"], (WIDTH,)))
        if keys is None:
            keys = (BATCH, TIME if shapes[0][1] == shapes[1][1] else SOURCE, WIDTH)
        if queries is None and shapes[0][1] != 1:
            queries = (BATCH, TIME, WIDTH)
        if queries not in (None, (BATCH, TIME, WIDTH), (BATCH, ONE, WIDTH)):
            raise Contradiction
        if keys not in ((BATCH, TIME, WIDTH), (BATCH, SOURCE, WIDTH)):
            raise Contradiction
        found = {q: queries, made["Y"]: queries, given["query_mask"]: queries and queries[:-1],
                 k: keys, given["V"]: keys, given["key_mask"]: keys[:-1]}
        if queries:
            found[made["weights"]] = (*queries, next(role for role, over in ACROSS.items() if over == keys[1]))
        return {name: roles for name, roles in found.items() if name and roles}

    return Tie(tuple(filter(None, [*(given[name] for name in given if name != "column"), *made.values()])), imply)


def _first_known(known: Mapping[str, Roles], *values: tuple[str, Roles]) -> Roles | None:
    """The roles of the first of `values` that has any, followed by those beside its name."""
    return next((known[name] + more for name, more in values if name in known), None)


def _softmax(node: Node, facts: Facts) -> Tie | None:
    """Over the width, or over time, which logarithms are not."""
    x, y = node.inputs[0], node.outputs[0]
    shape, along = facts.shape(x), (WIDTH, TIME) if node.op == "Softmax" else (WIDTH,)
    if not shape or facts.dtype(x) != "float32":
        return None
    return _along(x, y, normal_axis(attributes(node)["axis"], len(shape)), along, lambda roles: roles)


def _along(x: str, y: str, axis: int, roles_of_axis: tuple[str, ...], result: Callable[[Roles], Roles]) -> Tie:
    """`axis` of x has one of these roles; y has the roles that `result` makes of x's."""
    def imply(known: Mapping[str, Roles]) -> Mapping[str, Roles]:
        if x not in known:
            return {}
        if known[x][axis] not in roles_of_axis or (known[x][axis] == WIDTH and known[x].count(WIDTH) > 1):
            raise Contradiction
        return {y: result(known[x])}

    return Tie((x, y), imply)


def _reduction(node: Node, facts: Facts) -> Tie | None:
    """Over time."""
    x, y = node.inputs[0], node.outputs[0]
    shape, axes = facts.shape(x), facts.ints(node.inputs[1]) if len(node.inputs) > 1 else None
    if not shape or facts.dtype(x) != "float32" or axes is None or len(axes) != 1:
        return None
    axis, kept = normal_axis(axes[0], len(shape)), (ONE,) * attributes(node)["keepdims"]
    return _along(x, y, axis, (TIME, ONE), lambda roles: roles[:axis] + kept + roles[axis + 1:])


def _cast(node: Node, facts: Facts) -> Tie | None:
    """A mask as numbers, which may have a width of 1 where the mask has an axis of size 1."""
    x, y = node.inputs[0], node.outputs[0]
    if (facts.dtype(x), facts.dtype(y)) != ("bool", "float32"):
        return None

    def without_width(roles: Roles) -> Roles:
        return tuple(ONE if role == WIDTH else role for role in roles)

    def imply(known: Mapping[str, Roles]) -> Mapping[str, Roles]:
        if x in known and without_width(known.get(y, ())) != known[x]:
            return {y: known[x]}
        return {x: without_width(known[y])} if y in known else {}

    return Tie((x, y), imply)


def _weighted_sum(node: Node, facts: Facts) -> Tie | None:
    """A row of weights for each sequence times the rows of its steps."""
    weights, x = node.inputs
    shapes = facts.shape(weights), facts.shape(x)
    if any(shape is None or len(shape) != 3 for shape in shapes) or facts.dtype(x) != "float32":
        return None
    if shapes[0][1] != 1 or shapes[0][2] != shapes[1][1] or shapes[1][1] == 1:
        return None
    fixed = {weights: (BATCH, ONE, TIME), x: (BATCH, TIME, WIDTH), node.outputs[0]: (BATCH, ONE, WIDTH)}
    return Tie(tuple(fixed), lambda known: fixed)


def _matmul(node: Node, facts: Facts) -> Tie | None:
    x, w = node.inputs
    if not {x, w} & set(facts.constants):
        return _weighted_sum(node, facts)
    if w not in facts.constants or facts.constants[w].ndim != 2 or facts.dtype(x) != "float32":
        return None
    return _alike((x, node.outputs[0]), width_last=True)


def _dynamic_product(node: Node, facts: Facts) -> Tie | None:
    """Of a sequence by itself: batch_axis is the batch's, or there is one sequence."""
    x, *rest = node.inputs
    shape, axis = facts.shape(x), attributes(node)["batch_axis"]
    if facts.dtype(x) != "float32" or not shape or not set(rest) <= set(facts.constants):
        return None
    if facts.constants[rest[0]].shape[0] > _MOST_BYTES:
        return None

    def imply(known: Mapping[str, Roles]) -> Mapping[str, Roles]:
        roles = known.get(x, known.get(node.outputs[0]))
        if roles is None:
            return {}
        is_one = BATCH not in roles or shape[roles.index(BATCH)] == 1
        if roles[-1] != WIDTH or (roles[axis] != BATCH if axis >= 0 else not is_one):
            raise Contradiction
        return {x: roles, node.outputs[0]: roles}

    return Tie((x, node.outputs[0]), imply)


def _gemm(node: Node, facts: Facts) -> Tie | None:
    x, *rest = filter(None, node.inputs)
    if attributes(node)["transA"] or facts.dtype(x) != "float32" or not all(name in facts.constants for name in rest):
        return None
    if len(rest) == 2 and row(facts.constants[rest[1]], facts.shape(node.outputs[0])) is None:
        return None
    return _alike((x, node.outputs[0]), width_last=True)


def _arithmetic(node: Node, facts: Facts) -> Tie | None:
    """Of two values, of one shape or the second one with less, or of a value and a constant row."""
    out = node.outputs[0]
    shape = facts.shape(out)
    if facts.dtype(out) != "float32" or not shape or None in shape:
        return None
    if node.op == "Div" and node.inputs[0] in facts.constants:
        return None
    values = [name for name in node.inputs if name not in facts.constants]
    rows = [facts.constants[name] for name in node.inputs if name in facts.constants]
    if not values or any(row(r, shape) is None for r in rows):
        return None
    smaller = [name for name in values if facts.shape(name) != shape]
    if smaller:
        return _with_smaller(node, facts, smaller)
    return _alike((*values, out), width_last=bool(rows), images=True)


def smaller_first(node: Node, facts: Facts) -> bool:
    """Whether the first of two values that arithmetic combines is the smaller one."""
    return facts.shape(node.inputs[0]) != facts.shape(node.outputs[0])


def _with_smaller(node: Node, facts: Facts, smaller: list[str]) -> Tie | None:
    """One value has a row for each sequence, or a width of 1, for all that the other has."""
    if len(node.inputs) != 2 or len(smaller) != 1 or set(node.inputs) & set(facts.constants):
        return None
    if smaller_first(node, facts) and node.op not in ("Add", "Mul"):
        return None
    (part,), out = smaller, node.outputs[0]
    (whole,) = (name for name in node.inputs if name != part)
    small, shape = facts.shape(part), facts.shape(out)
    if small is None or facts.shape(whole) != shape or len(small) != len(shape):
        return None
    if any(a not in (1, b) for a, b in zip(small, shape)):
        return None

    def imply(known: Mapping[str, Roles]) -> Mapping[str, Roles]:
        roles = known.get(out, known.get(whole))
        if roles is None:
            return {}
        if any(role == BATCH and a != b for role, a, b in zip(roles, small, shape)) or roles.count(WIDTH) != 1:
            raise Contradiction
        found = tuple(ONE if role == TIME and a != b else role for role, a, b in zip(roles, small, shape))
        if small[-1] == 1 and known.get(part) == (*found[:-1], ONE):  # a width of 1, as it comes from elsewhere
            found = known[part]
        return {out: roles, whole: roles, part: found}

    return Tie((out, whole, part), imply)


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
    if facts.dtype(data) != "float32" or not shape or {data, indices} <= set(facts.constants):
        return None
    if data in facts.constants:
        if normal_axis(axis, len(shape)) != 0 or len(shape) != 2 or not shape[0]:
            return None
        return _mapped(indices, node.outputs[0], lambda roles: (*roles, WIDTH), _without_width)
    if facts.shape(indices) != () or facts.ints(indices) not in ([0], [-1]):
        return None
    axis = normal_axis(axis, len(shape))

    def one_step(roles: Roles) -> Roles:
        if roles[axis] not in (TIME, ONE):
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
        if roles[axis] not in (TIME, ONE):
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


def _where(node: Node, facts: Facts) -> Tie | None:
    """Scores that a mask of each step hides: of a value without a width and a number."""
    mask, *choices = node.inputs
    shape, values = facts.shape(node.outputs[0]), [name for name in choices if name not in facts.constants]
    numbers = [facts.constants[name].size == 1 for name in choices if name in facts.constants]
    if mask in facts.constants or facts.dtype(node.outputs[0]) != "float32" or len(values) != 1 or not all(numbers):
        return None
    if not shape or None in shape or any(facts.shape(name) != shape for name in (mask, *values)):
        return None
    names = (*values, node.outputs[0], mask)

    def imply(known: Mapping[str, Roles]) -> Mapping[str, Roles]:
        roles = next((known[name] for name in names if name in known), ())
        if WIDTH in roles:
            raise Contradiction
        return dict.fromkeys(names, roles) if roles else {}

    return Tie(names, imply)


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


def _keeps_images(roles: Roles, pairs: list[tuple[int, int]]) -> bool:
    """Whether the axes of an image keep their order."""
    targets = [target for axis, target in sorted(pairs) if roles[axis] == WIDTH]
    return len(targets) == roles.count(WIDTH) and targets == sorted(targets)


def _moved(node: Node, facts: Facts, pairs: list[tuple[int, int]]) -> Tie | None:
    source, target = node.inputs[0], node.outputs[0]
    before, after = facts.shape(source), facts.shape(target)
    if source in facts.constants or before is None or after is None:
        return None
    floats = facts.dtype(source) == "float32"

    def carry(roles: Roles, pairs: list[tuple[int, int]], old: tuple[Dim, ...], new: tuple[Dim, ...]) -> Roles | None:
        moved, rank = dict(pairs), len(new)
        if roles.count(WIDTH) > 1 and not _keeps_images(roles, pairs):
            raise Contradiction
        gone = {role: old[axis] for axis, role in enumerate(roles) if axis not in moved}
        if gone.keys() & {TIME, SOURCE} or gone.get(BATCH, 1) != 1:
            raise Contradiction
        carried = [ONE] * rank
        for axis, new_axis in pairs:
            carried[new_axis] = roles[axis]
        added = [axis for axis in range(rank) if axis not in moved.values()]
        if BATCH not in carried and added:  # one of them is that of the only sequence
            if len(added) > 1:
                return None
            carried[added[0]] = BATCH
        if floats and WIDTH in carried[:-1] and new[carried.index(WIDTH)] == 1:
            carried[carried.index(WIDTH)] = ONE
        elif floats and rank and WIDTH not in carried and rank - 1 not in moved.values():
            carried[-1] = WIDTH  # a width of 1 comes and goes as an axis of size 1 does
        return tuple(carried)

    def imply(known: Mapping[str, Roles]) -> Mapping[str, Roles]:
        forward = carry(known[source], pairs, before, after) if source in known else None
        if forward is not None:
            return {target: forward}
        backward = carry(known[target], [(j, i) for i, j in pairs], after, before) if target in known else None
        return {} if backward is None else {source: backward}

    return Tie((source, target), imply)


_MOVES = frozenset(("Transpose", "Squeeze", "Unsqueeze", "Reshape"))
_RULES = {
    "Softmax": _softmax, "LogSoftmax": _softmax, "MatMul": _matmul, "Gemm": _gemm, "Add": _arithmetic,
    "Sub": _arithmetic, "Mul": _arithmetic, "Div": _arithmetic, "Concat": _concat, "Gather": _gather,
    "Slice": _slice, "Equal": _equal, "Not": _not, "Pow": _power, "HardSwish": _elementwise, "LayerNormalization": _layer_normalization,
    "BatchNormalization": _batch_normalization, "Split": _split, "Transpose": _transpose, "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze, "Reshape": _reshape, "ReduceSum": _reduction, "ReduceMean": _reduction,
    "ReduceMax": _reduction, "Cast": _cast, "Where": _where,
}
