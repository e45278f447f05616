"""Attention as graphs write it out: one node of the core, with the numbers of what was written, whoever is beside it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from small_models import weights

from lstmrt import _core, passes, reference
from lstmrt.execution.compile import compile_graph
from lstmrt.graph import Graph, Node, Value
from lstmrt.operators import is_attention

BATCH, TIME, LENGTH, WIDTH, HEADS, HIDDEN = 3, 5, 7, 12, 3, 6
ISAS = [name for name, supported in _core.isas() if supported]
RANDOM = np.random.default_rng(4)
VALUES = (Value("q", "float32", ("batch", "time", WIDTH)), Value("k", "float32", ("batch", "length", WIDTH)),
          Value("v", "float32", ("batch", "length", WIDTH)), Value("qm", "bool", ("batch", "time")),
          Value("km", "bool", ("batch", "length")))
CONSTANTS = {
    "1": np.array([1]), "2": np.array([2]), "-1": np.array([-1]), "half": np.array(0.5, np.float32),
    "hidden": np.array(-1e9, np.float32), "column": weights(RANDOM, WIDTH, 1), "heads": np.array([0, 0, HEADS, -1]),
    "joined": np.array([0, 0, WIDTH]), "true": np.array(True), "0": np.array(0), "one": np.array([1]),
    "triangle": np.tri(TIME, LENGTH, dtype=bool)[None],
}


def node(op: str, inputs: str, output: str, **attributes) -> Node:
    return Node(op, tuple(inputs.split()), (output,), attributes)


def graph(*nodes: Node, outputs: str = "y", values: tuple[Value, ...] = VALUES, sizes: dict | None = None) -> Graph:
    read = {name for one in nodes for name in one.inputs}
    inputs = tuple(value._replace(shape=tuple((sizes or {}).get(size, size) for size in value.shape))
                   for value in values if value.name in read)
    return Graph(inputs, tuple(Value(name, "float32", None) for name in outputs.split()), nodes,
                 {name: array for name, array in CONSTANTS.items() if name in read}, "attention").validate()


def arrays(model: Graph, batch: int = BATCH, seed: int = 0) -> dict[str, np.ndarray]:
    random, sizes = np.random.default_rng(seed), {"batch": batch, "time": TIME, "length": LENGTH}
    shapes = {value.name: [sizes.get(size, size) for size in value.shape] for value in model.inputs}
    return {value.name: random.random(shapes[value.name]) < 0.6 if value.dtype == "bool"
            else random.standard_normal(shapes[value.name], np.float32) for value in model.inputs}


TURNED = node("Transpose", "k", "turned", perm=(0, 2, 1))
PRODUCTS = (TURNED, node("MatMul", "q turned", "s"))
SOFTMAX = (node("Softmax", "s", "w", axis=-1), node("MatMul", "w v", "y"))
KEYS, QUERIES = node("Unsqueeze", "km 1", "keys"), node("Unsqueeze", "qm 2", "queries")
HIDDEN_KEYS = (KEYS, node("Where", "keys p hidden", "s"))
SUMS = (node("Unsqueeze", "q 2", "q1"), node("Unsqueeze", "k 1", "k1"), node("Add", "q1 k1", "sums"),
        node("Tanh", "sums", "e"))
APART = tuple(one for name, perm in (("q", (0, 2, 1, 3)), ("k", (0, 2, 3, 1)), ("v", (0, 2, 1, 3)))
              for one in (node("Reshape", f"{name} heads", f"{name}r"), node("Transpose", f"{name}r", f"{name}h", perm=perm)))
JOINED = (node("MatMul", "w vh", "t"), node("Transpose", "t", "tt", perm=(0, 2, 1, 3)), node("Reshape", "tt joined", "y"))
TRIANGLE = (node("Shape", "p", "sizes"), node("Expand", "true sizes", "all"), node("Trilu", "all", "lower", upper=0))

ATTENTIONS = {
    "products": graph(*PRODUCTS, *SOFTMAX),
    "weights as an output": graph(*PRODUCTS, *SOFTMAX, outputs="w y"),
    "scaled": graph(TURNED, node("MatMul", "q turned", "p"), node("Mul", "p half", "s"), *SOFTMAX),
    "divided": graph(TURNED, node("MatMul", "q turned", "p"), node("Div", "p half", "s"), *SOFTMAX),
    "masked keys": graph(TURNED, node("MatMul", "q turned", "p"), *HIDDEN_KEYS, *SOFTMAX),
    "masked keys and queries": graph(TURNED, node("MatMul", "q turned", "p"), KEYS, QUERIES, node("And", "keys queries", "m"),
                                     node("Where", "m p hidden", "s"), *SOFTMAX, outputs="y w"),
    "causal": graph(TURNED, node("MatMul", "q turned", "p"), *TRIANGLE, node("Where", "lower p hidden", "s"), *SOFTMAX),
    "causal, of sizes that are known": graph(TURNED, node("MatMul", "q turned", "p"), node("Where", "triangle p hidden", "s"),
                                             *SOFTMAX, sizes={"time": TIME, "length": LENGTH}),
    "sums, a column": graph(*SUMS, node("MatMul", "e column", "c"), node("Squeeze", "c -1", "s"), *SOFTMAX, outputs="w y"),
    "sums, masked": graph(*SUMS, node("ReduceSum", "e -1", "p", keepdims=0), *HIDDEN_KEYS, *SOFTMAX),
    "heads": graph(*APART, node("MatMul", "qh kh", "s"), node("Softmax", "s", "w"), *JOINED, outputs="w y"),
    "heads, masked": graph(*APART, node("MatMul", "qh kh", "p"), KEYS, node("Unsqueeze", "keys 1", "m"),
                           node("Where", "m p hidden", "s"), node("Softmax", "s", "w"), *JOINED),
    "one query": graph(*PRODUCTS, *SOFTMAX, sizes={"time": 1}),
}
OTHERS = {
    "scores of the wrong axis": graph(*PRODUCTS, node("Softmax", "s", "w", axis=1), node("MatMul", "w v", "y")),
    "products with keys as they are": graph(node("MatMul", "q v", "s"), *SOFTMAX, sizes={"length": WIDTH}),
    "a mask of each pair": graph(TURNED, node("MatMul", "q turned", "p"), node("Where", "pairs p hidden", "s"), *SOFTMAX,
                                 values=(*VALUES, Value("pairs", "bool", ("batch", "time", "length")))),
    "a triangle of later steps": graph(TURNED, node("MatMul", "q turned", "p"), *TRIANGLE[:2], node("Trilu", "all", "lower"),
                                       node("Where", "lower p hidden", "s"), *SOFTMAX),
    "heads in another order": graph(*(replace(one, attributes={"perm": (0, 2, 1, 3)}) if one.outputs == ("kh",) else one
                                      for one in APART), node("MatMul", "qh kh", "s"), node("Softmax", "s", "w"), *JOINED,
                                    sizes={"length": WIDTH // HEADS}),
}


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", ATTENTIONS)
def test_one_native_program_with_the_numbers_of_what_was_written(name, isa):
    model = ATTENTIONS[name]
    executable, inputs = compile_graph(passes.load(model), isa), arrays(model)
    assert executable.native is not None and any(map(is_attention, executable.segments[0].nodes))
    found, expected = executable.run(inputs), reference.run(model, inputs)
    assert list(found) == list(expected)
    for output, array in expected.items():
        assert found[output].shape == array.shape
        np.testing.assert_allclose(found[output], array, rtol=0, atol=2e-6)


@pytest.mark.parametrize("reader", [node("Tanh", "w", "z"), node("Transpose", "w", "z", perm=(1, 0, 2)), node("Add", "w w", "z"),
                                    node("Transpose", "w", "z", perm=(2, 1, 0)), node("ReduceSum", "w 2", "z")])
def test_weights_that_are_read_run_beside_the_attention(reader):
    """Their width is the length of the keys, which each call decides."""
    model = graph(*PRODUCTS, *SOFTMAX, reader, outputs="y z")
    inputs = arrays(model)
    found, expected = compile_graph(passes.load(model)).run(inputs), reference.run(model, inputs)
    for output, array in expected.items():
        np.testing.assert_allclose(found[output], array, rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", ATTENTIONS)
def test_a_sequence_has_the_same_bits_alone(name):
    executable = compile_graph(passes.load(ATTENTIONS[name]))
    inputs = arrays(ATTENTIONS[name])
    together = executable.run(inputs)
    for row in range(BATCH):
        alone = executable.run({key: array[row:row + 1] for key, array in inputs.items()})
        for output, array in together.items():
            assert array[row:row + 1].tobytes() == alone[output].tobytes()


def test_a_query_has_the_same_bits_alone():
    executable = compile_graph(passes.load(ATTENTIONS["masked keys and queries"]))
    inputs = arrays(ATTENTIONS["masked keys and queries"])
    together = executable.run(inputs)
    for step in range(TIME):
        alone = executable.run({**inputs, "q": inputs["q"][:, step:step + 1], "qm": inputs["qm"][:, step:step + 1]})
        assert together["y"][:, step:step + 1].tobytes() == alone["y"].tobytes()


@pytest.mark.parametrize("name", OTHERS)
def test_what_looks_like_attention_and_is_not(name):
    model = OTHERS[name]
    loaded = passes.load(model)
    assert not any(map(is_attention, loaded.nodes))
    inputs = arrays(model)
    found, expected = compile_graph(loaded).run(inputs), reference.run(model, inputs)
    np.testing.assert_allclose(found["y"], expected["y"], rtol=0, atol=2e-6)


def test_weights_of_several_products():
    model = graph(*PRODUCTS, SOFTMAX[0], node("MatMul", "w v", "u"), node("MatMul", "w u", "y"), outputs="u w y",
                  sizes={"time": LENGTH, "length": LENGTH})
    loaded, inputs = passes.load(model), arrays(model)
    assert sum(map(is_attention, loaded.nodes)) == 2
    found, expected = compile_graph(loaded).run(inputs), reference.run(model, inputs)
    for output, array in expected.items():
        np.testing.assert_allclose(found[output], array, rtol=0, atol=2e-6)


def test_attention_of_a_sequence_to_itself_between_layers_is_native():
    lstm = {"hidden_size": HIDDEN, "layout": 1}
    constants = {"W": weights(RANDOM, 1, 4 * HIDDEN, WIDTH), "R": weights(RANDOM, 1, 4 * HIDDEN, HIDDEN), "2": CONSTANTS["2"],
                 "W2": weights(RANDOM, 1, 4 * HIDDEN, HIDDEN)}
    nodes = (Node("LSTM", ("x", "W", "R"), ("Y",), lstm), node("Squeeze", "Y 2", "h"),
             node("Transpose", "h", "turned", perm=(0, 2, 1)), node("MatMul", "h turned", "s"), node("Softmax", "s", "w"),
             node("MatMul", "w h", "m"), node("Add", "m h", "n"), Node("LSTM", ("n", "W2", "R"), ("y",), lstm))
    model = Graph((Value("x", "float32", ("batch", "time", WIDTH)),), (Value("y", "float32", None),), nodes, constants).validate()
    executable = compile_graph(passes.load(model))
    assert executable.native is not None and not executable.steppable
    inputs = {"x": weights(RANDOM, BATCH, TIME, WIDTH)}
    np.testing.assert_allclose(executable.run(inputs)["y"], reference.run(model, inputs)["y"], rtol=0, atol=2e-6)


def concatenated(repeat: tuple[Node, ...], *hide: Node) -> tuple[Graph, dict[str, np.ndarray]]:
    """A decoder's step whose scores are a dense layer of the state beside each key, as torch's seq2seq tutorials write them."""
    given = (Value("h", "float32", ("batch", HIDDEN)), Value("memory", "float32", ("length", "batch", WIDTH)))
    constants = {"W": weights(RANDOM, HIDDEN + WIDTH, 8), "b": weights(RANDOM, 8), "v": weights(RANDOM, 8, 1),
                 "zero": np.array([0]), "width": np.array([HIDDEN]),
                 "kernel": weights(RANDOM, 1, 3 * HIDDEN, WIDTH), "recurrent": weights(RANDOM, 1, 3 * HIDDEN, HIDDEN)}
    nodes = (
        node("Unsqueeze", "h 1", "query"), node("Shape", "memory", "shape"), node("Gather", "shape zero", "count"),
        node("Concat", "one count one", "times", axis=0), *repeat, node("Transpose", "memory", "keys", perm=(1, 0, 2)),
        node("Concat", "repeated keys", "both", axis=2), node("MatMul", "both W", "product"), node("Add", "b product", "sums"),
        node("Tanh", "sums", "energies"), node("MatMul", "energies v", "weighed"), node("Squeeze", "weighed 2", "scores"),
        *hide, node("Softmax", "shown" if hide else "scores", "shares", axis=1), node("Unsqueeze", "shares 1", "weights"),
        node("MatMul", "weights keys", "context"),
        node("Transpose", "context", "x", perm=(1, 0, 2)), node("Unsqueeze", "h zero", "state"), node(
            "Slice", "state zero one zero", "same"),
        Node("GRU", ("x", "kernel", "recurrent", "", "", "same"), ("", "y"), {"hidden_size": HIDDEN}))
    read = {name for one in nodes for name in one.inputs}
    given += (Value("km", "bool", ("batch", "length")),) * ("km" in read)
    model = Graph(given, (Value("y", "float32", None), Value("shares", "float32", None)), nodes, {
        name: array for name, array in {**CONSTANTS, **constants}.items() if name in read}, "attention").validate()
    inputs = {"h": RANDOM.normal(size=(2, HIDDEN)), "memory": RANDOM.normal(size=(LENGTH, 2, WIDTH))}
    inputs = {name: array.astype(np.float32) for name, array in inputs.items()}
    return model, {**inputs, "km": RANDOM.random((2, LENGTH)) < 0.6} if "km" in read else inputs


@pytest.mark.parametrize("op", ["Tile", "Expand"])
@pytest.mark.parametrize("hide", ["", "km scores hidden", "km hidden scores"])
def test_scores_of_concatenated_query_and_keys_are_native_for_any_length(op, hide):
    repeat = (node("Tile", "query times", "repeated"),) if op == "Tile" else (
        node("Concat", "one count width", "size", axis=0), node("Expand", "query size", "repeated"))
    model, inputs = concatenated(repeat, *[node("Where", hide, "shown")] * bool(hide))
    executable = compile_graph(passes.load(passes.canonical(model)))
    assert [segment.kind for segment in executable.segments] == ["native"]
    for name, array in executable.run(inputs).items():
        np.testing.assert_allclose(array, reference.run(model, inputs)[name], rtol=1e-5, atol=1e-5)


def test_only_what_is_the_same_at_each_place_is_multiplied_once():
    """Two rows that take turns are two products."""
    given = (Value("x", "float32", ("batch", 2, WIDTH)), Value("y", "float32", ("batch", 4, HIDDEN)))
    model = Graph(given, (Value("z", "float32", None),), (
        node("Tile", "x twice", "repeated"), node("Concat", "repeated y", "both", axis=2), node("MatMul", "both W", "z")), {
            "twice": np.array([1, 2, 1]), "W": weights(RANDOM, WIDTH + HIDDEN, 3)}, "attention").validate()
    loaded = passes.load(passes.canonical(model))
    assert [one.op for one in loaded.nodes] == ["Tile", "Concat", "MatMul"]


def test_several_parts_beside_what_is_repeated():
    given = (Value("x", "float32", ("batch", 1, WIDTH)), Value("y", "float32", ("batch", TIME, HIDDEN)))
    model = Graph(given, (Value("z", "float32", None),), (
        node("Expand", "x size", "repeated"), node("Tanh", "y", "more"), node("Concat", "y repeated more", "both", axis=-1),
        node("MatMul", "both W", "z")), {"size": np.array([1, TIME, 1]),
                                          "W": weights(RANDOM, WIDTH + 2 * HIDDEN, 3)}, "attention").validate()
    loaded = passes.load(passes.canonical(model))
    assert sorted(one.op for one in loaded.nodes) == ["Add", "Concat", "MatMul", "MatMul", "Tanh"]
    inputs = {"x": RANDOM.normal(size=(BATCH, 1, WIDTH)), "y": RANDOM.normal(size=(BATCH, TIME, HIDDEN))}
    inputs = {name: array.astype(np.float32) for name, array in inputs.items()}
    np.testing.assert_allclose(reference.run(loaded, inputs)["z"], reference.run(model, inputs)["z"], rtol=1e-5, atol=1e-6)
