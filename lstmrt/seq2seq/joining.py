"""An encoder and a decoder from two files, the usual pair of inference models, as one graph."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Iterable, Mapping

from ..errors import InputError, ModelFileError
from ..graph import Graph, Node, Value, rename_inputs
from ..shapes import same_shape
from .halves import can_hold, is_sequence


@dataclass(frozen=True)
class Joined:
    """`graph` reads a source and the decoder's tokens; `states` maps each value that a step carries on to the graph's
    output that is its next value."""

    graph: Graph
    decoder_input: str
    states: Mapping[str, str]


def join(encoder: Graph, decoder: Graph, decoder_input: str | None = None) -> Joined:
    """Connects the decoder's inputs, but the one for its tokens, to the encoder's outputs of the same shape, each to the
    first that is left, in order. An input is a state where an output of the decoder has its shape, found alike.

    Raises InputError where no input for tokens is found or `decoder_input` is none, ModelFileError that lists every
    input of the decoder that no output of the encoder fits.
    """
    token = _token_input(decoder, decoder_input)
    decoder = _renamed(decoder, encoder.names())
    token_name = decoder.inputs[token].name
    others = [value for i, value in enumerate(decoder.inputs) if i != token]
    if not others:
        raise ModelFileError("the decoder reads its tokens and nothing of the encoder's")
    sources = _matched(others, encoder.outputs)
    if missing := [value for value in others if value.name not in sources]:
        raise ModelFileError("no output of the encoder fits " + ", ".join(
            f"the decoder's input '{value.name}' {value.shape}" for value in missing) + "; it has " + ", ".join(
            f"'{value.name}' {value.shape}" for value in encoder.outputs))
    states = _matched([value for value in others if value.dtype == "float32"], decoder.outputs[1:])
    begun = [Node("Identity", (sources[name],), (name,), {}, "decoder") for name in states]
    memory = {name: source for name, source in sources.items() if name not in states}
    nodes = tuple(rename_inputs(node, memory) for node in decoder.nodes)
    graph = Graph((*encoder.inputs, decoder.inputs[token]), decoder.outputs, (*encoder.nodes, *begun, *nodes),
                  {**encoder.constants, **decoder.constants}, encoder.name or decoder.name)
    return Joined(graph.validate(), token_name, states)


def _token_input(decoder: Graph, wanted: str | None) -> int:
    names = [value.name for value in decoder.inputs]
    if wanted is not None:
        if wanted not in names:
            raise InputError(f"decoder_input: the decoder has no input '{wanted}'; it has {', '.join(names)}")
        return names.index(wanted)
    count = (decoder.outputs[0].shape or (None,))[-1]
    fitting = [i for i, value in enumerate(decoder.inputs)
               if is_sequence(value) and isinstance(count, int) and can_hold(decoder, value, count)]
    ids = [i for i in fitting if decoder.inputs[i].dtype != "float32"]
    if len(ids or fitting) != 1:
        raise InputError(f"decoder_input: say which input of the decoder reads its tokens: {', '.join(names)}")
    return (ids or fitting)[0]


def _renamed(graph: Graph, taken: set[str]) -> Graph:
    """`graph` with other names in place of those that are taken."""
    own = graph.names()
    names: dict[str, str] = {}
    for name in sorted(own & taken):
        new = f"decoder/{name}"
        while new in taken | own:
            new += "_"
        names[name] = new
        taken = taken | {new}

    def values(old: Iterable[Value]) -> tuple[Value, ...]:
        return tuple(replace(value, name=names.get(value.name, value.name)) for value in old)

    nodes = tuple(replace(rename_inputs(node, names), outputs=tuple(names.get(name, name) for name in node.outputs))
                  for node in graph.nodes)
    constants = {names.get(name, name): array for name, array in graph.constants.items()}
    return replace(graph, inputs=values(graph.inputs), outputs=values(graph.outputs), nodes=nodes, constants=constants)


def _matched(targets: Iterable[Value], sources: Iterable[Value]) -> dict[str, str]:
    """Each target's name -> that of the first source left with its dtype and, batch and time aside, its shape."""
    left, matched = list(sources), {}
    for target in targets:
        source = next((value for value in left if _fits(target, value)), None)
        if source is not None:
            matched[target.name] = source.name
            left.remove(source)
    return matched


def _fits(target: Value, source: Value) -> bool:
    known = target.shape is not None and source.shape is not None and len(target.shape) > 1
    return known and target.dtype == source.dtype and target.shape[-1] == source.shape[-1] and same_shape(
        target.shape[1:], source.shape[1:])
