"""The detector example, run as a user would run it."""

from __future__ import annotations

import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest

import lstmrt

pytest.importorskip("onnx", reason="onnx is not installed")
ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
import onnx  # noqa: E402  (after the skip)
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

EXAMPLE = Path(__file__).parent.parent / "examples" / "vad.py"
SIZE, FRAME, HIDDEN = 48, 12, 5


def detector(path: Path, takes_rate: bool = False) -> None:
    """chunk (batch, SIZE), h, c, perhaps a rate -> a probability, hn, cn: a convolution, an LSTM and a sigmoid."""
    rng = np.random.default_rng(8)

    def floats(*shape: int) -> np.ndarray:
        return (rng.normal(size=shape) / 2).astype(np.float32)

    arrays = {"filters": floats(3, 1, FRAME), "W": floats(1, 4 * HIDDEN, 3), "R": floats(1, 4 * HIDDEN, HIDDEN),
              "B": floats(1, 8 * HIDDEN), "kernel": floats(HIDDEN, 1), "one": np.array([1]), "zero": np.array([0]),
              "usual": np.float32(16000)}
    nodes = [
        helper.make_node("Unsqueeze", ["chunk", "one"], ["channel"]),
        helper.make_node("Conv", ["channel", "filters"], ["frames"], strides=[FRAME]),
        helper.make_node("Transpose", ["frames"], ["x"], perm=[2, 0, 1]),
        helper.make_node("LSTM", ["x", "W", "R", "B", "", "h", "c"], ["", "hn", "cn"], hidden_size=HIDDEN),
        helper.make_node("Squeeze", ["hn", "zero"], ["last"]), helper.make_node("MatMul", ["last", "kernel"], ["logit"]),
        helper.make_node("Sigmoid", ["scaled" if takes_rate else "logit"], ["speech"])]
    inputs = [helper.make_tensor_value_info("chunk", TensorProto.FLOAT, ("batch", SIZE))]
    if takes_rate:
        nodes[-1:-1] = [helper.make_node("Cast", ["rate"], ["hertz"], to=TensorProto.FLOAT),
                        helper.make_node("Div", ["hertz", "usual"], ["scale"]),
                        helper.make_node("Mul", ["logit", "scale"], ["scaled"])]
        inputs.append(helper.make_tensor_value_info("rate", TensorProto.INT64, ()))
    states = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, "batch", HIDDEN)) for name in ("h", "c", "hn", "cn")}
    graph = helper.make_graph(
        nodes, "detector", [*inputs, states["h"], states["c"]],
        [helper.make_tensor_value_info("speech", TensorProto.FLOAT, ("batch", 1)), states["hn"], states["cn"]],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()])
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), path)


@pytest.mark.parametrize("takes_rate", [False, True])
def test_prints_what_a_loop_around_onnxruntime_gives(tmp_path, takes_rate):
    detector(tmp_path / "detector.onnx", takes_rate)
    sound = np.random.default_rng(2).integers(-2**15, 2**15, 7 * SIZE + 5).astype("<i2")
    with wave.open(str(tmp_path / "sound.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(sound.tobytes())
    command = [sys.executable, EXAMPLE, "detector.onnx", "sound.wav", "--size", str(SIZE)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")

    session = ort.InferenceSession(tmp_path / "detector.onnx", providers=["CPUExecutionProvider"])
    h = c = np.zeros((1, 1, HIDDEN), np.float32)
    wanted = []
    for chunk in np.float32(sound[:7 * SIZE] / 2**15).reshape(7, 1, SIZE):
        speech, h, c = session.run(None, {"chunk": chunk, "h": h, "c": c} | ({"rate": np.array(8000)} if takes_rate else {}))
        wanted.append(f"{speech[0, 0]:.3f}")
    assert [line.split("\t")[1] for line in done.stdout.splitlines()] == wanted


def test_its_states_are_found_around_a_convolution(tmp_path):
    detector(tmp_path / "detector.onnx")
    model = lstmrt.load(tmp_path / "detector.onnx")
    assert model.states == {"h": "hn", "c": "cn"}
    assert [segment.kind for segment in model.segments] == ["native", "NumPy", "native"]
