"""Several texts written side by side: a step reads the weights once for all of them, and each has the bits it has alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Union

import numpy as np

from .errors import InputError
from .generation import (
    GenerationOptions,
    StopStrings,
    choice,
    decode_mode,
    generate,
    is_int,
    kept_ids,
    options_of,
    request_of,
    settings,
    starts_fresh,
)

if TYPE_CHECKING:
    from .generation import Prompt
    from .model import Model

Piece = Union[str, int]
SIDE_BY_SIDE = ("stateful", "staggered")  # modes of the core in which a stream is rows of a step
MOST_STREAMS = 1 << 16  # of a batch
MOST_ROWS = 256  # that `generate` runs at once: more share no more, and their states leave the caches
STEPS = 64  # between looks at which streams have ended, where prompts are waiting


class Stream:
    """One text in a Batch.

    prompt  as it was given
    ended   whether it is complete, or was dropped
    result  what it is so far: what `generate` returns for the prompt, once it has ended
    """

    def __init__(self, batch: Batch, prompt: Prompt, ids: np.ndarray, options: GenerationOptions) -> None:
        self.prompt, self.ended = prompt, False
        self._batch, self._ids, self._echo = batch, ids, options.echo
        self._made: list[Piece] = []
        self._stops = StopStrings(options.stops)

    def __repr__(self) -> str:
        return f"<lstmrt.streams.Stream {self.prompt!r}, {'ended' if self.ended else 'running'}>"

    @property
    def result(self) -> str | np.ndarray:
        if isinstance(self.prompt, str):
            return "".join([self.prompt if self._echo else "", *self._made])
        made = np.array(self._made, np.int64)
        return np.concatenate([self._ids, made]) if self._echo else made

    def drop(self) -> None:
        """Ends it here; nothing happens where it has ended already."""
        self._batch._drop(self)

    def _take(self, id: int | None) -> Iterator[tuple[Stream, Piece | None]]:
        """The pieces that a new id makes certain; None for an id is the end, and so is None for a piece."""
        if not isinstance(self.prompt, str):
            piece = id
        elif id is None:
            piece = self._stops.rest() or None
        else:
            first = not self._made and not self._stops.held and starts_fresh(self.prompt)
            piece = self._stops.push(self._batch.model.tokenizer.piece(id, first=first))
        if piece is not None and piece != "":
            self._made.append(piece)
            yield self, piece
        if id is None or self._stops.stopped:
            self.ended = True
            yield self, None


class Batch:
    """Texts of one model, written together; streams come and go between steps. `Model.batch` makes one.

        batch = model.batch(max_streams=16)
        story = batch.add("Once upon a time", max_new_tokens=200)
        for pieces in batch:                    # until no stream is left
            for stream, piece in pieces:        # of one step; None: the stream has ended
                ...                             # batch.add(...), stream.drop() as people come and go
        story.result                            # what generate would have returned

    For one caller at a time. `len(batch)` streams are running, `batch.free` more have room.
    Raises InputError for a mode in which each token needs a run of its own: where a model looks ahead, or pads on the right.
    """

    def __init__(self, model: Model, max_streams: int, mode: str | None = None, window: int | None = None) -> None:
        if not is_int(max_streams) or not 0 < max_streams <= MOST_STREAMS:
            raise InputError(f"max_streams: expected a number from 1 to {MOST_STREAMS}, got {max_streams!r}")
        self.model, self.max_streams = model, int(max_streams)
        self._settings = settings(model, GenerationOptions(mode=mode, window=window))
        self._mode = decode_mode(model, self._settings, 1)
        if self._mode["mode"] not in SIDE_BY_SIDE:
            raise InputError(f"mode {self._settings.mode!r}: this model runs its text again for each token, "
                             "so that its streams share nothing: use generate")
        self._core = model.program.model.batch(self.max_streams, **self._mode, pad_id=self._settings.pad_id)
        self._running: dict[int, Stream] = {}

    def __len__(self) -> int:
        return len(self._running)

    @property
    def free(self) -> int:
        """How many streams can be added now."""
        return self.max_streams - len(self._running)

    def add(self, prompt: Prompt, **options: Any) -> Stream:
        """A new stream that continues `prompt`, text or ids, from the next step on; `options` are those of `generate`,
        but for mode and window, which are the batch's. One that is to make no tokens has ended already.

        Raises InputError as `generate` does, and where no stream is free.
        """
        return self._add(prompt, options_of(options))

    def _add(self, prompt: Prompt, options: GenerationOptions) -> Stream:
        if self.free == 0:
            raise InputError(f"all {self.max_streams} streams of this batch are running")
        if replace(self._settings, mode=options.mode or self._settings.mode,
                   window=options.window or self._settings.window) != self._settings:
            raise InputError("mode and window are the batch's: give them to model.batch")
        ids, ending = request_of(self.model, prompt, options)
        stream = Stream(self, prompt, ids, options)
        if options.max_new_tokens == 0:
            stream.ended = True
            return stream
        slot = self._core.add(kept_ids(ids, self._settings, options), options.max_new_tokens, mode=self._mode["mode"],
                              **choice(options, ending))
        self._running[slot] = stream
        return stream

    def __iter__(self) -> Iterator[list[tuple[Stream, Piece | None]]]:
        """Steps in which tokens were made, as long as there are streams."""
        while self._running:
            if pieces := self.advance(1):
                yield pieces

    def advance(self, steps: int) -> list[tuple[Stream, Piece | None]]:
        """The pieces of up to `steps` steps, of about 20 ms at most: none where only prompts were read."""
        if not is_int(steps) or not 0 <= steps < 2**63:
            raise InputError(f"steps: expected a number of 0 or above, got {steps!r}")
        pieces = []
        for slot, id in self._core.next(steps):
            stream = self._running[slot]
            if not stream.ended:
                pieces += stream._take(id)
            if id is None:
                del self._running[slot]
        for stream in [stream for stream in self._running.values() if stream.ended]:
            self._drop(stream)  # at a stop string, which the core does not know
        return pieces

    def _drop(self, stream: Stream) -> None:
        stream.ended = True
        for slot, running in self._running.items():
            if running is stream:
                self._core.drop(slot)
                del self._running[slot]
                return


def generate_together(model: Model, prompts: Sequence[Prompt], options: GenerationOptions) -> list:
    """What `generate` gives for each of the prompts, several side by side where the model and the mode allow it."""
    mode = decode_mode(model, settings(model, options), 1)
    if mode["mode"] not in SIDE_BY_SIDE or len(prompts) == 1:
        return [generate(model, prompt, options) for prompt in prompts]
    streams = min(len(prompts), max(1, MOST_ROWS // mode.get("window", 1)))
    batch = Batch(model, streams, options.mode, options.window)
    for prompt in prompts:
        request_of(model, prompt, options)  # all are refused for one that is wrong, before any work
    waiting, made = deque(prompts), []
    while waiting or batch:
        while waiting and batch.free:
            made.append(batch._add(waiting.popleft(), options))
        batch.advance(STEPS)
    return [stream.result for stream in made]
