"""What reduced weights cost a model: how far its outputs move, how often a greedy choice changes, and its perplexity."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .errors import InputError, LstmrtError
from .format import ModelFile
from .graph import Graph
from .loading import with_precision
from .model import Model
from .random_calls import random_inputs

CONTEXTS = 400  # compared, each for the token after it
LENGTH = 32  # ids in a context, where the model does not say
MADE = 600  # ids of a text that the model writes itself


@dataclass(frozen=True)
class Cost:
    """Of one precision against float32, over `rows` rows of the first output, before a final softmax.

    largest, mean  absolute difference; `spread` is the outputs' standard deviation, to compare with
    kept           share of rows whose largest element is the same one; None where a row has a single element
    perplexity     of the text that was given: in float32, and in the precision; None without one
    """

    rows: int
    largest: float
    mean: float
    spread: float
    kept: float | None
    perplexity: tuple[float, float] | None


def measure(file: ModelFile, precision: str, text: str | None = None) -> Cost:
    """The cost of `precision` for a model with float32 weights.

    A model of one input of ids reads contexts from `text`, or else from what it writes itself; others read random numbers.
    Raises InputError for a text without a tokenizer, for a model that does not read ids, or one that is too short.
    """
    bare = file._replace(graph=_without_softmax(file.graph), selftest=None)
    exact, reduced = Model(bare), Model(with_precision(bare, precision))
    if exact.input_vocabulary is not None:
        contexts, following = _contexts(exact, _ids(Model(file), text))
        outputs = [_of_contexts(model, contexts) for model in (exact, reduced)]
    elif text is not None:
        raise InputError("a text is for models that read ids, and nothing else")
    else:
        inputs = random_inputs(file.graph, batch=8, time=LENGTH)
        outputs = [_rows(model, inputs) for model in (exact, reduced)]
    difference = np.abs(outputs[0] - outputs[1])
    kept = float((outputs[0].argmax(-1) == outputs[1].argmax(-1)).mean()) if outputs[0].shape[1] > 1 else None
    perplexity = tuple(_perplexity(logits, following) for logits in outputs) if text is not None else None
    return Cost(len(difference), float(difference.max()), float(difference.mean()), float(outputs[0].std()), kept,
                perplexity)


def _without_softmax(graph: Graph) -> Graph:
    node = graph.producers().get(graph.outputs[0].name)
    if node is None or node.op not in ("Softmax", "LogSoftmax") or node.domain or len(graph.outputs) > 1:
        return graph
    return replace(graph, nodes=tuple(other for other in graph.nodes if other is not node),
                   outputs=(graph.outputs[0]._replace(name=node.inputs[0]),))


def _ids(model: Model, text: str | None) -> np.ndarray:
    """Ids of the text, or of one that the model makes from a random start, or, if it cannot, random ones."""
    random = np.random.default_rng(0)
    if text is not None:
        if model.tokenizer is None:
            raise InputError("a text needs a tokenizer: the model has none")
        ids = np.array(model.tokenizer.encode(text), np.int64)
        return ids[ids < model.input_vocabulary]
    mode = None if model.generation else "stateful"
    made: list[np.ndarray] = []
    try:
        for seed in range(20):
            start = random.integers(0, model.input_vocabulary, 2)
            made += [start, model.generate(start, max_new_tokens=MADE, mode=mode, temperature=1.0, seed=seed)]
            if sum(map(len, made)) >= MADE:
                return np.concatenate(made)
    except LstmrtError:  # it reads ids, but writes none
        pass
    return random.integers(0, model.input_vocabulary, MADE)


def _contexts(model: Model, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(contexts, length) of consecutive ids, spread over the text, and the id after each."""
    shape = model.inputs[0].shape
    fixed = shape[1] if shape is not None and len(shape) > 1 and isinstance(shape[1], int) else None
    length = fixed or getattr(model.generation, "window", None) or LENGTH
    if len(ids) <= length:
        raise InputError(f"the text has {len(ids)} known tokens, more than {length} are needed")
    starts = np.unique(np.linspace(0, len(ids) - length - 1, CONTEXTS).astype(int))
    return ids[starts[:, None] + np.arange(length)], ids[starts + length]


def _of_contexts(model: Model, contexts: np.ndarray) -> np.ndarray:
    """(contexts, width) of the first output's last step, as many contexts in a call as the model takes."""
    (port,) = model.inputs
    size = port.shape[0] if port.shape and isinstance(port.shape[0], int) else len(contexts)
    calls = [_first_output(model, {port.name: contexts[begin:begin + size]})
             for begin in range(0, len(contexts) - size + 1, size)]
    outputs = np.concatenate(calls)
    return outputs[:, -1] if outputs.ndim == 3 else outputs


def _rows(model: Model, inputs: dict[str, np.ndarray]) -> np.ndarray:
    """(rows, width) of the first output."""
    output = _first_output(model, inputs)
    return output.reshape(-1, output.shape[-1] if output.ndim else 1)


def _first_output(model: Model, inputs: dict[str, np.ndarray]) -> np.ndarray:
    return model.run(inputs)[model.outputs[0].name].astype(np.float64)


def _perplexity(logits: np.ndarray, following: np.ndarray) -> float:
    shifted = logits - logits.max(-1, keepdims=True)
    probable = shifted[np.arange(len(logits)), following[:len(logits)]] - np.log(np.exp(shifted).sum(-1))
    return float(np.exp(-probable.mean()))
