"""An encoder-decoder's graph as two: what is computed once for a source, and one step of what makes its tokens.

The *decoder* is all that depends on the decoder's input, the *encoder* the rest. What crosses (encoder outputs, projected
memories of an attention, masks) is the *memory*: made once, read by every step. Each recurrent node of the decoder gets its
states as inputs, which begin with what the encoder made, or zero, and gives them back as outputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from ..errors import InputError, UnsupportedError
from ..graph import Dim, Graph, Node, Value, fresh_names, rename_inputs
from ..operators import OPERATORS, attributes, is_recurrent, named_inputs, named_outputs
from ..passes import fuse_attention, infer_shapes
from ..shapes import Tensor, normal_axis
from ..vocabulary import input_vocabulary


@dataclass(frozen=True)
class State:
    """The decoder's input `name` is, at the next step, its output `output`; at the first, the encoder's output `initial`,
    or zeros where that is None. The shape may name the batch."""

    name: str
    output: str
    initial: str | None
    shape: tuple[Dim, ...]

    def zeros(self, batch: int) -> np.ndarray:
        """The states of sequences that nothing has been read of."""
        return np.zeros([size if isinstance(size, int) else batch for size in self.shape], np.float32)


@dataclass(frozen=True)
class Halves:
    """`decoder` is one step: its input `token` is (batch, 1) ids or (batch, 1, width) rows, its first output `logits`.

    memory      outputs of the encoder that every step of the decoder reads under the same names
    states      what is carried from step to step
    attentions  a name, the layer's, for each output of the decoder that holds weights over the source's steps
    """

    encoder: Graph
    decoder: Graph
    token: Value
    logits: str
    memory: tuple[str, ...]
    states: tuple[State, ...]
    attentions: Mapping[str, str]


# ---- which input is the decoder's ----


def find_decoder_input(graph: Graph) -> str | None:
    """The input that the decoder's tokens go into, or None where `graph` is no encoder-decoder.

    It holds ids or rows for as many steps as an output has, and can hold whatever that output chooses; recurrent nodes
    read it, and others do not. Where that fits several it is the last, as Keras's examples have it.
    """
    fitting = [value.name for value in graph.inputs if len(graph.inputs) > 1 and _may_be_decoder_input(graph, value)]
    return fitting[-1] if fitting else None


def _may_be_decoder_input(graph: Graph, value: Value) -> bool:
    output = _output(graph, value.name) if is_sequence(value) else None
    if output is None or not can_hold(graph, value, output.shape[2]):
        return False
    inside = _decoder_nodes(graph, {value.name})
    outside = [node for node in graph.nodes if not any(node is other for other in inside)]
    same_length = output.shape[1] == value.shape[1] or not isinstance(output.shape[1], str)
    return same_length and any(map(is_recurrent, inside)) and any(map(is_recurrent, outside))


def is_sequence(value: Value) -> bool:
    """Ids (batch, time) or rows (batch, time, width)."""
    rank = len(value.shape or ())
    if rank == 2:
        return np.dtype(value.dtype).kind in "iu"
    return value.dtype == "float32" and rank == 3 and isinstance(value.shape[2], int)


def can_hold(graph: Graph, value: Value, count: int) -> bool:
    """Whether each of `count` ids can go into an input: its rows are as wide, or its table has as many."""
    if value.dtype == "float32":
        return value.shape[2] == count
    size = input_vocabulary(graph, value.name)
    return size is not None and size >= count


def _output(graph: Graph, decoder_input: str, ranks: tuple[int, ...] = (3,)) -> Value | None:
    """The first output (batch, time, width) that depends on the decoder's input; one of a single step may lack the time."""
    made = {name for node in _decoder_nodes(graph, {decoder_input}) for name in node.outputs}
    for value in graph.outputs:
        if value.name in made and value.dtype == "float32" and len(value.shape or ()) in ranks:
            if isinstance(value.shape[-1], int):
                return value
    return None


