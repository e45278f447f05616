"""Programs of values with all sizes known, against the float64 reference: convolutions and what stands around them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lstmrt import passes, reference
from lstmrt.converters.to_onnx import to_onnx_model
from lstmrt.errors import InputError
from lstmrt.execution.compile import NativeStep, Target, compile_graph
from lstmrt.execution.flat import FlatRegion
from lstmrt.execution.roles import Facts
from lstmrt.graph import Graph, Node, Value

RNG = np.random.default_rng(11)


def floats(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def conv(x: str, y: str, w: str, *further: str, op: str = "Conv", **attributes) -> Node:
    return Node(op, (x, w, *further), (y,), attributes)


def graph(nodes: list[Node], constants: dict[str, np.ndarray], shape: tuple, *outputs: str, **inputs: tuple) -> Graph:
    given = [Value(name, "float32", size) for name, size in {"x": shape, **inputs}.items()]
    return Graph(tuple(given), tuple(Value(name, "float32", None) for name in outputs or ("y",)), tuple(nodes), constants,
                 "flat").validate()


def check(wanted: Graph, batch: int = 3, native: bool = True, isa: str | None = None) -> None:
    """That all of it runs natively, and gives what the reference does."""
    executable = compile_graph(passes.load(wanted), isa)
    kinds = [segment.kind for segment in executable.segments]
    assert (kinds == ["native"]) == native, kinds
    inputs = {value.name: floats(*(batch if isinstance(size, str) else size for size in value.shape))
              for value in wanted.inputs}
    exact = reference.run(wanted, inputs)
    for name, array in executable.run(inputs).items():
        np.testing.assert_allclose(array, exact[name], rtol=1e-5, atol=1e-5 * max(1, np.abs(exact[name]).max()))
        assert array.dtype == np.float32


W1 = floats(5, 3, 4)
SHAPES = [("batch", 3, 13), (2, 3, 13)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("isa", ["scalar", "avx2", None])
def test_a_convolution(shape, isa):
    node = conv("x", "y", "w", "b", strides=(2,), pads=(1, 2), dilations=(2,))
    check(graph([node], {"w": W1, "b": floats(5)}, shape), isa=isa)


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_convolutions_of_all_kinds(data):
    draw = data.draw
    axes, group = draw(st.integers(1, 2)), draw(st.integers(1, 3))
    kernel, strides, dilations = (
        tuple(draw(st.lists(st.integers(1, most), min_size=axes, max_size=axes))) for most in (3, 3, 2))
    sizes = tuple(draw(st.integers(5, 9)) for _ in range(axes))
    channels, filters = group * draw(st.integers(1, 3)), group * draw(st.integers(1, 9))
    op = draw(st.sampled_from(("Conv", "ConvTranspose")))
    where = draw(st.sampled_from(("pads", "SAME_UPPER", "SAME_LOWER", "VALID")))
    pads = tuple(draw(st.integers(0, width // 2)) for width in kernel * 2)
    attributes = {"strides": strides, "dilations": dilations, "group": group,
                  **({"pads": pads} if where == "pads" else {"auto_pad": where})}
    if op == "ConvTranspose" and where == "pads":
        attributes["output_padding"] = tuple(draw(st.integers(0, stride - 1)) for stride in strides)
    w = floats(filters, channels // group, *kernel) if op == "Conv" else floats(channels, filters // group, *kernel)
    biases = {"b": floats(filters)} if draw(st.booleans()) else {}
    batch = draw(st.sampled_from(("batch", 2)))
    check(graph([conv("x", "y", "w", *biases, op=op, **attributes)], {"w": w, **biases}, (batch, channels, *sizes)))


@pytest.mark.parametrize("shape", SHAPES)
def test_what_follows_a_convolution_is_part_of_it(shape):
    """A normalization and a function go into the weights, so that there are two steps: windows and product."""
    constants = {"w": W1, **{name: np.abs(floats(5)) + 0.5 for name in ("scale", "shift", "mean", "variance")}}
    nodes = [conv("x", "c", "w"), Node("BatchNormalization", ("c", "scale", "shift", "mean", "variance"), ("n",)),
             Node("LeakyRelu", ("n",), ("y",), {"alpha": 0.3})]
    wanted = graph(nodes, constants, shape)
    check(wanted)
    region = FlatRegion(Facts.of(wanted, passes.infer_shapes(wanted)))
    assert all(map(region.take, wanted.nodes))
    assert [step["op"] for step in region.lower()[0].steps] == ["GATHER", "CONV", "GATHER"]


@pytest.mark.parametrize("op, attributes, products", [
    ("ConvTranspose", {"strides": (2,)}, 2), ("ConvTranspose", {"strides": (4,)}, 4), ("Conv", {"group": 2}, 2)])
def test_what_follows_several_products_is_part_of_each(op, attributes, products):
    w = floats(6, 3, 3)
    rows = {name: np.abs(floats(3 if op == "ConvTranspose" else 6)) for name in ("scale", "shift", "mean", "variance")}
    nodes = [conv("x", "z", "w", op=op, **attributes), Node("BatchNormalization", ("z", *rows), ("n",)),
             Node("Elu", ("n",), ("y",))]
    wanted = graph(nodes, {"w": w, **rows}, ("batch", 6, 7))
    region = FlatRegion(Facts.of(wanted, passes.infer_shapes(wanted)))
    assert all(map(region.take, wanted.nodes))
    assert [step["op"] for step in region.lower()[0].steps] == ["GATHER", "CONV"] * products + ["GATHER"]
    check(wanted)


@pytest.mark.parametrize("op, filters, channels, group", [
    ("Conv", 6, 2, 2), ("Conv", 4, 1, 4), ("Conv", 18, 1, 9), ("ConvTranspose", 4, 3, 2), ("ConvTranspose", 4, 1, 4)])
@pytest.mark.parametrize("odd", [np.nan, np.inf])
def test_nothing_passes_from_one_group_to_another(op, filters, channels, group, odd):
    shape = ("batch", channels * group if op == "Conv" else filters, 7)
    wanted = graph([conv("x", "y", "w", "b", op=op, group=group)],
                   {"w": floats(filters, channels, 3), "b": floats(filters if op == "Conv" else channels * group)}, shape)
    region = FlatRegion(Facts.of(wanted, passes.infer_shapes(wanted)))
    assert region.take(wanted.nodes[0])
    x = floats(2, *shape[1:])
    x[1, 1, 3] = odd
    found, exact = NativeStep(region.nodes, region.lower()[0], Target(None, 1, "f32")), reference.run(wanted, {"x": x})["y"]
    values = {"x": x}
    found.run(values)
    np.testing.assert_allclose(values["y"], exact, rtol=1e-5, atol=1e-5)


def test_slopes_of_infinities():
    wanted = graph([Node("PRelu", ("x", "slope"), ("p",)), conv("p", "y", "w")],
                   {"slope": floats(2, 1), "w": np.ones((1, 2, 1), np.float32)}, (3, 2, 2))
    x = np.array([[[np.inf, 1], [2, -3]], [[-np.inf, 0], [5, 6]], [[np.nan, 1], [1, -1]]], np.float32)
    np.testing.assert_allclose(compile_graph(passes.load(wanted)).run({"x": x})["y"], reference.run(wanted, {"x": x})["y"])


@pytest.mark.parametrize("lower", [
    [Node("ReduceMean", ("c", "one"), ("m",), {"keepdims": 0})], [Node("ReduceMean", ("c", "two"), ("m",), {"keepdims": 0})],
    [Node("ReduceMax", ("c", "both"), ("m",), {"keepdims": 0})]])
@pytest.mark.parametrize("order", [("c", "m"), ("m", "c")])
def test_a_batch_lies_along_another_axis_of_a_result_of_higher_rank(lower, order):
    constants = {"w": floats(5, 5, 3), "one": ints(1), "two": ints(2), "both": ints(1, 2)}
    used = {one for node in lower for one in node.inputs}
    wanted = graph([conv("x", "c", "w", pads=(1, 1)), *lower, Node("Sub", order, ("y",))],
                   {name: array for name, array in constants.items() if name in used | {"w"}}, ("batch", 5, 5))
    check(wanted, batch=5, native=False)


MOVES = {
    "transpose": [Node("Transpose", ("c",), ("y",), {"perm": (0, 2, 1)})],
    "reshape": [Node("Reshape", ("c", "folded"), ("r",)), Node("Transpose", ("r",), ("y",), {"perm": (0, 3, 1, 2)})],
    "slices": [Node("Slice", ("c", "one", "nine", "two", "two"), ("s",)), Node("Neg", ("s",), ("y",))],
    "pad": [Node("Pad", ("c", "pads"), ("p",)), Node("Sigmoid", ("p",), ("y",))],
    "reflection": [Node("Pad", ("c", "pads"), ("y",), {"mode": "reflect"})],
    "concat": [Node("Tanh", ("c",), ("t",)), Node("Concat", ("t", "c", "t"), ("y",), {"axis": 1})],
    "split": [Node("Split", ("c", "parts"), ("a", "b"), {"axis": 1}),
              Node("Concat", ("b", "a"), ("y",), {"axis": 1})],
    "one of two parts": [Node("Split", ("c", "parts"), ("a", "b"), {"axis": 1}), Node("Relu", ("a",), ("r",)),
                         Node("Concat", ("r", "b"), ("y",), {"axis": 1})],
    "gather": [Node("Gather", ("c", "places"), ("y",), {"axis": 2})],
    "unfolding": [Node("Gather", ("c", "windows"), ("g",), {"axis": 2}), Node("ReduceSum", ("g", "two"), ("y",))],
    "squeeze": [Node("Unsqueeze", ("c", "one"), ("u",)), Node("Relu", ("u",), ("v",)),
                Node("Squeeze", ("v", "one"), ("y",))],
}
ARITHMETIC = {
    "rows of constants": [Node("Mul", ("per channel", "c"), ("m",)), Node("Sub", ("half", "m"), ("s",)),
                          Node("Div", ("s", "per step"), ("y",))],
    "powers": [Node("Pow", ("c", "square"), ("q",)), Node("Add", ("q", "half"), ("a",)), Node("Sqrt", ("a",), ("r",)),
               Node("Pow", ("a", "half"), ("p",)), Node("Mul", ("r", "p"), ("y",))],
    "functions": [Node("Abs", ("c",), ("a",)), Node("Add", ("a", "half"), ("b",)), Node("Log", ("b",), ("l",)),
                  Node("Erf", ("l",), ("e",)), Node("Gelu", ("e",), ("y",))],
    "one slope": [Node("PRelu", ("c", "half"), ("y",))],
    "slopes": [Node("PRelu", ("c", "per channel"), ("y",))],
    "means spread again": [Node("ReduceMean", ("c", "two"), ("m",)), Node("Sigmoid", ("m",), ("g",)),
                           Node("Mul", ("c", "g"), ("y",))],
    "two layouts": [Node("Transpose", ("c",), ("t",), {"perm": (0, 2, 1)}), Node("Relu", ("c",), ("r",)),
                    Node("Transpose", ("r",), ("u",), {"perm": (0, 2, 1)}), Node("Sub", ("t", "u"), ("d",)),
                    Node("Add", ("d", "t"), ("y",))],
    "a product": [Node("Transpose", ("c",), ("t",), {"perm": (0, 2, 1)}), Node("MatMul", ("t", "kernel"), ("m",)),
                  Node("Add", ("m", "bias"), ("y",))],
    "a normalization": [Node("LayerNormalization", ("c", "scale", "shift"), ("y",), {"axis": 2})],
    "a swish": [Node("HardSwish", ("c",), ("y",))],
    "the largest": [Node("ReduceMax", ("c", "two"), ("y",), {"keepdims": 0})],
    "an instance normalization": [Node("InstanceNormalization", ("c", "five", "bias of five"), ("y",), {"epsilon": 0.1})],
    "global pools": [Node("GlobalMaxPool", ("c",), ("a",)), Node("GlobalAveragePool", ("c",), ("b",)),
                     Node("Concat", ("a", "b"), ("y",), {"axis": 1})],
    "pools": [Node("MaxPool", ("c",), ("m",), {"kernel_shape": (3,), "pads": (1, 2), "strides": (2,)}),
              Node("AveragePool", ("m",), ("y",), {"kernel_shape": (3,), "pads": (2, 1)})],
    "pools that round up": [Node("MaxPool", ("c",), ("m",), {"kernel_shape": (4,), "strides": (3,), "ceil_mode": 1}),
                            Node("AveragePool", ("m",), ("y",), {"kernel_shape": (2,), "pads": (1, 0), "count_include_pad": 1})],
    "of two axes": [Node("LayerNormalization", ("c", "scales"), ("y",), {"axis": 1, "epsilon": 1e-3})],
}
CONSTANTS = {
    "w": W1, "folded": ints(0, 5, 2, 5), "one": ints(1), "two": ints(2), "nine": ints(9), "pads": ints(0, 0, 2, 0, 0, 1),
    "parts": ints(2, 3), "places": ints(3, 0, 9, 3), "windows": np.array([[0, 1, 2], [7, 8, 9]]),
    "half": np.array(0.5, np.float32), "square": np.array(2, np.float32), "per channel": floats(5, 1),
    "per step": np.abs(floats(10)) + 1, "kernel": floats(5, 7), "bias": floats(7), "scale": floats(10), "shift": floats(10),
    "scales": floats(5, 10), "five": floats(5), "bias of five": floats(5)}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", [*MOVES, *ARITHMETIC])
def test_what_stands_around_convolutions(name, shape):
    nodes = [conv("x", "c", "w"), *(MOVES | ARITHMETIC)[name]]
    used = {one for node in nodes for one in node.inputs}
    check(graph(nodes, {key: array for key, array in CONSTANTS.items() if key in used}, shape))


def test_caches_that_are_read_and_written():
    """Updates of a part, as exporters write them for chunk by chunk models, move nothing until somebody reads it."""
    places = np.stack(np.meshgrid(np.arange(1), np.arange(3), np.arange(2, 6), indexing="ij"), -1)
    nodes = [Node("Slice", ("cache", "two", "six", "two"), ("past",)),
             Node("Concat", ("past", "x"), ("seen",), {"axis": 2}),
             conv("seen", "c", "w"), Node("Slice", ("seen", "thirteen", "end", "two"), ("kept",)),
             Node("ScatterND", ("cache", "places", "kept"), ("next",)), Node("Gather", ("c", "zero"), ("y",), {"axis": 2})]
    constants = {"w": W1, "two": ints(2), "six": ints(6), "thirteen": ints(13), "end": ints(17), "places": places,
                 "zero": np.array(0)}
    check(graph(nodes, constants, (1, 3, 13), "y", "next", cache=(1, 3, 8)))


def test_an_input_may_be_an_output_elsewhere():
    nodes = [conv("x", "c", "w"), Node("Transpose", ("x",), ("moved",), {"perm": (2, 1, 0)}),
             Node("Identity", ("c",), ("same",)), Node("Relu", ("c",), ("y",))]
    check(graph(nodes, {"w": W1}, (1, 3, 13), "y", "same", "moved"))


@pytest.mark.parametrize("nodes, constants", [
    ([Node("Concat", ("c", "c"), ("d",), {"axis": 0}), Node("Relu", ("d",), ("y",))], {}),
    ([Node("Reshape", ("c", "flat"), ("y",))], {"flat": ints(-1)}),
    ([Node("Transpose", ("c",), ("t",), {"perm": (1, 0, 2)}), Node("Relu", ("t",), ("y",))], {}),
    ([Node("Flatten", ("c",), ("d",)), Node("ScatterND", ("d", "rows", "d"), ("s",)), Node("Relu", ("s",), ("y",))],
     {"rows": ints(0, 1, 2).reshape(3, 1)}),
    ([Node("LpNormalization", ("c",), ("n",), {"axis": 1}), conv("n", "y", "w2")], {"w2": floats(5, 5, 2)}),
])
def test_what_mixes_the_batch_or_has_no_place_is_left_to_others(nodes, constants):
    check(graph([conv("x", "c", "w"), *nodes], {"w": W1, **constants}, ("batch", 3, 13)), native=False)


@pytest.mark.parametrize("count", [2, 3])
def test_rows_that_a_constant_counts_are_of_no_other_batch(count):
    """Updates of each of `count` rows are all of these, and of nothing where there are more or fewer."""
    nodes = [Node("ScatterND", ("x", "rows", "x"), ("s",)), Node("Relu", ("s",), ("y",))]
    executable = compile_graph(passes.load(graph(nodes, {"rows": np.arange(count)[:, None]}, ("batch", 3))))
    x = floats(count, 3)
    np.testing.assert_array_equal(executable.run({"x": x})["y"], np.maximum(x, 0))
    with pytest.raises(InputError, match="ScatterND"):
        executable.run({"x": floats(4, 3)})


@pytest.mark.parametrize("pool", [
    Node("MaxPool", ("x",), ("y",), {"kernel_shape": (3,), "pads": (1, 0), "strides": (2,)}),
    Node("MaxPool", ("x",), ("y",), {"kernel_shape": (2,)})])
def test_pools_pass_over_nan_as_onnxruntime_does(pool):
    ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    wanted = graph([pool], {}, ("batch", 2, 9))
    x = floats(3, 2, 9)
    x[RNG.random(x.shape) < 0.4] = np.nan
    x[0, 0], x[1, 1] = np.nan, -np.inf
    executable = compile_graph(passes.load(wanted))
    assert [segment.kind for segment in executable.segments] == ["native"]
    session = ort.InferenceSession(to_onnx_model(wanted).SerializeToString(), providers=["CPUExecutionProvider"])
    expected = session.run(None, {"x": x})[0]
    for made in (executable.run({"x": x}), reference.run(wanted, {"x": x})):
        np.testing.assert_array_equal(made["y"], expected)


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_reduced_precision_is_for_other_weights(precision):
    wanted = graph([conv("x", "y", "w")], {"w": W1}, (1, 3, 13))
    executable = compile_graph(passes.load(wanted), precision=precision)
    assert [segment.kind for segment in executable.segments] == ["native"]
    x = floats(1, 3, 13)
    np.testing.assert_allclose(executable.run({"x": x})["y"], reference.run(wanted, {"x": x})["y"], atol=1e-5)


@pytest.mark.parametrize("shape, attributes", [
    ((1, 3, 1 << 24), {}), ((1, 3, 9), {"pads": (1 << 24, 0), "strides": (1 << 23,)}), ((1, 3, 1 << 18), {}),
    ((1, 3, 9), {"op": "ConvTranspose", "strides": (1 << 22,)}),
])
def test_large_values_are_left_to_others_without_lists_of_their_places(shape, attributes):
    w = floats(3, 2, 4) if "op" in attributes else W1
    wanted = graph([conv("x", "y", "w", **attributes)], {"w": w}, shape)
    assert not FlatRegion(Facts.of(wanted, passes.infer_shapes(wanted))).take(wanted.nodes[0])
