"""Files of torch, tf2onnx and Keras: each gives what its framework gave, and is one native program."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import lstmrt

pytest.importorskip("onnx", reason="onnx is not installed")
ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

SAMPLES = Path(__file__).parents[1].with_name("shared") / "samples"
if not SAMPLES.exists():
    pytest.skip("the folder of samples, ../shared/samples, is not there", allow_module_level=True)

FILES = sorted([*SAMPLES.glob("onnx_torch/*.onnx"), *SAMPLES.glob("onnx_keras/*.onnx")])
INVALID = {"lstm_proj.dynamo": "projections"}
FAILING = {"plain_RNN.dynamo_auto"}  # onnxruntime fails too: more steps are taken than its inputs need have
# Steps of the traced length out of sequences of any length: nothing in the file says that they are all
FROZEN = {"cellloop.ts_dyn", *(path.stem for path in FILES if path.stem.endswith(".k3torch") and "unroll" not in path.stem
                               and "lm_fixed" not in path.stem)}


def name(path: Path) -> str:
    return path.stem


def recorded(path: Path) -> dict[str, np.ndarray] | None:
    stem = path.stem.split(".")[0] if path.parent.name == "onnx_torch" else path.stem
    arrays = path.with_name(f"{stem}.io.npz")
    return dict(np.load(arrays)) if arrays.exists() else None


@pytest.mark.parametrize("path", [path for path in FILES if path.stem not in FROZEN | FAILING
                                  if path.stem not in INVALID], ids=name)
def test_is_one_native_program_and_gives_what_the_framework_gave(path):
    model, arrays = lstmrt.load(path), recorded(path)
    if arrays is None:
        ids = np.random.default_rng(0).integers(0, 5, (2, 6))
        inputs = {model.inputs[0].name: ids}
        wanted = ort.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, inputs)
    else:
        inputs = {value.name: arrays.get(value.name, arrays.get(f"in{i}", arrays.get("in"))).astype(value.dtype)
                  for i, value in enumerate(model.inputs)}
        wanted = [arrays[key] for key in arrays if key.startswith("out")]
    for made, expected in zip(model.run(inputs).values(), wanted, strict=True):
        np.testing.assert_allclose(made, expected, rtol=0, atol=1e-6)
    assert [segment.kind for segment in model.segments] == ["native"]


@pytest.mark.parametrize("path", [path for path in FILES if path.stem in FROZEN], ids=name)
def test_a_frozen_length_gives_what_onnxruntime_gives(path):
    model, arrays = lstmrt.load(path), recorded(path)
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    inputs = {value.name: arrays.get(value.name, arrays.get(f"in{i}", arrays.get("in"))).astype(value.dtype)
              for i, value in enumerate(model.inputs)}
    try:
        wanted = session.run(None, inputs)
    except Exception:  # onnxruntime cannot run some of these at the recorded length
        pytest.skip("onnxruntime fails")
    for made, expected in zip(model.run(inputs).values(), wanted, strict=True):
        np.testing.assert_allclose(made, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("path", [path for path in FILES if path.stem in INVALID], ids=name)
def test_an_invalid_file_is_refused_with_the_reason(path):
    with pytest.raises(lstmrt.ModelFileError, match=INVALID[path.stem]):
        lstmrt.load(path)
