"""Models that Keras 3 quantized, and those with LoRA: lstmrt gives what Keras gives after loading the same file."""

from __future__ import annotations

import keras_models
import numpy as np
import pytest
from test_keras_files import archive, layer, members, refused, sequential

import lstmrt
from lstmrt.errors import UnsupportedError

IDS = np.random.default_rng(3).integers(0, keras_models.VOCABULARY, (4, 7))


@pytest.fixture(scope="module")
def keras():
    return keras_models.framework("keras")


def model_of(keras, use_bias: bool = True):
    layers = keras.layers
    return keras_models.sequential(
        keras, layers.Dense(9, use_bias=use_bias, activation="tanh"), layers.GRU(5, return_sequences=True),
        layers.Dense(keras_models.VOCABULARY, use_bias=use_bias), ids=True, scale=1)


@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("config", [
    "int8", ("Int8QuantizationConfig", {"activation_quantizer": None}),
    ("Int4QuantizationConfig", {"block_size": 2}), ("Int4QuantizationConfig", {"block_size": None}),
    ("Int4QuantizationConfig", {"block_size": -1})], ids=str)
def test_quantized_models(keras, tmp_path, use_bias, config):
    model = model_of(keras, use_bias)
    plain = np.asarray(model(IDS))
    if isinstance(config, str):
        model.quantize(config)
    else:
        name, options = config
        model.quantize(config=getattr(keras.quantizers, name)(**options))
    found = lstmrt.load(keras_models.save(model, tmp_path, ".keras"))(IDS)
    expected = np.asarray(model(IDS))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert np.abs(expected - plain).max() > 1e-3


def test_low_rank_additions_are_in_the_weights(keras, tmp_path):
    model = model_of(keras)
    model.layers[1].enable_lora(2)
    model.layers[0].enable_lora(3)
    for weight in model.trainable_weights:
        if "lora" in weight.path:
            weight.assign(np.random.default_rng(5).standard_normal(weight.shape))
    found = lstmrt.load(keras_models.save(model, tmp_path, ".keras"))(IDS)
    np.testing.assert_allclose(found, np.asarray(model(IDS)), rtol=0, atol=2e-5)


def policy(mode: str) -> dict:
    return {"class_name": "QuantizedDTypePolicy", "config": {"mode": mode, "source_name": "float32"}}


@pytest.mark.parametrize("options, words", [
    ({"dtype": policy("float8")}, "quantized weights ('float8'"),
    ({"dtype": policy("gptq/4/128"), "quantization_config": {"config": {}}}, "quantized weights"),
    ({"dtype": policy("int4")}, "int4 weights without a quantization_config"),
    ({"dtype": policy("int8"), "quantization_config": {"config": {"weight_quantizer": {}}}}, "weight_quantizer"),
    ({"dtype": policy("int8"), "quantization_config": {"config": {"activation_quantizer": {"class_name": "Mine"}}}},
     "activation_quantizer="),
])
def test_what_is_refused(tmp_path, options, words):
    model = sequential(layer("InputLayer", "x", batch_shape=[None, 3]),
                       layer("Dense", "dense", units=2, activation="linear", use_bias=False, **options))
    refused(archive(tmp_path / "model.keras", members(model)), UnsupportedError, "Dense 'dense'", words)