def _decoder_nodes(graph: Graph, started: set[str]) -> list[Node]:
    """The nodes that depend on the values `started`, in order."""
    reached, nodes = set(started), []
    for node in graph.nodes:
        if reached.intersection(node.reads):
            nodes.append(node)
            reached.update(filter(None, node.outputs))
    return nodes


# ---- splitting ----


def split(graph: Graph, decoder_input: str, states: Mapping[str, str]) -> Halves:
    """`graph` in two. `states` are those that the graph says itself: value -> the graph's output that is its next value.

    Raises InputError where `decoder_input` is none of the graph's inputs or cannot be one of a decoder, UnsupportedError
    that names every node of the decoder that cannot run step by step.
    """
    token = next((value for value in graph.inputs if value.name == decoder_input), None)
    if token is None:
        raise InputError(f"decoder_input: the model has no input '{decoder_input}'; it has "
                         f"{', '.join(value.name for value in graph.inputs)}")
    output = _output(graph, decoder_input, ranks=(2, 3) if states else (3,))
    if not is_sequence(token) or output is None or len(graph.inputs) < 2:
        raise InputError(f"decoder_input: '{decoder_input}' is not what a decoder reads: expected ids (batch, time) or "
                         "rows (batch, time, width), an output (batch, time, width) that depends on them, and another "
                         "input for the source")
    made = {name for node in graph.nodes for name in node.outputs}
    if not set(states) <= made or not set(states.values()) <= made & {value.name for value in graph.outputs}:
        raise InputError(f"generation states: expected values and outputs of the graph, got {dict(states)}")
    return _Split(graph, token, output, states).halves()


def _attentions(graph: Graph, decoder: list[Node], token: Value) -> dict[str, str]:
    """Softmaxes of the decoder over an axis that is as long as the source: the layer's name -> the value."""
    tensors = infer_shapes(graph)
    lengths = {value.shape[1] for value in graph.inputs if value.name != token.name and len(value.shape or ()) > 1}
    found: dict[str, str] = {}
    for node in decoder:
        tensor = tensors.get(node.outputs[0])
        if (node.domain, node.op) != ("", "Softmax") or tensor is None or tensor.shape is None:
            continue
        size = tensor.shape[normal_axis(attributes(node)["axis"], len(tensor.shape))]
        if not isinstance(size, int) or size in lengths:
            name = node.name or node.outputs[0]
            found[name if name not in found else node.outputs[0]] = node.outputs[0]
    return found


