"""Small encoder-decoders made by hand: one graph, and the pairs that frameworks write for inference."""

from __future__ import annotations

import numpy as np
from small_models import weights

from lstmrt.graph import EXTENSION, Graph, Node, Value

WORDS, TOKENS, WIDTH, HIDDEN = 13, 17, 5, 11
SOURCE = [3, 1, 4, 1, 5, 9, 2]
SEED = 17  # its texts vary


def translator(*, time: int | str = "source_time", mask: bool = False, extra: tuple[Node, ...] = (), read: str = "joined",
               direction: str = "forward", handed_over: bool = True) -> Graph:
    """source (batch, time) and target (batch, steps) ids -> probabilities (batch, steps, TOKENS): two GRUs and an attention
    over all that the first made. `extra` nodes come before the last layer, which reads `read`."""
    random = np.random.default_rng(SEED)
    constants = {"source_table": weights(random, WORDS, WIDTH), "target_table": weights(random, TOKENS, WIDTH),
                 "two": np.array([2]), "one": np.array([1]), "zero": np.array(0), "minus": np.float32([-1e9]),
                 "kernel": 2 * weights(random, 2 * HIDDEN, TOKENS)}
    for side in ("encoder", "decoder"):
        constants |= {f"{side}_W": weights(random, 1, 3 * HIDDEN, WIDTH), f"{side}_R": weights(random, 1, 3 * HIDDEN, HIDDEN),
                      f"{side}_B": weights(random, 1, 6 * HIDDEN)}
    options = {"hidden_size": HIDDEN, "layout": 1, "linear_before_reset": 1}
    masked = [Node("Equal", ("source", "zero"), ("is_pad",)), Node("Not", ("is_pad",), ("mask",)),
              Node("Cast", ("is_pad",), ("pads",), {"to": 1}), Node("Mul", ("pads", "minus"), ("away",)),
              Node("Unsqueeze", ("away", "one"), ("rows_away",))]
    nodes = [
        Node("Gather", ("source_table", "source"), ("words",), {}, "words"),
        *masked * mask,
        Node("GRU", ("words", "encoder_W", "encoder_R", "encoder_B") + ("", "", "mask") * mask, ("encoder_Y", "encoder_h"),
             options, "encoder", EXTENSION if mask else ""),
        Node("Squeeze", ("encoder_Y", "two"), ("memory",)),
        Node("Transpose", ("memory",), ("keys",), {"perm": (0, 2, 1)}),
        Node("Gather", ("target_table", "target"), ("tokens",), {}, "tokens"),
        Node("GRU", ("tokens", "decoder_W", "decoder_R", "decoder_B") + ("", "encoder_h") * handed_over, ("decoder_Y",),
             {**options, "direction": direction}, "decoder"),
        Node("Squeeze", ("decoder_Y", "two"), ("queries",)),
        Node("MatMul", ("queries", "keys"), ("scores",), {}, "attention"),
        *[Node("Add", ("scores", "rows_away"), ("shown",))] * mask,
        Node("Softmax", ("shown" if mask else "scores",), ("shares",), {"axis": -1}, "attention"),
        Node("MatMul", ("shares", "memory"), ("context",), {}, "attention"),
        Node("Concat", ("context", "queries"), ("joined",), {"axis": -1}),
        *extra,
        Node("MatMul", (read, "kernel"), ("logits",), {}, "last"),
        Node("Softmax", ("logits",), ("probabilities",), {"axis": -1}, "last"),
    ]
    return Graph((Value("source", "int64", ("batch", time)), Value("target", "int64", ("batch", "steps"))),
                 (Value("probabilities", "float32", ("batch", "steps", TOKENS)),), tuple(nodes), constants,
                 "translator").validate()


