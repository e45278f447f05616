"""Keras's containers: what they hold, and one clear error for each file that is not as Keras writes it."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import lstmrt
from lstmrt.converters import Source, load_source
from lstmrt.errors import LstmrtError, ModelFileError, UnsupportedError
from lstmrt.generation_config import GenerationDefaults
from strategies import damaged

VOCABULARY, WIDTH, UNITS = 7, 3, 4


# ---- files made by hand, whose every part a test may change ----


def layer(class_name: str, name: str, **config) -> dict:
    return {"class_name": class_name, "config": {"name": name, **config}}


def input_layer(*shape: int | None) -> dict:
    return layer("InputLayer", "ids", batch_shape=[None, *shape])


def embedding(**options) -> dict:
    return layer("Embedding", "embedding", input_dim=VOCABULARY, output_dim=WIDTH, **options)


def gru(**options) -> dict:
    return layer("GRU", "gru", **{"units": UNITS, "activation": "tanh", "recurrent_activation": "sigmoid",
                                  "use_bias": True, "reset_after": True, **options})


def sequential(*layers: dict) -> dict:
    return {"class_name": "Sequential", "config": {"name": "model", "layers": list(layers)}}


MODEL = sequential(input_layer(None), embedding(), gru())


def weights() -> dict[str, np.ndarray]:
    """What MODEL's layers need, by path in `.keras`."""
    random = np.random.default_rng(0)
    shapes = {"layers/embedding/vars/0": (VOCABULARY, WIDTH), "layers/gru/cell/vars/0": (WIDTH, 3 * UNITS),
              "layers/gru/cell/vars/1": (UNITS, 3 * UNITS), "layers/gru/cell/vars/2": (2, 3 * UNITS)}
    return {path: random.standard_normal(shape).astype(np.float32) for path, shape in shapes.items()}


def hdf5(arrays: dict[str, np.ndarray]) -> bytes:
    stored = io.BytesIO()
    with h5py.File(stored, "w") as file:
        for path, array in arrays.items():
            file[path] = array
    return stored.getvalue()


def members(model: dict = MODEL, arrays: dict | None = None, version: str = "3.15.1") -> dict[str, bytes]:
    return {"config.json": json.dumps(model).encode(), "metadata.json": json.dumps({"keras_version": version}).encode(),
            "model.weights.h5": hdf5(weights() if arrays is None else arrays)}


