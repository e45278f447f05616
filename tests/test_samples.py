"""Files that other versions of Keras wrote, and what those versions computed: the folder ../shared/samples."""

from __future__ import annotations

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
    "subclassed": ["the class 'Sub'"],
}
# Keras gave up while it wrote them.
DAMAGED = {"keras_3.0.5/bi.h5", "keras_3.0.5/cells.h5", "keras_3.0.5/func.h5", "keras2_15/textvec.h5"}


def name(path: Path) -> str:
    return path.relative_to(SAMPLES).as_posix()


def weights_alone(path: Path) -> bool:
    return path.name.endswith((".weights.h5", "_wonly.h5"))


def reasons(path: Path) -> list[str]:
    """What the message of a refusal must hold; [] for a file that is to be read."""
    if weights_alone(path):
        return ["weights alone"]
    return next((words for key, words in REFUSED.items() if path.name.startswith(key)), [])


WHOLE = [path for path in FILES if name(path) not in DAMAGED]
READ = [path for path in WHOLE if not reasons(path)]
RECORDED = [path for path in READ if path.with_suffix(".io.npz").exists() and path.stem not in NOT_GOLD]


@pytest.mark.parametrize("path", READ, ids=name)
def test_is_read(path):
    assert lstmrt.load(path).graph.nodes


@pytest.mark.parametrize("path", RECORDED, ids=name)
def test_gives_what_was_recorded(path):
    recorded = np.load(path.with_suffix(".io.npz"))
    inputs = [recorded[key] for key in recorded.files if key.startswith("in")]
    outputs = [recorded[key] for key in recorded.files if key.startswith("out")]
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


# ---- other containers ----

ALONE = [path for path in WHOLE if weights_alone(path) and not path.name.startswith(("textvec.", "subclassed.", "sharded_"))]


def configuration(path: Path) -> dict | str:
    """The configuration of weights alone: the JSON beside them, or what the whole model beside them holds."""
    stem = path.name.removesuffix(".weights.h5").removesuffix("_wonly.h5")
    texts = [path.with_name(f"{stem}{extension}") for extension in (".json", ".arch.json")]
    if found := [text for text in texts if text.exists()]:
        return found[0].read_text(encoding="utf-8")
    whole = path.with_name(f"{stem}.keras")
    if zipfile.is_zipfile(whole):
        return zipfile.ZipFile(whole).read("config.json").decode()
    with h5py.File(whole) as file:
        return file.attrs["model_config"]


@pytest.mark.parametrize("path", ALONE, ids=name)
def test_weights_alone(path):
    """With their configuration they are the whole model's."""
    stem = path.name.removesuffix(".weights.h5").removesuffix("_wonly.h5")
    whole = path.with_name(f"{stem}.keras")
    whole = whole if whole.exists() else path.with_name(f"{stem}.h5")
    try:
        expected = lstmrt.load(whole).source.graph.constants
    except lstmrt.UnsupportedError:
        with pytest.raises(lstmrt.UnsupportedError, match="lstmrt does not have"):
            lstmrt.load(path, config=configuration(path))
        return
    found = lstmrt.load(path, config=configuration(path)).source.graph.constants
    assert found.keys() == expected.keys()
    for key, array in expected.items():
        np.testing.assert_array_equal(found[key], array)


def test_weights_in_several_files():
    """Two files that share the LSTM's weights; a layer has other names than they say."""
    layers = [{"class_name": "InputLayer", "config": {"name": "x", "batch_shape": [None, 5, 64]}},
              {"class_name": "LSTM", "config": {"name": "lstm", "units": 64, "activation": "tanh",
                                                "recurrent_activation": "sigmoid", "use_bias": True}},
              {"class_name": "Dense", "config": {"name": "dense", "units": 64, "activation": "linear", "use_bias": True}}]
    config = {"class_name": "Sequential", "config": {"name": "model", "layers": layers}}
    graph = lstmrt.load(SAMPLES / "keras3" / "sharded.weights.json", config=config).source.graph
    with h5py.File(SAMPLES / "keras3" / "sharded_00001.weights.h5") as file:
        np.testing.assert_array_equal(graph.constants["dense/kernel"], file["layers/dense/vars/0"])


