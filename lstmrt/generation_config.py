"""How a model turns ids into more ids when nobody says otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields

from .errors import InputError

MODES = ("window", "masked_window", "stateful", "growing")
WINDOW_MODES = MODES[:2]
PADDINGS = ("left", "right")


@dataclass(frozen=True)
class GenerationDefaults:
    """The settings a converted model carries; a call may override each.

    mode     "window": every id comes from a fresh run over the last `window` ids, padded with `pad_id`
             "masked_window": the same for a model whose Embedding masks the padding
             "stateful": states are carried; each step reads the newest id alone
             "growing": every id comes from a run over all ids so far
    window   ids in a window; None in the other two modes
    padding  where the padding goes: "left" (Keras's padding="pre") or "right"

    Raises InputError for a value that is none of these.
    """

    mode: str
    window: int | None = None
    pad_id: int = 0
    padding: str = "left"

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise InputError(f"generation mode: expected one of {', '.join(MODES)}, got {self.mode!r}")
        if self.mode in WINDOW_MODES and not (_is_int(self.window) and self.window > 0):
            raise InputError(f"generation window: mode {self.mode!r} needs a length above 0, got {self.window!r}")
        if self.mode not in WINDOW_MODES and self.window is not None:
            raise InputError(f"generation window: mode {self.mode!r} has none, got {self.window!r}")
        if not (_is_int(self.pad_id) and self.pad_id >= 0):
            raise InputError(f"generation pad_id: expected an id of 0 or above, got {self.pad_id!r}")
        if self.padding not in PADDINGS:
            raise InputError(f"generation padding: expected 'left' or 'right', got {self.padding!r}")

    def to_json(self) -> dict:
        """As a dict that `json` can write and `from_json` reads."""
        return asdict(self)

    @classmethod
    def from_json(cls, settings: Mapping) -> GenerationDefaults:
        """What `to_json` gave; raises InputError for anything else."""
        known = {field.name for field in fields(cls)}
        if not isinstance(settings, Mapping) or "mode" not in settings or set(settings) - known:
            raise InputError(f"generation settings: expected an object with {', '.join(sorted(known))}, got {settings!r}")
        return cls(**settings)


@dataclass(frozen=True)
class EncoderDecoderDefaults:
    """The settings that a converted encoder-decoder carries; a call may override all but the first two.

    decoder_input           the input that the decoder's tokens go into
    states                  value -> the graph's output that is its next value, for states that the graph does not carry
    window                  tokens that a source is padded or cut to; None: it stays as long as it is
    pad_id                  what fills it up; None: 0, or rows of zeros where the encoder reads rows
    padding                 where: "left" or "right", Keras's "pre" and "post"; a source that is too long is cut at its
                            beginning, as pad_sequences does it by default
    decoder_start_token_id  the token that the decoder begins with; None: each call has to say
    eos_token_id            those that end what it makes

    Raises InputError for a value that is none of these.
    """

    decoder_input: str
    states: Mapping[str, str] = field(default_factory=dict)
    window: int | None = None
    pad_id: int | None = None
    padding: str = "left"
    decoder_start_token_id: int | None = None
    eos_token_id: tuple[int, ...] = ()

    mode = "encoder_decoder"

    def __post_init__(self) -> None:
        object.__setattr__(self, "eos_token_id", tuple(self.eos_token_id))
        if not isinstance(self.decoder_input, str) or not isinstance(self.states, Mapping):
            raise InputError("generation settings: expected a name as decoder_input and an object as states")
        if self.window is not None and not (_is_int(self.window) and self.window > 0):
            raise InputError(f"generation window: expected a length above 0, got {self.window!r}")
        if self.padding not in PADDINGS:
            raise InputError(f"generation padding: expected 'left' or 'right', got {self.padding!r}")
        for name, id in (("pad_id", self.pad_id), ("decoder_start_token_id", self.decoder_start_token_id),
                         *(("eos_token_id", id) for id in self.eos_token_id)):
            if id is not None and not (_is_int(id) and id >= 0):
                raise InputError(f"generation {name}: expected an id of 0 or above, got {id!r}")

    def to_json(self) -> dict:
        """As a dict that `json` can write and `defaults_from_json` reads."""
        return {"mode": self.mode, **asdict(self)}

    @classmethod
    def from_json(cls, settings: Mapping) -> EncoderDecoderDefaults:
        """What `to_json` gave; raises InputError for anything else."""
        given = {name: value for name, value in settings.items() if name != "mode"}
        known = {field.name for field in fields(cls)}
        if not {"decoder_input"} <= set(given) <= known or not isinstance(given.get("eos_token_id", []), list):
            raise InputError(f"generation settings: expected an object with {', '.join(sorted(known))}, got {settings!r}")
        return cls(**given)


def defaults_from_json(settings: Mapping) -> GenerationDefaults | EncoderDecoderDefaults:
    """What either's `to_json` gave; raises InputError for anything else."""
    if isinstance(settings, Mapping) and settings.get("mode") == EncoderDecoderDefaults.mode:
        return EncoderDecoderDefaults.from_json(settings)
    return GenerationDefaults.from_json(settings)


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
