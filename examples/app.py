"""Many users' texts at once, from one model that is loaded once.

    python examples/app.py [MODEL] [--pace SECONDS | --together]

Any model with a tokenizer does; without one the sample in the package speaks.
"""

from __future__ import annotations

import argparse
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from queue import SimpleQueue

import numpy as np

import lstmrt

SAMPLE = files("lstmrt") / "data" / "sample.lstmrt"
PROMPTS = {
    "Hamlet": "To be or not",
    "Ophelia": "To die to sleep",
    "Horatio": "Thus conscience",
    "Gertrude": "Is sicklied o'er",
}


def stream_to_all(model: lstmrt.Model, prompts: dict[str, str], words: int, pace: float) -> None:
    """A thread for each user. The model is shared and never changes; each stream has a state of its own."""
    pieces: SimpleQueue[tuple[str, str | None]] = SimpleQueue()

    def speak(user: str, prompt: str) -> None:
        try:
            for piece in model.stream(prompt, max_new_tokens=words):
                pieces.put((user, piece))
                time.sleep(pace)
        finally:
            pieces.put((user, None))

    with ThreadPoolExecutor(len(prompts)) as pool:
        streams = [pool.submit(speak, user, prompt) for user, prompt in prompts.items()]
        listening = len(streams)
        while listening:
            user, piece = pieces.get()
            if piece is None:
                listening -= 1
            else:
                print(f"{user}:{piece}", flush=True)
        for stream in streams:
            stream.result()


def write_together(model: lstmrt.Model, prompts: dict[str, str], words: int) -> None:
    """No threads: all streams in one batch, which reads the model's weights once for all of them."""
    batch = model.batch(max_streams=len(prompts))
    users = {batch.add(prompt, max_new_tokens=words): user for user, prompt in prompts.items()}
    for pieces in batch:  # here streams could be added, and dropped
        for stream, piece in pieces:
            if piece is not None:
                print(f"{users[stream]}:{piece}", flush=True)


class Suggestions:
    """For an app that owns its loop: one `step` for each word that a user types, and words to go on with."""

    def __init__(self, model: lstmrt.Model):
        self.model = model
        self.state = model.new_state()

    def after(self, word: str, best: int = 3) -> list[str]:
        for token in self.model.tokenizer.encode(word):
            probabilities = self.model.step(np.array([token]), self.state)
        return [self.model.tokenizer.decode([token]) for token in np.argsort(-probabilities[0])[:best].tolist()]


def main() -> None:
    parser = argparse.ArgumentParser(description="Many users' texts at once, from one model.")
    parser.add_argument("model", nargs="?", default=SAMPLE, help="a model file with a tokenizer")
    parser.add_argument("--pace", type=float, default=0.05, metavar="SECONDS", help="a user's time to read a word")
    parser.add_argument("--together", action="store_true", help="one batch in place of a thread for each user")
    arguments = parser.parse_args()

    model = lstmrt.load(arguments.model)
    if arguments.together:
        write_together(model, PROMPTS, words=12)
    else:
        stream_to_all(model, PROMPTS, words=12, pace=arguments.pace)

    typing = Suggestions(model)
    for word in ("shuffled", "off", "this"):
        print(f"{word} -> {', '.join(typing.after(word))}")


if __name__ == "__main__":
    main()
