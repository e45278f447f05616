"""Small language models with random weights, and the plain loop that says what they continue a text with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from lstmrt import reference
from lstmrt.format import ModelFile
from lstmrt.gates import ONNX
from lstmrt.generation_config import GenerationDefaults
from lstmrt.graph import EXTENSION, Graph, Node, Value
from lstmrt.model import Model
from lstmrt.tokenizers import TokenizerSpec, load_tokenizer

VOCABULARY = 23
CLEAR = 1e-4  # a gap of two logits that no rounding of these models closes


def language_model(op: str = "LSTM", hidden: tuple[int, ...] = (11,), *, direction: str = "forward", mask: bool = False,
                   every_step: bool = False, seed: int = 1, time: str | int = "time", head: np.ndarray | None = None,
                   **options) -> Graph:
    """ids (batch, time) -> probabilities of the next id, (batch, VOCABULARY), or of each next with `every_step`.

    op, hidden, direction, options  of the recurrent layers, one for each size in `hidden`
    mask                            id 0 is padding that the layers skip
    head                            the last kernel, (last of hidden, VOCABULARY), in place of random weights
    """
    random = np.random.default_rng(seed)
    gates = len(ONNX[op])
    constants = {"table": weights(random, VOCABULARY, 9), "axes": np.array([2]), "last": np.array(-1),
                 "pad": np.array(0)}
    nodes = [Node("Gather", ("table", "ids"), ("embedded",), {}, "embedding")]
    if mask:
        nodes += [Node("Equal", ("ids", "pad"), ("is_pad",)), Node("Not", ("is_pad",), ("mask",))]
    x, width = "embedded", 9
    for i, size in enumerate(hidden):
        constants |= {f"W{i}": weights(random, 1, gates * size, width), f"R{i}": weights(random, 1, gates * size, size),
                      f"B{i}": weights(random, 1, 2 * gates * size)}
        absent = ("",) * (8 if op == "LSTM" else 6)
        inputs = (x, f"W{i}", f"R{i}", f"B{i}") + absent[4:] + (("mask",) if mask else ())
        attributes = {"hidden_size": size, "layout": 1, "direction": direction, **options}
        nodes += [Node(op, inputs, (f"Y{i}",), attributes, f"layer_{i}", EXTENSION if mask else ""),
                  Node("Squeeze", (f"Y{i}", "axes"), (f"h{i}",))]
        x, width = f"h{i}", size
    if not every_step:
        nodes.append(Node("Gather", (x, "last"), ("newest",), {"axis": 1}))
        x = "newest"
    constants |= {"kernel": 2 * weights(random, width, VOCABULARY) if head is None else head,
                  "bias": weights(random, VOCABULARY) if head is None else np.zeros(VOCABULARY, np.float32)}
    nodes += [Node("MatMul", (x, "kernel"), ("product",)), Node("Add", ("product", "bias"), ("logits",)),
              Node("Softmax", ("logits",), ("probabilities",), {"axis": -1})]
    shape = ("batch", time, VOCABULARY) if every_step else ("batch", VOCABULARY)
    read = {name for node in nodes for name in node.inputs}
    return Graph((Value("ids", "int64", ("batch", time)),), (Value("probabilities", "float32", shape),), tuple(nodes),
                 {name: array for name, array in constants.items() if name in read}, "small").validate()


def weights(random: np.random.Generator, *shape: int) -> np.ndarray:
    return random.standard_normal(shape).astype(np.float32)


def hair_trigger(hidden: int, seed: int = 5) -> np.ndarray:
    """A kernel whose columns are alike but for their last bits: the winner depends on the last bits of h."""
    random = np.random.default_rng(seed)
    column = weights(random, hidden, 1)
    return column * (1 + random.integers(-2, 3, (hidden, VOCABULARY)).astype(np.float32) * np.float32(2**-23))


def compiled(graph: Graph, generation: GenerationDefaults | None = None, tokenizer: TokenizerSpec | None = None,
             isa: str | None = None) -> Model:
    """The model as loading it from a file would give it."""
    spec = None if tokenizer is None else load_tokenizer(tokenizer)
    return Model(ModelFile(graph, spec, generation), isa)


def without_softmax(graph: Graph) -> Graph:
    """The same model, with logits as its output."""
    *nodes, softmax = graph.nodes
    return replace(graph, nodes=tuple(nodes), outputs=(graph.outputs[0]._replace(name=softmax.inputs[0]),))


def logits_of(graph: Graph, ids: np.ndarray) -> np.ndarray:
    """The exact logits (VOCABULARY,) after `ids`."""
    (logits,) = reference.run(without_softmax(graph), {"ids": ids[None]}).values()
    return logits[0].reshape(-1, VOCABULARY)[-1]


def plain_loop(graph: Graph, prompt: list[int], count: int, context: Callable[[list[int]], list[int]],
               penalty: float = 1.0) -> list[int]:
    """Greedy ids: every one from a run from zero over `context` of the ids so far.

    Fails where two logits are too near to each other for the result to be decided.
    """
    text = list(prompt)
    for _ in range(count):
        logits = logits_of(graph, np.array(context(text)))
        seen = sorted(set(text))
        logits[seen] = np.where(logits[seen] > 0, logits[seen] / penalty, logits[seen] * penalty)
        second, best = np.sort(logits)[-2:]
        assert best - second > CLEAR, "take another seed"
        text.append(int(np.argmax(logits)))
    return text[len(prompt):]


def padded(window: int, pad_id: int = 0, right: bool = False) -> Callable[[list[int]], list[int]]:
    """The last `window` ids of a text, filled up with `pad_id`."""
    def context(text: list[int]) -> list[int]:
        padding = [pad_id] * (window - len(text))
        return (text + padding if right else padding + text)[-window:]

    return context
