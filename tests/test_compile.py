"""Where the parts of a graph run, and that onnxruntime gives the same for every mix of them."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

import lstmrt
from lstmrt import _core, passes, reference
from lstmrt.converters.to_onnx import write_onnx
from lstmrt.execution import native
from lstmrt.execution.compile import ISA_VARIABLE, THREADS_VARIABLE, Executable, compile_graph
from lstmrt.gates import ONNX
from lstmrt.graph import EXTENSION, Graph, Node, Value
from lstmrt.precision import rounded
from oracles import exact, run_onnxruntime
from small_models import VOCABULARY, language_model, weights

BATCH, TIME, WIDTH, HIDDEN = 3, 7, 6, 10
SUPPORTED = [name for name, supported in _core.isas() if supported]
RANDOM = np.random.default_rng(2)
X = weights(RANDOM, BATCH, TIME, WIDTH)
CONSTANTS = {
    "W": weights(RANDOM, 1, 4 * HIDDEN, WIDTH) / 2, "R": weights(RANDOM, 1, 4 * HIDDEN, HIDDEN) / 3,
    "B": weights(RANDOM, 1, 8 * HIDDEN), "W2": weights(RANDOM, 1, 3 * WIDTH, HIDDEN) / 2,
    "R2": weights(RANDOM, 1, 3 * WIDTH, WIDTH) / 2, "kernel": weights(RANDOM, HIDDEN, WIDTH) / 3,
    "row": weights(RANDOM, WIDTH),
    "axes": np.array([2]), "last": np.array(-1), "middle": np.array(3),
    "pairs": np.array([0, 0, 2, HIDDEN // 2]), "flat": np.array([0, -1]), "twice": np.array([1, 1, 2]),
    "spread": np.array([1, 3, 1]), "all": np.array([0, 1]), "index": np.array(2),
    "W1": weights(RANDOM, 1, 3 * WIDTH, WIDTH) / 2, "W3": weights(RANDOM, 1, 3 * WIDTH, 2 * WIDTH) / 2,
    "padding": np.array([0, 0, 0, 0, 0, WIDTH - 2]),
    "0": np.array([0]), "1": np.array([1]), "2": np.array([2]),
}


def foreign(source: str, made: str) -> Node:
    """An operator of onnxruntime's own: x sigmoid(1.702 x)."""
    return Node("QuickGelu", (source,), (made,), domain="com.microsoft")


LSTM = (Node("LSTM", ("x", "W", "R", "B"), ("Y",), {"hidden_size": HIDDEN, "layout": 1}, "lstm"),
        Node("Squeeze", ("Y", "axes"), ("h",)))


def gru(source: str, made: str = "h2", w: str = "W2") -> tuple[Node, ...]:
    return (Node("GRU", (source, w, "R2"), (f"Y {made}",), {"hidden_size": WIDTH, "layout": 1}, "gru"),
            Node("Squeeze", (f"Y {made}", "axes"), (made,)))


def graph(*nodes: Node, **ranks: int) -> Graph:
    """x (batch, time, WIDTH) -> the outputs that `ranks` names; y of rank 3 without it."""
    read = {name for node in nodes for name in node.inputs}
    outputs = tuple(Value(name, "float32", (None,) * rank) for name, rank in (ranks or {"y": 3}).items())
    return Graph((Value("x", "float32", ("batch", "time", WIDTH)),), outputs, nodes,
                 {name: array for name, array in CONSTANTS.items() if name in read}, "mixed").validate()


def kinds(executable: Executable) -> list[str]:
    return [segment.kind for segment in executable.segments]


def dense(source: str, made: str) -> tuple[Node, ...]:
    return (Node("MatMul", (source, "kernel"), (f"{made} product",)), Node("Add", (f"{made} product", "row"), (made,)))


