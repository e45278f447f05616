"""ONNX files of quantizers, of keras2onnx and in float16 against onnxruntime; files that fail there fail here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import lstmrt

onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

SAMPLES = Path(__file__).parents[1].with_name("shared") / "samples"
FILES = sorted(SAMPLES.glob("onnx_*/*.onnx"))
pytestmark = pytest.mark.skipif(not FILES, reason="the folder of samples, ../shared/samples, is not there")

# By how much a result may differ from onnxruntime's: it rounds states to 8 bits at each step, or results to float16.
ROUNDED = {"fp16": 1e-3, "lstm2.dyn": 5e-3, "lstm2_bi.dyn": 5e-3}
TOLERANCE = 2e-6
# Exported by Keras's torch backend for one time step, whatever the input has.
ONE_STEP = ".k3torch."


def name(path: Path) -> str:
    return path.relative_to(SAMPLES).as_posix()


def recorded(path: Path) -> np.lib.npyio.NpzFile | None:
    """One call of the model in its framework."""
    stems = (path.with_suffix(""), path.with_name(path.name.split(".")[0]))
    return next((np.load(found) for stem in stems if (found := stem.with_name(stem.name + ".io.npz")).exists()), None)


def inputs(model: lstmrt.Model, call: np.lib.npyio.NpzFile | None) -> dict[str, np.ndarray]:
    if call is not None:
        given = [call[key] for key in call.files if not key.startswith("out")]
        return {value.name: array.astype(value.dtype) for value, array in zip(model.inputs, given, strict=True)}
    random = np.random.default_rng(3)
    made = {}
    for value in model.inputs:
        shape = [size if isinstance(size, int) else 3 for size in value.shape]
        made[value.name] = (random.normal(size=shape) if "float" in value.dtype else random.integers(0, 5, shape)
                            ).astype(value.dtype)
    return made


def by_onnxruntime(path: Path, model: lstmrt.Model, given: dict[str, np.ndarray]) -> list[np.ndarray] | None:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return session.run([value.name for value in model.outputs], given)
    except Exception:  # onnxruntime has a class for each status, all of them plain Exceptions
        return None


@pytest.mark.parametrize("path", [path for path in FILES if path.parent.name == "onnx_misc"], ids=name)
def test_gives_what_onnxruntime_gives(path):
    model = lstmrt.load(path)
    given = inputs(model, recorded(path))
    tolerance = next((allowed for key, allowed in ROUNDED.items() if key in path.name), TOLERANCE)
    for found, wanted in zip(model.run(given).values(), by_onnxruntime(path, model, given), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance, strict=True)
    recurrent = [segment.kind for segment in model.segments for node in segment.nodes if node.op in ("LSTM", "GRU", "RNN")]
    assert set(recurrent) == {"native"}


@pytest.mark.parametrize("path", [path for path in FILES if ONE_STEP in path.name], ids=name)
def test_what_fails_in_onnxruntime_gives_no_other_result(path):
    model, call = lstmrt.load(path), recorded(path)
    given = inputs(model, call)
    if by_onnxruntime(path, model, given) is None:
        with pytest.raises(lstmrt.LstmrtError):
            model.run(given)