def test_folders():
    assert lstmrt.load(SAMPLES / "keras3" / "unzipped_dir").outputs[0].shape == ("batch", 3)
    recorded = np.load(SAMPLES / "keras2_15" / "lm_lstm.io.npz")
    checkpoint = SAMPLES / "keras2_15" / "lm_lstm_ckpt.index"
    for model in (lstmrt.load(SAMPLES / "keras2_15" / "lm_lstm_savedmodel"),
                  lstmrt.load(checkpoint, config=checkpoint.with_name("lm_lstm.arch.json"))):
        np.testing.assert_allclose(model(recorded["in0"]), recorded["out0"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("path, words", [("keras3/lm_lstm_savedmodel", "save the model as .keras"),
                                         *((f"{folder}/lstm.tflite", "convert the .keras or .h5 file")
                                           for folder in ("tflite", "tflite_k2")),
                                         ("onnx_torch/rnn.pt", "export the model as ONNX")])
def test_formats_that_are_refused_with_advice(path, words):
    with pytest.raises(lstmrt.UnsupportedError, match=words):
        lstmrt.load(SAMPLES / path)


@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_quantized_models_give_what_keras_gives(kind):
    keras = pytest.importorskip("keras", reason="keras is not installed")
    path = SAMPLES / "keras3" / f"quant_{kind}.keras"
    ids = np.random.default_rng(0).integers(0, 10, (20, 6))
    np.testing.assert_allclose(lstmrt.load(path)(ids), np.asarray(keras.models.load_model(path)(ids)), rtol=0, atol=1e-5)


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

CASES = sorted(SAMPLES.glob("keras_layer_cases/*.json"))
STATES = ("initial_state", "prestate")  # given by the call, or left by the call before
OWN_CLASSES = ("OneStateRNNCell", "TwoStatesRNNCell", "MaskedDense")  # of Keras's tests: nobody else has them


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_layer_case(tmp_path, path):
    """The layer in a whole-model file that is put together here; masks and states are inputs of it."""
    case, arrays = json.loads(path.read_text(encoding="utf-8")), np.load(path.with_suffix(".npz"))
    if any(name in json.dumps(case["layer"]) for name in OWN_CLASSES):
        pytest.skip("a class of Keras's own tests")
    states = [key for key in arrays.files if key.startswith(STATES)]
    masks = [key for key in arrays.files if key.startswith("mask")]
    inputs = {"in0": arrays["in0"].astype(np.float32), **{key: arrays[key] for key in [*masks, *states]}}
    weights = {key: arrays[key] for key in arrays.files if key.startswith("w")}
    expected = [arrays[key] for key in arrays.files if key.startswith("out")]
    model = write_one_layer(tmp_path / "case.h5", case, inputs, masks, states, weights, len(expected))
    found = lstmrt.load(model).run(inputs)
    assert len(found) == len(expected)
    half = "float16" in json.dumps(case["layer"]["config"]["dtype"])
    for got, wanted in zip(found.values(), expected):
        np.testing.assert_allclose(got, wanted, rtol=0, atol=2e-3 if half else 1e-5)


def write_one_layer(path: Path, case: dict, inputs: dict[str, np.ndarray], masks: list[str], states: list[str],
                    weights: dict[str, np.ndarray], outputs: int) -> Path:
    """A Functional model of inputs and the layer, as Keras 3 writes it."""
    layer = case["layer"]
    name = layer["config"]["name"]
    layers = [{"class_name": "InputLayer", "inbound_nodes": [], "config": {
        "name": key, "batch_shape": [None, *array.shape[1:]], "dtype": array.dtype.name}} for key, array in inputs.items()]
    kwargs = {**({"mask": tensor(masks[0])} if masks else {}), **({"initial_state": list(map(tensor, states))} if states else {})}
    layers.append({**layer, "inbound_nodes": [{"args": [tensor("in0")], "kwargs": kwargs}]})
    model = {"class_name": "Functional", "config": {
        "name": "case", "layers": layers, "input_layers": [[key, 0, 0] for key in inputs],
        "output_layers": [[name, 0, i] for i in range(outputs)]}}
    with h5py.File(path, "w") as file:
        file.attrs["model_config"], file.attrs["keras_version"] = json.dumps(model), "3.15.1"
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = [name]
        group.create_group(name).attrs["weight_names"] = case["weights"]
        for key, array in zip(case["weights"], weights.values()):
            group[name][key] = array
    return path


def tensor(layer: str) -> dict:
    return {"class_name": "__keras_tensor__", "config": {"keras_history": [layer, 0, 0]}}
