"""The groups of timed comparisons. Each is a generator of tables; programs that do not agree are never timed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

import models
import runtimes
from measure import Program, Timing, in_turn
from lstmrt.generation_config import GenerationDefaults
from models import Shape
from report import Table
from runtimes import Generate

PROMPT = [1, 2, 3, 4]
SPREAD = ("median", "25 %", "75 %")
TUTORIAL = Shape("LSTM", 168, 64, 150)
WINDOW = 9
TOKENS = (
    Shape("LSTM", 40, 64, 150),
    Shape("LSTM", 64, 64, 256),
    Shape("LSTM", 64, 64, 256, 2),
    Shape("GRU", 64, 64, 256),
    Shape("LSTM", 465, 100, 128, 2),
    Shape("GRU", 100, 256, 1024),
    Shape("LSTM", 10000, 256, 512, 2),
)


def tutorial(rounds: int = 15) -> Iterator[Table]:
    """The next-word tutorial: a window of words through Embedding, LSTM and Dense again for each new word."""
    weights = models.random_weights(TUTORIAL)
    makers = {
        "lstmrt": runtimes.lstmrt_window,
        "Keras predict": runtimes.keras_predict,
        "Keras call": runtimes.keras_call,
        "tf.function": runtimes.keras_tf_function,
        "onnxruntime": runtimes.onnxruntime_window,
    }
    programs, notes = available({name: lambda make=make: make(weights, WINDOW) for name, make in makers.items()})
    check_agreement(programs, 20)
    yield against_lstmrt(f"tutorial: window of {WINDOW}, {TUTORIAL}: microseconds a word", programs, rounds, notes)


def token(rounds: int = 15) -> Iterator[Table]:
    """Greedy tokens with carried states: embedding, recurrent layers, output layer, argmax."""
    makers = {
        "lstmrt": runtimes.lstmrt_stateful,
        "onnxruntime run": runtimes.onnxruntime_run,
        "onnxruntime binding": runtimes.onnxruntime_binding,
        "torch": runtimes.torch_steps,
    }
    for shape in TOKENS:
        weights = models.random_weights(shape)
        programs, notes = available({name: lambda make=make: make(weights) for name, make in makers.items()})
        check_agreement(programs, 40)
        yield against_lstmrt(f"token: {shape}: microseconds a token", programs, rounds, notes)


def threads(rounds: int = 15) -> Iterator[Table]:
    """Two Python threads on one model against one: how much more work is done."""
    cases: dict[str, Generate] = {
        f"window of {WINDOW}, {TUTORIAL}": runtimes.lstmrt_window(models.random_weights(TUTORIAL), WINDOW)
    }
    for shape in TOKENS[2:5]:
        cases[f"stateful, {shape}"] = runtimes.lstmrt_stateful(models.random_weights(shape))
    with ThreadPoolExecutor(2) as pool:
        for title, generate in cases.items():
            programs = {
                "one thread": Program(at_once(pool, generate, 1), 1000),
                "two threads": Program(at_once(pool, generate, 2), 1000),
            }
            timings = in_turn(programs, rounds)
            rows = {name: spread(timing) for name, timing in timings.items()}
            work = 2 * timings["one thread"].median / timings["two threads"].median
            title = f"threads: {title}: microseconds a token of each"
            yield Table(title, SPREAD, rows, [f"two do {work:.2f} times the work of one"])


def at_once(pool: ThreadPoolExecutor, generate: Generate, workers: int) -> Callable[[int], object]:
    return lambda n: list(pool.map(lambda _: generate(PROMPT, n), range(workers)))


def call(rounds: int = 15) -> Iterator[Table]:
    """What lstmrt itself costs around the arithmetic: calls on a model of four units."""
    weights = models.random_weights(Shape("LSTM", 8, 4, 4))
    model = runtimes.lstmrt_model(models.keras_like(weights), GenerationDefaults("stateful"))
    state = model.new_state()
    x_t, x = np.array([1]), np.array([[1]])
    programs = {
        "model.step(x_t, state)": Program(repeat(lambda: model.step(x_t, state)), 10_000),
        "model(x)": Program(repeat(lambda: model(x)), 10_000),
        "model.new_state()": Program(repeat(model.new_state), 10_000),
        "a token inside generate": Program(lambda n: model.generate(PROMPT, max_new_tokens=n), 100_000),
    }
    rows = {name: spread(timing) for name, timing in in_turn(programs, rounds).items()}
    yield Table("call: LSTM of 4 units: microseconds", SPREAD, rows)


def repeat(function: Callable[[], object]) -> Callable[[int], None]:
    def run(n: int) -> None:
        for _ in range(n):
            function()

    return run


# ---- the parts ----


def available(makers: dict[str, Callable[[], Generate]]) -> tuple[dict[str, Generate], list[str]]:
    """What could be made, and a note for each runtime that is not installed."""
    made, notes = {}, []
    for name, make in makers.items():
        try:
            made[name] = make()
        except ImportError as missing:
            notes.append(f"{name}: not measured ({missing})")
    return made, notes


def check_agreement(programs: dict[str, Generate], tokens: int) -> None:
    """All programs must write the same text, so that all are timed at the same work."""
    texts = {name: list(generate(PROMPT, tokens)) for name, generate in programs.items()}
    wrong = {name: text for name, text in texts.items() if text != texts["lstmrt"]}
    if wrong:
        raise SystemExit(f"the programs do not agree: lstmrt wrote {texts['lstmrt']}, others {wrong}")


def against_lstmrt(title: str, programs: dict[str, Generate], rounds: int, notes: list[str]) -> Table:
    """Times of whole calls of up to 60 tokens, prompt included, and how many times lstmrt's each is."""
    timings = in_turn({name: Program(writing(generate), 60) for name, generate in programs.items()}, rounds)
    base = timings["lstmrt"].median
    rows = {name: (*spread(timing), timing.median / base) for name, timing in timings.items()}
    return Table(title, (*SPREAD, "times lstmrt's"), rows, notes)


def writing(generate: Generate) -> Callable[[int], object]:
    return lambda n: generate(PROMPT, n)


def spread(timing: Timing) -> tuple[float, float, float]:
    return timing.median, timing.low, timing.high
