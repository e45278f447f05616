"""Every option of the recurrent operators, against the float64 reference and onnxruntime: see onnx_options.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx_options import Option, options
from oracles import run_onnxruntime

from lstmrt import passes, reference
from lstmrt.execution.compile import compile_graph
from lstmrt.operators import OPERATORS

OPTIONS = list(options())
# Of what onnxruntime and lstmrt compute in float32; float16 is rounded once more at the edges.
TOLERANCES = {"float64": 1e-13, "float32": 2e-6, "float16": 1e-3}


def tolerance(option: Option) -> float:
    return TOLERANCES[option.inputs["x"].dtype.name]


def largest_error(found: dict, wanted: dict) -> float:
    assert list(found) == list(wanted)
    for name, array in wanted.items():
        assert found[name].shape == array.shape
    return max(float(np.abs(found[name].astype(np.float64) - array).max(initial=0)) for name, array in wanted.items())


@pytest.mark.parametrize("option", OPTIONS, ids=repr)
def test_option(option):
    wanted = reference.run(option.graph, option.inputs)
    executable = compile_graph(passes.load(passes.canonical(option.graph)))
    assert {segment.kind for segment in executable.segments if any(node.op == option.op for node in segment.nodes)} == {
        option.runs}
    found = executable.run(option.inputs)
    assert all(array.dtype == value.dtype for array, value in zip(found.values(), option.graph.outputs))
    scale = max(1.0, *(float(np.abs(array).max(initial=0)) for array in wanted.values()))
    assert largest_error(found, wanted) <= tolerance(option) * scale
    if option.onnxruntime:
        # its float32 errors grow where gates are not bounded
        assert largest_error(run_onnxruntime(option.graph, option.inputs), wanted) <= 10 * tolerance(option) * scale


def test_the_page_lists_every_operator_and_option():
    """Written by `make onnx-page`."""
    page = (Path(__file__).parents[1] / "docs" / "ONNX.md").read_text(encoding="utf-8")
    rows = {line.split(" | ")[0].removeprefix("| ") for line in page.splitlines() if line.startswith("| ")}
    assert {option.name for option in OPTIONS} <= rows
    assert {op for domain, op in OPERATORS if not domain} - {"LSTM", "GRU", "RNN"} <= rows


def test_every_option_makes_a_difference():
    """An option that changed nothing would be one that nobody reads."""
    plain = {}
    for option in OPTIONS:
        made = reference.run(option.graph, option.inputs)
        key = (option.op, tuple(array.round(6).tobytes() for array in made.values()))
        assert key not in plain or "length 0" in option.name or "all lengths" in option.name, (option.name, plain[key])
        plain[key] = option.name
