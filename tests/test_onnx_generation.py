"""Greedy text from ONNX language models, token by token what a plain loop around onnxruntime makes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import lstmrt

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
from onnx import TensorProto, helper  # noqa: E402  (after the skip)
from onnx_models import GATES, Writer  # noqa: E402

WORDS, WIDTH, HIDDEN, COUNT = 23, 6, (9, 13), 25
PROMPTS = ([4], [7, 1, 22], [3, 3, 5, 19, 2, 11])


def value(name: str, shape, kind: int = TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def language_model(path: Path, op: str, *, head: str = "", states: bool = False, every_step: bool = True,
                   time: str | int = "time", seed: int = 0) -> ort.InferenceSession:
    """ids (batch, time) [and h, c of each layer] -> logits or probabilities of every step, or of the last one: an
    embedding, two layers, a dense layer and `head`."""
    w = Writer(17, np.random.default_rng(seed))
    x = w.add("Transpose", w.add("Gather", w.constant(w.random.normal(size=(WORDS, WIDTH))), "ids"), perm=[1, 0, 2])
    carried, inputs, outputs = ("h", "c")[:2 if op == "LSTM" else 1], [], []
    for layer, (width, hidden) in enumerate(zip((WIDTH, HIDDEN[0]), HIDDEN)):
        gates = GATES[op]
        weights = [w.constant(w.random.normal(size=shape)) for shape in (
            (1, gates * hidden, width), (1, gates * hidden, hidden), (1, 2 * gates * hidden))]
        names = [f"{kind}{layer}" for kind in carried] if states else []
        made = w.add(op, x, *weights, *([""] + names if states else []), outputs=1 + len(carried), hidden_size=hidden)
        x = w.add("Squeeze", made[0], w.ints(1))
        for name, end in zip(names, made[1:]):
            inputs.append(value(name, (1, "batch", hidden)))
            w.nodes.append(helper.make_node("Identity", [end], [f"{name}_out"]))
            outputs.append(value(f"{name}_out", (1, "batch", hidden)))
    x = w.add("Transpose", x, perm=[1, 0, 2]) if every_step else w.add("Gather", x, w.constant(-1, "int64"), axis=0)
    x = w.add("Add", w.add("MatMul", x, w.constant(w.random.normal(size=(HIDDEN[1], WORDS)))), w.weights(WORDS))
    y = w.add(head, x, axis=-1) if head else x
    ids = value("ids", ("batch", time), TensorProto.INT64)
    graph = helper.make_graph(w.nodes, "language model", [ids, *inputs], [value(y, None), *outputs], w.constants)
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), path)
    return ort.InferenceSession(path, providers=["CPUExecutionProvider"])


def last_row(output: np.ndarray) -> np.ndarray:
    return output[0, -1] if output.ndim == 3 else output[0]


def growing(session, prompt: list[int]) -> list[int]:
    ids = list(prompt)
    for _ in range(COUNT):
        ids.append(int(last_row(session.run(None, {"ids": [ids]})[0]).argmax()))
    return ids[len(prompt):]


def carrying(session, prompt: list[int]) -> list[int]:
    states = {given.name: np.zeros((1, 1, given.shape[2]), np.float32) for given in session.get_inputs()[1:]}
    made, new = [], prompt
    for _ in range(COUNT):
        y, *ends = session.run(None, {"ids": [new], **states})
        states = dict(zip(states, ends))
        new = [int(last_row(y).argmax())]
        made += new
    return made


def windows(session, prompt: list[int], window: int) -> list[int]:
    ids = list(prompt)
    for _ in range(COUNT):
        seen = ([0] * window + ids)[-window:]
        ids.append(int(last_row(session.run(None, {"ids": [seen]})[0]).argmax()))
    return ids[len(prompt):]


@pytest.mark.parametrize("op", sorted(GATES))
@pytest.mark.parametrize("head", ["", "Softmax", "LogSoftmax"])
@pytest.mark.parametrize("every_step", [True, False])
def test_all_words_so_far(tmp_path, op, head, every_step):
    session = language_model(tmp_path / "lm.onnx", op, head=head, every_step=every_step, seed=3)
    model = lstmrt.load(tmp_path / "lm.onnx")
    for prompt in PROMPTS:
        wanted = growing(session, prompt)
        assert model.generate(prompt, max_new_tokens=COUNT).tolist() == wanted
        assert model.generate(prompt, max_new_tokens=COUNT, mode="stateful").tolist() == wanted
        assert list(model.stream(prompt, max_new_tokens=COUNT)) == wanted


@pytest.mark.parametrize("op", sorted(GATES))
@pytest.mark.parametrize("head", ["", "Softmax"])
def test_states_that_the_caller_would_carry(tmp_path, op, head):
    session = language_model(tmp_path / "lm.onnx", op, head=head, states=True, seed=4)
    model = lstmrt.load(tmp_path / "lm.onnx")
    assert len(model.states) == (4 if op == "LSTM" else 2)
    for prompt in PROMPTS:
        assert model.generate(prompt, max_new_tokens=COUNT).tolist() == carrying(session, prompt)


def test_states_with_one_step_at_a_time(tmp_path):
    session = language_model(tmp_path / "lm.onnx", "LSTM", states=True, time=1, seed=5)
    model = lstmrt.load(tmp_path / "lm.onnx")
    for prompt in PROMPTS:
        ids, states = [], {given.name: np.zeros((1, 1, given.shape[2]), np.float32) for given in session.get_inputs()[1:]}
        for place in range(len(prompt) + COUNT - 1):
            id = prompt[place] if place < len(prompt) else ids[-1]
            y, *ends = session.run(None, {"ids": [[id]], **states})
            states = dict(zip(states, ends))
            ids += [int(last_row(y).argmax())] if place >= len(prompt) - 1 else []
        assert model.generate(prompt, max_new_tokens=COUNT, mode="stateful").tolist() == ids


@pytest.mark.parametrize("op", sorted(GATES))
def test_windows_of_a_fixed_length(tmp_path, op):
    session = language_model(tmp_path / "lm.onnx", op, head="Softmax", every_step=False, time=4, seed=6)
    model = lstmrt.load(tmp_path / "lm.onnx")
    for prompt in PROMPTS:
        assert model.generate(prompt, max_new_tokens=COUNT).tolist() == windows(session, prompt, 4)


def test_a_converted_file_writes_the_same_text(tmp_path):
    session = language_model(tmp_path / "lm.onnx", "GRU", head="Softmax", seed=7)
    lstmrt.convert(tmp_path / "lm.onnx", tmp_path / "lm.lstmrt")
    model = lstmrt.load(tmp_path / "lm.lstmrt")
    assert model.generate(PROMPTS[1], max_new_tokens=COUNT).tolist() == growing(session, PROMPTS[1])
