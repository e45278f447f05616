"""About how long nodes take where they run with NumPy or onnxruntime, as measured on one core: it decides who runs them."""

from __future__ import annotations

import math
from collections.abc import Iterable

from ..graph import Node
from ..operators import attributes, is_conv_lstm, is_recurrent, named_inputs
from .host_ops import hands_parts_on, is_exact
from .roles import Facts

# All in microseconds.
SESSION = 8.0  # a call of onnxruntime, with nothing in it
_IN_SESSION, _MOVE_IN_SESSION, _ELEMENT_IN_SESSION = 0.75, 0.4, 0.00025
_MULTIPLY_ADDS_IN_SESSION, _OF_IMAGES = 40e3, 90e3  # of a microsecond; convolutions over two axes have kernels of their own
_GROUP_IN_SESSION = 0.8  # of a convolution: a product each, but where a group is a channel
_PART, _EXACT, _COMPUTED = 1.2, 2.5, 6.0  # a node with NumPy, by what host_ops.py knows of it
_EXACT_ELEMENT, _COMPUTED_ELEMENT = 0.002, 0.01
_SLOW = {"Conv": 80.0, "ConvTranspose": 80.0, "MaxPool": 60.0, "AveragePool": 60.0, "TopK": 15.0}  # and more than others
_MULTIPLY_ADDS = 1e3
PROGRAM, _STEP, _ELEMENT, _MULTIPLY_ADDS_NATIVE = 3.5, 0.15, 0.0004, 55e3
_LAYER, _TIME_STEP, _MULTIPLY_ADDS_RECURRENT = 0.3, 0.1, 34e3
_LAYER_IN_SESSION, _TIME_STEP_IN_SESSION, _MULTIPLY_ADDS_RECURRENT_IN_SESSION = 1.5, 0.2, 32e3
_UNKNOWN = 16  # elements along an axis of any size
_RENAMES = frozenset(("Flatten", "Identity", "Reshape", "Shape", "Squeeze", "Unsqueeze"))


def native(nodes: Iterable[Node], facts: Facts) -> float:
    """Of a native program, without its attentions, which run in no other way."""
    total = PROGRAM
    for node in nodes:
        total += _STEP + _ELEMENT * _elements(node, facts) + _multiply_adds(node, facts) / _MULTIPLY_ADDS_NATIVE
        total += recurrent(node, facts) if is_recurrent(node) else 0
    return total


def recurrent(node: Node, facts: Facts) -> float:
    """Of a recurrent layer in a native program."""
    steps, products = _of_recurrent(node, facts)
    return _LAYER + steps * (_TIME_STEP + products / _MULTIPLY_ADDS_RECURRENT)


def _of_recurrent(node: Node, facts: Facts) -> tuple[int, int]:
    """Its time steps, and the multiply-adds of each."""
    given, options = named_inputs(node), attributes(node)
    x, r = facts.shape(given["X"]) or (None, None, _UNKNOWN), facts.shape(given["R"])
    batch, steps = x[:2] if options["layout"] else x[1::-1]
    inputs = x[2] if given.get("W") and isinstance(x[2], int) else 0
    batch, steps = batch if isinstance(batch, int) else 1, steps if isinstance(steps, int) else _UNKNOWN
    gates, hidden = r[-2:] if r and all(isinstance(size, int) for size in r[-2:]) else (_UNKNOWN, _UNKNOWN)
    return steps, batch * gates * (inputs + hidden)


def session(nodes: Iterable[Node], facts: Facts) -> float:
    return SESSION + in_session(nodes, facts)


def in_session(nodes: Iterable[Node], facts: Facts) -> float:
    """Of all `nodes` in one session, without the call itself."""
    total = 0.0
    for node in nodes:
        if is_recurrent(node):
            steps, products = _of_recurrent(node, facts)
            total += _LAYER_IN_SESSION + steps * (_TIME_STEP_IN_SESSION + products / _MULTIPLY_ADDS_RECURRENT_IN_SESSION)
        elements = _elements(node, facts)
        total += (_MOVE_IN_SESSION if node.op in _RENAMES else _IN_SESSION) + _ELEMENT_IN_SESSION * elements
        rate = _OF_IMAGES if node.op == "Conv" and len(facts.shape(node.inputs[1]) or ()) > 3 else _MULTIPLY_ADDS_IN_SESSION
        total += _multiply_adds(node, facts) / rate + _GROUP_IN_SESSION * _products(node, facts)
    return total


def _products(node: Node, facts: Facts) -> int:
    """That onnxruntime makes of a convolution, one after the other."""
    groups, w = node.attributes.get("group", 1), facts.shape(node.inputs[1]) if len(node.inputs) > 1 else None
    return 0 if groups == 1 or (node.op == "Conv" and w and w[:2] == (groups, 1)) else groups


def with_numpy(node: Node, facts: Facts) -> float:
    if hands_parts_on(node, {name: facts.dtype(name) for name in (*node.reads, *node.outputs)}, facts.constants):
        return _PART
    elements = _elements(node, facts)
    if node.op == "Cast" or (is_exact(node) and node.op not in _SLOW):
        return _EXACT + _EXACT_ELEMENT * elements
    return _SLOW.get(node.op, _COMPUTED) + _COMPUTED_ELEMENT * elements + _multiply_adds(node, facts) / _MULTIPLY_ADDS


def _elements(node: Node, facts: Facts) -> int:
    """Of what a node makes, and of what it reads where that is more; none where it touches none."""
    if node.op in _RENAMES:
        return 0
    return max((_count(facts.shape(name)) for name in (*node.outputs, *node.inputs[:1]) if name), default=0)


def _count(shape: tuple | None) -> int:
    """Elements. A free first axis is most often that of the batch, which counts as 1, as it does in programs of flat.py."""
    sizes = [size if isinstance(size, int) else _UNKNOWN for size in shape or ()]
    return math.prod(sizes[1:] if sizes and not isinstance(shape[0], int) else sizes)


def _multiply_adds(node: Node, facts: Facts) -> float:
    if node.op in ("Conv", "ConvTranspose"):
        w = facts.shape(node.inputs[1]) or ()
        seen = node.inputs[0] if node.op == "ConvTranspose" else node.outputs[0]  # each element meets one of `w`'s rows
        return _count(facts.shape(seen)) * _count(w[1:])
    if is_conv_lstm(node):  # each element of four gates meets a row of W and one of R
        made, (w, r) = next(filter(None, node.outputs)), map(facts.shape, node.inputs[1:3])
        return 4 * _count(facts.shape(made)) * (_count((w or ())[1:]) + _count((r or ())[1:]))
    if node.op in ("MatMul", "Gemm", "MatMulInteger", "QLinearMatMul", "Einsum"):
        x = facts.shape(node.inputs[0]) or (_UNKNOWN,)
        inner = x[-1] if isinstance(x[-1], int) else _UNKNOWN
        return _count(facts.shape(node.outputs[0])) * inner
    return 0
