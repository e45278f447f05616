"""From a source to what an encoder-decoder makes of it: text for text, ids for ids, with attention weights if asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Union

import numpy as np

from ..errors import InputError
from ..generation import GenerationOptions, choice, is_list_of_prompts, options_of, pieces, until_stopped
from ..tokenizers import token_id, token_ids
from .config import EncoderDecoderDefaults
from .sources import Fitted, Source, read_source

if TYPE_CHECKING:
    from ..model import Model

Result = Union[str, np.ndarray]


@dataclass(frozen=True)
class EncoderDecoderOptions(GenerationOptions):
    """The keywords of `generate` and `stream` for an encoder-decoder: those of GenerationOptions but `mode` and `echo`, and

    decoder_start_token_id  what the decoder begins with: an id, or a token by name; None: as the model says
    eos_token_id            may be tokens by name too; None: as the model says
    window                  tokens that the source is padded or cut to
    output_attentions       gives a GenerationOutput
    """

    decoder_start_token_id: int | str | None = None
    output_attentions: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("mode", "echo"):
            if getattr(self, name):
                raise InputError(f"{name}: there is no such option for an encoder-decoder")


class GenerationOutput(NamedTuple):
    """What `output_attentions=True` gives.

    result         what `generate` gives without it
    attentions     layer -> its weights, float32 (tokens made, source tokens), with heads between the two where it has any
    source_tokens  the source, padding left out: texts of a text, else ids or the numbers of the rows
    target_tokens  what was made: texts or ids
    """

    result: Result
    attentions: dict[str, np.ndarray]
    source_tokens: list
    target_tokens: list


TOGETHER = 32  # sources that are decoded at once, at most


def generate(model: Model, source: Source, options: Mapping[str, Any]) -> Result | GenerationOutput | list:
    """What the model makes of `source`, without the tokens that begin and end it. See Model.generate."""
    if not is_list_of_prompts(source) and not _is_batch(model, source):
        return _generate_all(model, [source], options)[0]
    sources = list(source)
    if any(is_list_of_prompts(one) for one in sources):
        return [generate(model, one, options) for one in sources]
    return _generate_all(model, sources, options)


def _generate_all(model: Model, sources: list[Source], options: Mapping[str, Any]) -> list[Result | GenerationOutput]:
    given = _options(model, options)
    begun = [_begin(model, source, given) for source in sources]
    made: list[list[tuple[int, dict[str, np.ndarray]]]] = [[] for _ in sources]
    for group in _groups(model, begun):
        for step in _decoded(model, [begun[i] for i in group], given):
            for place, id, weights in step:
                made[group[place]].append((id, weights if given.output_attentions else {}))
    return [_result(model, *one, given) for one in zip(sources, begun, made)]


def _groups(model: Model, begun: list[_Begun]) -> list[list[int]]:
    """The numbers of the sources that are decoded together: those of the same shapes, and end tokens."""
    if not model.encoder_decoder.together:
        return [[i] for i in range(len(begun))]
    alike: dict[tuple, list[int]] = {}
    for i, one in enumerate(begun):
        alike.setdefault((*(fitted.array.shape for fitted in one.fitted.values()), one.ending), []).append(i)
    return [group[i:i + TOGETHER] for group in alike.values() for i in range(0, len(group), TOGETHER)]


def _result(model: Model, source: Source, begun: _Begun, steps: list[tuple[int, dict[str, np.ndarray]]],
            options: EncoderDecoderOptions) -> Result | GenerationOutput:
    ids, is_text = [id for id, _ in steps], isinstance(source, str)
    result = "".join(_text(model, ids, options)) if is_text else np.array(ids, np.int64)
    if not options.output_attentions:
        return result
    read = begun.fitted[model.encoder_decoder.inputs[0].name]
    attentions = {name: _over_source([weights[name] for _, weights in steps], read)
                  for name in model.encoder_decoder.attentions}
    target = [model.decoder_tokenizer.piece(id, first=True) for id in ids] if is_text else ids
    return GenerationOutput(result, attentions, read.tokens, target)


def stream(model: Model, source: Source, options: Mapping[str, Any]) -> Iterator[str] | Iterator[int]:
    """As `generate`, in pieces as they are made."""
    if is_list_of_prompts(source) or _is_batch(model, source):
        raise InputError("stream takes one source; run several streams for several")
    given = _options(model, options)
    if given.output_attentions:
        raise InputError("output_attentions: stream gives tokens alone, use generate")
    ids = (id for step in _decoded(model, [_begin(model, source, given)], given) for _, id, _ in step)
    return _text(model, ids, given) if isinstance(source, str) else ids


def _is_batch(model: Model, source: Source) -> bool:
    """Whether an array has the axis of the batch that the encoder's input has."""
    return isinstance(source, np.ndarray) and source.ndim == len(model.encoder_decoder.inputs[0].shape or ())


