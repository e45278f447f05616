"""What `lstmrt bench` takes for the work of a model, and which tasks it finds in one."""

from __future__ import annotations

import numpy as np
import pytest

from lstmrt import benchmark
from lstmrt.benchmark import Work
from lstmrt.generation_config import GenerationDefaults
from lstmrt.graph import EXTENSION, Graph, Node, Value
from lstmrt.machine import Limits
from small_models import VOCABULARY, compiled, language_model

LIMITS = Limits(1, {"L2": 1000, "L3": 10_000}, {"L2": 100.0, "L3": 50.0, "DRAM": 10.0},
                {"f32": 1e3, "int8": 2e3})


def features(graph: Graph) -> Graph:
    """x (batch, time, 9) in place of the graph's embedding, and h at the last step for its output."""
    nodes = tuple(node for node in graph.nodes if node.op != "Gather" or node.inputs[0] != "table")
    constants = {name: array for name, array in graph.constants.items() if name != "table"}
    return Graph((Value("embedded", "float32", ("batch", "time", 9)),), graph.outputs, nodes, constants)


def test_weights_are_counted_where_they_are_read():
    model = compiled(language_model("LSTM", (13, 7)))
    weights = benchmark.Weights.of(model)
    assert weights.again == 4 * (13 * 13 + 7 * 7)
    assert weights.inputs == 4 * 7 * 13, "the first layer's are a table"
    assert weights.others == 7 * VOCABULARY


@pytest.mark.parametrize("work, seconds", [
    (Work(500, 500, 0), 5), (Work(500, 5000, 0), 10), (Work(500, 50_000, 0), 50), (Work(500, 500, 9000), 9)])
def test_a_floor_is_bytes_or_operations(work, seconds):
    assert work.floor(LIMITS) == seconds


def test_reduced_weights_have_a_peak_of_their_own():
    assert Work(500, 500, 9000).floor(LIMITS, "int8") == 5
    assert Work(500, 500, 18000).floor(LIMITS, "int8") == 9


def one_sequence() -> Graph:
    """ids (time,), without an axis of the batch."""
    table, r = np.ones((VOCABULARY, 4), np.float32), np.ones((1, 4, 4), np.float32)
    nodes = (Node("Gather", ("table", "ids"), ("rows",)), Node("Unsqueeze", ("rows", "axis"), ("x",)),
             Node("RNN", ("x", "R", "R"), ("y",), {"hidden_size": 4}))
    return Graph((Value("ids", "int64", ("time",)),), (Value("y", "float32", None),), nodes,
                 {"table": table, "R": r, "axis": np.array([1])})


def timeless() -> Graph:
    return Graph((Value("x", "float32", ("batch", 4)),), (Value("y", "float32", None),), (Node("MatMul", ("x", "w"), ("y",)),),
                 {"w": np.ones((4, 5), np.float32)})


def time_first() -> Graph:
    r = np.ones((1, 4, 4), np.float32)
    return Graph((Value("x", "float32", ("time", "batch", 4)),), (Value("y", "float32", None),),
                 (Node("RNN", ("x", "R", "R"), ("y",), {"hidden_size": 4}),), {"R": r})


@pytest.mark.parametrize("graph, generation, units", [
    (one_sequence(), None, ["step", "run of (6,)"]),
    (timeless(), None, ["run of (1, 4)"]),
    (time_first(), None, ["step", "run of (6, 1, 4)"]),
    (language_model(), GenerationDefaults("window", 4), ["token", "run of (1, 6)"]),
    (language_model(), None, ["step", "run of (1, 6)"]),
    (language_model("GRU", direction="reverse", linear_before_reset=1), None, ["run of (1, 6)"]),
    (features(language_model("RNN")), None, ["step", "run of (1, 6, 9)"]),
])
def test_tasks_run(graph, generation, units):
    tasks = benchmark.tasks(compiled(graph, generation), 6)
    assert [task.unit for task in tasks] == units
    for task in tasks:
        result = benchmark.measured(task, "f32", LIMITS, 0.01)
        assert result.seconds > 0 and result.threads == 1 and result.moved == task.work.moved and result.floor == task.work.floor(LIMITS)


def test_a_run_reads_recurrent_weights_at_each_of_its_steps():
    for time, steps in ((6, 6), (9, "time")):
        (*_, task) = benchmark.tasks(compiled(language_model("LSTM", (13,), time=steps)), time)
        recurrent, output = 4 * 13 * 13, 13 * VOCABULARY
        assert task.unit == f"run of (1, {time})"
        assert task.work == Work(4 * (time * recurrent + output), 4 * recurrent, 2 * (time * recurrent + output))


def test_what_runs_elsewhere_has_no_limit():
    kernel = np.ones((2, 1, 3, 3), np.float32)
    graph = Graph((Value("x", "float32", ("batch", 1, 8, 8)),), (Value("y", "float32", ("batch", 2, 6, 6)),),
                  (Node("Conv", ("x", "kernel"), ("y",)),), {"kernel": kernel})
    (task,) = benchmark.tasks(compiled(graph), 6)
    result = benchmark.measured(task, "f32", LIMITS, 0.01)
    assert (task.unit, result.moved, result.floor) == ("run of (1, 1, 8, 8)", None, None)


def test_weights_of_a_convolution_count_more_than_once():
    """A limit that takes each for one product would be far too low."""
    kernel = np.ones((8, 3, 2), np.float32)
    graph = Graph((Value("x", "float32", ("batch", "time", 5, 2)),), (Value("y", "float32", None),),
                  (Node("ConvLSTM", ("x", "kernel", "kernel"), ("y",), {"auto_pad": "SAME_UPPER"}, "lines", EXTENSION),),
                  {"kernel": kernel})
    tasks = benchmark.tasks(compiled(graph), 6)
    assert [(task.unit, task.work) for task in tasks] == [("step", None), ("run of (1, 6, 5, 2)", None)]
    assert benchmark.measured(tasks[0], "f32", LIMITS, 0.01).seconds > 0
