"""Graphs as ONNX files: sound ones that onnxruntime runs (test_reference.py has their numbers), or a refusal."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from oracles import run_onnxruntime
from strategies import recurrent_graphs

from lstmrt import reference
from lstmrt.activations import recurrent_activations
from lstmrt.converters.from_onnx import read_onnx
from lstmrt.converters.to_onnx import to_onnx_model, write_onnx
from lstmrt.errors import UnsupportedError
from lstmrt.graph import EXTENSION, OPSET, Graph, Node, Value
from lstmrt.operators import is_recurrent

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
random_graphs = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


def recurrent(op: str = "GRU", extra_inputs: tuple = (), domain: str = EXTENSION, w: str = "W", **attributes) -> Graph:
    rng = np.random.default_rng(2)
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[op]
    constants = {"W": rng.normal(size=(1, gates * 4, 3)).astype(np.float32),
                 "R": rng.normal(size=(1, gates * 4, 4)).astype(np.float32)}
    node = Node(op, ("x", w, "R", *extra_inputs), ("Y",), {"hidden_size": 4, "layout": 1, **attributes}, "layer", domain)
    inputs = [Value("x", "float32", ("batch", "time", 3 if w else gates * 4))]
    if "mask" in extra_inputs:
        inputs.append(Value("mask", "bool", ("batch", "time")))
    return Graph(tuple(inputs), (Value("Y", "float32", None),), (node,), constants, "layers").validate()


@random_graphs
@given(case=recurrent_graphs())
def test_random_graphs_make_models_that_the_onnx_checker_accepts(case):
    model = to_onnx_model(case.graph)
    onnx.checker.check_model(model, full_check=True)
    assert model.opset_import[0].version == OPSET
    assert all(attribute.i == 0 for node in model.graph.node for attribute in node.attribute
               if attribute.name == "layout"), "onnxruntime refuses layout 1"


def float32_activations(node: Node) -> list[tuple]:
    """ONNX stores parameters as float32."""
    return [(a.function, np.float32(a.alpha), np.float32(a.beta)) for one in recurrent_activations(node) for a in one]


@random_graphs
@given(case=recurrent_graphs(layouts=(0,)))
def test_what_is_written_is_read_back(case, tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    write_onnx(case.graph, path)
    graph = read_onnx(path)
    assert graph.inputs == case.graph.inputs
    assert [value._replace(shape=None) for value in graph.outputs] == list(case.graph.outputs)
    assert graph.constants.keys() == case.graph.constants.keys()
    for name, array in graph.constants.items():
        np.testing.assert_array_equal(array, case.graph.constants[name], strict=True)
    for ours, read in zip(case.graph.nodes, graph.nodes, strict=True):
        assert (read.op, read.inputs, read.outputs) == (ours.op, ours.inputs, ours.outputs)
        if is_recurrent(ours):
            assert float32_activations(read) == float32_activations(ours)


@pytest.mark.parametrize("graph, reason", [
    (recurrent(extra_inputs=("", "", "", "mask")), "its mask"),
    (recurrent(w=""), "its input weights are folded into its input"),
    (recurrent("RNN", activations=("Swish",)), "activations: ONNX has no Swish"),
])
def test_what_onnx_cannot_say_is_refused_by_name(graph, reason):
    with pytest.raises(UnsupportedError, match=rf"nodes\[0\] lstmrt:\w+ 'layer': {reason}"):
        to_onnx_model(graph)


def test_every_such_node_is_named():
    graph = recurrent(extra_inputs=("", "", "", "mask"))
    second = replace(graph.nodes[0], outputs=("Z",), name="other")
    with pytest.raises(UnsupportedError, match="(?s)'layer': its mask.*'other': its mask"):
        to_onnx_model(replace(graph, nodes=(*graph.nodes, second)))


@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
def test_an_extension_node_that_uses_no_extension_is_onnx_s(op):
    graph = recurrent(op, masked_output="zero")
    x = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)
    wanted = reference.run(graph, {"x": x})["Y"]
    np.testing.assert_allclose(run_onnxruntime(graph, {"x": x})["Y"], wanted, atol=1e-6)