class _Split:
    def __init__(self, graph: Graph, token: Value, output: Value, states: Mapping[str, str]) -> None:
        self.attentions = _attentions(graph, _decoder_nodes(graph, {token.name, *states}), token)
        graph = fuse_attention(graph, self.attentions.values())
        self.graph, self.declared, self.output = graph, states, output
        self.token = token._replace(shape=(token.shape[0], 1, *token.shape[2:]))
        self.tensors = infer_shapes(graph)
        self.names = fresh_names(graph)
        self.nodes = _decoder_nodes(graph, {token.name, *states})
        self.made = {name for node in self.nodes for name in node.outputs if name}
        self.states: list[State] = []

    def halves(self) -> Halves:
        if faults := list(self._faults()):
            raise UnsupportedError("the decoder cannot run step by step: " + "; ".join(faults))
        nodes = [self._with_states(node) if is_recurrent(node) else node for node in self.nodes]
        self.states += [State(name, output, name, self._shape(name)) for name, output in self.declared.items()]
        encoder_nodes = [node for node in self.graph.nodes if not any(node is other for other in self.nodes)]
        encoder_inputs = tuple(value for value in self.graph.inputs if value.name != self.token.name)
        given = {value.name for value in encoder_inputs} | {name for node in encoder_nodes for name in node.outputs}
        own = {self.token.name, *(state.name for state in self.states)}
        memory = [name for name in dict.fromkeys(name for node in nodes for name in node.reads)
                  if name in given and name not in own]
        nodes, memory = self._renamed_inputs(nodes, encoder_nodes, encoder_inputs, memory)
        logits, nodes = self._logits(nodes)
        initial = [state.initial for state in self.states if state.initial]
        encoder_outputs = dict.fromkeys([*memory, *initial])
        encoder = Graph(encoder_inputs, tuple(map(self._value, encoder_outputs)), tuple(encoder_nodes),
                        self.graph.constants, self.graph.name)
        decoder_inputs = (self.token, *map(self._value, memory),
                          *(Value(state.name, "float32", state.shape) for state in self.states))
        decoder_outputs = dict.fromkeys([logits, *(state.output for state in self.states),
                                         *self.attentions.values()])
        decoder = Graph(decoder_inputs, tuple(Value(name, "float32", None) for name in decoder_outputs), tuple(nodes),
                        self.graph.constants, self.graph.name)
        return Halves(encoder, decoder, self.token, logits, tuple(memory), tuple(self.states), self.attentions)

    def _faults(self) -> Iterator[str]:
        for node in filter(is_recurrent, self.nodes):
            given = named_inputs(node)
            if attributes(node)["direction"] != "forward":
                yield f"{node} reads backwards"
            if given["sequence_lens"]:
                yield f"{node} has sequence lengths"
            for name in ("initial_h", "initial_c"):
                if given.get(name) in self.made and not self._is_declared(given[name]):
                    yield f"{node} begins with what the decoder made of other steps"
                if given.get(name) == self.token.name:
                    yield f"{node} begins with what the decoder reads"

    def _is_declared(self, name: str) -> bool:
        """Whether a value depends on nothing of the decoder but states that the graph says itself."""
        return name not in {made for node in _decoder_nodes(self.graph, {self.token.name}) for made in node.outputs}

    def _with_states(self, node: Node) -> Node:
        """The recurrent node with an input and an output for each state that the graph does not carry itself."""
        given, made, formal = named_inputs(node), named_outputs(node), OPERATORS[node.domain, node.op]
        options = attributes(node)
        size = options["hidden_size"]
        shape = ("batch", 1, size) if options["layout"] else (1, "batch", size)
        for state, last in (("initial_h", "Y_h"), ("initial_c", "Y_c")):
            if state not in given or given[state] in self.made | set(self.declared):
                continue
            name, made[last] = next(self.names), made[last] or next(self.names)
            self.states.append(State(name, made[last], given[state] or None, shape))
            given[state] = name
        return replace(node, inputs=_trimmed(given[name] for name in formal.input_names),
                       outputs=_trimmed(made[name] for name in formal.output_names))

    def _renamed_inputs(self, nodes: list[Node], encoder_nodes: list[Node], encoder_inputs: tuple[Value, ...],
                        memory: list[str]) -> tuple[list[Node], list[str]]:
        """An input of the encoder that the decoder reads goes through the encoder, which gives it a name of its own."""
        renamed = {value.name: next(self.names) for value in encoder_inputs if value.name in memory}
        for source, name in renamed.items():
            encoder_nodes.append(Node("Identity", (source,), (name,)))
            self.tensors[name] = self.tensors[source]
        return [rename_inputs(node, renamed) for node in nodes], [renamed.get(name, name) for name in memory]

    def _logits(self, nodes: list[Node]) -> tuple[str, list[Node]]:
        """What a softmax at the end reads: it changes no order, and sampling wants logits."""
        last = next(node for node in nodes if self.output.name in node.outputs)
        read = {name for node in nodes for name in node.reads} | set(self.declared.values())
        if last.domain or last.op not in ("Softmax", "LogSoftmax") or self.output.name in read:
            return self.output.name, nodes
        return last.inputs[0], [node for node in nodes if node is not last]

    def _shape(self, name: str) -> tuple[Dim, ...]:
        return self.tensors[name].shape

    def _value(self, name: str) -> Value:
        tensor = self.tensors.get(name, Tensor("float32", None))
        return Value(name, tensor.dtype, tensor.shape)


def _trimmed(names) -> tuple[str, ...]:
    names = list(names)
    while names and not names[-1]:
        names.pop()
    return tuple(names)
