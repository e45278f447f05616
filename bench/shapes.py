"""The shapes that are measured: sizes people run, and those that other runtimes' own benchmarks and reports use."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LayerShape:
    """One recurrent layer over `batch` sequences of `time` steps."""

    cell: str
    inputs: int
    hidden: int
    batch: int = 1
    time: int = 1
    bidirectional: bool = False

    def __str__(self) -> str:
        sizes = f"{self.hidden}" if self.inputs == self.hidden else f"{self.inputs}->{self.hidden}"
        batch = f" B{self.batch}" if self.batch > 1 else ""
        time = f" T{self.time}" if self.time > 1 else ""
        return f"{'bi-' if self.bidirectional else ''}{self.cell} {sizes}{batch}{time}"

    @property
    def directions(self) -> int:
        return 2 if self.bidirectional else 1


@dataclass(frozen=True)
class TokenShape:
    """A language model: embedding, `layers` recurrent layers of `hidden` units, an output layer over the vocabulary."""

    cell: str
    vocabulary: int
    embedding: int
    hidden: int
    layers: int = 1

    def __str__(self) -> str:
        return f"{self.cell} {self.vocabulary}, {self.embedding}, {self.hidden}, {self.layers}"


@dataclass(frozen=True)
class StackShape:
    """`layers` recurrent layers on top of each other, each of `hidden` units, over a sequence of `time` steps."""

    cell: str
    hidden: int
    layers: int
    time: int

    def __str__(self) -> str:
        return f"{self.cell} x{self.layers} {self.hidden} T{self.time}"


STEPS = (
    LayerShape("LSTM", 64, 150),
    LayerShape("LSTM", 128, 128),  # a voice activity detector's
    LayerShape("LSTM", 256, 256),
    LayerShape("LSTM", 512, 512),
    LayerShape("LSTM", 1024, 1024),
    LayerShape("GRU", 128, 128),
    LayerShape("GRU", 256, 256),
    LayerShape("GRU", 512, 512),
    LayerShape("GRU", 1024, 1024),
    LayerShape("LSTM", 1, 50),  # a forecaster's
)
SEQUENCES = (
    LayerShape("LSTM", 64, 150, time=128),
    LayerShape("LSTM", 256, 256, time=128),
    LayerShape("LSTM", 512, 512, time=128),
    LayerShape("LSTM", 1024, 1024, time=64),
    LayerShape("GRU", 512, 512, time=128),
    LayerShape("LSTM", 64, 192, time=100),
    LayerShape("LSTM", 192, 192, time=100),
    LayerShape("LSTM", 192, 512, time=100),
    LayerShape("LSTM", 24, 32, time=15, bidirectional=True),
    LayerShape("LSTM", 96, 32, time=63, bidirectional=True),
    LayerShape("LSTM", 512, 256, time=32, bidirectional=True),  # a text recogniser's
)
BATCHES = (
    LayerShape("LSTM", 256, 256, batch=16, time=64),
    LayerShape("LSTM", 512, 512, batch=64, time=32),
    LayerShape("LSTM", 512, 512, batch=64),
    LayerShape("GRU", 512, 512, batch=32, time=32),
    LayerShape("GRU", 512, 512, batch=8, time=30),
    LayerShape("GRU", 512, 512, batch=32, time=30),
    LayerShape("GRU", 1024, 1024, batch=8, time=30),
    LayerShape("GRU", 800, 800, batch=20, time=100),
)
STACKS = (
    StackShape("LSTM", 64, 2, 100),
    StackShape("LSTM", 128, 2, 100),
    StackShape("GRU", 128, 2, 200),
    StackShape("LSTM", 150, 2, 300),
    StackShape("LSTM", 192, 2, 100),
    StackShape("LSTM", 256, 2, 100),
    StackShape("LSTM", 128, 3, 100),
)
LENGTHS = (4000, 2200, 1200, 650, 350, 190, 60, 10)
RAGGED = LayerShape("LSTM", 64, 128, batch=len(LENGTHS), time=max(LENGTHS))
TOKENS = (
    TokenShape("LSTM", 40, 64, 150),
    TokenShape("LSTM", 64, 64, 256, 2),
    TokenShape("GRU", 64, 64, 256),
    TokenShape("LSTM", 465, 100, 128, 2),
    TokenShape("GRU", 100, 256, 1024),
    TokenShape("LSTM", 10000, 256, 512, 2),
)
STREAMS = (TokenShape("LSTM", 64, 64, 256, 2), TokenShape("LSTM", 10000, 256, 512, 2))
STREAM_COUNTS = (1, 2, 4, 8, 16)
TUTORIAL = TokenShape("LSTM", 168, 64, 150)
WINDOW = 9
