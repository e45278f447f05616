"""A detector that listens chunk by chunk: `python examples/vad.py MODEL.onnx SPEECH.wav`.

The model takes a chunk of sound, its states and perhaps the sound's rate, and gives a probability and the states again, as
voice detectors do.
lstmrt finds which is which and carries them; nothing here knows their names.
"""

from __future__ import annotations

import argparse
import wave
from collections.abc import Iterator

import numpy as np

import lstmrt


def chunks(sound: wave.Wave_read, size: int) -> Iterator[np.ndarray]:
    """Chunks (1, size) of mono sound of 16 bits, from -1 to 1; a last one that is not full is left out."""
    if (sound.getnchannels(), sound.getsampwidth()) != (1, 2):
        raise SystemExit(f"{sound.getnchannels()} channels of {8 * sound.getsampwidth()} bits, expected 1 of 16")
    while len(data := sound.readframes(size)) == 2 * size:
        yield np.frombuffer(data, "<i2").astype(np.float32)[None] / 2**15


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("sound")
    parser.add_argument("--size", type=int, default=576, help="samples of a chunk (default: 576)")
    arguments = parser.parse_args()

    model = lstmrt.load(arguments.model)
    state = model.new_state()
    takes_rate = len(model.inputs) - len(model.states) == 2
    with wave.open(arguments.sound) as sound:
        for i, chunk in enumerate(chunks(sound, arguments.size)):
            speech = model.step((chunk, sound.getframerate()) if takes_rate else chunk, state)
            print(f"{i}\t{float(np.ravel(speech)[0]):.3f}")


if __name__ == "__main__":
    main()
