"""From a source to what an encoder-decoder makes of it: text for text, ids for ids, with attention weights if asked for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Iterator, Mapping, NamedTuple, Union

import numpy as np

from ..compile import as_dtype
from ..errors import InputError
from ..generation import GenerationOptions, choice, is_list_of_prompts, options_of, pieces, until_stopped
from ..generation_config import EncoderDecoderDefaults
from ..graph import Value
from ..tokenizers import Tokenizer, token_id

if TYPE_CHECKING:
    from ..model import Model
    from .runner import Runner

Source = Union[str, "list[int]", np.ndarray, Mapping[str, Any]]
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


@dataclass(frozen=True)
class _Request:
    """One source, ready to run. `steps` is where, in the encoder's input, the source itself lies."""

    arrays: Mapping[str, np.ndarray]
    tokens: list
    steps: slice
    length: int
    is_text: bool


def generate(model: Model, source: Source, options: Mapping[str, Any]) -> Result | GenerationOutput | list:
    """What the model makes of `source`, without the tokens that begin and end it. See Model.generate."""
    if is_list_of_prompts(source):
        return [generate(model, one, options) for one in source]
    if isinstance(source, np.ndarray) and source.ndim == len(model.encoder_decoder.inputs[0].shape):
        return [generate(model, one, options) for one in source]
    given = _options(model, options)
    request = _request(model, source, given)
    made = list(_made(model, request, given))
    ids = [id for id, _ in made]
    text = "".join(_text(model, request, given, iter(ids))) if request.is_text else ""
    result = text if request.is_text else np.array(ids, np.int64)
    if not given.output_attentions:
        return result
    target = [model.decoder_tokenizer.piece(id, first=True) for id in ids] if request.is_text else ids
    return GenerationOutput(result, _weights(model.encoder_decoder, request, [some for _, some in made]),
                            request.tokens, target)


def stream(model: Model, source: Source, options: Mapping[str, Any]) -> Iterator[str] | Iterator[int]:
    """As `generate`, in pieces as they are made."""
    if is_list_of_prompts(source):
        raise InputError("stream takes one source; run several streams for several")
    given = _options(model, options)
    if given.output_attentions:
        raise InputError("output_attentions: stream gives tokens alone, use generate")
    request = _request(model, source, given)
    ids = (id for id, _ in _made(model, request, given))
    return _text(model, request, given, ids) if request.is_text else ids


def _text(model: Model, request: _Request, options: EncoderDecoderOptions, ids: Iterator[int]) -> Iterator[str]:
    return until_stopped(pieces(model.decoder_tokenizer, ids, first=True), options.stops)


def _made(model: Model, request: _Request, options: EncoderDecoderOptions) -> Iterator[tuple[int, dict]]:
    chosen = choice(options, options.eos_ids)
    ending = set(chosen.pop("eos_ids"))
    if request.is_text:
        ending.update(model.decoder_tokenizer.textless_ids(model.encoder_decoder.tokens_in))
    return model.encoder_decoder.decode(request.arrays, options.decoder_start_token_id, options.max_new_tokens,
                                        frozenset(ending), chosen)


# ---- options ----


def _options(model: Model, options: Mapping[str, Any]) -> EncoderDecoderOptions:
    """The call's options with the model's in the place of those that are not given, and ids in the place of tokens."""
    defaults: EncoderDecoderDefaults = model.generation
    given = options_of(options, EncoderDecoderOptions)
    start = defaults.decoder_start_token_id if given.decoder_start_token_id is None else given.decoder_start_token_id
    if start is None:
        raise InputError("decoder_start_token_id: say which token the decoder begins with, as in "
                         "generate(..., decoder_start_token_id=1), or by name where there is a tokenizer")
    ending = defaults.eos_token_id if given.eos_token_id is None else given.eos_token_id
    named = [ending] if isinstance(ending, str) else ending
    if isinstance(named, (list, tuple)):
        named = [token_id(model.decoder_tokenizer, token, "eos_token_id") for token in named]
    start = token_id(model.decoder_tokenizer, start, "decoder_start_token_id")
    known = model.encoder_decoder.tokens_in
    if not isinstance(start, (int, np.integer)) or isinstance(start, bool) or not 0 <= start < known:
        raise InputError(f"decoder_start_token_id: expected one of the {known} ids that the decoder reads, got {start!r}")
    return replace(given, decoder_start_token_id=int(start), eos_token_id=named, window=given.window or defaults.window)


# ---- the source ----


