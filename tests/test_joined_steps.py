"""Layers that exporters write out step by step become one layer of the sequence; what is not the same at every step stays."""

from __future__ import annotations

import numpy as np
import pytest

from lstmrt import passes, reference
from lstmrt.graph import Graph, Node, Value

BATCH, TIME, WIDTH, UNITS = 2, 5, 3, 4
RANDOM = np.random.default_rng(11)
CONSTANTS = {
    "W": RANDOM.normal(size=(WIDTH, UNITS)).astype(np.float32), "Wt": RANDOM.normal(size=(UNITS, WIDTH)).astype(np.float32),
    "b": RANDOM.normal(size=UNITS).astype(np.float32), "other": RANDOM.normal(size=(WIDTH, UNITS)).astype(np.float32),
    "rows": RANDOM.normal(size=(BATCH, UNITS)).astype(np.float32), "low": np.array(-0.5, np.float32),
}
LAYERS = {
    "matmul": [("MatMul", ("", "W"), {}), ("Add", ("", "b"), {}), ("Relu", ("",), {})],
    "bias first": [("MatMul", ("", "W"), {}), ("Add", ("b", ""), {}), ("Clip", ("", "low"), {})],
    "gemm": [("Gemm", ("", "Wt", "b"), {"transB": 1}), ("Sigmoid", ("",), {}), ("Sub", ("b", ""), {})],
    "no bias": [("LeakyRelu", ("",), {"alpha": 0.3}), ("Gemm", ("", "W"), {})],
}


def written_out(layers, axis: int = 1, put: int = 1, order=range(TIME), change=lambda step, op, inputs: inputs,
                outputs=()) -> Graph:
    """`layers` of each step of x, which is taken along `axis`, put together again at `put`."""
    nodes, steps = [], []
    constants = {**CONSTANTS, "put": np.array([put]), **{f"index {i}": np.array(i) for i in range(TIME)}}
    for i in order:
        nodes.append(Node("Gather", ("x", f"index {i}"), (f"step {i}",), {"axis": axis}))
        for number, (op, inputs, options) in enumerate(layers):
            read = tuple(name or nodes[-1].outputs[0] for name in change(i, op, inputs))
            nodes.append(Node(op, read, (f"layer {number} of {i}",), options))
        nodes.append(Node("Unsqueeze", (nodes[-1].outputs[0], "put"), (f"unsqueezed {i}",)))
        steps.append(nodes[-1].outputs[0])
    nodes.append(Node("Concat", tuple(steps), ("y",), {"axis": put}))
    shape = [BATCH, WIDTH]
    shape.insert(axis, TIME)
    return Graph((Value("x", "float32", tuple(shape)),), tuple(Value(name, "float32", None) for name in ("y", *outputs)),
                 tuple(nodes), constants, "written out").validate()


def rewritten(graph: Graph) -> list[str]:
    """The operators that are left; what they compute is as before."""
    after = passes.canonical(graph)
    x = RANDOM.normal(size=graph.inputs[0].shape).astype(np.float32)
    for before, made in zip(*(reference.run(one, {"x": x}).values() for one in (graph, after)), strict=True):
        np.testing.assert_allclose(made, before, atol=1e-6)
    return [node.op for node in after.nodes]


@pytest.mark.parametrize("axis, put", [(1, 1), (0, 0), (1, 0), (0, 1), (2, 1)])
@pytest.mark.parametrize("layers", LAYERS.values(), ids=list(LAYERS))
def test_one_layer_of_all_steps(layers, axis, put):
    ops = rewritten(written_out(layers, axis, put))
    assert len(ops) <= len(layers) + 2 and "Gather" not in ops and "Concat" not in ops


def test_steps_that_are_not_the_whole_sequence_are_one_product_still():
    ops = rewritten(written_out(LAYERS["matmul"], order=[3, 1, 2]))
    assert ops.count("MatMul") == ops.count("Relu") == 1 and ops.count("Gather") == 3


@pytest.mark.parametrize("change, outputs", [
    (lambda step, op, inputs: ("", "other") if (step, op) == (2, "MatMul") else inputs, ()),  # a matrix of its own
    (lambda step, op, inputs: ("", "rows") if op == "Add" else inputs, ()),  # not a row for all
    (lambda step, op, inputs: inputs, ("layer 0 of 2",)),  # that somebody else reads
], ids=["another matrix", "a matrix of biases", "read elsewhere"])
def test_products_that_differ_or_are_read_stay(change, outputs):
    graph = written_out([("MatMul", ("", "W"), {}), ("Add", ("", "b"), {}), ("Tanh", ("",), {})], change=change, outputs=outputs)
    assert rewritten(graph).count("MatMul") == TIME


def test_where_the_steps_axis_is_the_last_products_stay():
    assert rewritten(written_out(LAYERS["matmul"], put=2)).count("MatMul") == TIME