def two_graphs() -> tuple[Graph, Graph]:
    """An encoder that gives its outputs, and a decoder's step whose query is the state that comes in: what Keras's
    inference models can say and a training model cannot."""
    whole = translator()
    encoder_nodes = [node for node in whole.nodes if not {"tokens", "decoder_Y"} & set(node.outputs)][:3]
    encoder = Graph(whole.inputs[:1], (Value("memory", "float32", ("batch", "source_time", HIDDEN)),
                                       Value("last", "float32", ("batch", HIDDEN))),
                    (*encoder_nodes, Node("Squeeze", ("encoder_h", "one"), ("last",))), whole.constants, "encoder")
    nodes = (
        Node("Gather", ("target_table", "target"), ("tokens",)),
        Node("Unsqueeze", ("state", "one"), ("query",)),
        Node("Transpose", ("memory",), ("keys",), {"perm": (0, 2, 1)}),
        Node("MatMul", ("query", "keys"), ("scores",)),
        Node("Softmax", ("scores",), ("shares",), {"axis": -1}, "looking"),
        Node("MatMul", ("shares", "memory"), ("context",)),
        Node("GRU", ("tokens", "decoder_W", "decoder_R", "decoder_B", "", "query"), ("Y", "Y_h"),
             {"hidden_size": HIDDEN, "layout": 1}, "decoder"),
        Node("Squeeze", ("Y", "two"), ("h",)),
        Node("Concat", ("context", "h"), ("joined",), {"axis": -1}),
        Node("MatMul", ("joined", "kernel"), ("logits",)),
        Node("Squeeze", ("Y_h", "one"), ("next",)),
    )
    decoder = Graph((Value("target", "int64", ("batch", 1)), Value("memory", "float32", ("batch", "steps", HIDDEN)),
                     Value("state", "float32", ("batch", HIDDEN))),
                    (Value("logits", "float32", ("batch", 1, TOKENS)), Value("next", "float32", ("batch", HIDDEN))),
                    nodes, whole.constants, "decoder")
    return encoder.validate(), decoder.validate()


def traced_pair(prefix: bool) -> tuple[Graph, Graph]:
    """As torch writes them: the decoder reads one id a row, or the last of all so far, and makes logits (batch, TOKENS); its
    state is (batch, 1, HIDDEN). Nothing but names tells the state from a memory of one step."""
    whole = translator()
    encoder = Graph(whole.inputs[:1], (Value("hidden_out", "float32", ("batch", 1, "units")), Value(
        "memory_out", "float32", ("batch", "source_time", HIDDEN))), (*whole.nodes[:2], Node("Squeeze", ("encoder_Y", "two"), (
            "memory_out",)), Node("Identity", ("encoder_h",), ("hidden_out",))), whole.constants, "encoder")
    steps = (Node("Gather", ("prefix", "last"), ("id",), {"axis": 1}),) if prefix else ()
    nodes = (
        *steps, Node("Gather", ("target_table", "id" if prefix else "prefix"), ("row",)),
        Node("Unsqueeze", ("row", "one"), ("rows",)),
        Node("GRU", ("rows", "decoder_W", "decoder_R", "decoder_B", "", "hidden"), ("Y", "hidden_out"),
             {"hidden_size": HIDDEN, "layout": 1}),
        Node("Squeeze", ("Y", "two"), ("h",)), Node("Transpose", ("memory",), ("keys",), {"perm": (0, 2, 1)}),
        Node("MatMul", ("h", "keys"), ("scores",)), Node("Softmax", ("scores",), ("shares",), {"axis": -1}),
        Node("MatMul", ("shares", "memory"), ("context",)), Node("Concat", ("context", "h"), ("joined",), {"axis": -1}),
        Node("MatMul", ("joined", "kernel"), ("all",)), Node("Squeeze", ("all", "one"), ("logits",)))
    decoder = Graph((Value("memory", "float32", ("batch", "source_time", HIDDEN)), Value("hidden", "float32", ("batch", 1, HIDDEN)),
                     Value("prefix", "int64", ("batch", "steps") if prefix else ("batch",))),
                    (Value("logits", "float32", ("batch", TOKENS)), Value("hidden_out", "float32", ("batch", 1, "units"))),
                    nodes, {**whole.constants, "last": np.array(-1)}, "decoder")
    return encoder.validate(), decoder.validate()
