"""An encoder and a decoder from two files, the usual pair of inference models, as one graph."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from ..errors import InputError, ModelFileError
from ..graph import Graph, Node, Value, fresh_names, rename_inputs
from ..passes.infer_shapes import infer
from ..shapes import same_shape
from ..states import find_states, related
from .halves import can_hold, is_sequence


@dataclass(frozen=True)
class Joined:
    """`graph` reads a source and the decoder's tokens; `states` maps each value that a step carries on to the graph's
    output that is its next value."""

    graph: Graph
    decoder_input: str
    states: Mapping[str, str]


def join(encoder: Graph, decoder: Graph, decoder_input: str | None = None) -> Joined:
    """Connects the decoder's inputs, but the one for its tokens, to the encoder's outputs of the same shape, each to one of
    its own name, or else to the first that is left, in order. An input is a state where states.py tells what its next value
    is, or an output of the decoder has its shape, found alike.

    Raises InputError where no input for tokens is found or `decoder_input` is none, ModelFileError that lists every
    input of the decoder that no output of the encoder fits.
    """
    encoder, decoder = _with_known_sizes(encoder), _with_known_sizes(decoder)
    token = _token_input(decoder, decoder_input)
    others = [value for i, value in enumerate(decoder.inputs) if i != token]
    if not others:
        raise ModelFileError("the decoder reads its tokens and nothing of the encoder's")
    sources = _matched(others, encoder.outputs)
    if missing := [value for value in others if value.name not in sources]:
        raise ModelFileError("no output of the encoder fits " + ", ".join(
            f"the decoder's input '{value.name}' {value.shape}" for value in missing) + "; it has " + ", ".join(
            f"'{value.name}' {value.shape}" for value in encoder.outputs))
    states = _states(others, decoder)
    decoder = _with_token_axis(decoder, token)
    names = _other_names(decoder, encoder.names())
    decoder = _renamed(decoder, names)
    begun = [Node("Identity", (sources[name],), (names.get(name, name),), {}, "decoder") for name in states]
    memory = {names.get(name, name): source for name, source in sources.items() if name not in states}
    nodes = tuple(rename_inputs(node, memory) for node in decoder.nodes)
    graph = Graph((*encoder.inputs, decoder.inputs[token]), decoder.outputs, (*encoder.nodes, *begun, *nodes),
                  {**encoder.constants, **decoder.constants}, encoder.name or decoder.name)
    return Joined(graph.validate(), decoder.inputs[token].name,
                  {names.get(name, name): names.get(output, output) for name, output in states.items()})


def _with_known_sizes(graph: Graph) -> Graph:
    """What files say of their outputs leaves out sizes that follow from their nodes."""
    tensors, _ = infer(graph)
    return replace(graph, outputs=tuple(
        value._replace(shape=tensors[value.name].shape) if value.name in tensors else value for value in graph.outputs))


def _token_input(decoder: Graph, wanted: str | None) -> int:
    names = [value.name for value in decoder.inputs]
    if wanted is not None:
        if wanted not in names:
            raise InputError(f"decoder_input: the decoder has no input '{wanted}'; it has {', '.join(names)}")
        return names.index(wanted)
    count = (decoder.outputs[0].shape or (None,))[-1]
    fitting = [i for i, value in enumerate(decoder.inputs)
               if (is_sequence(value) or _is_one_step(value)) and isinstance(count, int) and can_hold(decoder, value, count)]
    ids = [i for i in fitting if decoder.inputs[i].dtype != "float32"]
    if len(ids or fitting) != 1:
        raise InputError(f"decoder_input: say which input of the decoder reads its tokens: {', '.join(names)}")
    return (ids or fitting)[0]


def _is_one_step(value: Value) -> bool:
    """Ids (batch)."""
    return value.dtype in ("int32", "int64") and len(value.shape or ()) == 1


def _with_token_axis(decoder: Graph, token: int) -> Graph:
    """A decoder of ids (batch) as one of (batch, 1)."""
    value = decoder.inputs[token]
    if not _is_one_step(value):
        return decoder
    names = fresh_names(decoder)
    ids, axis = next(names), next(names)
    inputs = tuple(value._replace(name=ids, shape=(*value.shape, 1)) if other is value else other for other in decoder.inputs)
    return replace(decoder, inputs=inputs, nodes=(Node("Squeeze", (ids, axis), (value.name,)), *decoder.nodes),
                   constants={**decoder.constants, axis: np.array([1])})


def _states(inputs: list[Value], decoder: Graph) -> dict[str, str]:
    """Input -> the decoder's output that is its next value: what is known for sure, then what fits, in order."""
    names, outputs = {value.name for value in inputs}, {value.name: value for value in decoder.outputs[1:]}
    sure = {name: output for name, output in find_states(decoder).items() if name in names and output in outputs}
    others = [value for value in inputs if value.dtype == "float32" and value.name not in sure]
    return sure | _matched(others, [value for name, value in outputs.items() if name not in sure.values()])


def _other_names(graph: Graph, taken: set[str]) -> dict[str, str]:
    """Names in place of those of `graph` that are taken."""
    own = graph.names()
    names: dict[str, str] = {}
    for name in sorted(own & taken):
        new = f"decoder/{name}"
        while new in taken | own:
            new += "_"
        names[name] = new
        taken = taken | {new}
    return names


def _renamed(graph: Graph, names: Mapping[str, str]) -> Graph:
    def values(old: Iterable[Value]) -> tuple[Value, ...]:
        return tuple(value._replace(name=names.get(value.name, value.name)) for value in old)

    nodes = tuple(replace(rename_inputs(node, names), outputs=tuple(names.get(name, name) for name in node.outputs))
                  for node in graph.nodes)
    constants = {names.get(name, name): array for name, array in graph.constants.items()}
    return replace(graph, inputs=values(graph.inputs), outputs=values(graph.outputs), nodes=nodes, constants=constants)


def _matched(targets: Iterable[Value], sources: Iterable[Value]) -> dict[str, str]:
    """Each target's name -> that of a source left with its dtype and, batch and time aside, its shape: first those whose names
    say it."""
    left, matched = list(sources), {}
    for by_name in (True, False):
        for target in (target for target in targets if target.name not in matched):
            source = next((value for value in left if _fits(target, value) and (
                not by_name or related(target.name, value.name) or related(value.name, target.name))), None)
            if source is not None:
                matched[target.name] = source.name
                left.remove(source)
    return matched


def _fits(target: Value, source: Value) -> bool:
    known = target.shape is not None and source.shape is not None and len(target.shape) > 1
    return known and target.dtype == source.dtype and target.shape[-1] == source.shape[-1] and same_shape(
        target.shape[1:], source.shape[1:])
