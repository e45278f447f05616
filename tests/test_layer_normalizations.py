"""Layer normalizations that are written out: which become one node, and which are something else."""

from __future__ import annotations

import numpy as np
import pytest

from lstmrt import reference
from lstmrt.graph import Graph, Node, Value
from lstmrt.passes import canonical

SHAPE = ("batch", 4, 6)
RNG = np.random.default_rng(3)
CONSTANTS = {"axes": np.array([-1]), "two": np.array(2.0, np.float32), "epsilon": np.array(0.3, np.float32),
             "scale": RNG.normal(size=6).astype(np.float32), "shift": RNG.normal(size=6).astype(np.float32)}
WRITTEN = [Node("ReduceMean", ("x", "axes"), ("mean",)), Node("Sub", ("x", "mean"), ("d",)),
           Node("Pow", ("d", "two"), ("squares",)), Node("ReduceMean", ("squares", "axes"), ("variance",)),
           Node("Add", ("variance", "epsilon"), ("v",)), Node("Sqrt", ("v",), ("root",)), Node("Div", ("d", "root"), ("n",)), Node("Mul", ("n", "scale"), ("s",)),
           Node("Add", ("s", "shift"), ("t",)), Node("Relu", ("t",), ("y",))]


def graph(changed: dict[str, Node] = {}, constants: dict = {}, outputs: tuple[str, ...] = ("y",)) -> Graph:
    """WRITTEN with the nodes that make some values replaced."""
    nodes = tuple(changed.get(node.outputs[0], node) for node in WRITTEN)
    values = tuple(Value(name, "float32", None) for name in outputs)
    return Graph((Value("x", "float32", SHAPE),), values, nodes, {**CONSTANTS, **constants}).validate()


def operators(wanted: Graph) -> list[str]:
    """After the passes, once the results were compared."""
    found = canonical(wanted).validate()
    x = RNG.normal(size=(3, 4, 6)).astype(np.float32)
    for before, after in zip(reference.run(wanted, {"x": x}).values(), reference.run(found, {"x": x}).values()):
        np.testing.assert_allclose(after, before, rtol=1e-6, atol=1e-9)
    return [node.op for node in found.nodes]


BOTH = np.array([1, 2])


@pytest.mark.parametrize("changed, constants", [
    ({}, {}),
    ({"squares": Node("Mul", ("d", "d"), ("squares",)), "v": Node("Add", ("epsilon", "variance"), ("v",)),
      "s": Node("Mul", ("scale", "n"), ("s",)), "t": Node("Add", ("shift", "s"), ("t",))}, {}),
    ({}, {"axes": BOTH, "scale": RNG.normal(size=(4, 6)).astype(np.float32), "shift": np.array([0.5], np.float32)}),
    ({}, {"epsilon": np.array([[0.2]], np.float32)}),
])
def test_one_node_in_place_of_nine(changed, constants):
    assert operators(graph(changed, constants)) == ["LayerNormalization", "Relu"]


def test_without_scale_and_shift():
    assert operators(graph({"s": Node("Neg", ("n",), ("s",)), "t": Node("Exp", ("s",), ("t",))})) == [
        "LayerNormalization", "Neg", "Exp", "Relu"]


def test_what_others_read_of_it_stays():
    assert operators(graph(outputs=("y", "variance", "s"))) == [
        "ReduceMean", "Sub", "Pow", "ReduceMean", "LayerNormalization", "Add", "Relu"]


@pytest.mark.parametrize("changed, constants", [
    ({"squares": Node("Pow", ("x", "two"), ("squares",))}, {}),
    ({}, {"two": np.array(4.0, np.float32)}),
    ({}, {"axes": np.array([1])}),
    ({"variance": Node("ReduceMean", ("squares", "all"), ("variance",))}, {"all": BOTH}),
    ({"n": Node("Div", ("x", "root"), ("n",))}, {}),
    ({"v": Node("Add", ("variance", "x"), ("v",)), "root": Node("Exp", ("v",), ("root",))}, {}),
    ({"variance": Node("ReduceSum", ("squares", "axes"), ("variance",))}, {}),
])
def test_what_only_looks_like_it_stays(changed, constants):
    assert "LayerNormalization" not in operators(graph(changed, constants))
