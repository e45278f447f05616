"""From a prompt to its continuation: the modes, the options, and text that is made piece by piece.

The token loop itself is csrc/decode.c; here it is set up, and its ids become text.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar, Union

import numpy as np

from .errors import InputError, UnsupportedError
from .generation_config import MODES, WINDOW_MODES, GenerationDefaults
from .graph import EXTENSION, Graph
from .operators import is_recurrent, named_inputs
from .vocabulary import makes_its_ids

if TYPE_CHECKING:
    from .model import Model
    from .tokenizers import Tokenizer

Prompt = Union[str, Sequence[int], np.ndarray]


@dataclass(frozen=True)
class GenerationOptions:
    """The keywords of `Model.generate` and `Model.stream`; names and meanings are transformers'.

    max_new_tokens      tokens to make at most
    mode, window        how the model reads its context (GenerationDefaults); None: as the model says
    do_sample           draw tokens; None: where temperature, top_k, top_p or seed is given. Else greedy: the largest
                        logit, the lowest id on ties
    temperature         divides the logits
    top_k               draw from the k most probable tokens; 0: from all
    top_p               draw from the fewest of the most probable whose mass reaches it
    repetition_penalty  divides positive and multiplies negative logits of tokens that are in prompt or continuation
    seed                of the draws; None: another one each time. The same seed draws the same from the same logits on
                        every machine
    eos_token_id        an id, or several, that end the text; ids without text do so too
    stop_strings        texts that end the text; they are left out
    echo                puts the prompt in front

    Raises InputError for values that make no sense.
    """

    max_new_tokens: int = 20
    mode: str | None = None
    window: int | None = None
    do_sample: bool | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    repetition_penalty: float = 1.0
    seed: int | None = None
    eos_token_id: int | Sequence[int] | None = None
    stop_strings: str | Sequence[str] | None = None
    echo: bool = False

    def __post_init__(self) -> None:
        _check("max_new_tokens", self.max_new_tokens, is_int(self.max_new_tokens) and 0 <= self.max_new_tokens < 2**63,
               "a number of 0 or above")
        _check("mode", self.mode, self.mode is None or self.mode in MODES, f"one of {', '.join(MODES)}")
        _check("window", self.window, self.window is None or (is_int(self.window) and 0 < self.window < 2**63),
               "a number above 0")
        _check("temperature", self.temperature, self.temperature is None or _positive(self.temperature),
               "a finite number above 0")
        _check("top_k", self.top_k, self.top_k is None or (is_int(self.top_k) and 0 <= self.top_k < 2**63),
               "a number of 0 or above")
        _check("top_p", self.top_p, self.top_p is None or (_positive(self.top_p) and self.top_p <= 1),
               "a number above 0, at most 1")
        _check("repetition_penalty", self.repetition_penalty, _positive(self.repetition_penalty),
               "a finite number above 0")
        _check("seed", self.seed, self.seed is None or (is_int(self.seed) and 0 <= self.seed < 2**64),
               "a number from 0 to 2^64 - 1")
        _check("do_sample", self.do_sample, self.do_sample is None or isinstance(self.do_sample, (bool, np.bool_)),
               "True, False or None")
        _check("echo", self.echo, isinstance(self.echo, (bool, np.bool_)), "True or False")
        _check("stop_strings", self.stop_strings, all(isinstance(stop, str) and stop for stop in self.stops),
               "a text that is not empty, or several")
        if self.do_sample is False and self._asks_to_sample:
            raise InputError("do_sample=False, but temperature, top_k, top_p or seed is given")

    @property
    def _asks_to_sample(self) -> bool:
        return any(option is not None for option in (self.temperature, self.top_k, self.top_p, self.seed))

    @property
    def samples(self) -> bool:
        return self._asks_to_sample if self.do_sample is None else self.do_sample

    @property
    def stops(self) -> tuple[str, ...]:
        if self.stop_strings is None:
            return ()
        return tuple(self.stop_strings) if isinstance(self.stop_strings, (list, tuple)) else (self.stop_strings,)

    @property
    def eos_ids(self) -> tuple[int, ...]:
        if self.eos_token_id is None:
            return ()
        given = self.eos_token_id.tolist() if isinstance(self.eos_token_id, np.ndarray) else self.eos_token_id
        ids = tuple(given) if isinstance(given, (list, tuple)) else (given,)
        _check("eos_token_id", self.eos_token_id, all(is_int(id) and abs(id) < 2**63 for id in ids),
               "an id or several")
        return tuple(int(id) for id in ids)


Options = TypeVar("Options", bound=GenerationOptions)


def _check(name: str, value: object, good: bool, expected: str) -> None:
    if not good:
        raise InputError(f"{name}: expected {expected}, got {value!r}")


def is_int(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _positive(value: object) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and 0 < value <= sys.float_info.max


def options_of(options: Mapping[str, Any], kind: type[Options] = GenerationOptions) -> Options:
    """The keywords of a call; raises InputError for unknown ones too."""
    try:
        return kind(**options)
    except TypeError:
        known = kind.__dataclass_fields__
        unknown = ", ".join(name for name in options if name not in known)
        raise InputError(f"unknown generation options: {unknown}; known are {', '.join(known)}") from None


# ---- generate and stream ----


def generate(model: Model, prompt: Prompt, options: GenerationOptions) -> str | np.ndarray:
    """The continuation: text for text, an int64 array for ids. See Model.generate."""
    if isinstance(prompt, str):
        return "".join(stream(model, prompt, options))
    ids, ending = request_of(model, prompt, options)
    slices = [*([ids] if options.echo else []), *continuation(model, ids, options, ending)]
    return np.concatenate(slices) if slices else np.empty(0, np.int64)


def stream(model: Model, prompt: Prompt, options: GenerationOptions) -> Iterator[str] | Iterator[int]:
    """Pieces of text that joined are what generate gives; for ids, one id after the other."""
    if is_list_of_prompts(prompt):
        raise InputError("stream takes one prompt; run several streams for several, or a batch")
    ids, ending = request_of(model, prompt, options)
    made = continuation(model, ids, options, ending)
    if isinstance(prompt, str):
        return _stream_text(model.tokenizer, prompt, made, options)
    return _stream_ids(ids, made, options)


def is_list_of_prompts(prompt: object) -> bool:
    return isinstance(prompt, (list, tuple)) and len(prompt) > 0 and not all(is_int(item) for item in prompt)


def _stream_ids(ids: np.ndarray, made: Iterable[np.ndarray], options: GenerationOptions) -> Iterator[int]:
    if options.echo:
        yield from ids.tolist()
    for some in made:
        yield from some.tolist()


def _stream_text(tokenizer: Tokenizer, prompt: str, made: Iterable[np.ndarray],
                 options: GenerationOptions) -> Iterator[str]:
    if options.echo and prompt:
        yield prompt
    ids = (id for some in made for id in some.tolist())
    yield from until_stopped(pieces(tokenizer, ids, first=starts_fresh(prompt)), options.stops)


def starts_fresh(prompt: str) -> bool:
    """Whether no separator is wanted between the prompt and its continuation."""
    return not prompt or prompt[-1].isspace()


def pieces(tokenizer: Tokenizer, ids: Iterable[int], first: bool) -> Iterator[str]:
    """The text of each id; `first` says that no separator is wanted before the first of them."""
    for id in ids:
        yield tokenizer.piece(id, first=first)
        first = False


class StopStrings:
    """Cuts a text that comes in pieces where the first of `stops` is complete: one may begin in one piece and end in
    another, so text that could be the beginning of one is held back until it is known not to be."""

    def __init__(self, stops: tuple[str, ...]) -> None:
        self.stops, self.held, self.stopped = stops, "", False

    def push(self, piece: str) -> str:
        """What `piece` makes certain; `stopped` is set where that was the last of it."""
        self.held += piece
        found = [at for at in map(self.held.find, self.stops) if at >= 0]
        self.stopped = bool(found)
        safe = min(found) if found else len(self.held) - max((_overlap(self.held, stop) for stop in self.stops), default=0)
        text, self.held = self.held[:safe], self.held[safe:]
        return text

    def rest(self) -> str:
        """What was held back, at the end of the text."""
        return "" if self.stopped else self.held


def until_stopped(pieces: Iterable[str], stops: tuple[str, ...]) -> Iterator[str]:
    """`pieces` up to the first of `stops`."""
    text = StopStrings(stops)
    for piece in pieces:
        if safe := text.push(piece):
            yield safe
        if text.stopped:
            return
    if rest := text.rest():
        yield rest


def _overlap(text: str, stop: str) -> int:
    """Length of the longest proper beginning of `stop` that `text` ends with."""
    return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0)


# ---- ids ----


def request_of(model: Model, prompt: Prompt, options: GenerationOptions) -> tuple[np.ndarray, tuple[int, ...]]:
    """The prompt as ids, and the ids that end its continuation: of a text, those without text too."""
    if not isinstance(prompt, str):
        if options.stops:
            raise InputError("stop_strings: the prompt is ids; give it as text")
        return prompt_ids(model, prompt), options.eos_ids
    if model.tokenizer is None:
        _vocabulary(model)  # of a model that does not generate, that is the fault
        raise InputError("a text prompt needs a tokenizer: lstmrt.load(..., tokenizer=...), or give ids")
    ids = prompt_ids(model, model.tokenizer.encode(prompt))
    return ids, (*options.eos_ids, *model.tokenizer.textless_ids(model.vocabulary_size))


def prompt_ids(model: Model, prompt: Sequence[int] | np.ndarray) -> np.ndarray:
    """The prompt as int64 ids (length,), checked against the vocabulary."""
    known = _vocabulary(model)
    try:
        ids = np.asarray(prompt)
    except ValueError as error:  # lists of several lengths
        raise InputError(f"prompt: expected text, ids, or a list of either: {error}") from None
    if ids.ndim != 1 or (ids.size and ids.dtype.kind not in "iu"):
        raise InputError(f"prompt: expected text, ids, or a list of either, got {ids.dtype} of shape {ids.shape}")
    if ids.size == 0:
        raise InputError("prompt: expected at least one token that the model knows, got none")
    wrong = ids[(ids < 0) | (ids >= known)]
    if wrong.size:
        raise InputError(f"prompt: id {wrong[0]} is outside the model's vocabulary of {known}")
    return ids.astype(np.int64)


def _vocabulary(model: Model) -> int:
    if model.input_vocabulary is None:
        raise UnsupportedError(f"generation needs a model that turns ids into logits in one native program: {model!r}")
    return model.input_vocabulary


def continuation(model: Model, ids: np.ndarray, options: GenerationOptions,
                 ending: tuple[int, ...]) -> Iterator[np.ndarray]:
    """Slices of new ids, each at most about 20 ms of work, so that a caller can look up in between."""
    defaults, left = settings(model, options), options.max_new_tokens
    if left == 0:
        return
    decoder = model.program.model.decoder(
        **decode_mode(model, defaults, len(ids) + left), pad_id=defaults.pad_id, pad_right=defaults.padding == "right",
        **choice(options, ending))
    ids = kept_ids(ids, defaults, options)
    decoder.prompt(ids)
    ended = False
    while left > 0 and not ended:
        made, ended = decoder.next(left)
        left -= len(made)
        yield made


def choice(options: GenerationOptions, ending: tuple[int, ...]) -> dict:
    """The core's options about which id comes next, and which ends the text."""
    return {
        "do_sample": options.samples,
        "seed": int.from_bytes(os.urandom(8), "little") if options.seed is None else options.seed,
        "temperature": options.temperature or 1.0,
        "top_k": options.top_k or 0,
        "top_p": options.top_p or 1.0,
        "repetition_penalty": options.repetition_penalty,
        "eos_ids": ending,
    }