def _request(model: Model, source: Source, options: EncoderDecoderOptions) -> _Request:
    runner, is_text = model.encoder_decoder, isinstance(source, str)
    if is_text and (model.tokenizer is None or model.decoder_tokenizer is None):
        raise InputError("a text needs tokenizers: lstmrt.load(..., tokenizer=..., decoder_tokenizer=...), or give ids")
    if not is_text and options.stops:
        raise InputError("stop_strings: the source is no text")
    first = runner.inputs[0]
    if isinstance(source, Mapping):
        if set(source) != {value.name for value in runner.inputs}:
            raise InputError(f"source: expected {', '.join(value.name for value in runner.inputs)}, "
                             f"got {', '.join(map(str, source))}")
    elif len(runner.inputs) > 1:
        raise InputError(f"source: expected a dict of {', '.join(value.name for value in runner.inputs)}")
    given = source if isinstance(source, Mapping) else {first.name: source}
    arrays, steps = {}, slice(None)
    for value in runner.inputs:
        arrays[value.name], where = _fitted(model, value, given[value.name], options.window)
        steps = where if value is first else steps
    whole = given[first.name]
    if is_text:
        whole = [model.tokenizer.piece(id, first=True) for id in model.tokenizer.encode(source)]
    length = arrays[first.name].shape[1] if arrays[first.name].ndim > 1 else 0
    tokens = list(range(len(whole))) if np.ndim(whole) > 1 else list(whole) if np.ndim(whole) else []
    return _Request(arrays, tokens[len(tokens) - len(range(*steps.indices(length))):], steps, length, is_text)


def _fitted(model: Model, value: Value, given: Any, window: int | None) -> tuple[np.ndarray, slice]:
    """One sequence as the encoder's input `value` (1, ...) takes it, and where in it the sequence itself is."""
    if isinstance(given, str):
        given = model.tokenizer.encode(given)
    rank = len(value.shape or ())
    array = np.asarray(given)
    holds_ids = np.dtype(value.dtype).kind in "iu"
    if holds_ids and rank == 2 or (rank == 3 and array.ndim == 1 and array.dtype.kind in "iu"):
        array = _checked_ids(value, array, model.encoder_decoder.vocabularies[value.name] if holds_ids else value.shape[2])
        if not holds_ids:
            array = np.eye(value.shape[2], dtype=np.float32)[array]
    if rank < 2 or array.ndim != rank - 1:
        return as_dtype(value, array)[None], slice(None)
    if array.shape[0] == 0:
        raise InputError("source: expected at least one token that the model knows, got none")
    return _padded(model, value, as_dtype(value, array), window)


def _checked_ids(value: Value, ids: np.ndarray, known: int | None) -> np.ndarray:
    if ids.size == 0:
        raise InputError("source: expected at least one token that the model knows, got none")
    if ids.ndim != 1 or ids.dtype.kind not in "iu":
        raise InputError(f"source '{value.name}': expected text or ids, got {ids.dtype} of shape {ids.shape}")
    wrong = ids[(ids < 0) | (ids >= known)] if known is not None else ids[:0]
    if wrong.size:
        raise InputError(f"source: id {wrong[0]} is outside the encoder's vocabulary of {known}")
    return ids


def _padded(model: Model, value: Value, array: np.ndarray, window: int | None) -> tuple[np.ndarray, slice]:
    """The last `window` steps of `array` (steps, ...), or all, padded up to it, as (1, window, ...)."""
    defaults: EncoderDecoderDefaults = model.generation
    fixed = value.shape[1] if isinstance(value.shape[1], int) else None
    window = fixed or window or len(array)
    array = array[-window:]
    padding = np.zeros((window - len(array), *array.shape[1:]), array.dtype)
    if defaults.pad_id is not None:
        padding[:] = defaults.pad_id if array.ndim == 1 else np.eye(array.shape[1])[defaults.pad_id]
    if defaults.padding == "left":
        return np.concatenate([padding, array])[None], slice(len(padding), window)
    return np.concatenate([array, padding])[None], slice(0, len(array))


# ---- attentions ----


def _weights(runner: Runner, request: _Request, steps: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The weights of all steps, one below the other, over the source without its padding."""
    stacked = {}
    for name in runner.attentions:
        rows = [_over_source(step[name], request.length) for step in steps]
        empty = np.empty((0, len(request.tokens)), np.float32)
        weights = np.stack(rows).astype(np.float32) if rows else empty
        stacked[name] = weights[..., request.steps] if weights.shape[-1] == request.length else weights
    return stacked


def _over_source(weights: np.ndarray, length: int) -> np.ndarray:
    """One step's weights (1, ..., source) or (1, source, 1) without the axes of size 1 that are none of the source's."""
    axis = next((axis for axis in range(weights.ndim - 1, 0, -1) if weights.shape[axis] == length), weights.ndim - 1)
    rest = tuple(size for other, size in enumerate(weights.shape) if other != axis and size != 1)
    return np.moveaxis(weights, axis, -1).reshape(*rest, weights.shape[axis])
