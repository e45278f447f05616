"""Writes docs/ONNX.md from what the tests measure: `make onnx-page`."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import onnxruntime
from onnx_options import Option, options
from onnx_suite import KINDS, Result, results, summary
from oracles import run_onnxruntime

from lstmrt import passes, reference
from lstmrt.execution.compile import compile_graph
from lstmrt.graph import EXTENSION
from lstmrt.operators import OPERATORS

PAGE = Path(__file__).parents[1] / "docs" / "ONNX.md"
RECURRENT = ("LSTM", "GRU", "RNN")

INTRODUCTION = """# ONNX

*Written by `make onnx-page` from what the tests measure; change `tests/onnx_page.py` instead.*

Any ONNX file that onnxruntime runs, lstmrt runs, opsets 1 to the newest, with the same results and its recurrent nodes native.
Nodes are read as those of opset 20; one that cannot be said so keeps its own opset and is onnxruntime's. Functions are inlined.

What runs a node:

- **native**: recurrent nodes of constant weights, and what fits around them into one C program: embeddings, dense layers,
  arithmetic, activations, softmax, transposes, squeezes. Language models, taggers and forecasters are all native. Convolutions,
  transposed ones too, pools, normalizations, reductions, choices by masks, products of two values and moves of all kinds where all
  sizes but the batch's are known, in a file or by its calls, if a session is not estimated to be faster; where the batch is known
  too, with the recurrent nodes in the same program.
- **NumPy**: any other operator of the tables below, where that is estimated to be faster than a session, as for little work.
- **onnxruntime**: all operators that are in no table, and what is estimated to be faster there. What a program does faster than a
  session stays native, whatever stands around it; the rest of a model goes into few large sessions, and with it cells of one step that
  stand between such nodes, where entering and leaving a program takes longer than they do.
  Sessions use the thread that calls, and more of their own where `threads=` or `LSTMRT_NUM_THREADS` says so.
  Without onnxruntime the operators of the tables run with NumPy, and others are refused in one message that counts them.

float16 models are computed in float32, as onnxruntime does on CPUs, and their inputs and outputs stay float16; recurrent nodes of
double are computed in double, with NumPy. Inputs, outputs and constants may be of any integer or float type from 8 to 64 bits,
bool or strings. What has bfloat16 weights, inputs or outputs is computed in float32, and its inputs and outputs are float32. A sequence
is a list of arrays, an optional value may be None, and onnxruntime computes with them; smaller floats live inside its part alone.

`com.microsoft.DynamicQuantizeLSTM`, which onnxruntime's quantizer writes, is native where its weights are constant: an LSTM with int8
weights, whose inputs and states become bytes at every call as they do in onnxruntime. At batch 1 results are onnxruntime's, but where a number
lies in the middle between two bytes. Each sequence of a batch is quantized by itself; onnxruntime's share a scale. See NUMERICS.md.

An LSTM's length 0 leaves zeros in Y_h and Y_c, also where there are initial states; `input_forget` and `layout` 1 are the
specification's; Y is 0 past a row's length.

lstmrt is a backend for the onnx package: `lstmrt.onnx_backend`, with `prepare`, `run_model`, `run_node` and `supports_device`.
"""


def shown(error: float) -> str:
    return "exact" if error == 0 else f"{error:.0e}"


def difference(found: dict, wanted: dict) -> float:
    """The largest one, as a share of the largest value where that is above 1."""
    scale = max([1.0, *(float(np.abs(array).max(initial=0)) for array in wanted.values())])
    return max(float(np.abs(found[name].astype(np.float64) - array).max(initial=0)) for name, array in wanted.items()) / scale


def measured(option: Option) -> str:
    wanted = reference.run(option.graph, option.inputs)
    executable = compile_graph(passes.load(passes.canonical(option.graph)))
    kinds = {segment.kind for segment in executable.segments for node in segment.nodes if node.op == option.op}
    words = [f"{'/'.join(sorted(kinds))} {shown(difference(executable.run(option.inputs), wanted))}"]
    if option.onnxruntime:
        words.append(f"({shown(difference(run_onnxruntime(option.graph, option.inputs), wanted))})")
    return " ".join(words)


def recurrent_table() -> list[str]:
    cells: dict[str, dict[str, str]] = defaultdict(dict)
    with np.errstate(all="ignore"):
        for option in options():
            cells[option.name][option.op] = measured(option)
    lines = ["| option | " + " | ".join(RECURRENT) + " |", "|---|" + "---|" * len(RECURRENT)]
    return lines + [f"| {name} | " + " | ".join(found.get(op, "") for op in RECURRENT) + " |" for name, found in cells.items()]


def of_operators(found: list[Result]) -> dict[str, list[Result]]:
    """The tests of one node each, by operator; without those that spell an operator out in others."""
    by_operator: dict[str, list[Result]] = defaultdict(list)
    for result in found:
        nodes = result.case.model.graph.node
        if len(nodes) == 1 and "_expanded" not in result.case.name:
            by_operator[f"{nodes[0].domain}:{nodes[0].op_type}".removeprefix(":")].append(result)
    return by_operator


def operator_table(by_operator: dict[str, list[Result]]) -> list[str]:
    lines = ["| operator | node tests | native | NumPy | onnxruntime | largest error |", "|---|---|---|---|---|---|"]
    for op in sorted(op for domain, op in OPERATORS if domain != EXTENSION and op not in RECURRENT):
        found = by_operator.get(op, [])
        counts = Counter(result.outcome for result in found)
        passed = sum(counts[kind] for kind in KINDS)
        error = shown(max((result.error for result in found), default=0)) if passed else ""
        tests = f"{passed} of {len(found)}" if found else "none"
        lines.append(f"| {op} | {tests} | " + " | ".join(str(counts[kind] or "") for kind in KINDS) + f" | {error} |")
    return lines


def others(by_operator: dict[str, list[Result]]) -> str:
    known = {op for domain, op in OPERATORS if domain != EXTENSION}
    passing = [f"{op} ({passed} of {len(found)})" for op, found in sorted(by_operator.items())
               if op not in known and (passed := sum(result.outcome in KINDS for result in found))]
    return ", ".join(passing) + "."


def main() -> None:
    found = list(results())
    by_operator = of_operators(found)
    counts = Counter(result.outcome for result in found)
    PAGE.write_text("\n".join([
        INTRODUCTION, "## Recurrent operators", "",
        "What runs each option and its largest error against float64, as a share of the largest value where that is above 1; in",
        f"brackets that of onnxruntime {onnxruntime.__version__}, where it runs the option and runs it right.", "",
        *recurrent_table(), "",
        "## The other operators of the table", "",
        f"{summary(counts)}. `make onnx-suite` prints this line, and with `ARGS=-v` each test that does not pass with its reason.",
        "Below are the tests of one node, whose inputs all come from outside: constants beside recurrent nodes run natively more often.", "",
        *operator_table(by_operator), "",
        "## In onnxruntime", "", others(by_operator), ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