def kept_ids(ids: np.ndarray, defaults: GenerationDefaults, options: GenerationOptions) -> np.ndarray:
    """What of the prompt the core needs: ids before the window are seen by the repetition penalty alone."""
    windowed = defaults.window and options.repetition_penalty == 1.0
    return np.ascontiguousarray(ids[-defaults.window:] if windowed else ids)


def settings(model: Model, options: GenerationOptions) -> GenerationDefaults:
    """The model's generation settings with the call's mode and window in their place."""
    if model.generation is None and options.mode is None:
        _check_it_makes_its_ids(model)
    defaults = model.generation or _inferred(model)
    mode = options.mode or defaults.mode
    window = (options.window or defaults.window or fixed_length(model.graph)) if mode in WINDOW_MODES else options.window
    chosen = replace(defaults, mode=mode, window=window)
    check_masks(model.graph, mode)
    if not 0 <= chosen.pad_id < _vocabulary(model):
        raise InputError(f"pad_id: {chosen.pad_id} is outside the vocabulary of {model.input_vocabulary}")
    return chosen


def check_masks(graph: Graph, mode: str) -> None:
    """Raises InputError for the one of the window modes that is not the graph's: what it makes of padding decides."""
    if mode in WINDOW_MODES and masks_input(graph) != (mode == "masked_window"):
        other = "masked_window" if mode == "window" else "window"
        raise InputError(f"mode {mode!r}: the model's Embedding does {'' if mode == 'window' else 'not '}mask the "
                         f"padding: use mode={other!r}")


