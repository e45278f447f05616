"""An If whose condition only a call knows: one of two compiled branches runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import numpy as np

from ..errors import GraphError, InputError
from ..graph import Graph, Node, Value, all_nodes
from ..operators import is_recurrent
from ..passes import canonical, infer_shapes, load
from ..shapes import Tensor


def is_choice(node: Node, tensors: Mapping[str, Tensor]) -> bool:
    """Whether a node is an If that is worth compiling: with a recurrent node inside, or what may be lifted to one, and all
    known that it captures."""
    return (node.op == "If" and not node.domain and _may_recur(all_nodes([node]))
            and all(name in tensors for name in node.reads))


def _may_recur(nodes: Iterable[Node]) -> bool:
    """A cell that is written out multiplies and activates; passes lift it in a branch when that stands alone."""
    nodes = list(nodes)
    ops = {node.op for node in nodes if not node.domain}
    return any(map(is_recurrent, nodes)) or bool(ops & {"Gemm", "MatMul"} and ops & {"Tanh", "Sigmoid"})


class BranchStep:
    """The If, with a compiled program for each branch: `compiled` makes one of a graph."""

    kind = "branches"

    def __init__(self, node: Node, constants: Mapping[str, np.ndarray], tensors: Mapping[str, Tensor],
                 compiled: Callable[[Graph], object]) -> None:
        self.nodes, self.reads, self.fresh = [node], list(node.reads), node.outputs
        self.branches = {}  # condition -> a compiled branch, or why there is none
        for condition, key in ((True, "then_branch"), (False, "else_branch")):
            try:
                graph = _standing_alone(node.attributes[key], constants, tensors)
                self.branches[condition] = compiled(load(canonical(graph)))
            except GraphError as error:  # sizes that do not fit: a branch that is never taken
                self.branches[condition] = error

    @property
    def compiled(self) -> list:
        return [branch for branch in self.branches.values() if not isinstance(branch, GraphError)]

    def run(self, values: dict[str, np.ndarray]) -> None:
        (node,) = self.nodes
        condition = values[node.inputs[0]]
        if condition.size != 1:
            raise InputError(f"{node}: its condition has shape {condition.shape}, expected one element")
        branch = self.branches[bool(condition.reshape(()))]
        if isinstance(branch, GraphError):
            raise InputError(f"{node}: {branch}")
        made = branch.run({value.name: values[value.name] for value in branch.inputs})
        values.update((name, array) for name, array in zip(node.outputs, made.values()) if name)


def _standing_alone(branch: Graph, constants: Mapping[str, np.ndarray], tensors: Mapping[str, Tensor]) -> Graph:
    """The branch as a graph that takes what it captured as inputs."""
    captured = branch.captured()
    inputs = tuple(Value(name, tensors[name].dtype, tensors[name].shape) for name in captured if name not in constants)
    known = {name: constants[name] for name in captured if name in constants}
    graph = replace(branch, inputs=inputs, constants=known)
    inside = infer_shapes(graph)
    outputs = tuple(Value(value.name, inside[value.name].dtype if value.name in inside else value.dtype, None)
                    for value in branch.outputs)
    return replace(graph, outputs=outputs).validate()