MIXES = {
    "native": (graph(*LSTM, *dense("h", "y")), ["native"]),
    "NumPy": (graph(Node("Reshape", ("x", "flat"), ("y",)), y=2), ["NumPy"]),
    "onnxruntime": (graph(foreign("x", "s"), foreign("s", "y")), ["onnxruntime"]),
    "NumPy behind native": (
        graph(*LSTM, Node("Reshape", ("h", "pairs"), ("split",)),
              Node("Transpose", ("split",), ("y",), {"perm": (0, 2, 1, 3)}), y=4),
        ["native", "NumPy", "NumPy"]),
    "a step in the middle": (graph(*LSTM, Node("Gather", ("h", "middle"), ("y",), {"axis": 1}), y=2),
                             ["native", "NumPy"]),
    "onnxruntime before native": (
        graph(foreign("x", "s"), replace(LSTM[0], inputs=("s", *LSTM[0].inputs[1:])), LSTM[1],
              Node("Gather", ("h", "last"), ("y",), {"axis": 1}), y=2),
        ["onnxruntime", "native"]),
    "onnxruntime behind native": (graph(*LSTM, foreign("h", "y")), ["native", "onnxruntime"]),
    "onnxruntime between natives": (
        graph(*LSTM, foreign("h", "n"), *gru("n"),
              Node("Add", ("h2", "row"), ("y",))),
        ["native", "onnxruntime", "native"]),
    "NumPy's work in onnxruntime": (
        graph(*LSTM, Node("Reshape", ("h", "pairs"), ("split",)), foreign("split", "s"),
              Node("ReduceSum", ("s", "axes"), ("y",), {"keepdims": 0})),
        ["native", "onnxruntime"]),
    "much of NumPy's work in onnxruntime": (
        graph(Node("ReduceL2", ("x", "1"), ("norm",)), Node("Sub", ("x", "norm"), ("from norm",)),
              Node("ReduceMin", ("from norm", "1"), ("least",)), Node("Sin", ("least",), ("sine",)),
              Node("Cos", ("sine",), ("cosine",)), Node("Mul", ("from norm", "cosine"), ("scaled",)),
              *gru("scaled", w="W1"), Node("Add", ("h2", "norm"), ("y",))),
        ["onnxruntime", "native"]),
    "means and maxima over time": (
        graph(Node("ReduceMean", ("x", "1"), ("mean",)), Node("Sub", ("x", "mean"), ("from mean",)),
              Node("ReduceMax", ("from mean", "1"), ("peak",)), Node("Mul", ("peak", "from mean"), ("scaled",)),
              *gru("scaled", w="W1"), Node("Add", ("h2", "mean"), ("y",))),
        ["native"]),
    "a width that only the layer knows": (
        graph(Node("Shape", ("x",), ("shape",)), Node("Min", ("shape", "twice"), ("repeats",)),
              Node("Tile", ("x", "repeats"), ("wide",)), *gru("wide", "y", "W3")),
        ["NumPy", "NumPy", "NumPy", "native"]),
    "a part of the input before the second layer": (
        graph(*gru("x", w="W1"), Node("Slice", ("x", "0", "2", "2"), ("some",)),
              Node("Pad", ("some", "padding"), ("filled",)), *gru("filled", "h3", "W1"),
              Node("Sub", ("h2", "h3"), ("y",))),
        ["native", "NumPy", "native"]),
    "one value for two segments": (
        graph(*LSTM, foreign("h", "s"), Node("Mul", ("h", "s"), ("m",)), *dense("m", "y"), y=3, h=3),
        None),
    "two branches": (
        graph(*LSTM, foreign("x", "c"), *dense("h", "d"), Node("Sub", ("d", "c"), ("y",)), y=3, c=3),
        None),
}


@pytest.mark.parametrize("name", MIXES)
def test_every_mix_is_what_onnxruntime_gives(tmp_path, name):
    mixed, expected = MIXES[name]
    wanted = run_onnxruntime(mixed, {"x": X})
    write_onnx(mixed, tmp_path / "mixed.onnx")
    loaded = lstmrt.load(tmp_path / "mixed.onnx").run({"x": X})
    executable = compile_graph(passes.load(passes.canonical(mixed)))
    compiled = executable.run({"x": X})
    assert list(loaded) == list(compiled) == list(wanted)
    for output, array in wanted.items():
        assert loaded[output].shape == compiled[output].shape == array.shape
        np.testing.assert_allclose(compiled[output], array, rtol=0, atol=3e-6)
        np.testing.assert_allclose(loaded[output], array, rtol=0, atol=3e-6)
    assert expected is None or kinds(executable) == expected
    assert (executable.native is not None) == (kinds(executable) == ["native"])


@pytest.mark.parametrize("isa", SUPPORTED)
def test_a_mix_on_every_instruction_set(isa):
    mixed, _ = MIXES["onnxruntime between natives"]
    executable = compile_graph(passes.load(passes.canonical(mixed)), isa)
    np.testing.assert_allclose(executable.run({"x": X})["y"], run_onnxruntime(mixed, {"x": X})["y"], rtol=0, atol=3e-6)
    assert {segment.model.isa for segment in executable.segments if segment.kind == "native"} == {isa}


