"""What `lstmrt inspect` shows of a model, as plain rows that a table or lines can be made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .errors import UnsupportedError
from .generation_config import is_encoder_decoder
from .graph import Dim, Graph, Node
from .model import Model
from .operators import is_recurrent, named_inputs
from .passes import infer_shapes
from .tokenizers import Tokenizer

if TYPE_CHECKING:
    from .seq2seq.config import EncoderDecoderDefaults


@dataclass(frozen=True)
class LayerRow:
    """A layer of the source file: its operators, the shape of its last output, its weights, their bytes, what runs it."""

    layer: str
    operators: str
    output: str
    parameters: int
    nbytes: int
    runs: str


def layer_rows(model: Model) -> list[LayerRow]:
    """One row for each run of nodes with one name, in order."""
    graph = model.source.graph
    tensors = infer_shapes(graph)
    runs_in = {name: segment.kind for segment in model.segments for node in segment.nodes for name in node.outputs}
    only = model.segments[0].kind if len(model.segments) == 1 else None
    groups: list[list] = []
    for node in graph.nodes:
        if groups and node.name and groups[-1][0].name == node.name:
            groups[-1].append(node)
        else:
            groups.append([node])
    counted: set[str] = set()
    rows = []
    for nodes in groups:
        weights = {name for node in nodes for name in node.reads if name in graph.constants} - counted
        counted |= weights
        arrays = [array for name in weights if _is_weight(array := graph.constants[name])]
        absent = [_absent_bias(node, graph) for node in nodes]
        last = nodes[-1].outputs[0]
        kinds = {runs_in[name] for node in nodes for name in node.outputs if name in runs_in} or {only or "native"}
        rows.append(LayerRow(
            nodes[0].name or last,
            " ".join(dict.fromkeys(node.op for node in nodes)),
            _shown(tensors[last].shape if last in tensors else None),
            sum(array.size for array in arrays) - sum(bias.size for bias in absent),
            sum(array.nbytes for array in arrays) - sum(bias.nbytes for bias in absent),
            ", ".join(sorted(kinds)),
        ))
    return rows


def _is_weight(array: np.ndarray) -> bool:
    """Whether a constant is numbers that were trained: floats, or a matrix of bytes that stand for such."""
    return array.dtype.kind == "f" or (array.dtype in (np.int8, np.uint8) and array.ndim > 1)


def _absent_bias(node: Node, graph: Graph) -> np.ndarray:
    """Zeros that stand for the second bias of ONNX's recurrent operators, which most Keras layers do not have."""
    bias = graph.constants.get(named_inputs(node)["B"]) if is_recurrent(node) else None
    second = np.empty((0, 0)) if bias is None else bias[:, bias.shape[1] // 2:]
    return second[:0] if second.any() else second


def summary(model: Model) -> list[tuple[str, str]]:
    """Facts about the whole model: (what, value)."""
    file = model.source
    facts = [("inputs", "; ".join(f"{v.name} {v.dtype} {_shown(v.shape)}" for v in model.inputs)),
             ("outputs", "; ".join(f"{v.name} {v.dtype} {_shown(v.shape)}" for v in model.outputs)),
             ("parameters", f"{sum(row.parameters for row in layer_rows(model)):,}"),
             ("precision", model.precision),
             ("bytes of weights", f"{sum(array.nbytes for array in file.graph.constants.values()):,}")]
    if model.native:
        facts.append(("instruction set", model.native.model.isa))
    if model.generation:
        window = f", {model.generation.window} ids" if model.generation.window else ""
        facts.append(("generation", model.generation.mode + window))
    if is_encoder_decoder(model.generation):
        facts += _encoder_decoder(model, model.generation)
    for name, given in model.text_inputs.items():
        facts.append(("takes text", f"{name}, {'texts' if given.texts else 'tokens'}"))
    if model.tokenizer:
        facts.append(("tokenizer", _vocabulary(model.tokenizer)))
    if model.decoder_tokenizer not in (None, model.tokenizer):
        facts.append(("decoder tokenizer", _vocabulary(model.decoder_tokenizer)))
    return facts + [(key, text) for key, text in file.provenance.items() if text]


def _encoder_decoder(model: Model, settings: EncoderDecoderDefaults) -> list[tuple[str, str]]:
    facts = [("decoder input", settings.decoder_input)]
    for what, ids in (("start", [settings.decoder_start_token_id]), ("end", settings.eos_token_id)):
        if shown := ", ".join(_token(model.decoder_tokenizer, id) for id in ids if id is not None):
            facts.append((f"{what} token", shown))
    try:
        runner = model.encoder_decoder
    except UnsupportedError as error:
        return facts + [("cannot generate", str(error))]
    facts += [(f"{half} runs", ", ".join(dict.fromkeys(kinds))) for half, kinds in runner.segments.items()]
    return facts + [("attention", ", ".join(runner.attentions))] * bool(runner.attentions)


def _token(tokenizer: Tokenizer | None, id: int) -> str:
    text = tokenizer.piece(id, first=True) if tokenizer else ""
    return f"{id} {text!r}" if text else str(id)


def _vocabulary(tokenizer: Tokenizer) -> str:
    return f"{len(tokenizer.vocabulary)} {'characters' if tokenizer.char_level else 'words'}"


def _shown(shape: tuple[Dim, ...] | None) -> str:
    return "?" if shape is None else "(" + ", ".join("?" if size is None else str(size) for size in shape) + ")"
