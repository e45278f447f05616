"""Weights without a model beside them, and the configuration that says what they are of."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import keras_models
import numpy as np
import pytest

import lstmrt
from lstmrt.cli import main
from lstmrt.errors import InputError, ModelFileError, UnsupportedError

LAYERS = {"embedding_3": {"embeddings": (11, 3)},
          "dropout_1": {},
          "lstm_8": {"kernel": (3, 20), "recurrent_kernel": (5, 20), "bias": (20,)},
          "dense_2": {"kernel": (5, 4), "bias": (4,)}}


def weights() -> dict[str, dict[str, np.ndarray]]:
    random = np.random.default_rng(0)
    return {layer: {name: random.standard_normal(shape).astype("f4") for name, shape in shapes.items()}
            for layer, shapes in LAYERS.items()}


def write(path: Path, layers: dict, split_names: bool = False) -> Path:
    """As Keras 2's save_weights does it; HDF5 cannot hold very long lists, which are then split."""
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = b"2.2.4"
        names = np.array([name.encode() for name in layers])
        for i, part in enumerate(np.array_split(names, 2) if split_names else [names]):
            file.attrs[f"layer_names{i}" if split_names else "layer_names"] = part
        for layer, arrays in layers.items():
            group = file.create_group(layer)
            inner = [f"{layer}/{name}:0" for name in arrays]
            group.attrs["weight_names"] = [name.encode() for name in inner]
            for name, array in zip(inner, arrays.values()):
                group[name] = array
    return path


def layer(class_name: str, name: str, **config) -> dict:
    return {"class_name": class_name, "config": {"name": name, **config}}


def config(names=("embedding", "lstm", "dense"), recurrent_activation: str = "sigmoid", **more) -> dict:
    embedding, lstm, dense = names
    return {"class_name": "Sequential", "config": {"name": "model", "layers": [
        layer("Embedding", embedding, input_dim=11, output_dim=3, batch_input_shape=[None, 7]),
        layer("LSTM", lstm, units=5, activation="tanh", recurrent_activation=recurrent_activation, use_bias=True),
        layer("Dropout", "dropout", rate=0.5),
        layer("Dense", dense, units=4, activation="softmax", use_bias=True)]}, **more}


IDS = np.random.default_rng(1).integers(0, 11, (2, 7))


@pytest.fixture
def stored(tmp_path) -> Path:
    return write(tmp_path / "weights.h5", weights())


def test_a_configuration_is_text_or_a_path_or_a_dict(stored, tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config()), encoding="utf-8")
    twice = tmp_path / "twice.json"
    twice.write_text(json.dumps(json.dumps(config())), encoding="utf-8")
    given = [config(), json.dumps(config()), path, str(path), twice]
    answers = [lstmrt.load(stored, config=one)(IDS) for one in given]
    for answer in answers[1:]:
        np.testing.assert_array_equal(answer, answers[0])


def test_layers_are_matched_in_order_and_the_report_says_so(stored):
    model = lstmrt.load(stored, config=config())
    assert model.provenance["weights matched"] == (
        "in order: embedding_3 as embedding, lstm_8 as lstm, dense_2 as dense")
    np.testing.assert_array_equal(model.source.graph.constants["dense/kernel"], weights()["dense_2"]["kernel"])


def test_names_decide_where_the_order_does_not_fit(tmp_path):
    layers = weights()
    turned = write(tmp_path / "turned.h5", {name: layers[name] for name in reversed(layers)})
    more = write(tmp_path / "more.h5", {"head": {"kernel": np.ones((3, 3), "f4")}, **layers})
    named = config(names=("embedding_3", "lstm_8", "dense_2"))
    reports = [lstmrt.load(path, config=named).provenance["weights matched"] for path in (turned, more)]
    assert reports == ["by name: embedding_3, lstm_8, dense_2",
                       "by name: embedding_3, lstm_8, dense_2; not used: head"]
    with pytest.raises(ModelFileError, match="weights for head, embedding_3.*neither number nor names agree"):
        lstmrt.load(more, config=config())


def test_names_may_be_split_over_several_attributes(tmp_path, stored):
    split = write(tmp_path / "split.h5", weights(), split_names=True)
    np.testing.assert_array_equal(lstmrt.load(split, config=config())(IDS), lstmrt.load(stored, config=config())(IDS))


@pytest.mark.parametrize("of_config, of_weights, slope", [
    (None, "2.2.4", 0.2), ("3.1.0", "2.2.4", 1 / 6), ("2.0.6", "3.0.5", 0.2), (None, "3.0.5", 1 / 6), (None, None, 0.2)])
