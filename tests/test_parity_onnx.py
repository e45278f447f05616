"""Random graphs: lstmrt on every instruction set of the machine, onnxruntime and the reference agree."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from onnx_models import mixed_models
from oracles import OLD_ONNXRUNTIME, assert_close, exact_with_tolerances, run_onnxruntime
from strategies import recurrent_graphs

from lstmrt import _core, onnx_backend, passes
from lstmrt.execution.compile import compile_graph
from lstmrt.operators import is_recurrent

ISAS = [name for name, supported in _core.isas() if supported]
random_graphs = settings(max_examples=100, deadline=None, derandomize=True,
                         suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])


def check_against_reference(case, isa: str) -> tuple[dict, dict]:
    """The outputs in float64 and their tolerances, once lstmrt's, with every recurrent node in C, are within them."""
    wanted, tolerances = exact_with_tolerances(case.graph, case.inputs)
    graph = passes.load(passes.canonical(case.graph))
    executable = compile_graph(graph, isa=isa)
    native = [segment for segment in executable.segments if segment.kind == "native"]
    assert {segment.model.isa for segment in native} == {isa}
    assert {id(node) for node in graph.nodes if is_recurrent(node)} <= {
        id(node) for segment in native for node in segment.nodes}
    assert_close(executable.run(case.inputs), wanted, tolerances)
    return wanted, tolerances


@pytest.mark.skipif(OLD_ONNXRUNTIME, reason="onnxruntime before 1.30 does not survive every recurrence")
@pytest.mark.parametrize("isa", ISAS)
@random_graphs
@given(case=recurrent_graphs())
def test_lstmrt_onnxruntime_and_the_reference_agree(isa, case):
    wanted, tolerances = check_against_reference(case, isa)
    assert_close(run_onnxruntime(case.graph, case.inputs), wanted, tolerances)


@pytest.mark.parametrize("isa", ISAS)
@random_graphs
@given(case=recurrent_graphs(extensions=True))
def test_masks_and_further_functions_agree_with_the_reference(isa, case):
    check_against_reference(case, isa)


@random_graphs
@given(mixed=mixed_models())
def test_models_of_any_opset_that_mix_operators(mixed):
    model, x = mixed
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (wanted,) = session.run(None, {"x": x})
    prepared = onnx_backend.prepare(model)
    (found,) = prepared.run([x])
    assert "native" in prepared.kinds
    scale = max(1.0, float(np.abs(wanted).max(initial=0)))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4 * scale)