def _check_it_makes_its_ids(model: Model) -> None:
    known, made = _vocabulary(model), model.vocabulary_size
    if not makes_its_ids(made, known):
        raise UnsupportedError(f"generation needs a model that makes the ids it reads: this one reads {known} ids and makes "
                               f"{made} numbers, classes perhaps; mode= generates all the same")


def _inferred(model: Model) -> GenerationDefaults:
    """For a model whose file does not tell: one of a fixed length that takes no states cannot but read windows."""
    window = None if model.states else fixed_length(model.graph)
    if window is None:
        return GenerationDefaults("growing")
    return GenerationDefaults("masked_window" if masks_input(model.graph) else "window", window)


def fixed_length(graph: Graph) -> int | None:
    """The time steps that the first input must have, or None where any number will do."""
    shape = graph.inputs[0].shape or ()
    return shape[1] if len(shape) > 1 and isinstance(shape[1], int) else None


def masks_input(graph: Graph) -> bool:
    """Whether a recurrent node skips masked steps."""
    return any(node.domain == EXTENSION and is_recurrent(node) and named_inputs(node)["mask"] for node in graph.nodes)


def decode_mode(model: Model, defaults: GenerationDefaults, length: int) -> dict:
    """The core's mode. On a causal model a growing context is the carried state, bit for bit, and the windows of
    successive tokens can be advanced together."""
    steps_add_up = model.program.steps_add_up
    if defaults.mode == "stateful" or (defaults.mode == "growing" and steps_add_up):
        return {"mode": "stateful"}
    if defaults.mode == "growing":
        return {"mode": "growing", "max_length": length}
    staggered = steps_add_up and defaults.padding == "left"
    return {"mode": "staggered" if staggered else "window", "window": defaults.window}