def test_other_sizes_of_batch_and_time():
    mixed, _ = MIXES["NumPy's work in onnxruntime"]
    executable = compile_graph(mixed)
    for batch, time in ((1, 1), (5, 2), (2, 9)):
        x = weights(RANDOM, batch, time, WIDTH)
        found, wanted = executable.run({"x": x})["y"], run_onnxruntime(mixed, {"x": x})["y"]
        assert found.shape == wanted.shape == (batch, time, HIDDEN // 2)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=3e-6)


@pytest.mark.parametrize("options", [{}, {"mask": True}, {"every_step": True}, {"direction": "reverse"}], ids=str)
def test_language_models_are_one_native_program(options):
    executable = compile_graph(passes.load(passes.canonical(language_model("LSTM", (5, 4), **options))))
    assert kinds(executable) == ["native"]
    assert executable.steppable == ("direction" not in options)


def read_by_two(graph: Graph) -> Graph:
    """With a second node that reads what the first recurrent layer does, in the other direction."""
    node = next(node for node in graph.nodes if node.op in ("LSTM", "GRU", "RNN"))
    other = replace(node, outputs=("Z",), attributes={**node.attributes, "direction": "reverse"})
    outputs = (*graph.outputs, Value("Z", "float32", None))
    return replace(graph, nodes=(*graph.nodes, other), outputs=outputs).validate()


def outputs_with_tables(graph: Graph, limit: int, isa: str, precision: str, monkeypatch) -> tuple[list, dict[str, np.ndarray]]:
    """The table, if there is one, of each recurrent step, and what the program gives."""
    made = []

    def spied(*args):
        made.extend(step["weights"][4] for step in args[1] if step["op"] in ("LSTM", "GRU", "RNN"))
        return core_model(*args)

    core_model = _core.Model
    with monkeypatch.context() as patch:
        patch.setattr(native, "LARGEST_TABLE", limit)
        patch.setattr(_core, "Model", spied)
        executable = compile_graph(passes.load(passes.canonical(graph)), isa, precision=precision)
    return made, executable.run({"ids": np.random.default_rng(0).integers(0, VOCABULARY, (3, 6))})


@pytest.mark.parametrize("isa", SUPPORTED)
@pytest.mark.parametrize("op, options", [
    ("LSTM", {}), ("RNN", {"direction": "reverse"}), ("GRU", {}), ("GRU", {"linear_before_reset": 1})], ids=str)
def test_embeddings_multiplied_ahead_give_the_same_bits(op, options, isa, monkeypatch):
    model = read_by_two(language_model(op, (19,), **options)) if not options else language_model(op, (19, 5), **options)
    size = VOCABULARY * len(ONNX[op]) * 19 * 4
    tables, ahead = outputs_with_tables(model, size, isa, "f32", monkeypatch)
    assert tables[0] is not None
    tables, at_once = outputs_with_tables(model, size - 1, isa, "f32", monkeypatch)
    assert tables == [None, None]
    for name, array in ahead.items():
        assert array.tobytes() == at_once[name].tobytes()


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_embeddings_are_multiplied_with_float32_weights_in_reduced_models(precision, monkeypatch):
    model = rounded(language_model("LSTM", (19,)), precision)
    tables, found = outputs_with_tables(model, 1 << 20, None, precision, monkeypatch)
    assert tables[0] is not None
    np.testing.assert_allclose(found["probabilities"], reference.run(model, {
        "ids": np.random.default_rng(0).integers(0, VOCABULARY, (3, 6))})["probabilities"], atol=0.01)


def test_an_embedding_that_others_read_has_no_table(monkeypatch):
    model = language_model("LSTM", (19,))
    shown = replace(model, outputs=(*model.outputs, Value("embedded", "float32", None)))
    tables, _ = outputs_with_tables(shown, 1 << 20, None, "f32", monkeypatch)
    assert tables == [None]
    read = replace(model, nodes=(*model.nodes, Node("Relu", ("embedded",), ("z",))),
                   outputs=(*model.outputs, Value("z", "float32", None)))
    tables, made = outputs_with_tables(read, 1 << 20, None, "f32", monkeypatch)
    assert tables == [None] and made["z"].shape == (3, 6, 9)


def test_both_directions_side_by_side_are_one_native_program():
    back = replace(LSTM[0], outputs=("Y_back",), attributes={**LSTM[0].attributes, "direction": "reverse"})
    both = graph(*LSTM, back, Node("Squeeze", ("Y_back", "axes"), ("h_back",)),
                 Node("Concat", ("h", "h_back"), ("y",), {"axis": 2}))
    executable = compile_graph(passes.load(passes.canonical(both)))
    assert kinds(executable) == ["native"] and not executable.steppable
    np.testing.assert_allclose(executable.run({"x": X})["y"], run_onnxruntime(both, {"x": X})["y"], rtol=0, atol=3e-6)


def test_a_mixed_model_runs_and_neither_steps_nor_generates(tmp_path):
    write_onnx(MIXES["onnxruntime between natives"][0], tmp_path / "mixed.onnx")
    model = lstmrt.load(tmp_path / "mixed.onnx")
    assert model(X).shape == (BATCH, TIME, WIDTH)
    with pytest.raises(lstmrt.InputError, match="no native program of steps has"):
        model.new_state()
    with pytest.raises(lstmrt.UnsupportedError, match="one native program"):
        model.generate([1])


# ---- instruction sets ----


def test_the_variable_chooses_the_instruction_set(monkeypatch):
    for isa in SUPPORTED:
        monkeypatch.setenv(ISA_VARIABLE, isa)
        assert compile_graph(language_model()).native.model.isa == isa
    for empty in ("", None):
        monkeypatch.setenv(ISA_VARIABLE, empty) if empty is not None else monkeypatch.delenv(ISA_VARIABLE)
        assert compile_graph(language_model()).native.model.isa == SUPPORTED[-1]


@pytest.mark.parametrize("isa", ["sse9", "AVX2", "avx2 "])
def test_an_unknown_instruction_set_is_refused(monkeypatch, isa):
    with pytest.raises(lstmrt.IsaError, match=f"instruction set '{isa}'"):
        compile_graph(language_model(), isa)
    monkeypatch.setenv(ISA_VARIABLE, isa)
    with pytest.raises(lstmrt.IsaError, match=f"instruction set '{isa}'"):
        compile_graph(language_model())


def test_the_argument_goes_before_the_variable(monkeypatch):
    monkeypatch.setenv(ISA_VARIABLE, "sse9")
    assert compile_graph(language_model(), "scalar").native.model.isa == "scalar"


# ---- threads ----


@pytest.mark.parametrize("threads", [0, -1, 1.5, "two", True, 2**31])
def test_thread_counts_that_make_no_sense(monkeypatch, threads):
    with pytest.raises(lstmrt.InputError, match="threads: expected a number above 0"):
        compile_graph(language_model(), threads=threads)
    monkeypatch.setenv(THREADS_VARIABLE, str(threads))
    with pytest.raises(lstmrt.InputError, match="LSTMRT_NUM_THREADS: expected a number above 0"):
        compile_graph(language_model())
    compile_graph(language_model(), threads=1)  # goes before the variable
    with pytest.raises(lstmrt.InputError, match="threads: expected a number above 0, got '2'"):
        compile_graph(language_model(), threads="2")


# ---- what nobody runs ----

WITHOUT = """
import sys
sys.modules[{package!r}] = None
from lstmrt import MissingDependencyError
from lstmrt.execution.compile import compile_graph
from lstmrt.graph import Graph, Node, Value

nodes = (Node("Det", ("x",), ("a",)), Node("Gelu", ("a",), ("b",), domain="com.microsoft"), Node("Det", ("b",), ("y",)))
graph = Graph((Value("x", "float32", None),), (Value("y", "float32", None),), nodes, {{}})
try:
    compile_graph(graph)
except MissingDependencyError as error:
    print(error)
"""


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_without_onnxruntime_the_operators_are_listed(tmp_path, package):
    done = subprocess.run([sys.executable, "-c", WITHOUT.format(package=package)], cwd=tmp_path, capture_output=True,
                          text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "onnxruntime has to run 2 Det, 1 com.microsoft:Gelu: pip install lstmrt[onnx]\n"


def test_the_backend_for_onnx_says_what_it_needs(tmp_path):
    done = subprocess.run([sys.executable, "-c", "import sys; sys.modules['onnx'] = None; import lstmrt.onnx_backend"],
                          cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.stderr.splitlines()[-1].endswith("MissingDependencyError: a backend for onnx needs onnx: pip install lstmrt[onnx]")


def test_operators_that_onnxruntime_refuses_are_named():
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    executable = compile_graph(graph(Node("Bogus", ("x",), ("y",), {}, "strange")))
    with pytest.raises(lstmrt.UnsupportedError, match="onnxruntime refuses Bogus 'strange'"):
        executable.run({"x": X})


def test_unknown_extensions_are_named():
    odd = Graph((Value("x", "float32", None),), (Value("y", "float32", None),),
                (Node("Memory", ("x",), ("y",), {}, "head", EXTENSION),), {})
    with pytest.raises(lstmrt.UnsupportedError, match="lstmrt:Memory 'head'"):
        compile_graph(odd)


@pytest.mark.parametrize("shape, message", [((BATCH, WIDTH), "'s': expected 3 axes, got shape"),
                                            ((BATCH, TIME, 1, WIDTH), "'s': expected 3 axes, got shape"),
                                            ((BATCH, TIME, WIDTH + 1), "")], ids=str)
def test_what_comes_from_onnxruntime_is_checked(shape, message):
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    unchecked = replace(MIXES["onnxruntime before native"][0], inputs=(Value("x", "float32", None),))
    executable = compile_graph(passes.load(passes.canonical(unchecked)))
    with pytest.raises(lstmrt.InputError, match=message):
        executable.run({"x": weights(RANDOM, *shape)})


def test_a_row_of_a_constant_beside_a_layer():
    """As it is left where nothing folded it."""
    constants = {"rows": weights(RANDOM, 2, 3, WIDTH), "0": np.array(0), "W": weights(RANDOM, 1, 4, WIDTH),
                 "R": weights(RANDOM, 1, 4, 1)}
    graph = Graph((Value("x", "float32", (1, 2, WIDTH)),), (Value("y", "float32", None), Value("row", "float32", None)),
                  (Node("LSTM", ("x", "W", "R"), ("", "y"), {"hidden_size": 1}),
                   Node("Gather", ("rows", "0"), ("row",), {"axis": 1})), constants).validate()
    made = compile_graph(graph).run({"x": weights(RANDOM, 1, 2, WIDTH)})
    np.testing.assert_array_equal(made["row"], constants["rows"][:, 0])


def test_a_number_becomes_the_state_of_a_layer():
    constants = {"0": np.array([0]), "W": weights(RANDOM, 1, 4, WIDTH), "R": weights(RANDOM, 1, 4, 1)}
    names = ["number", "row", "rows", "h0"]
    graph = Graph((Value("x", "float32", (5, 1, WIDTH)), Value("number", "float32", ())), (Value("y", "float32", None),),
                  (*[Node("Unsqueeze", (a, "0"), (b,)) for a, b in zip(names, names[1:])],
                   Node("LSTM", ("x", "W", "R", "", "", "h0"), ("", "y"), {"hidden_size": 1})), constants).validate()
    inputs = {"x": weights(RANDOM, 5, 1, WIDTH), "number": np.array(0.5, np.float32)}
    np.testing.assert_allclose(compile_graph(passes.load(graph)).run(inputs)["y"], exact(graph, inputs)["y"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("nodes, outputs", [
    ([Node("Reshape", ("x", "flat"), ("y",)), Node("Relu", ("x",), ("z",))], "yz"),
    ([Node("Expand", ("x", "spread"), ("y",))], "y"),
    ([Node("Relu", ("x",), ("y",)), Node("Identity", ("y",), ("z",))], "yz"),
    ([*LSTM, Node("Slice", ("h", "0", "1", "1"), ("y",)), Node("Transpose", ("h",), ("z",), {"perm": (2, 1, 0)})], "yzh"),
    ([Node("Selu", ("x",), ("y",)), Node("Reshape", ("y", "flat"), ("z",))], "yz"),
    ([Node("Identity", ("row",), ("y",))], "y"),
    ([Node("ReduceSum", ("x", "all"), ("s",), {"keepdims": 0}), Node("Gather", ("s", "index"), ("y",))], "y"),
])
def test_outputs_are_arrays_of_their_own(nodes, outputs):
    read = {name for node in nodes for name in node.inputs}
    graph = Graph((Value("x", "float32", ("batch", 1, WIDTH) if "spread" in read else ("batch", "time", WIDTH)),),
                  tuple(Value(name, "float32", None) for name in outputs), tuple(nodes),
                  {name: array for name, array in CONSTANTS.items() if name in read}, "views").validate()
    executable = compile_graph(passes.load(graph))
    x = X[:, :1].copy() if "spread" in read else X.copy()
    first = {name: array.copy() for name, array in executable.run({"x": x}).items()}
    made = executable.run({"x": x})
    for i, name in enumerate(made):
        made[name][...] = i
    for i, name in enumerate(made):
        assert (made[name] == i).all()
    for name, array in executable.run({"x": x}).items():
        np.testing.assert_array_equal(array, first[name])
