"""Recurrent layers, masks and products of values in programs with all sizes known, against the float64 reference."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lstmrt import passes
from lstmrt.errors import InputError
from lstmrt.execution.compile import Executable, compile_graph
from lstmrt.execution.flat import FlatRegion
from lstmrt.execution.roles import Facts
from lstmrt.gates import ONNX
from lstmrt.graph import EXTENSION, Graph, Node, Value
from oracles import exact
from small_models import weights

CHANNELS, FRAMES, HIDDEN, WORDS = 5, 7, 6, 11
OPS = pytest.mark.parametrize("op", ONNX)
RANDOM = np.random.default_rng(8)
CONSTANTS = {
    "conv": weights(RANDOM, CHANNELS, CHANNELS, 3), "0": np.array([0]), "1": np.array([1]), "2": np.array([2]), "axis": np.array(1),
    "table": weights(RANDOM, WORDS, CHANNELS), "pad": np.array(0), "hidden": np.array(-1e9, np.float32),
    "one": np.array(1, np.float32), "matrix": weights(RANDOM, 3, FRAMES, 4), "diagonal": np.array(1),
}


def graph(inputs: dict[str, tuple], outputs: list[str], nodes: list[Node], constants: dict | None = None, **dtypes: str) -> Graph:
    known = {**CONSTANTS, **(constants or {})}
    read = {name for node in nodes for name in node.inputs}
    return Graph(tuple(Value(name, dtypes.get(name, "float32"), shape) for name, shape in inputs.items()),
                 tuple(Value(name, dtypes.get(name, "float32"), None) for name in outputs), tuple(nodes),
                 {name: array for name, array in known.items() if name in read}, "flat").validate()


def check(wanted: Graph, kinds: list[str] | None = None, **inputs: np.ndarray) -> Executable:
    """One native program, or `kinds`, and what the reference gives."""
    executable = compile_graph(passes.load(passes.canonical(wanted)))
    assert [segment.kind for segment in executable.segments] == (kinds or ["native"])
    sizes = {"batch": 3}
    for value in wanted.inputs:
        shape = [sizes.get(size, size) for size in value.shape]
        made = {"float32": RANDOM.normal(size=shape), "bool": RANDOM.random(shape) < 0.6}.get(
            value.dtype, RANDOM.integers(0, 4, shape))
        inputs.setdefault(value.name, made.astype(value.dtype))
    expected = exact(wanted, inputs)
    for name, array in executable.run(inputs).items():
        assert array.shape == expected[name].shape
        np.testing.assert_allclose(array, expected[name], atol=1e-5, rtol=1e-5, err_msg=name)
    return executable


def layer(op: str, x: str, made: str, width: int, constants: dict, *further: str, domain: str = "", **attributes) -> Node:
    gates = len(ONNX[op]) * HIDDEN
    random = np.random.default_rng(len(constants))
    constants |= {f"{made} W": weights(random, 1, gates, width), f"{made} R": weights(random, 1, gates, HIDDEN),
                  f"{made} B": weights(random, 1, 2 * gates)}
    return Node(op, (x, f"{made} W", f"{made} R", f"{made} B", *further), tuple(f"{made} {part}" for part in (
        "Y", "h", "c")[:3 if op == "LSTM" else 2]), {"hidden_size": HIDDEN, **attributes}, made, domain)


def convolved(x: str, made: str) -> list[Node]:
    return [Node("Conv", (x, "conv"), (f"{made} sums",), {"pads": (1, 1)}), Node("Relu", (f"{made} sums",), (made,))]


@OPS
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("layout", [0, 1])
@pytest.mark.parametrize("further", ["", "lengths", "states", "mask"])
def test_a_layer_between_convolutions(op, batch, layout, further):
    constants: dict = {}
    state = (batch, 1, HIDDEN) if layout else (1, batch, HIDDEN)
    names = {"lengths": {"lengths": (batch,)}, "mask": {"mask": (batch, FRAMES) if layout else (FRAMES, batch)},
             "states": {"h0": state, **({"c0": state} if op == "LSTM" else {})}}.get(further, {})
    given = {"": (), "lengths": ("lengths",), "states": ("", *names),
             "mask": ("",) * (4 if op == "LSTM" else 2) + ("mask",)}[further]
    perm = (0, 2, 1) if layout else (2, 0, 1)
    nodes = [*convolved("x", "frames"), Node("Transpose", ("frames",), ("steps",), {"perm": perm}),
             layer(op, "steps", "layer", CHANNELS, constants, *given, domain=EXTENSION if further == "mask" else "", layout=layout),
             Node("Squeeze", ("layer Y", "2" if layout else "1"), ("states",)),
             Node("Transpose", ("states",), ("y",), {"perm": (0, 2, 1) if layout else (1, 2, 0)})]
    wanted = graph({"x": (batch, CHANNELS, FRAMES), **names}, ["y", "layer h"], nodes, constants,
                   lengths="int32", mask="bool")
    lengths = {"lengths": np.arange(2, 2 + batch, dtype=np.int32)} if further == "lengths" else {}
    executable = check(wanted, **lengths)
    assert not executable.steppable


@pytest.mark.parametrize("read", [("layer Y",), ("layer h",), ("layer c",), ("layer h", "layer c"), ("layer Y", "layer c")])
def test_a_layer_without_outputs_that_nobody_reads(read):
    constants: dict = {}
    whole = layer("LSTM", "steps", "layer", CHANNELS, constants)
    nodes = [*convolved("x", "frames"), Node("Transpose", ("frames",), ("steps",), {"perm": (2, 0, 1)}),
             replace(whole, outputs=tuple(name if name in read else "" for name in whole.outputs))]
    check(graph({"x": (2, CHANNELS, FRAMES)}, list(read), nodes, constants))


def test_directions_layers_and_single_steps_share_a_program():
    constants: dict = {}
    nodes = [*convolved("x", "frames"), Node("Transpose", ("frames",), ("steps",), {"perm": (2, 0, 1)}),
             layer("GRU", "steps", "forward", CHANNELS, constants, linear_before_reset=1),
             layer("GRU", "steps", "backward", CHANNELS, constants, direction="reverse"),
             Node("Concat", ("forward Y", "backward Y"), ("both",), {"axis": 3}), Node("Squeeze", ("both", "1"), ("next",)),
             layer("LSTM", "next", "second", 2 * HIDDEN, constants),
             layer("RNN", "second h", "step", HIDDEN, constants, "", "forward h")]
    executable = check(graph({"x": (2, CHANNELS, FRAMES)}, ["second Y", "second c", "step h"], nodes, constants))
    ops = [node.op for node in executable.native.nodes]
    assert [op for op in ops if op in ONNX] == ["GRU", "GRU", "LSTM", "RNN"]


def test_layers_of_other_numbers_of_sequences_are_other_programs():
    constants: dict = {}
    nodes = [*convolved("x", "frames"), Node("Transpose", ("frames",), ("steps",), {"perm": (2, 0, 1)}),
             layer("GRU", "steps", "first", CHANNELS, constants), Node("Squeeze", ("first Y", "1"), ("states",)),
             Node("Transpose", ("states",), ("turned",), {"perm": (1, 0, 2)}), layer("GRU", "turned", "second", HIDDEN, constants)]
    check(graph({"x": (2, CHANNELS, FRAMES)}, ["second Y"], nodes, constants), ["native", "native"])


@pytest.mark.parametrize("batch", [2, "batch"])
def test_a_decoder_with_attention_that_is_written_out(batch):
    """Queries beside each key, their energies, a softmax that a mask of ids hides part of, and the sum of values."""
    column, energy = weights(RANDOM, CHANNELS, 1), weights(RANDOM, 2 * CHANNELS, CHANNELS)
    nodes = [Node("Gather", ("table", "ids"), ("query",)), Node("Unsqueeze", ("query", "1"), ("queries",)),
             Node("Tile", ("queries", "repeats"), ("tiled",)), Node("Concat", ("tiled", "memory"), ("pairs",), {"axis": 2}),
             Node("MatMul", ("pairs", "energy"), ("product",)), Node("Tanh", ("product",), ("energies",)),
             Node("MatMul", ("energies", "column"), ("columns",)), Node("Squeeze", ("columns", "2"), ("scores",)),
             Node("Equal", ("source", "pad"), ("padding",)), Node("Where", ("padding", "hidden", "scores"), ("shown",)),
             Node("Softmax", ("shown",), ("weights",), {"axis": 1}), Node("Unsqueeze", ("weights", "1"), ("rows",)),
             Node("MatMul", ("rows", "memory"), ("context",)), Node("Squeeze", ("context", "1"), ("y",))]
    constants = {"repeats": np.array([1, FRAMES, 1]), "column": column, "energy": energy,
                 "pad": np.array(0, np.int32)}
    wanted = graph({"ids": (batch,), "memory": (batch, FRAMES, CHANNELS), "source": (batch, FRAMES)}, ["y", "weights"], nodes,
                   constants, ids="int64", source="int32")
    executable = compile_graph(passes.load(passes.canonical(wanted)))
    check(wanted)
    count = 3 if batch == "batch" else batch
    with pytest.raises(InputError, match="id 11 is outside the vocabulary"):
        executable.run({"ids": np.full(count, WORDS), "memory": np.zeros((count, FRAMES, CHANNELS), np.float32),
                        "source": np.ones((count, FRAMES), np.int32)})


@pytest.mark.parametrize("shapes", [((2, 3, 4), (2, 4, 5)), ((2, 1, 3, 4), (3, 4, 5)), ((3, 4), (2, 4, 1)),
                                    (("batch", 3, 4), ("batch", 4, 40)), (("batch", 2, 17, 33), ("batch", 2, 33, 18))])
def test_products_of_two_values(shapes):
    check(graph(dict(zip("ab", shapes)), ["y"], [Node("MatMul", ("a", "b"), ("product",)), Node("Tanh", ("product",), ("y",))]))


@pytest.mark.parametrize("equation, shapes", [
    ("bij,bjk->bik", ((2, 3, 4), (2, 4, 5))), ("bhqd,bhkd->bqhk", ((2, 3, 4, 5), (2, 3, 6, 5))), ("ij,kj->ki", ((3, 4), (5, 4))),
    ("bt,bs->bts", ((2, 3), (2, 4))), ("bchw,bc->bhw", ((2, 3, 4, 5), (2, 3))), ("bti,kij->btkj", ((2, 3, FRAMES), None))])
def test_einsum(equation, shapes):
    given = {name: shape for name, shape in zip("ab", shapes) if shape}
    nodes = [Node("Einsum", ("a", "b" if "b" in given else "matrix"), ("sums",), {"equation": equation}),
             Node("Tanh", ("sums",), ("y",))]
    check(graph(given, ["y"], nodes))


@pytest.mark.parametrize("batch", ["batch", 2])
@pytest.mark.parametrize("op, names, shape, w", [
    ("btgi,gih->btgh", "xw", (7, 3, 5), (3, 5, 4)), ("btgi,gih->bhtg", "xw", (1, 3, 5), (3, 5, 17)),
    ("ogi,bgti->btog", "wx", (3, 2, 6), (5, 3, 6)), ("btig,gi->btg", "xw", (2, 6, 3), (3, 6)),
    ("MatMul", "xw", (3, 2, 6), (3, 6, 4)), ("MatMul", "xw", (4, 1, 2, 6), (3, 6, 4)), ("MatMul", "xw", (2, 6), (1, 6, 4))])
def test_each_group_has_a_constant_matrix_of_its_own(op, names, shape, w, batch):
    node = Node(op, tuple(names), ("sums",)) if op == "MatMul" else Node("Einsum", tuple(names), ("sums",), {"equation": op})
    check(graph({"x": (batch, *shape)}, ["y"], [node, Node("Tanh", ("sums",), ("y",))], {"w": weights(RANDOM, *w)}))


def test_a_constant_matrix_for_each_row_of_a_free_batch_is_left_to_others():
    node = Node("Einsum", ("x", "w"), ("y",), {"equation": "bi,bij->bj"})
    wanted = graph({"x": ("batch", 5)}, ["y"], [node], {"w": weights(RANDOM, 1, 5, 4)})
    assert not FlatRegion(Facts.of(wanted, passes.infer_shapes(wanted))).take(node)


@pytest.mark.parametrize("axis", [1, 2, -1])
@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
def test_a_softmax_over_any_axis(op, axis):
    nodes = [*convolved("x", "frames"), Node(op, ("frames",), ("y",), {"axis": axis})]
    check(graph({"x": ("batch", CHANNELS, FRAMES)}, ["y"], nodes))


@pytest.mark.parametrize("upper", [0, 1])
def test_a_triangle_over_a_free_batch_is_of_all_rows(upper):
    nodes = [*convolved("x", "made"), Node("ReduceSum", ("made", "1"), ("row",), {"keepdims": 0}),
             Node("Trilu", ("row",), ("y",), {"upper": upper})]
    check(graph({"x": ("batch", CHANNELS, FRAMES)}, ["y"], nodes), kinds=["native", "NumPy"])


def test_masks_of_all_kinds():
    nodes = [Node("Not", ("mask",), ("others",)), Node("And", ("others", "shown"), ("a",)), Node("Or", ("a", "mask"), ("b",)),
             Node("Cast", ("b",), ("numbers",), {"to": 1}), Node("Where", ("a", "x", "one"), ("chosen",)),
             Node("Cast", ("ids",), ("lengths",), {"to": 1}), Node("Add", ("chosen", "numbers"), ("sum",)),
             Node("Mul", ("sum", "lengths"), ("scaled",)), Node("Trilu", ("scaled", "diagonal"), ("y",), {"upper": 0})]
    shape = (4, FRAMES)
    wanted = graph({"x": shape, "mask": shape, "shown": (1, FRAMES), "ids": shape}, ["y"], nodes, mask="bool", shown="bool",
                   ids="int64")
    x = np.where(RANDOM.random(shape) < 0.3, np.inf, 1).astype(np.float32)
    executable = compile_graph(passes.load(passes.canonical(wanted)))
    inputs = {"x": x, "mask": np.ones(shape, bool), "shown": np.ones((1, FRAMES), bool), "ids": np.ones(shape, np.int64)}
    assert np.isfinite(executable.run(inputs)["y"]).all()  # what is not chosen does not count, whatever it is
    check(wanted)


def test_a_mask_that_is_an_output_is_none_of_numbers():
    nodes = [Node("Not", ("mask",), ("others",)), Node("Where", ("others", "x", "one"), ("chosen",)), *convolved("chosen", "y")]
    shape = (2, CHANNELS, FRAMES)
    check(graph({"x": shape, "mask": shape}, ["y", "others"], nodes, mask="bool", others="bool"), ["NumPy", "native"])


# ---- choices: the largest elements, and ids made of them ----

CHOSEN = {"three": np.array([3]), "1": np.array([1]), "lowest": np.array(-9, np.float32)}
BATCHES = pytest.mark.parametrize("batch", ["batch", 2])


@BATCHES
@pytest.mark.parametrize("axis", [1, -1])
def test_the_largest_elements_and_their_places(batch, axis):
    nodes = [*convolved("x", "a"), Node("TopK", ("a", "three"), ("values", "places"), {"axis": axis}),
             Node("ArgMax", ("a",), ("first",), {"axis": axis, "keepdims": 0}),
             Node("TopK", ("x", "three"), ("v", "p"), {"axis": axis})]
    x = RANDOM.integers(0, 3, (3 if batch == "batch" else 2, CHANNELS, FRAMES)).astype(np.float32)  # many are equal
    x[1, 2], x[0, :, 3], x[1, 1, 1] = np.nan, np.nan, np.inf
    found = check(graph({"x": (batch, CHANNELS, FRAMES)}, ["values", "places", "first", "v", "p"], nodes,
                        CHOSEN, places="int64", first="int64", p="int64"), x=x)
    assert found.run({"x": x})["places"].dtype == np.int64


@BATCHES
def test_logits_below_the_third_are_hidden(batch):
    nodes = [*convolved("x", "a"), Node("TopK", ("a", "three"), ("top", "unread")),
             Node("Slice", ("top", "two", "three", "axis of time"), ("least",)), Node("Less", ("a", "least"), ("below",)),
             Node("Where", ("below", "lowest", "a"), ("kept",)), Node("Softmax", ("kept",), ("y",)),
             Node("Greater", ("a", "lowest"), ("all",)), Node("Cast", ("all",), ("z",), {"to": 1}),
             Node("Less", ("lowest", "x"), ("above",)), Node("Greater", ("one", "x"), ("small",)),
             Node("And", ("above", "small"), ("both",)), Node("Cast", ("both",), ("w",), {"to": 1})]
    x = RANDOM.normal(size=(3 if batch == "batch" else 2, CHANNELS, FRAMES)).astype(np.float32)
    x[0, 0, :3] = 1, np.nan, -np.inf
    constants = {**CHOSEN, "two": np.array([2]), "axis of time": np.array([2])}
    check(graph({"x": (batch, CHANNELS, FRAMES)}, ["y", "z", "w"], nodes, constants), x=x)


def test_ids_that_are_chosen_are_read_again():
    """Greedy decoding written out: each step reads what the one before chose; ids also move, and leave."""
    constants: dict = {"out": weights(RANDOM, HIDDEN, WORDS), "unsqueezed": np.array([0]), "last": np.array([1])}
    nodes, ids, state, made = [], "first", "h", []
    for i in range(3):
        nodes += [Node("Gather", ("table", ids), (f"row {i}",)), Node("Unsqueeze", (f"row {i}", "unsqueezed"), (f"x {i}",)),
                  layer("GRU", f"x {i}", f"step {i}", CHANNELS, constants, "", state),
                  Node("Squeeze", (f"step {i} h", "unsqueezed"), (f"rows {i}",)), Node("MatMul", (f"rows {i}", "out"), (f"logits {i}",)),
                  Node("ArgMax", (f"logits {i}",), (f"ids {i}",), {"axis": 1, "keepdims": 0}),
                  Node("Unsqueeze", (f"ids {i}", "last"), (f"column {i}",))]
        ids, state = f"ids {i}", f"step {i} h"
        made.append(f"column {i}")
    nodes += [Node("Concat", tuple(made), ("text",), {"axis": 1}), Node("Cast", ("text",), ("numbers",), {"to": 1})]
    check(graph({"first": (2,), "h": (1, 2, HIDDEN)}, ["text", "numbers", state], nodes, constants, first="int64", text="int64"))


def test_ids_of_32_bits_leave_as_they_came():
    nodes = [*convolved("x", "a"), Node("Unsqueeze", ("ids", "0"), ("more",)), Node("Gather", ("table", "more"), ("rows",))]
    wanted = graph({"x": (2, CHANNELS, FRAMES), "ids": (4,)}, ["a", "more", "rows"], nodes, ids="int32", more="int32")
    found = check(wanted)
    ids = np.array([3, -1, 0, 10], np.int32)
    assert found.run({"x": np.zeros((2, CHANNELS, FRAMES), np.float32), "ids": ids})["more"].dtype == np.int32


def test_more_than_a_program_chooses_is_left_to_others():
    nodes = [Node("TopK", ("x", "many"), ("values", "places")), *convolved("values", "a")]
    executable = compile_graph(passes.load(passes.canonical(graph(
        {"x": (1, CHANNELS, 90)}, ["a", "places"], nodes, {"many": np.array([70])}, places="int64"))))
    assert [segment.kind for segment in executable.segments] != ["native"]
