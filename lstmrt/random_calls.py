"""Calls with random numbers: what a model file is checked with, what is measured, and how it is timed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from . import passes
from .containers import is_array
from .errors import UnsupportedError
from .format import SelfTest
from .graph import Graph, Value
from .operators import attributes, is_recurrent, named_inputs

FEW_STEPS, ENOUGH_STEPS, SAMPLES = 7, 64, 256


def record(graph: Graph, batch: int = 2, seed: int = 0) -> SelfTest | None:
    """A random call and the float64 reference's answer to it; None where an operator has no reference.

    A model that needs more than FEW_STEPS, for a window of its own, or takes just one, gets those, one of sound SAMPLES, or
    no call. Where nothing tells which axis is the batch's, all of them have one size.
    """
    from . import reference

    for rows, time in ((batch, FEW_STEPS), (batch, ENOUGH_STEPS), (batch, 1), (batch, SAMPLES), (FEW_STEPS, FEW_STEPS)):
        try:
            inputs = random_inputs(graph, rows, time, seed)
            outputs = reference.run(graph, inputs)
        except UnsupportedError:
            return None
        except (ValueError, IndexError):
            continue
        return SelfTest(inputs, {value.name: outputs[value.name].astype(value.dtype) for value in graph.outputs})
    return None


def random_inputs(graph: Graph, batch: int, time: int, seed: int = 0) -> dict[str, np.ndarray]:
    """An array for every input: see `random_array`."""
    graph = replace(graph, inputs=tuple(map(_named, graph.inputs)))
    random, sizes = np.random.default_rng(seed), _free_sizes(graph, batch, time)
    return {value.name: random_array(value, vocabulary_of(graph, value), sizes, random) for value in graph.inputs}


def _named(value: Value) -> Value:
    """Free axes without names with the names of what they most often are: the first one the batch's, further ones time's."""
    shape: list[int | str] = []
    for size in value.shape or ():
        has_batch = any(isinstance(known, str) or known == 1 for known in shape)
        shape.append(("time" if has_batch else "batch") if size is None else size)
    return value._replace(shape=None if value.shape is None else tuple(shape))


def _free_sizes(graph: Graph, batch: int, time: int) -> dict[str, int]:
    """By name: those that converters of Keras files give, and those of what recurrent nodes read, whatever their names; of
    others a first axis is that of the batch."""
    sizes = {size: time for value in graph.inputs for size in value.shape or () if str(size).endswith("time")}
    sizes["batch"] = batch
    tensors = passes.infer_shapes(graph)
    for node in filter(is_recurrent, graph.nodes):
        x = tensors.get(named_inputs(node)["X"])
        if x is not None and x.shape is not None:
            axes = (batch, time) if attributes(node)["layout"] else (time, batch)
            for name, size in zip(x.shape, axes):
                sizes.setdefault(name, size)
    for value in graph.inputs:
        for axis, name in enumerate(value.shape or ()):
            sizes.setdefault(name, time if axis else batch)
    return sizes


def random_array(value: Value, vocabulary: int, sizes: Mapping[str, int], random: np.random.Generator) -> np.ndarray:
    """Something for an input: ids below `vocabulary` or normal floats; free sizes by name, 1 where they have none. Raises
    UnsupportedError for one that is no array."""
    if not is_array(value.dtype):
        raise UnsupportedError(f"input '{value.name}' is no array but {value.dtype}: nothing tells what to put in")
    shape = [size if isinstance(size, int) else sizes.get(size, 1) for size in value.shape or ()]
    if np.dtype(value.dtype).kind == "f":
        return random.standard_normal(shape).astype(value.dtype)
    return random.integers(0, vocabulary, shape).astype(value.dtype)


def vocabulary_of(graph: Graph, value: Value) -> int:
    """Rows of the smallest table that the ids index; 2 where none does."""
    tables = [node.inputs[0] for node in graph.nodes if node.op == "Gather" and node.inputs[1] == value.name]
    return min((len(graph.constants[name]) for name in tables if name in graph.constants), default=2)