def archive(path: Path, content: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, data in content.items():
            file.writestr(name, data)
    return path


def whole_model(path: Path, model: dict = MODEL, version: str = "2.15.0") -> Path:
    names = {"embedding": ["embedding/embeddings:0"],
             "gru": [f"gru/gru_cell/{name}:0" for name in ("kernel", "recurrent_kernel", "bias")]}
    arrays = iter(weights().values())
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(model)
        file.attrs["keras_version"] = version
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = list(names)
        for name, paths in names.items():
            group.create_group(name).attrs["weight_names"] = paths
            for inner in paths:
                group[name][inner] = next(arrays)
    return path


def refused(path: Path, error: type[LstmrtError], *words: str) -> None:
    with pytest.raises(error) as caught:
        load_source(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    for word in words:
        assert word in message


def folder(path: Path, content: dict[str, bytes]) -> Path:
    """An archive that was never zipped."""
    path.mkdir()
    for name, data in content.items():
        (path / name).write_bytes(data)
    return path


def shards(**places: dict[str, np.ndarray]) -> dict[str, bytes]:
    """Weights in several files and the list of them, as Keras 3 splits large ones: `places` maps a stem to its arrays."""
    groups: dict[str, list[str]] = {}
    for stem, arrays in places.items():
        for path in arrays:
            groups.setdefault(f"/{path.rpartition('/')[0]}", []).append(f"{stem}.weights.h5")
    listed = {"metadata": {"total_size": 1.0}, "weight_map": {group: sorted({*files}) for group, files in groups.items()}}
    return {"model.weights.json": json.dumps(listed).encode(),
            **{f"{stem}.weights.h5": hdf5(arrays) for stem, arrays in places.items()}}


def split_weights() -> dict[str, bytes]:
    """One layer's variables in two files."""
    paths = sorted(weights())
    return shards(a={path: weights()[path] for path in paths[:2]}, b={path: weights()[path] for path in paths[2:]})


def assert_same(found: Source, expected: Source) -> None:
    assert found.graph.constants.keys() == expected.graph.constants.keys()
    for name, array in expected.graph.constants.items():
        np.testing.assert_array_equal(found.graph.constants[name], array)


# ---- what a file says ----


def test_folders_and_split_weights(tmp_path):
    expected = load_source(archive(tmp_path / "model.keras", members()))
    split = {name: data for name, data in members().items() if name != "model.weights.h5"} | split_weights()
    for made in (folder(tmp_path / "folder", members()), folder(tmp_path / "split", split),
                 archive(tmp_path / "split.keras", split)):
        assert_same(load_source(made), expected)
    alone = folder(tmp_path / "alone", split_weights()) / "model.weights.json"
    assert_same(load_source(alone, config=MODEL), expected)
    refused(alone, ModelFileError, "config=")


@pytest.mark.parametrize("file", ["../model.weights.h5", "/etc/passwd", "", ".", "no.h5", 3, ["a", ["b"]]])
def test_split_weights_elsewhere(tmp_path, file):
    content = {**split_weights(), "model.weights.json": json.dumps({"weight_map": {"/layers": file}}).encode()}
    (tmp_path / "model.weights.h5").write_bytes(members()["model.weights.h5"])
    with pytest.raises(ModelFileError, match="model.weights.json"):
        load_source(folder(tmp_path / "split", content) / "model.weights.json", config=MODEL)
    zipped = archive(tmp_path / "model.keras", {**members(), **content} | {"model.weights.h5": b""})
    refused(zipped, ModelFileError)


@pytest.mark.parametrize("content, words", [
    ({"model/data.pkl": b"\x80\x02"}, "export the model as ONNX"),
    ({**{k: v for k, v in members().items() if "weights" not in k}, "model.weights.npz": b""}, "pickled objects"),
])
def test_archives_of_pickles(tmp_path, content, words):
    refused(archive(tmp_path / "model.keras", content), UnsupportedError, words)


@pytest.mark.parametrize("content, words", [
    (b"\x80\x04\x95", "a pickle"), (b"\x1c\0\0\0TFL3", "convert the .keras or .h5 file")])
def test_other_files_are_refused_with_advice(tmp_path, content, words):
    (tmp_path / "model").write_bytes(content)
    refused(tmp_path / "model", UnsupportedError, words)


def test_folders_that_hold_no_keras_model(tmp_path):
    refused(folder(tmp_path / "exported", {"saved_model.pb": b""}), UnsupportedError, "save the model as .keras")
    refused(folder(tmp_path / "empty", {}), ModelFileError, "a folder without config.json")


def test_content_decides_not_the_name(tmp_path):
    zipped, flat = archive(tmp_path / "zipped.h5", members()), whole_model(tmp_path / "flat.keras")
    sources = [load_source(zipped), load_source(flat)]
    assert [source.version for source in sources] == ["3.15.1", "2.15.0"]
    assert all(source.framework == "keras" for source in sources)
    for name, array in sources[0].graph.constants.items():
        np.testing.assert_array_equal(sources[1].graph.constants[name], array)


def test_weights_are_packed_or_not(tmp_path):
    stored = load_source(archive(tmp_path / "stored.keras", members())).graph
    packed = load_source(archive(tmp_path / "packed.keras", members(), zipfile.ZIP_DEFLATED)).graph
    for name, array in stored.constants.items():
        np.testing.assert_array_equal(packed.constants[name], array)


def test_groups_of_older_versions(tmp_path):
    """Up to Keras 2.13 numbers are left out, up to 2.14 the group has another name; 10 comes after 2."""
    layers = [layer("Dense", name, units=2, use_bias=False, activation="linear") for name in "abc"]
    arrays = {f"_layer_checkpoint_dependencies/{group}/vars/0": np.full((2, 2), i, np.float32)
              for i, group in enumerate(["dense", "dense_2", "dense_10"])}
    model = sequential(input_layer(2), *layers)
    graph = load_source(archive(tmp_path / "model.keras", members(model, arrays, "2.13.1"))).graph
    assert [graph.constants[f"{name}/kernel"][0, 0] for name in "abc"] == [0, 1, 2]


def test_attributes_may_be_bytes(tmp_path):
    path = whole_model(tmp_path / "old.h5")
    with h5py.File(path, "r+") as file:
        file.attrs["model_config"] = np.bytes_(json.dumps(MODEL))
        group = file["model_weights"]
        for item, key in [(group, "layer_names"), (group["embedding"], "weight_names"), (group["gru"], "weight_names")]:
            item.attrs[key] = np.array([name.encode() for name in item.attrs[key]])
    assert load_source(path).graph.constants


def test_a_sequential_of_keras_1_has_no_input_layer(tmp_path):
    model = {"class_name": "Sequential", "config": [embedding(batch_input_shape=[None, 5]), gru()]}
    assert load_source(whole_model(tmp_path / "old.h5", model, "2.2.2")).graph.inputs[0].shape == ("batch", 5)


def test_hard_sigmoid_depends_on_the_version(tmp_path):
    model = sequential(input_layer(None), embedding(), gru(recurrent_activation="hard_sigmoid"))
    for version, slope in [("2.15.0", 0.2), ("3.0.5", 1 / 6)]:
        graph = load_source(archive(tmp_path / "model.keras", members(model, version=version))).graph
        (node,) = [node for node in graph.nodes if node.op == "GRU"]
        assert node.attributes["activation_alpha"][0] == pytest.approx(slope)


@pytest.mark.parametrize("length, embedding_options, gru_options, expected", [
    (6, {}, {}, GenerationDefaults("window", 6)),
    (6, {"mask_zero": True}, {}, GenerationDefaults("masked_window", 6)),
    (None, {}, {}, GenerationDefaults("growing")),
    (None, {}, {"stateful": True}, GenerationDefaults("stateful")),
    (1, {}, {}, GenerationDefaults("stateful")),
])
def test_the_generation_mode_is_inferred(tmp_path, length, embedding_options, gru_options, expected):
    model = sequential(input_layer(length), embedding(**embedding_options), gru(**gru_options))
    assert load_source(archive(tmp_path / "model.keras", members(model))).generation == expected


@pytest.mark.parametrize("vocabulary, expected", [
    (UNITS - 1, None), (UNITS, GenerationDefaults("growing")), (UNITS + 3, GenerationDefaults("growing")),
    (UNITS + 4, None), (400, None)])
def test_a_model_of_classes_does_not_generate(tmp_path, vocabulary, expected):
    """What makes the ids that it reads is as wide as its table, which may hold rows for padding and the like too."""
    model = sequential(input_layer(None), layer("Embedding", "embedding", input_dim=vocabulary, output_dim=WIDTH), gru())
    arrays = weights() | {"layers/embedding/vars/0": np.ones((vocabulary, WIDTH), np.float32)}
    path = archive(tmp_path / "model.keras", members(model, arrays))
    assert load_source(path).generation == expected
    loaded = lstmrt.load(path)
    if expected is None:
        with pytest.raises(UnsupportedError, match=f"reads {vocabulary} ids and makes {UNITS} numbers, classes perhaps"):
            loaded.generate([1, 2])
    if vocabulary >= UNITS:
        assert len(loaded.generate([1, 2], max_new_tokens=2, mode="growing")) == 2


# ---- what is refused ----


def test_every_unsupported_layer_is_named_at_once(tmp_path):
    model = sequential(
        input_layer(None), embedding(), layer("Hashing", "hash"), layer("Lambda", "double"), gru(peepholes=True),
        {**layer("Scale", "mine"), "module": "somebody.layers", "registered_name": "somebody>Scale"},
        layer("TimeDistributed", "each", layer=layer("Resizing", "inner")),
        layer("Dense", "last", units=2, use_bias=True, activation="threshold"))
    refused(archive(tmp_path / "model.keras", members(model)), UnsupportedError,
            "Hashing 'hash' (say what it computes with custom_layers=)",
            "Lambda 'double' (Python code in a model file is never run", "GRU 'gru' with peepholes",
            "somebody>Scale 'mine' (a custom layer", "Resizing 'inner'",
            "Dense 'last' with activation 'threshold'")


def test_an_option_that_lstmrt_does_not_know_is_named(tmp_path):
    model = sequential(input_layer(None), embedding(), gru(peepholes=True, attention={"heads": 2}))
    refused(archive(tmp_path / "model.keras", members(model)), UnsupportedError,
            "GRU 'gru' with peepholes=True, attention={'heads': 2}")


@pytest.mark.parametrize("model, words", [
    ({"class_name": "Mine", "config": {}}, "the class 'Mine'"),
    (sequential(input_layer(None), layer("Bidirectional", "both", layer=gru(), merge_mode="max")), "merge_mode='max'"),
    (sequential(input_layer(None), layer("RNN", "rnn", cell=layer("MyCell", "mine"))), "MyCell 'mine' in RNN 'rnn'"),
    (sequential(input_layer(None), embedding(quantization_config={"block": 2})), "quantization_config"),
])
def test_models_that_are_refused(tmp_path, model, words):
    refused(archive(tmp_path / "model.keras", members(model)), UnsupportedError, words)


def test_weights_alone_are_refused(tmp_path):
    path = tmp_path / "weights.h5"
    path.write_bytes(hdf5(weights()))
    refused(path, UnsupportedError, "weights alone", "model.save")


# ---- what is damaged ----


@pytest.mark.parametrize("content", [b"", b"PK", b"GIF89a", b"\x89HDF\r\n\x1a\n", b"PK\x03\x04", b"{}"])
def test_what_is_no_model(tmp_path, content):
    path = tmp_path / "model.keras"
    path.write_bytes(content)
    refused(path, ModelFileError)


def test_no_file(tmp_path):
    refused(tmp_path / "absent.keras", ModelFileError, "No such file")
    with pytest.raises(ModelFileError, match="a folder"):
        load_source(tmp_path)


@pytest.mark.parametrize("missing, error", [
    ("config.json", ModelFileError), ("metadata.json", ModelFileError), ("model.weights.h5", ModelFileError)])
def test_a_part_is_missing(tmp_path, missing, error):
    content = members()
    del content[missing]
    refused(archive(tmp_path / "model.keras", content), error, missing)


@pytest.mark.parametrize("part", ["config.json", "metadata.json", "model.weights.h5"])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"class_name": 1}', b"null"])
def test_a_part_is_garbage(tmp_path, part, content):
    refused(archive(tmp_path / "model.keras", {**members(), part: content}), ModelFileError)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_part_is_there_twice(tmp_path):
    path = archive(tmp_path / "model.keras", members())
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("config.json", "{}")
    refused(path, ModelFileError, "config.json is there twice")


def test_a_zip_bomb(tmp_path):
    bomb = {**members(), "model.weights.h5": bytes(20_000_000)}
    refused(archive(tmp_path / "model.keras", bomb, zipfile.ZIP_DEFLATED), ModelFileError, "says 20000000 bytes")


@pytest.mark.parametrize("path, array, words", [
    ("layers/embedding/vars/0", np.zeros((VOCABULARY, WIDTH + 1), "f4"), ["Embedding 'embedding'", "(7, 3)", "(7, 4)"]),
    ("layers/gru/cell/vars/2", np.zeros((3 * UNITS,), "f4"), ["GRU 'gru'", "bias", "(2, 12)", "got (12,)"]),
    ("layers/gru/cell/vars/1", np.zeros((UNITS, 3 * UNITS), "i4"), ["recurrent_kernel", "int32"]),
    ("layers/gru/cell/vars/0", np.zeros((WIDTH, 3 * UNITS), "S3"), ["kernel"]),
    ("layers/gru/cell/vars/3", np.zeros(1, "f4"), ["expected 3 weights (kernel, recurrent_kernel, bias)", "has 4"]),
])
def test_weights_that_do_not_fit(tmp_path, path, array, words):
    refused(archive(tmp_path / "model.keras", members(arrays={**weights(), path: array})), ModelFileError, *words)


@pytest.mark.parametrize("prefix, words", [
    ("layers/gru", "GRU 'gru'"), ("layers/embedding", "Embedding 'embedding'"), ("layers/gru/cell/vars/2", "gru"),
    ("layers", "layers")])
def test_weights_that_are_missing(tmp_path, prefix, words):
    arrays = {path: array for path, array in weights().items() if not path.startswith(prefix)}
    refused(archive(tmp_path / "model.keras", members(arrays=arrays)), ModelFileError, words)


def test_weights_under_another_layers_name(tmp_path):
    stored = io.BytesIO(hdf5(weights()))
    with h5py.File(stored, "r+") as file:
        file["layers/embedding/vars"].attrs["name"] = "other"
    path = archive(tmp_path / "model.keras", {**members(), "model.weights.h5": stored.getvalue()})
    refused(path, ModelFileError, "the weights of 'other', expected 'embedding'")


def test_weights_outside_the_file(tmp_path):
    (tmp_path / "secret").write_bytes(bytes(4 * VOCABULARY * WIDTH))

    def soft(file):
        file["layers/embedding/vars/0"] = h5py.SoftLink("/layers/gru/cell/vars/0")

    def external_link(file):
        file["layers/embedding/vars/0"] = h5py.ExternalLink(str(tmp_path / "secret"), "/")

    def external_storage(file):
        file["layers/embedding/vars"].create_dataset(
            "0", (VOCABULARY, WIDTH), "f4", external=[(str(tmp_path / "secret"), 0, h5py.h5f.UNLIMITED)])

    for make in (soft, external_link, external_storage):
        stored = io.BytesIO(hdf5(weights()))
        with h5py.File(stored, "r+") as file:
            del file["layers/embedding/vars/0"]
            make(file)
        content = {**members(), "model.weights.h5": stored.getvalue()}
        refused(archive(tmp_path / "model.keras", content), ModelFileError, "Embedding 'embedding'")


def test_weights_that_the_file_does_not_hold(tmp_path):
    """A dataset of terabytes that was never written: shape and configuration agree."""
    stored = io.BytesIO(hdf5(weights()))
    rows = 1 << 38
    with h5py.File(stored, "r+") as file:
        del file["layers/embedding/vars/0"]
        file["layers/embedding/vars"].create_dataset("0", (rows, WIDTH), "f4", chunks=(1024, WIDTH))
    model = sequential(input_layer(None), layer("Embedding", "embedding", input_dim=rows, output_dim=WIDTH), gru())
    content = {**members(model), "model.weights.h5": stored.getvalue()}
    refused(archive(tmp_path / "model.keras", content), ModelFileError, "Embedding 'embedding'", "but the file has 0")


@pytest.mark.parametrize("model, words", [
    (sequential(), "no layers"),
    (sequential(embedding()), "nothing says its input shape"),
    (sequential(input_layer(None), embedding(), embedding()), "2 layers called 'embedding'"),
    (sequential(input_layer(-1), embedding()), "batch_shape"),
    (sequential(input_layer("x"), embedding()), "batch_shape"),
    (sequential(input_layer(None), layer("Embedding", "embedding", input_dim="7", output_dim=3)), "input_dim"),
    (sequential(input_layer(None), embedding(mask_zero=1)), "mask_zero"),
    (sequential(input_layer(None), embedding(), gru(units=True)), "units"),
    (sequential(input_layer(None), embedding(), gru(units=-4)), "GRU 'gru'"),
    (sequential(input_layer(None), embedding(), gru(units=1 << 62)), "GRU 'gru'"),
    (sequential(input_layer(None), embedding(), gru(activation=3)), "activation"),
    (sequential(input_layer(None), gru()), "GRU 'gru'"),
    (sequential(input_layer(None), 3), "expected an object, got 3"),
    ({"class_name": "Functional", "config": {"layers": [], "output_layers": []}}, "output_layers"),
    ({"class_name": "Functional", "config": {"layers": [], "output_layers": [["x", 0, 0]]}}, "'x'"),
    ({"class_name": "Functional", "config": {"layers": [{**embedding(), "inbound_nodes": [[["embedding", 0, 0, {}]]]}],
                                             "output_layers": [["embedding", 0, 0]]}}, "need their own result"),
    ({"class_name": "Functional", "config": {"layers": [{**embedding(), "inbound_nodes": [["a"]]}],
                                             "output_layers": [["embedding", 0, 0]]}}, "Embedding 'embedding'"),
])
def test_a_configuration_that_keras_would_not_write(tmp_path, model, words):
    refused(archive(tmp_path / "model.keras", members(model)), ModelFileError, words)


def test_a_mask_that_is_a_number(tmp_path):
    layers = [{**input_layer(None), "inbound_nodes": []},
              {**embedding(), "inbound_nodes": [[["ids", 0, 0, {}]]]},
              {**gru(), "inbound_nodes": [[["embedding", 0, 0, {"mask": 1}]]]}]
    model = {"class_name": "Functional", "config": {"layers": layers, "output_layers": [["gru", 0, 0]]}}
    refused(archive(tmp_path / "model.keras", members(model)), UnsupportedError, "GRU 'gru'", "called with mask=1")


@pytest.mark.parametrize("make, changes", [(lambda path: archive(path, members()), True), (whole_model, False)],
                         ids=["keras", "h5"])
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_gives_an_error_of_ours_or_a_model(tmp_path, make, changes, data):
    """Cut off or changed anywhere, a file is read or refused, and nothing else. A bare HDF5 file is only cut off here:
    it has no checksums, and libhdf5 may hang on changed bytes (README, Limits)."""
    path = make(tmp_path / "model")
    path.write_bytes(damaged(data.draw, path.read_bytes(), changes))
    try:
        load_source(path).graph.validate()
    except LstmrtError as error:
        assert str(path) in str(error)
