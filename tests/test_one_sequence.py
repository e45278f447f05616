"""Graphs without a batch axis, as converters of other libraries write them: x (time, width), states (hidden,)."""

from __future__ import annotations

import numpy as np
import pytest

import lstmrt
from lstmrt import passes
from lstmrt.converters.to_onnx import write_onnx
from lstmrt.errors import InputError
from lstmrt.execution.compile import compile_graph
from lstmrt.graph import Graph, Node, Value
from oracles import run_onnxruntime
from small_models import weights

TIME, WIDTH, HIDDEN, CLASSES = 11, 6, 5, 3
RANDOM = np.random.default_rng(7)
WHOLE_AXIS = -(2**63 - 1)
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


def layer(op: str, name: str, x: str, width: int, constants: dict) -> list[Node]:
    """y (time, HIDDEN) of x (time, width), from the states `name` h0 and c0, (HIDDEN,), to those `name` h and c."""
    letters = ("h", "c") if op == "LSTM" else ("h",)
    gates = GATES[op] * HIDDEN
    constants |= {f"{name} W": weights(RANDOM, 1, gates, width) / 2, f"{name} R": weights(RANDOM, 1, gates, HIDDEN) / 2,
                  f"{name} B": weights(RANDOM, 1, 2 * gates)}
    made = [f"{name} Y", *(f"{name} Y_{letter}" for letter in letters)]
    nodes = [Node("Unsqueeze", (x, "1"), (f"{name} X",))]
    nodes += [Node("Unsqueeze", (f"{name} {letter}0", "0, 1"), (f"{name} initial {letter}",)) for letter in letters]
    nodes.append(Node(op, (f"{name} X", f"{name} W", f"{name} R", f"{name} B", "",
                           *(f"{name} initial {letter}" for letter in letters)), tuple(made),
                      {"hidden_size": HIDDEN} | ({"linear_before_reset": 1} if op == "GRU" else {})))
    nodes.append(Node("Squeeze", (made[0], "1, 2"), (f"{name} y",)))
    return nodes + [Node("Squeeze", (f"{name} Y_{letter}", "0, 1"), (f"{name} {letter}",)) for letter in letters]


def states(op: str, *names: str) -> list[str]:
    return [f"{name} {letter}" for name in names for letter in (("h", "c") if op == "LSTM" else ("h",))]


def reversed_time(x: str, made: str) -> Node:
    return Node("Slice", (x, "-1", "whole", "0", "-1"), (made,))


def head(x: str, width: int, constants: dict) -> list[Node]:
    constants |= {"kernel": weights(RANDOM, width, CLASSES), "row": weights(RANDOM, CLASSES)}
    return [Node("MatMul", (x, "kernel"), ("products",)), Node("Add", ("products", "row"), ("logits",)),
            Node("Softmax", ("logits",), ("y",))]


def graph(op: str, names: tuple[str, ...], nodes: list[Node], constants: dict) -> Graph:
    constants |= {"0": np.array([0]), "1": np.array([1]), "0, 1": np.array([0, 1]), "1, 2": np.array([1, 2]),
                  "-1": np.array([-1]), "whole": np.array([WHOLE_AXIS])}
    carried = states(op, *names)
    inputs = (Value("x", "float32", ("time", WIDTH)), *(Value(f"{name}0", "float32", (HIDDEN,)) for name in carried))
    outputs = (Value("y", "float32", ("time", CLASSES)), *(Value(name, "float32", (HIDDEN,)) for name in carried))
    read = {name for node in nodes for name in node.inputs}
    return Graph(inputs, outputs, tuple(nodes), {k: v for k, v in constants.items() if k in read}, "one").validate()


def stacked(op: str) -> Graph:
    constants: dict = {}
    nodes = layer(op, "first", "x", WIDTH, constants) + layer(op, "second", "first y", HIDDEN, constants)
    return graph(op, ("first", "second"), nodes + head("second y", HIDDEN, constants), constants)


def bidirectional(op: str) -> Graph:
    """The second direction reads and gives its steps the other way round."""
    constants: dict = {}
    nodes = [*layer(op, "first", "x", WIDTH, constants), reversed_time("x", "turned"),
             *layer(op, "second", "turned", WIDTH, constants), reversed_time("second y", "turned back"),
             Node("Concat", ("first y", "turned back"), ("both",), {"axis": 1})]
    return graph(op, ("first", "second"), nodes + head("both", 2 * HIDDEN, constants), constants)