def test_hard_sigmoid_depends_on_the_version_of_either(stored, of_config, of_weights, slope):
    with h5py.File(stored, "r+") as file:
        del file.attrs["keras_version"]
        if of_weights:
            file.attrs["keras_version"] = of_weights
    given = config(recurrent_activation="hard_sigmoid", **({"keras_version": of_config} if of_config else {}))
    (node,) = [node for node in lstmrt.load(stored, config=given).graph.nodes if node.op == "LSTM"]
    assert node.attributes["activation_alpha"][0] == pytest.approx(slope)


def test_weights_that_do_not_fit_are_named(stored):
    wrong = config()
    wrong["config"]["layers"][1]["config"]["units"] = 6
    with pytest.raises(ModelFileError, match=r"LSTM 'lstm'.*expected shape \(3, 24\), got \(3, 20\)"):
        lstmrt.load(stored, config=wrong)


@pytest.mark.parametrize("given, error, words", [
    ("no-such.json", ModelFileError, "config no-such.json: No such file"),
    ('{"class_name"', ModelFileError, "config: not JSON"),
    ("[1]", ModelFileError, r"config \[1\]: No such file"),
    (7, InputError, "config, which is JSON text, a path or a dict: expected a path, got int"),
    ("a\0b", InputError, "NUL"),
    ({}, ModelFileError, "class_name: expected a string"),
])
def test_configurations_that_are_none(stored, given, error, words):
    with pytest.raises(error, match=words):
        lstmrt.load(stored, config=given)


def test_weights_alone_ask_for_a_configuration(stored, tmp_path):
    with pytest.raises(UnsupportedError, match="weights alone.*config="):
        lstmrt.load(stored)
    model = lstmrt.load(stored, config=config())
    model.save(tmp_path / "model.lstmrt")
    with pytest.raises(InputError, match="config and custom_layers are for a Keras file"):
        lstmrt.load(tmp_path / "model.lstmrt", config=config())


def test_on_the_command_line(stored, tmp_path):
    given, out = tmp_path / "config.json", tmp_path / "model.lstmrt"
    given.write_text(json.dumps(config()), encoding="utf-8")
    assert main(["convert", str(stored), str(out), "--config", str(given)]) == 0
    np.testing.assert_array_equal(lstmrt.load(out)(IDS), lstmrt.load(stored, config=config())(IDS))


# ---- written by the frameworks ----


def model_of(keras, prefix: str = ""):
    layers = keras.layers
    return keras_models.sequential(
        keras, layers.Bidirectional(layers.GRU(5, return_sequences=True, name=f"{prefix}gru"), name=f"{prefix}both"),
        layers.Dense(4, name=f"{prefix}one"), layers.LSTM(3, name=f"{prefix}lstm"), layers.Dense(2, name=f"{prefix}two"))


@pytest.mark.parametrize("framework", keras_models.FRAMEWORKS)
@pytest.mark.parametrize("extension", [".weights.h5", ".h5"])
def test_what_save_weights_writes(tmp_path, framework, extension):
    keras = keras_models.framework(framework)
    if framework == "keras" and extension == ".h5":
        pytest.skip("Keras 3 writes .weights.h5 alone")
    model = model_of(keras)
    path = tmp_path / f"model{extension}"
    model.save_weights(path)
    expected = np.asarray(model(keras_models.VECTORS))
    for given in (model, model_of(keras, "other_")):
        found = lstmrt.load(path, config=given.to_json())(keras_models.VECTORS)
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("framework", keras_models.FRAMEWORKS)
@pytest.mark.parametrize("container", keras_models.CONTAINERS)
def test_a_whole_model_takes_another_configuration(tmp_path, framework, container):
    keras = keras_models.framework(framework)
    model = model_of(keras)
    path = keras_models.save(model, tmp_path, container)
    found = lstmrt.load(path, config=model_of(keras, "other_").to_json())(keras_models.VECTORS)
    np.testing.assert_allclose(found, np.asarray(model(keras_models.VECTORS)), rtol=0, atol=2e-6)


@pytest.mark.parametrize("framework", keras_models.FRAMEWORKS)
def test_layers_without_weights_and_without_options(tmp_path, framework):
    """No container has anything for an Attention without a scale; SpatialDropout1D looks like an operator in a `.h5` of Keras 3."""
    keras = keras_models.framework(framework)
    x = keras.Input((None, keras_models.FEATURES))
    y = keras.layers.LSTM(5, return_sequences=True)(keras.layers.SpatialDropout1D(0.2)(x))
    model = keras_models.with_random_weights(keras.Model(x, keras.layers.Attention()([y, y])))
    keras_models.assert_parity(model, tmp_path, keras_models.VECTORS)
    model.save_weights(path := tmp_path / ("alone.weights.h5" if framework == "keras" else "alone.h5"))
    found = lstmrt.load(path, config=model.to_json())(keras_models.VECTORS)
    np.testing.assert_allclose(found, np.asarray(model(keras_models.VECTORS)), rtol=0, atol=2e-6)
