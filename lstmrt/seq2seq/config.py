"""How an encoder-decoder makes tokens when nobody says otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields

from ..errors import InputError
from ..generation_config import ENCODER_DECODER, PADDINGS, is_id


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

    mode = ENCODER_DECODER

    def __post_init__(self) -> None:
        object.__setattr__(self, "eos_token_id", tuple(self.eos_token_id))
        if not isinstance(self.decoder_input, str) or not isinstance(self.states, Mapping):
            raise InputError("generation settings: expected a name as decoder_input and an object as states")
        if self.window is not None and not (is_id(self.window) and self.window > 0):
            raise InputError(f"generation window: expected a length above 0, got {self.window!r}")
        if self.padding not in PADDINGS:
            raise InputError(f"generation padding: expected 'left' or 'right', got {self.padding!r}")
        for name, id in (("pad_id", self.pad_id), ("decoder_start_token_id", self.decoder_start_token_id),
                         *(("eos_token_id", id) for id in self.eos_token_id)):
            if id is not None and not is_id(id):
                raise InputError(f"generation {name}: expected an id of 0 or above, got {id!r}")

    def to_json(self) -> dict:
        """As a dict that `json` can write and `generation_config.defaults_from_json` reads."""
        return {"mode": self.mode, **asdict(self)}

    @classmethod
    def from_json(cls, settings: Mapping) -> EncoderDecoderDefaults:
        """What `to_json` gave; raises InputError for anything else."""
        given = {name: value for name, value in settings.items() if name != "mode"}
        known = {field.name for field in fields(cls)}
        if not {"decoder_input"} <= set(given) <= known or not isinstance(given.get("eos_token_id", []), list):
            raise InputError(f"generation settings: expected an object with {', '.join(sorted(known))}, got {settings!r}")
        return cls(**given)
