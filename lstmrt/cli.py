"""The command line: `lstmrt convert | generate | inspect | verify | bench`.

What was asked for goes to stdout, everything else to stderr. Exit status: 0; 1 for bad input, with one line that says
what; 2 for wrong usage; 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from importlib.resources import as_file, files
from typing import TYPE_CHECKING, ContextManager, TypeVar

from .errors import InputError, LstmrtError
from .generation_config import MODES, PADDINGS, is_encoder_decoder
from .precision import PRECISIONS

if TYPE_CHECKING:
    from .cost import Cost

SAMPLE = "data/sample.lstmrt"  # in the package
T = TypeVar("T")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(options)
    except LstmrtError as error:
        print(f"lstmrt: {_one_line(error)}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader of stdout has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        print(f"lstmrt: {f'{error.filename}: ' if error.filename else ''}{error.strerror or error}", file=sys.stderr)
        return 1
    except UnicodeEncodeError as error:
        print(f"lstmrt: the output's encoding, {error.encoding}, has no {ascii(error.object[error.start])}: "
              "PYTHONIOENCODING=utf-8 sets another", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _one_line(error: LstmrtError) -> str:
    """Faults that Python shows below each other, side by side."""
    first, *faults = str(error).splitlines()
    return f"{first} {'; '.join(faults)}" if faults else first


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lstmrt", description="Fast CPU inference for trained recurrent networks.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_convert(commands.add_parser("convert", help="write a model as .lstmrt, or as .onnx"))
    _add_generate(commands.add_parser("generate", help="continue a text, or decode what an encoder-decoder makes of it"))
    _add_inspect(commands.add_parser("inspect", help="show layers, shapes, parameters, and what runs natively"))
    _add_verify(commands.add_parser("verify", help="replay the vectors stored in a model"))
    _add_bench(commands.add_parser("bench", help="measure a model beside what this machine allows"))
    return parser


def _add_convert(command: argparse.ArgumentParser) -> None:
    command.add_argument("source", metavar="SRC", help="a .keras, .h5, .onnx or .lstmrt file")
    command.add_argument("destination", metavar="DST", help="the file to write: .onnx for ONNX, else .lstmrt")
    command.add_argument("--config", metavar="JSON", help="a Keras model's configuration, where SRC has weights alone")
    command.add_argument("--tokenizer", metavar="FILE", help="Keras Tokenizer JSON, or a vocabulary")
    command.add_argument("--precision", choices=PRECISIONS, help="of the weights, and print what a reduced one costs")
    command.add_argument("--text", metavar="FILE", help="with --precision: a text to measure that on")
    command.add_argument("--mode", choices=MODES, help="how generation reads its context, where not as inferred")
    command.add_argument("--force", action="store_true", help="replace DST if it exists")
    _add_encoder_decoder(command)
    command.set_defaults(run=_convert)


def _add_generate(command: argparse.ArgumentParser) -> None:
    command.add_argument("prompt", metavar="PROMPT")
    command.add_argument("-m", "--model", metavar="MODEL", help="without one, the sample model")
    command.add_argument("--tokenizer", metavar="FILE", help="Keras Tokenizer JSON, or a vocabulary")
    command.add_argument("-n", "--max-new-tokens", type=int, default=50, metavar="N", help="default: %(default)s")
    command.add_argument("--mode", choices=MODES)
    command.add_argument("--temperature", type=float, metavar="T")
    command.add_argument("--top-k", type=int, metavar="K")
    command.add_argument("--top-p", type=float, metavar="P")
    command.add_argument("--repetition-penalty", type=float, default=1.0, metavar="P")
    command.add_argument("--seed", type=int, metavar="S")
    command.add_argument("--stop", action="append", metavar="TEXT", help="ends the text; may be given several times")
    _add_encoder_decoder(command)
    command.set_defaults(run=_generate)


def _add_inspect(command: argparse.ArgumentParser) -> None:
    command.add_argument("model", metavar="MODEL")
    command.add_argument("--config", metavar="JSON", help="a Keras model's configuration, where MODEL has weights alone")
    command.set_defaults(run=_inspect)


def _add_verify(command: argparse.ArgumentParser) -> None:
    command.add_argument("model", metavar="MODEL")
    command.add_argument("--source", metavar="FILE", help="the file it was converted from, to run in its own framework")
    command.set_defaults(run=_verify)


def _add_bench(command: argparse.ArgumentParser) -> None:
    command.add_argument("model", nargs="?", metavar="MODEL", help="without one, the sample model")
    command.add_argument("--time", type=int, default=64, metavar="T", help="steps of a run (default: %(default)s)")
    command.add_argument("--seconds", type=float, default=1.0, metavar="S", help="for each figure (default: %(default)s)")
    command.set_defaults(run=_bench)


def _add_encoder_decoder(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("encoder-decoders")
    group.add_argument("--decoder", metavar="FILE", help="the decoder's file, where the model is an encoder alone")
    group.add_argument("--decoder-input", metavar="NAME", help="the input for the decoder's tokens, where it is not found")
    group.add_argument("--decoder-tokenizer", metavar="FILE", help="the output's tokenizer, where it is another one")
    group.add_argument("--start", metavar="TOKEN", help="name or id of the token that the decoder begins with")
    group.add_argument("--end", metavar="TOKEN", help="name or id of the token that ends the output")
    group.add_argument("--padding", choices=PADDINGS, help="where sources are padded that have to be of one length")


def _encoder_decoder(options: argparse.Namespace) -> dict:
    """The keywords of `load` and `convert` that these options give."""
    tokens = {"decoder_start_token_id": options.start, "eos_token_id": options.end}
    settings = {name: int(token) if token.isdecimal() else token for name, token in tokens.items() if token is not None}
    if options.padding:
        settings["padding"] = options.padding
    return {"decoder": options.decoder, "decoder_input": options.decoder_input,
            "decoder_tokenizer": options.decoder_tokenizer, "generation": settings or None}


def _convert(options: argparse.Namespace) -> int:
    from .loading import convert
    from .paths import check_destination

    is_reduced = options.precision not in (None, "f32")
    if options.text is not None and not is_reduced:
        raise InputError("--text: it is for --precision bf16 or int8, to measure what that costs")
    check_destination(options.destination, options.force)
    cost = _cost(options) if is_reduced else None  # before anything is written: the text may not do
    convert(options.source, options.destination, config=options.config, tokenizer=options.tokenizer, mode=options.mode,
            precision=options.precision, force=options.force, **_encoder_decoder(options))
    print(f"{options.destination}: {os.path.getsize(options.destination):,} bytes", file=sys.stderr)
    if cost is not None:
        _print_cost(cost)
    return 0


def _cost(options: argparse.Namespace) -> Cost | None:
    """None, and a note, where no text is given and the model does not run on random numbers."""
    from .cost import measure
    from .loading import read

    text = None if options.text is None else _text_of(options.text)
    file = read(options.source, options.tokenizer, options.config)
    try:
        return measure(file, options.precision, text)
    except LstmrtError as error:
        if text is not None:
            raise
        print(f"lstmrt: what {options.precision} costs is not measured: {_one_line(error)}", file=sys.stderr)
        return None


def _text_of(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: {error}") from None


def _print_cost(cost: Cost) -> None:
    print(f"largest error {cost.largest:.2g}, mean {cost.mean:.2g}, of outputs with deviation {cost.spread:.2g}, "
          f"in {cost.rows} rows")
    if cost.kept is not None:
        print(f"the largest output is the same in {cost.kept:.2%} of them")
    if cost.perplexity is not None:
        print(f"perplexity {cost.perplexity[1]:.4g}, in f32 {cost.perplexity[0]:.4g}")


def _generate(options: argparse.Namespace) -> int:
    from .loading import load

    with _file_or_sample(options.model) as path:
        model = load(path, tokenizer=options.tokenizer, **_encoder_decoder(options))
    pieces = model.stream(
        options.prompt, max_new_tokens=options.max_new_tokens, mode=options.mode, temperature=options.temperature,
        top_k=options.top_k, top_p=options.top_p, repetition_penalty=options.repetition_penalty, seed=options.seed,
        stop_strings=options.stop)
    unprinted = "" if is_encoder_decoder(model.generation) else options.prompt
    made, start = 0, time.perf_counter()
    for piece in pieces:
        print(unprinted, end="")
        unprinted = ""
        print(piece, end="", flush=True)
        made += 1
    seconds = time.perf_counter() - start
    print(unprinted)
    print(f"{made} tokens, {made / seconds:,.0f} tokens/s", file=sys.stderr)
    return 0


def _file_or_sample(path: str | None) -> ContextManager[str | os.PathLike]:
    return as_file(files("lstmrt") / SAMPLE) if path is None else nullcontext(path)


def _inspect(options: argparse.Namespace) -> int:
    from .loading import load
    from .report import layer_rows, summary

    model = load(options.model, config=options.config)
    for what, text in summary(model):
        print(f"{what}: {text}")
    rows = [(row.layer, row.operators, row.output, f"{row.parameters:,}", f"{row.nbytes:,}", row.runs)
            for row in layer_rows(model)]
    _print_table(("layer", "operators", "output", "parameters", "bytes", "runs"), rows)
    return 0


def _print_table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """With rich where it is installed and somebody looks on, else in plain columns."""
    if sys.stdout.isatty():
        try:
            from rich.console import Console
            from rich.table import Table
        except ImportError:
            pass
        else:
            table = Table(*header)
            for row in rows:
                table.add_row(*row)
            Console().print(table)
            return
    widths = [max(map(len, column)) for column in zip(header, *rows)]
    for row in (header, *rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


def _verify(options: argparse.Namespace) -> int:
    from .verify import verify

    comparisons = verify(options.model, options.source)
    for found in comparisons:
        word = "ok" if found.good else "WRONG"
        print(f"{word}: {found.output} against {found.against}: "
              f"largest error {found.error:.1e} (allowed {found.allowed:.1e})")
    return 0 if all(found.good for found in comparisons) else 1


def _bench(options: argparse.Namespace) -> int:
    from . import benchmark, machine
    from .loading import load

    if options.time < 1 or not 0 < options.seconds < 3600:
        raise InputError("bench: --time and --seconds want numbers above 0")
    limits = [machine.measure(threads) for threads in sorted({1, machine.cores()})]
    with _file_or_sample(options.model) as path:
        stored = load(path).precision
        models = [(load(path, precision=precision, threads=one.threads), one)
                  for precision in (PRECISIONS if stored == "f32" else (stored,)) for one in limits]
    print(machine.cpu_name())
    for one in limits:
        rates = ", ".join(f"{level} {rate / 1e9:.0f} GB/s" for level, rate in one.rates.items())
        peaks = ", ".join(f"{precision} {peak / 1e9:.0f} GOP/s" for precision, peak in one.peaks.items())
        print(f"{one.threads} thread{'s' * (one.threads > 1)}: reads {rates}; computes {peaks}")
    work = [(task, model.precision, one) for model, one in models for task in benchmark.tasks(model, options.time)]
    found = [benchmark.measured(*given, options.seconds) for given in _progress(work, "measuring")]
    header = ("a", "weights", "threads", "a second", "us", "MB read", "GB/s", "limit us", "of limit")
    _print_table(header, [_bench_row(result) for result in found])
    return 0


def _bench_row(result) -> tuple[str, ...]:
    row = (result.unit, result.precision, str(result.threads), f"{1 / result.seconds:,.0f}", f"{1e6 * result.seconds:,.2f}")
    if result.floor is None:  # a part of it runs elsewhere
        return (*row, "", "", "", "")
    return (*row, f"{result.moved / 1e6:.2f}", f"{result.moved / result.seconds / 1e9:.1f}", f"{1e6 * result.floor:,.2f}",
            f"{100 * result.floor / result.seconds:.0f} %")


def _progress(items: Sequence[T], what: str) -> Iterable[T]:
    """`items`, with a bar on stderr where rich is installed and somebody looks on."""
    if not sys.stderr.isatty():
        return items
    try:
        from rich.console import Console
        from rich.progress import track
    except ImportError:
        return items
    return track(items, what, console=Console(stderr=True), transient=True)