def inputs_of(model: Graph, time: int = TIME) -> dict[str, np.ndarray]:
    return {value.name: weights(RANDOM, *(time if size == "time" else size for size in value.shape)) for value in model.inputs}


@pytest.mark.parametrize("make", [stacked, bidirectional])
@pytest.mark.parametrize("op", GATES)
def test_one_native_program_gives_what_onnxruntime_gives(op, make):
    model = make(op)
    executable = compile_graph(passes.load(passes.canonical(model)))
    assert [segment.kind for segment in executable.segments] == ["native"]
    for time in (TIME, 1, 2 * TIME):
        given = inputs_of(model, time)
        made = executable.run(given)
        for name, wanted in run_onnxruntime(model, given).items():
            assert made[name].shape == wanted.shape
            np.testing.assert_allclose(made[name], wanted, rtol=2e-6, atol=1e-6)


def test_time_behind_the_one_of_the_batch():
    constants: dict = {}
    model = graph("GRU", ("first",), layer("GRU", "first", "x", WIDTH, constants) + head("first y", HIDDEN, constants), constants)
    constants = dict(model.constants)
    turned = graph("GRU", ("first",), [
        Node("Unsqueeze", ("x", "0"), ("rows",)), Node("Transpose", ("rows",), ("first X",), {"perm": (1, 0, 2)}),
        *model.nodes[1:]], constants)
    given = inputs_of(model)
    executable = compile_graph(passes.load(passes.canonical(turned)))
    assert [segment.kind for segment in executable.segments] == ["native"]
    np.testing.assert_array_equal(executable.run(given)["y"], compile_graph(passes.load(model)).run(given)["y"])


def test_steps_carry_the_states(tmp_path):
    model = stacked("LSTM")
    write_onnx(model, tmp_path / "one.onnx")
    loaded = lstmrt.load(tmp_path / "one.onnx")
    assert set(loaded.states) == {f"{name}0" for name in states("LSTM", "first", "second")}
    given = {name: np.zeros_like(array) if name != "x" else array for name, array in inputs_of(model).items()}
    whole = loaded.run(given)["y"]
    with pytest.raises(InputError, match="one sequence"):
        loaded.new_state(2)
    state = loaded.new_state()
    for x, wanted in zip(given["x"], whole):
        np.testing.assert_array_equal(loaded.step(x[None], state)[0], wanted)


def test_a_step_of_ids_is_a_number(tmp_path):
    gates = GATES["GRU"] * HIDDEN
    constants = {"table": weights(RANDOM, 9, WIDTH), "W": weights(RANDOM, 1, gates, WIDTH), "R": weights(RANDOM, 1, gates, HIDDEN),
                 "1": np.array([1]), "1, 2": np.array([1, 2])}
    nodes = (Node("Gather", ("table", "ids"), ("rows",)), Node("Unsqueeze", ("rows", "1"), ("x",)),
             Node("GRU", ("x", "W", "R"), ("Y",), {"hidden_size": HIDDEN}), Node("Squeeze", ("Y", "1, 2"), ("y",)))
    model = Graph((Value("ids", "int64", ("time",)),), (Value("y", "float32", ("time", HIDDEN)),), nodes, constants)
    write_onnx(model.validate(), tmp_path / "one.onnx")
    loaded = lstmrt.load(tmp_path / "one.onnx")
    ids = RANDOM.integers(0, 9, TIME)
    whole, state = loaded(ids), loaded.new_state()
    for id, wanted in zip(ids, whole):
        np.testing.assert_array_equal(loaded.step(id, state), wanted)


def test_several_sequences_are_refused():
    model = stacked("GRU")
    given = inputs_of(model)
    with pytest.raises(InputError):
        compile_graph(passes.load(model)).run({**given, "x": np.stack([given["x"]] * 2)})
    constants: dict = {}
    alone = layer("RNN", "first", "x", WIDTH, constants)
    alone[2] = Node("RNN", alone[2].inputs[:4], alone[2].outputs, alone[2].attributes)
    alone = [node for node in alone if "first h0" not in node.inputs and "first h" not in node.outputs]
    loop = graph("RNN", (), alone + head("first y", HIDDEN, constants), constants)
    native = compile_graph(passes.load(loop)).native
    with pytest.raises(InputError, match="one sequence"):
        native.check_batch(2)
