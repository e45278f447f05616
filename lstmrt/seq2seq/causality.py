"""Whether a decoder, one step at a time, gives what it gives for a whole sequence: tried, in float64.

No rule about operators could be as sure. Whatever looks at other steps (pooling over time, attention of the decoder to
itself) gives something else where a step is alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from .. import reference
from ..errors import InputError, UnsupportedError
from ..graph import Graph, Value
from ..vocabulary import input_vocabulary
from .halves import Halves

STEPS = 3
SOURCE_STEPS = 5
EQUAL = 1e-9  # of the largest value: float64 sums in another order differ by far less, other steps by far more


def check_steps(graph: Graph, halves: Halves) -> None:
    """Raises UnsupportedError that names the first node of the decoder whose steps are not those of the whole sequence."""
    random = np.random.default_rng(0)
    steps = graph_length(graph, halves.token.name) or STEPS
    inputs = {value.name: _drawn(graph, value, steps if value.name == halves.token.name else SOURCE_STEPS, random)
              for value in graph.inputs}
    names = [name for node in halves.decoder.nodes for name in node.outputs if name]
    try:
        whole = reference.run(_with_outputs(graph, names), inputs)
        alone = _steps(halves, inputs, names)
    except (InputError, ValueError, IndexError) as error:
        raise UnsupportedError(f"the decoder cannot run step by step: {error}") from None
    wrong = [name for name in names if name in whole and not _same(whole[name], [step[name] for step in alone])]
    if halves.logits in wrong:
        node = next(node for node in halves.decoder.nodes if set(wrong).intersection(node.outputs))
        raise UnsupportedError(f"the decoder cannot run step by step: {node} looks at other steps than its own")


def graph_length(graph: Graph, name: str) -> int | None:
    """The fixed number of steps of an input, or None where any number will do."""
    shape = next(value.shape for value in graph.inputs if value.name == name) or ()
    return shape[1] if len(shape) > 1 and isinstance(shape[1], int) else None


def _drawn(graph: Graph, value: Value, steps: int, random: np.random.Generator) -> np.ndarray:
    shape = [size if isinstance(size, int) else 1 if axis == 0 else steps for axis, size in enumerate(value.shape or ())]
    if np.dtype(value.dtype).kind == "f":
        return random.standard_normal(shape).astype(value.dtype)
    vocabulary = input_vocabulary(graph, value.name) or 2
    return random.integers(min(1, vocabulary - 1), vocabulary, shape).astype(value.dtype)


def _with_outputs(graph: Graph, names: list[str]) -> Graph:
    made = {name for node in graph.nodes for name in node.outputs}
    return replace(graph, outputs=tuple(Value(name, "float32", None) for name in names if name in made))


def _steps(halves: Halves, inputs: Mapping[str, np.ndarray], names: list[str]) -> list[dict[str, np.ndarray]]:
    """What every node of the decoder makes, step by step."""
    token = inputs[halves.token.name]
    encoded = reference.run(halves.encoder, {name: x for name, x in inputs.items() if name != halves.token.name})
    memory = {name: encoded[name] for name in halves.memory}
    carried = {state.name: encoded[state.initial] if state.initial else state.zeros(1) for state in halves.states}
    decoder, made = _with_outputs(halves.decoder, names), []
    for step in range(token.shape[1]):
        values = reference.run(decoder, {halves.token.name: token[:, step:step + 1], **memory, **carried})
        made.append(values)
        carried = {state.name: values[state.output] for state in halves.states}
    return made


def _same(whole: np.ndarray, steps: list[np.ndarray]) -> bool:
    """Along the axis of time each step is the whole's; what has no such axis is, in the end, what it is in the whole."""
    axes = [axis for axis, (all_steps, one) in enumerate(zip(whole.shape, steps[0].shape)) if all_steps != one]
    if whole.dtype.kind != "f":
        return True  # sizes: what they are used for shows whether they matter
    if whole.ndim != steps[0].ndim or len(axes) > 1:
        return False
    found = np.concatenate(steps, axes[0]) if axes else steps[-1]
    if found.shape != whole.shape:
        return False
    scale = max(1.0, float(np.abs(whole).max(initial=0)))
    return bool(np.allclose(found, whole, rtol=0, atol=EQUAL * scale))
