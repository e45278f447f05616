"""What If, Loop and Scan mean. Their subgraphs see all values around them; floats are float64, as in reference.py."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np

from .errors import InputError, UnsupportedError
from .graph import Graph, Node

RunNodes = Callable[[Iterable[Node], dict], None]  # fills the dict with what the nodes make


def run_control(node: Node, values: Mapping[str, np.ndarray], run_nodes: RunNodes) -> list[np.ndarray]:
    """The outputs of a node with subgraphs. Raises UnsupportedError for any but If, Loop and Scan."""
    if node.domain or node.op not in _CONTROL:
        raise UnsupportedError(f"{node}: no reference for this operator")
    given = [values[name] if name else None for name in node.inputs]

    def run(graph: Graph, arrays: Iterable[np.ndarray]) -> list[np.ndarray]:
        inner = {**values, **dict(zip([value.name for value in graph.inputs], arrays))}
        run_nodes(graph.nodes, inner)
        return [inner[value.name] for value in graph.outputs]

    return _CONTROL[node.op](node, given, run)


def _if(node: Node, given: list, run: Callable) -> list[np.ndarray]:
    return run(node.attributes["then_branch" if bool(given[0]) else "else_branch"], [])


def _loop(node: Node, given: list, run: Callable) -> list[np.ndarray]:
    body = node.attributes["body"]
    count, go, *carried = given
    scanned: list[list[np.ndarray]] = [[] for _ in body.outputs[1 + len(carried):]]
    i, go = 0, True if go is None else bool(go)
    while go and (count is None or i < int(count)):
        going, *made = run(body, [np.array(i), np.array(go), *carried])
        carried, go, i = made[:len(carried)], bool(going), i + 1
        for steps, step in zip(scanned, made[len(carried):]):
            steps.append(step)
    return [*carried, *(_stacked(node, steps, 0) for steps in scanned)]


def _scan(node: Node, given: list, run: Callable) -> list[np.ndarray]:
    body, count = node.attributes["body"], node.attributes["num_scan_inputs"]
    states, sequences = given[:len(given) - count], given[len(given) - count:]
    outputs = len(body.outputs) - len(states)
    axes, backwards = (node.attributes.get(f"scan_input_{key}", (0,) * count) for key in ("axes", "directions"))
    sequences = [np.moveaxis(sequence, axis, 0)[::-1 if back else 1]
                 for sequence, axis, back in zip(sequences, axes, backwards)]
    if len({len(sequence) for sequence in sequences}) > 1:
        raise InputError(f"{node}: sequences of different lengths: {[len(sequence) for sequence in sequences]}")
    scanned: list[list[np.ndarray]] = [[] for _ in range(outputs)]
    for steps in zip(*sequences):
        made = run(body, [*states, *steps])
        states = made[:len(states)]
        for collected, step in zip(scanned, made[len(states):]):
            collected.append(step)
    axes, backwards = (node.attributes.get(f"scan_output_{key}", (0,) * outputs) for key in ("axes", "directions"))
    return [*states, *(_stacked(node, steps[::-1] if back else steps, axis)
                       for steps, axis, back in zip(scanned, axes, backwards))]


def _stacked(node: Node, steps: list[np.ndarray], axis: int) -> np.ndarray:
    if not steps:
        raise UnsupportedError(f"{node}: ran no step, which leaves the shape of its outputs open")
    return np.stack(steps, axis)


_CONTROL = {"If": _if, "Loop": _loop, "Scan": _scan}
