"""How a model turns ids into more ids when nobody says otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING

from .errors import InputError

if TYPE_CHECKING:
    from .seq2seq.config import EncoderDecoderDefaults

MODES = ("window", "masked_window", "stateful", "growing")
WINDOW_MODES = MODES[:2]
ENCODER_DECODER = "encoder_decoder"
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
        if self.mode in WINDOW_MODES and not (is_id(self.window) and self.window > 0):
            raise InputError(f"generation window: mode {self.mode!r} needs a length above 0, got {self.window!r}")
        if self.mode not in WINDOW_MODES and self.window is not None:
            raise InputError(f"generation window: mode {self.mode!r} has none, got {self.window!r}")
        if not is_id(self.pad_id):
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


def is_encoder_decoder(generation: object) -> bool:
    """Whether these are settings of an encoder-decoder (seq2seq/config.py)."""
    return getattr(generation, "mode", None) == ENCODER_DECODER


def defaults_from_json(settings: Mapping) -> GenerationDefaults | EncoderDecoderDefaults:
    """What either's `to_json` gave; raises InputError for anything else."""
    if isinstance(settings, Mapping) and settings.get("mode") == ENCODER_DECODER:
        from .seq2seq.config import EncoderDecoderDefaults  # which most models do without

        return EncoderDecoderDefaults.from_json(settings)
    return GenerationDefaults.from_json(settings)


def is_id(value: object) -> bool:
    """Whether it is an int of 0 or above, and no bool."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