class _Begun(NamedTuple):
    """A source as it is read, and the ids that end what is made of it."""

    fitted: dict[str, Fitted]
    ending: frozenset[int]


def _begin(model: Model, source: Source, options: EncoderDecoderOptions) -> _Begun:
    is_text = isinstance(source, str)
    if is_text and (model.tokenizer is None or model.decoder_tokenizer is None):
        raise InputError("a text needs tokenizers: lstmrt.load(..., tokenizer=..., decoder_tokenizer=...), or give ids")
    if not is_text and options.stops:
        raise InputError("stop_strings: the source is no text")
    ending = set(options.eos_ids)
    if is_text:
        ending.update(model.decoder_tokenizer.textless_ids(model.encoder_decoder.tokens_in))
    return _Begun(read_source(model, source, options.window), frozenset(ending))


def _decoded(model: Model, begun: list[_Begun],
             options: EncoderDecoderOptions) -> Iterator[list[tuple[int, int, dict[str, np.ndarray]]]]:
    """Runner.decode of sources that end alike."""
    arrays = [{name: one.array for name, one in source.fitted.items()} for source in begun]
    choices = [choice(options, ()) for _ in begun]  # without a seed each draws by its own
    return model.encoder_decoder.decode(arrays, options.decoder_start_token_id, options.max_new_tokens, begun[0].ending, choices)


def _text(model: Model, ids: Iterator[int], options: EncoderDecoderOptions) -> Iterator[str]:
    return until_stopped(pieces(model.decoder_tokenizer, ids, first=True), options.stops)


def _options(model: Model, options: Mapping[str, Any]) -> EncoderDecoderOptions:
    """The call's options with the model's in the place of those that are not given, and ids in the place of tokens."""
    given, settings, tokenizer = options_of(options, EncoderDecoderOptions), model.generation, model.decoder_tokenizer
    ending = settings.eos_token_id if given.eos_token_id is None else given.eos_token_id
    return replace(given, decoder_start_token_id=_start(model, given.decoder_start_token_id),
                   eos_token_id=token_ids(tokenizer, ending, "eos_token_id"), window=given.window or settings.window)


def _start(model: Model, given: int | str | None) -> int:
    settings: EncoderDecoderDefaults = model.generation
    start = token_id(model.decoder_tokenizer, settings.decoder_start_token_id if given is None else given,
                     "decoder_start_token_id")
    if start is None:
        raise InputError("decoder_start_token_id: say which token the decoder begins with, as in "
                         "generate(..., decoder_start_token_id=1), or by name where there is a tokenizer")
    known = model.encoder_decoder.tokens_in
    if not isinstance(start, (int, np.integer)) or isinstance(start, bool) or not 0 <= start < known:
        raise InputError(f"decoder_start_token_id: expected one of the {known} ids that the decoder reads, got {start!r}")
    return int(start)


def _over_source(steps: list[np.ndarray], read: Fitted) -> np.ndarray:
    """The weights of all steps, each (1, ..., source) or (1, source, 1), one below the other, without those of padding."""
    if not steps:
        return np.empty((0, len(read.tokens)), np.float32)
    shape = steps[0].shape
    axis = next((axis for axis in range(len(shape) - 1, 0, -1) if shape[axis] == read.length), len(shape) - 1)
    heads = [size for other, size in enumerate(shape) if other != axis and size != 1]
    weights = np.stack([np.moveaxis(step, axis, -1).reshape(*heads, shape[axis]) for step in steps]).astype(np.float32)
    if shape[axis] != read.length:  # an encoder that leaves steps out
        return weights
    return weights[..., read.begin:read.begin + len(read.tokens)]
