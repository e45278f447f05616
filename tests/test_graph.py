"""The graph: `validate` names every fault with its place, and lets sound graphs through."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from strategies import recurrent_graphs

from lstmrt import reference
from lstmrt._core import _FUNCTIONS
from lstmrt.activations import FUNCTIONS, Activation, activation_attributes, recurrent_activations
from lstmrt.errors import GraphError
from lstmrt.gates import ONNX, ORDERS, gate_rows, reorder
from lstmrt.graph import EXTENSION, Graph, Node, Value, fresh_names
from lstmrt.operators import OPERATORS, REQUIRED
from lstmrt.passes import infer_shapes
from lstmrt.shapes import DTYPES


def lstm_graph(**changes) -> Graph:
    """An LSTM of 3 inputs and 4 units; `changes` are of its node."""
    weights = {"W": np.zeros((1, 16, 3), np.float32), "R": np.zeros((1, 16, 4), np.float32)}
    node = Node("LSTM", ("x", "W", "R"), ("Y",), {"hidden_size": 4}, "first")
    return Graph((Value("x", "float32", ("time", "batch", 3)),), (Value("Y", "float32", ("time", 1, "batch", 4)),),
                 (replace(node, **changes),), weights)


def with_attributes(**attributes) -> Graph:
    return lstm_graph(attributes={"hidden_size": 4, **attributes})


def with_constants(**constants) -> Graph:
    graph = lstm_graph()
    return replace(graph, constants={**graph.constants, **constants})


def faults(graph: Graph) -> list[str]:
    with pytest.raises(GraphError) as caught:
        graph.validate()
    return str(caught.value).split("\n")


def test_a_sound_graph_comes_back():
    graph = lstm_graph()
    assert graph.validate() is graph


@settings(max_examples=50, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(case=recurrent_graphs(extensions=True))
def test_random_graphs_are_sound(case):
    assert case.graph.validate() is case.graph


PLACE = "nodes[0] LSTM 'first'"


@pytest.mark.parametrize("graph, fault", [
    (with_attributes(hidden_size="4"), f"{PLACE} hidden_size: '4', expected int"),
    (with_attributes(hidden_size=0), f"{PLACE} hidden_size: 0, expected at least 1"),
    (lstm_graph(attributes={}), f"{PLACE} hidden_size: attribute is missing"),
    (with_attributes(layout=2), f"{PLACE} layout: 2, expected one of (0, 1)"),
    (with_attributes(clip=1), f"{PLACE} clip: 1, expected float"),
    (with_attributes(direction="backward"),
     f"{PLACE} direction: 'backward', expected one of ('forward', 'reverse', 'bidirectional')"),
    (with_attributes(activations=("Sigmoid", "Tanh")),
     f"{PLACE} activations: 2 functions ('Sigmoid', 'Tanh'), expected 3"),
    (with_attributes(activations=("Sigmoid", "Tanh", "Selu")),
     f"{PLACE} activations: ONNX has no Selu; the node's domain must be 'lstmrt'"),
    (with_attributes(activations=("Sigmoid", "Tanh", "Affine")),
     f"{PLACE} activations: Affine needs its activation_alpha"),
    (with_attributes(activation_alpha=(1.0,)),
     f"{PLACE} activation_alpha: 1 more values than ('Sigmoid', 'Tanh', 'Tanh') take"),
    (lstm_graph(inputs=("x", "W")), f"{PLACE} inputs: R is missing"),
    (lstm_graph(inputs=("x", "", "R")), f"{PLACE} inputs: W is missing"),
    (lstm_graph(inputs=("x", "W", "R") + ("",) * 5 + ("x",)), f"{PLACE} inputs: 9 of them, at most 8 expected"),
    (lstm_graph(inputs=("x", "W", "nobody")), f"{PLACE}: input 'nobody' is made by nobody"),
    (lstm_graph(inputs=("Y", "W", "R")), f"{PLACE}: input 'Y' is made later"),
    (lstm_graph(outputs=("W",)), f"{PLACE}: output 'W' is defined before, by constants"),
    (lstm_graph(outputs=("",)), f"{PLACE} outputs: there are none"),
    (lstm_graph(op="Memory", domain=EXTENSION),
     "nodes[0] lstmrt:Memory 'first': the domain lstmrt has no such operator"),
    (with_constants(R=np.zeros((1, 16, 5), np.float32)), f"{PLACE} R: shape (1, 16, 5), expected (1, 16, 4)"),
    (with_constants(W=np.zeros((1, 12, 3), np.float32)), f"{PLACE} W: shape (1, 12, 3), expected (1, 16, 3)"),
    (with_constants(W=np.zeros((1, 16, 3))), f"{PLACE} W: dtype float64, expected float32"),
    (with_constants(x=np.zeros(1, np.float32)), "inputs[0] 'x': defined before, by constants"),
    (with_constants(odd=np.zeros(1, np.complex64)),
     "constants 'odd': dtype complex64, expected one of " + ", ".join(DTYPES.values())),
    (replace(lstm_graph(), outputs=()), "outputs: there are none"),
    (replace(lstm_graph(), outputs=(Value("Z", "float32", None),)), "outputs[0] 'Z': made by nobody"),
    (replace(lstm_graph(), outputs=(Value("Y", "int64", None),)),
     "outputs[0] 'Y': dtype int64, but its node makes float32"),
    (replace(lstm_graph(), outputs=(Value("Y", "float32", ("time", 1, "batch", 5)),)),
     "outputs[0] 'Y': shape ('time', 1, 'batch', 5), but its node makes ('time', 1, 'batch', 4)"),
    (replace(lstm_graph(), inputs=(Value("x", "float32", ("time", -1, 3)),)),
     "inputs[0] 'x': size -1 in shape ('time', -1, 3)"),
])
def test_one_fault(graph, fault):
    assert fault in faults(graph)


def test_unknown_attributes_are_named_with_the_known_ones():
    (fault,) = faults(with_attributes(hiden=4))
    assert fault.startswith(f"{PLACE} hiden: unknown attribute, expected one of hidden_size, direction, layout")


def test_every_fault_at_once():
    broken = lstm_graph(inputs=("x", "W", "nobody"), attributes={"layout": 2})
    assert faults(replace(broken, outputs=(*broken.outputs, Value("Z", "float32", None)))) == [
        f"{PLACE}: input 'nobody' is made by nobody",
        "outputs[1] 'Z': made by nobody",
        f"{PLACE} hidden_size: attribute is missing",
        f"{PLACE} layout: 2, expected one of (0, 1)",
    ]
    assert faults(with_constants(W=np.zeros((1, 12, 3), np.float32), R=np.zeros((1, 16, 5), np.float32))) == [
        f"{PLACE} W: shape (1, 12, 3), expected (1, 16, 3)",
        f"{PLACE} R: shape (1, 16, 5), expected (1, 16, 4)",
    ]


def test_a_graph_has_the_same_faults_each_time_it_is_asked():
    graph = Graph((Value("x", "float32", (2, 3)),), (Value("y", "float32", (2, 4)),), (Node("Tanh", ("x",), ("y",)),), {})
    assert faults(graph) == faults(graph) == ["outputs[0] 'y': shape (2, 4), but its node makes (2, 3)"]


def test_foreign_operators_are_legal():
    node = Node("Det", ("x",), ("y",), {"whatever": 3})
    Graph((Value("x", "float32", None),), (Value("y", "float32", None),), (node,), {}).validate()


def test_every_operator_s_attributes_have_a_kind_of_onnx_and_a_default_that_is_allowed():
    for (domain, op), operator in OPERATORS.items():
        for name, spec in operator.attributes.items():
            assert spec.kind in ("int", "float", "string", "ints", "floats", "strings"), (domain, op, name)
            assert not spec.allowed or spec.default is REQUIRED or spec.default in spec.allowed, (domain, op, name)


_MARKS = {"?": "Optional", "*": "Variadic"}


def test_the_table_agrees_with_the_onnx_package():
    """Inputs, outputs and which of them may be left out, attributes and their defaults: all as at opset 20."""
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    for (domain, op), operator in OPERATORS.items():
        if domain:
            continue
        schema = onnx.defs.get_schema(op, 20)
        made = schema.outputs[:len(operator.outputs)]  # without the indices of MaxPool, say: a node with them is foreign
        for ours, theirs in ((operator.inputs, schema.inputs), (operator.outputs, made)):
            assert [_MARKS.get(name[-1], "Single") for name in ours] == [formal.option.name for formal in theirs], op
        for name, spec in operator.attributes.items():
            attribute = schema.attributes[name]
            assert spec.kind == attribute.type.name.lower(), (op, name)
            assert (spec.default is REQUIRED) == attribute.required or op in ONNX, (op, name)
            if attribute.default_value.name and name != "activations":  # whose default is activations.DEFAULTS
                default = onnx.helper.get_attribute_value(attribute.default_value)
                assert spec.default == (default.decode() if isinstance(default, bytes) else pytest.approx(default)), op


# ---- names ----


def test_consumers_producers_and_fresh_names():
    graph = lstm_graph()
    assert graph.consumers() == {name: [graph.nodes[0]] for name in ("x", "W", "R")}
    assert graph.producers() == {"Y": graph.nodes[0]}
    assert graph.names() == {"x", "W", "R", "Y"}
    names = fresh_names(replace(graph, constants={**graph.constants, "value_1": np.zeros(1, np.float32)}))
    assert [next(names) for _ in range(3)] == ["value_0", "value_2", "value_3"]


# ---- shapes ----


@settings(max_examples=80, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(case=recurrent_graphs(extensions=True))
def test_inferred_shapes_are_those_that_come_out(case):
    names = [name for node in case.graph.nodes for name in node.outputs if name]
    everything = replace(case.graph, outputs=tuple(Value(name, "float32", None) for name in names))
    with np.errstate(all="ignore"):
        made = reference.run(everything, case.inputs)
    tensors = infer_shapes(case.graph)
    sizes = {}
    for value in case.graph.inputs:
        sizes.update(zip(value.shape, case.inputs[value.name].shape))
    for name, array in made.items():
        inferred = tuple(sizes.get(size, size) for size in tensors[name].shape)
        assert inferred == array.shape, name


# ---- activations and gates ----


def test_alphas_and_betas_go_to_the_functions_that_take_them_in_order():
    node = Node("LSTM", ("x", "W", "R"), ("Y",), {
        "hidden_size": 1, "direction": "bidirectional", "activation_alpha": (0.1, 0.3, 0.4), "activation_beta": (0.7,),
        "activations": ("hardsigmoid", "TANH", "LeakyRelu", "Elu", "HardSigmoid", "Relu")})
    assert recurrent_activations(node) == (
        (Activation("HardSigmoid", 0.1, 0.7), Activation("Tanh"), Activation("LeakyRelu", 0.3)),
        (Activation("Elu", 0.4), Activation("HardSigmoid", 0.2, 0.5), Activation("Relu")))


def test_activations_survive_being_written_out():
    functions = (Activation("HardSigmoid", 0.25, 0.75), Activation("Tanh"), Activation("Elu", 0.5))
    node = Node("LSTM", ("x", "W", "R"), ("Y",), {"hidden_size": 1, **activation_attributes(functions)})
    assert recurrent_activations(node) == (functions,)


def test_every_function_has_its_name_in_c():
    assert {Activation(function).c_name for function in FUNCTIONS} == set(_FUNCTIONS)


def test_gates_are_reordered_by_name():
    keras = np.repeat(np.array(list("ifco")), 2)
    assert "".join(reorder(keras, ORDERS["keras"]["LSTM"], ORDERS["onnx"]["LSTM"])) == "iiooffcc"
    assert reorder(keras[None], "ifco", "iofc", axis=1).shape == (1, 8)
    assert "".join(keras[gate_rows("ifco", "c", 2)]) == "cc"
    with pytest.raises(ValueError, match="do not name the same gates"):
        reorder(keras, "ifco", "zrh")
