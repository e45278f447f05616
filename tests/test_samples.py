"""Files that other versions of Keras wrote, and what those versions computed: the folder ../shared/samples."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

import lstmrt

SAMPLES = Path(__file__).parents[1].with_name("shared") / "samples"
FILES = sorted(path for kind in ("*.keras", "*.h5") for path in SAMPLES.glob(f"*/{kind}"))
pytestmark = pytest.mark.skipif(not FILES, reason="the folder of samples, ../shared/samples, is not there")

# Recorded when the layer's state was no longer zero.
NOT_GOLD = ("stateful",)
# Half-precision arithmetic is what these were recorded with; lstmrt computes in float32.
TOLERANCES = {"mixed_fp16": 1e-3}

# What a file is refused for: the stem's beginning -> words that the message holds.
REFUSED = {
    "custom": ["mypkg>Scale 'scale'", "Lambda 'lambda'"],
    "func": ["MultiHeadAttention 'm"],
    "func_multi": ["Attention 'att'", "MultiHeadAttention 'mha'"],
    "func_ops": ["'multiply'", "'tanh'", "'get_item'"],
    "func_tfops": ["TFOpLambda 'tf.math.multiply'", "SlicingOpLambda 'tf.__operators__.getitem'"],
    "lora": ["Embedding 'embedding_7' with lora_rank=2"],
    "misc": ["Conv1D 'conv1d", "Pooling1D '"],
    "nested_frozen": ["BatchNormalization '"],
    "quant": ["Embedding '", "Dense '", "quantiz"],
    "stringlookup": ["StringLookup '"],
    "subclassed": ["the class 'Sub'"],
    "textvec": ["TextVectorization 'text_vectorization'"],
    "vocab_newline": ["StringLookup 'string_lookup'"],
}
READ_AFTER_ALL = {"func_shared_nested"}
DAMAGED = {"keras_3.0.5/bi.h5", "keras_3.0.5/cells.h5", "keras2_15/textvec.h5"}  # Keras gave up while it wrote them


def name(path: Path) -> str:
    return path.relative_to(SAMPLES).as_posix()


def weights_alone(path: Path) -> bool:
    return path.name.endswith((".weights.h5", "_wonly.h5"))


def reasons(path: Path) -> list[str]:
    """What the message of a refusal must hold; [] for a file that is to be read."""
    if weights_alone(path):
        return ["weights alone"]
    if path.stem in READ_AFTER_ALL:
        return []
    return REFUSED[max(keys, key=len)] if (keys := [key for key in REFUSED if path.name.startswith(key)]) else []


WHOLE = [path for path in FILES if name(path) not in DAMAGED]
READ = [path for path in WHOLE if not reasons(path)]
RECORDED = [path for path in READ if path.with_suffix(".io.npz").exists() and path.stem not in NOT_GOLD]


@pytest.mark.parametrize("path", READ, ids=name)
def test_is_read(path):
    assert lstmrt.load(path).graph.nodes


@pytest.mark.parametrize("path", RECORDED, ids=name)
def test_gives_what_was_recorded(path):
    recorded = np.load(path.with_suffix(".io.npz"))
    inputs = [recorded[key] for key in sorted(recorded.files) if key.startswith("in")]
    outputs = [recorded[key] for key in sorted(recorded.files) if key.startswith("out")]
    found = lstmrt.load(path)(*inputs)
    found = found if isinstance(found, tuple) else (found,)
    assert len(found) == len(outputs)
    for got, output in zip(found, outputs):
        np.testing.assert_allclose(got, output, rtol=0, atol=TOLERANCES.get(path.stem, 1e-6))


@pytest.mark.parametrize("path", [path for path in WHOLE if reasons(path)], ids=name)
def test_is_refused_by_name(path):
    with pytest.raises(lstmrt.UnsupportedError) as refusal:
        lstmrt.load(path)
    assert str(refusal.value).startswith(str(path))
    for words in reasons(path):
        assert words in str(refusal.value)


@pytest.mark.parametrize("path", [path for path in FILES if name(path) in DAMAGED], ids=name)
def test_a_file_that_keras_left_unfinished(path):
    with pytest.raises(lstmrt.LstmrtError, match=path.name):
        lstmrt.load(path)


# ---- greedy texts ----

GREEDY = [
    ("window_nomask.keras", "window", "window_nomask"),
    ("window_mask_zero.keras", "masked_window", "window_mask_zero"),
    ("window_mask_zero.keras", "growing", "growing_context"),
    ("stateful_b1.keras", "stateful", "stateful"),
]


@pytest.mark.parametrize("file, mode, key", GREEDY)
def test_greedy_ids(file, mode, key):
    gold = json.loads((SAMPLES / "greedy" / "gold.json").read_text(encoding="utf-8"))
    model = lstmrt.load(SAMPLES / "greedy" / file)
    prompt = gold["seed"]
    options = {"window": gold["window"]} if "window" in mode else {}
    found = model.generate(prompt, max_new_tokens=gold["steps"], mode=mode, **options)
    assert found.tolist() == gold[key][len(prompt):]


# ---- layers that Keras's own tests call ----

REPLAYED = ("LSTM", "GRU", "SimpleRNN")
CASES = sorted(path for layer in REPLAYED for path in SAMPLES.glob(f"keras_layer_cases/*_{layer}.json"))
STATES = ("initial_state", "prestate")


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_layer_case(tmp_path, path):
    """The layer as the only one of a `.keras` file that is put together here."""
    case, arrays = json.loads(path.read_text(encoding="utf-8")), np.load(path.with_suffix(".npz"))
    config = case["layer"]["config"]
    if any(key.startswith(("mask", *STATES)) for key in arrays.files) or config["return_state"]:
        pytest.skip("a mask or states from outside")
    weights = [arrays[key] for key in sorted(key for key in arrays.files if key.startswith("w"))]
    model = write_one_layer(tmp_path / "case.keras", case["layer"], weights, arrays["in0"].shape)
    half = "float16" in json.dumps(config["dtype"])
    np.testing.assert_allclose(lstmrt.load(model)(arrays["in0"]), arrays["out0"], rtol=0, atol=2e-3 if half else 1e-5)


def write_one_layer(path: Path, layer: dict, weights: list[np.ndarray], shape: tuple[int, ...]) -> Path:
    stored = io.BytesIO()
    with h5py.File(stored, "w") as file:
        group = {"LSTM": "lstm", "GRU": "gru", "SimpleRNN": "simple_rnn"}[layer["class_name"]]
        for i, array in enumerate(weights):
            file[f"layers/{group}/cell/vars/{i}"] = array
    start = {"class_name": "InputLayer", "config": {"name": "x", "batch_shape": [None, *shape[1:]]}}
    model = {"class_name": "Sequential", "config": {"name": "case", "layers": [start, layer]}}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps(model))
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.15.1"}))
        archive.writestr("model.weights.h5", stored.getvalue())
    return path
