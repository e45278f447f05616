"""The table of operators: what passes validation can be run and folded, whatever the arrays and attributes are."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lstmrt import passes, reference
from lstmrt.errors import GraphError, InputError, UnsupportedError
from lstmrt.execution.compile import compile_graph
from lstmrt.graph import Graph, Node, Value
from lstmrt.operators import OPERATORS, AttributeSpec
from lstmrt.shapes import DTYPES

SHAPES = ((), (0,), (1,), (2,), (3,), (2, 3), (3, 2), (1, 2, 3), (1, 3, 1))
ANY_VALUE = {
    "int": st.integers(-2, 3), "float": st.sampled_from((0.0, 0.5, -1.0)), "string": st.just("x"),
    "ints": st.lists(st.integers(-2, 3), max_size=3).map(tuple), "floats": st.lists(st.just(0.5), max_size=2).map(tuple),
    "strings": st.lists(st.sampled_from(("Tanh", "Relu", "affine")), max_size=2).map(tuple),
}
PLAIN = sorted(op for domain, op in OPERATORS if not domain and op not in ("LSTM", "GRU", "RNN"))


@st.composite
def arrays(draw) -> np.ndarray:
    shape = draw(st.sampled_from(SHAPES))
    size = math.prod(shape)
    numbers = draw(st.lists(st.integers(-3, 3), min_size=size, max_size=size))
    return np.array(numbers).reshape(shape).astype(draw(st.sampled_from(("float32", "int64", "int64", "int32", "uint8", "bool"))))


def attribute(spec: AttributeSpec) -> st.SearchStrategy:
    return st.sampled_from(spec.allowed) if spec.allowed else ANY_VALUE[spec.kind]


@st.composite
def constant_graphs(draw, op: str) -> Graph:
    """One node of any constants and attributes, and an Identity behind its first output; of no particular dtype."""
    operator = OPERATORS["", op]
    given = [draw(arrays()) for _ in operator.inputs[:draw(st.integers(1, len(operator.inputs)))]]
    constants = {f"constant_{i}": array for i, array in enumerate(given)}
    names = tuple(name if not formal.endswith("?") or draw(st.booleans()) else ""
                  for name, formal in zip(constants, operator.inputs))
    attributes = {name: draw(attribute(spec)) for name, spec in operator.attributes.items() if draw(st.booleans())}
    outputs = tuple(f"made_{i}" for i in range(len(operator.outputs)))
    nodes = (Node(op, names, outputs, attributes), Node("Identity", outputs[:1], ("y",)))
    return Graph((), (Value("y", draw(st.sampled_from(sorted(DTYPES.values()))), None),), nodes, constants)


@pytest.mark.parametrize("op", PLAIN)
@settings(max_examples=50, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_what_validates_runs_and_has_the_inferred_shape(op, data):
    graph = data.draw(constant_graphs(op))
    try:
        graph.validate()
        with np.errstate(all="ignore"):
            y = reference.run(graph, {})["y"]
    except (GraphError, UnsupportedError):
        return
    shape = passes.infer_shapes(graph)["y"].shape
    assert shape is None or len(shape) == y.ndim
    assert all(isinstance(inferred, str) or inferred in (None, size) for inferred, size in zip(shape or (), y.shape))
    with np.errstate(all="ignore"):
        folded = reference.run(passes.load(passes.canonical(graph)).validate(), {})["y"]
    np.testing.assert_allclose(folded, y, atol=1e-6)


def one_node(op: str, *constants: np.ndarray, **attributes) -> Graph:
    named = {f"constant_{i}": array for i, array in enumerate(constants)}
    return Graph((), (Value("y", "float32", None),), (Node(op, tuple(named), ("y",), attributes, "it"),), named)


TWO_BY_THREE = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.mark.parametrize("graph, fault", [
    (one_node("MatMul", TWO_BY_THREE, TWO_BY_THREE), "shapes (2, 3) and (2, 3): inner sizes differ"),
    (one_node("Gemm", TWO_BY_THREE, TWO_BY_THREE, transA=1, transB=1), "shapes (2, 3) and (2, 3): inner sizes differ"),
    (one_node("Add", TWO_BY_THREE, TWO_BY_THREE.T), "shapes (2, 3) and (3, 2) do not broadcast"),
    (one_node("Add", TWO_BY_THREE, np.ones(3, np.int64)), "dtypes float32 and int64 differ"),
    (one_node("Gather", TWO_BY_THREE, np.array(2)), "an index is outside axis 0 of shape (2, 3)"),
    (one_node("Gather", TWO_BY_THREE, np.float32(1)[None]), "an input is float32, expected int32 or int64"),
    (one_node("Softmax", TWO_BY_THREE, axis=2), "axis 2 does not exist in rank 2"),
    (one_node("Transpose", TWO_BY_THREE, perm=(0, 0)), "perm (0, 0) does not permute the axes of (2, 3)"),
    (one_node("Reshape", TWO_BY_THREE, np.array([4, -1])), "shape (2, 3) does not divide into [4]"),
    (one_node("Reshape", TWO_BY_THREE, np.array([5])), "shape (2, 3) has not as many elements as (5,)"),
    (one_node("Squeeze", TWO_BY_THREE, np.array([0])), "shape (2, 3) is not 1 along [0]"),
    (one_node("Unsqueeze", TWO_BY_THREE, np.array([1, 1])), "axes [1, 1] name one twice"),
    (one_node("Slice", TWO_BY_THREE, np.array([0]), np.array([1]), np.array([0]), np.array([0])), "a step of 0"),
    (one_node("Slice", TWO_BY_THREE, np.array([0]), np.array([1, 2])), "starts, ends, axes and steps are not equally long"),
    (one_node("Concat", TWO_BY_THREE, TWO_BY_THREE.T, axis=0), "shapes differ beside the axis: [(2, 3), (3, 2)]"),
    (one_node("Expand", TWO_BY_THREE, np.array([-1])), "target shape [-1]"),
])
def test_what_does_not_fit_is_named(graph, fault):
    with pytest.raises(GraphError) as caught:
        graph.validate()
    assert str(caught.value) == f"nodes[0] {graph.nodes[0]} {fault}"


@pytest.mark.parametrize("graph, y", [
    (one_node("Slice", TWO_BY_THREE, np.array([-1]), np.array([-2**63]), np.array([1]), np.array([-1])),
     [[2, 1, 0], [5, 4, 3]]),
    (one_node("Slice", TWO_BY_THREE, np.array([1]), np.array([2**63 - 1]), np.array([-1])), [[1, 2], [4, 5]]),
    (one_node("Reshape", TWO_BY_THREE, np.array([0, 1, -1])), [[[0, 1, 2]], [[3, 4, 5]]]),
    (one_node("Gather", TWO_BY_THREE, np.array([-1, 0]), axis=1), [[2, 0], [5, 3]]),
    (one_node("Gemm", TWO_BY_THREE, TWO_BY_THREE, np.float32([1, 2]), transB=1, alpha=2.0, beta=0.5),
     [[10.5, 29], [28.5, 101]]),
    (one_node("Expand", TWO_BY_THREE[:, None], np.array([2, 1])), [[[0, 1, 2], [0, 1, 2]], [[3, 4, 5], [3, 4, 5]]]),
    (one_node("ReduceL2", -TWO_BY_THREE, noop_with_empty_axes=1), [[0, 1, 2], [3, 4, 5]]),
    (one_node("ReduceSumSquare", TWO_BY_THREE, np.array([], np.int64), noop_with_empty_axes=1), [[0, 1, 4], [9, 16, 25]]),
    (one_node("ReduceMax", TWO_BY_THREE, noop_with_empty_axes=1, keepdims=0), [[0, 1, 2], [3, 4, 5]]),
])
def test_by_hand(graph, y):
    np.testing.assert_array_equal(reference.run(graph.validate(), {})["y"], y)


@pytest.mark.parametrize("node, constants", [
    (Node("ConvTranspose", ("x", "w"), ("y",), {"pads": (1, 1)}), {"w": np.ones((3, 4, 2), np.float32)}),
    (Node("LayerNormalization", ("x", "w"), ("y",)), {"w": np.arange(7, dtype=np.float32)}),
])
def test_sizes_that_only_a_call_knows_are_taken_to_fit(node, constants):
    graph = Graph((Value("x", "float32", ("batch", 3, "size")),), (Value("y", "float32", None),), (node,), constants).validate()
    assert reference.run(graph, {"x": np.ones((2, 3, 7), np.float32)})["y"].shape[2] in (6, 7)
    with pytest.raises(InputError):
        compile_graph(passes.load(graph)).run({"x": np.ones((2, 3, 1), np.float32)})


@pytest.mark.parametrize("shape", [(), (1,)])
def test_a_range_between_numbers_or_vectors_of_one(shape):
    bounds = [np.full(shape, number, np.float32) for number in (1, 2, 0.5)]
    np.testing.assert_array_equal(reference.run(one_node("Range", *bounds).validate(), {})["y"], [1, 1.5])


def test_integers_are_divided_towards_zero():
    graph = one_node("Div", np.array([-7, 7, -7]), np.array([2, 2, -2]))
    assert reference.run(graph, {})["y"].tolist() == [-3, 3, 3]
