"""Attention in all its forms and masks, beside Keras 3 and tf-keras."""

from __future__ import annotations

import numpy as np
import pytest

from keras_models import (
    BATCH, FRAMEWORKS, IDS, TIME, VOCABULARY, assert_parity, framework, with_random_weights)

pytestmark = pytest.mark.parametrize("name", FRAMEWORKS)

WIDTH = 6
RANDOM = np.random.default_rng(5)
SHORTER = IDS[::-1, 2:].copy()  # other ids, other masked steps, another length
QUERY, VALUE, KEY = (RANDOM.standard_normal((BATCH, steps, WIDTH)).astype(np.float32) for steps in (TIME, 4, 4))


def inputs(keras):
    return [keras.Input((None, WIDTH), name=key) for key in ("query", "value", "key")]


def embedded(keras, query_mask: bool, value_mask: bool):
    """Two sequences of different lengths, masked or not."""
    ids = [keras.Input((None,), dtype="int32", name=key) for key in ("ids", "others")]
    return ids, [keras.layers.Embedding(VOCABULARY, WIDTH, mask_zero=masked)(one)
                 for one, masked in zip(ids, (query_mask, value_mask))]


LAYERS = {
    "dot": lambda layers: layers.Attention(),
    "scaled": lambda layers: layers.Attention(use_scale=True),
    "concat": lambda layers: layers.Attention(score_mode="concat"),
    "scaled concat": lambda layers: layers.Attention(use_scale=True, score_mode="concat"),
    "additive": lambda layers: layers.AdditiveAttention(),
    "additive, no scale": lambda layers: layers.AdditiveAttention(use_scale=False),
}


@pytest.mark.parametrize("layer", LAYERS)
def test_scores(tmp_path, name, layer):
    keras = framework(name)
    query, value, key = inputs(keras)
    attention = LAYERS[layer](keras.layers)
    causal = LAYERS[layer](keras.layers)([query, value, key], return_attention_scores=True, use_causal_mask=True)
    outputs = [attention([query, value]), attention([query, value, key]), *causal]
    assert_parity(with_random_weights(keras.Model([query, value, key], outputs)), tmp_path, QUERY, VALUE, KEY)


@pytest.mark.parametrize("query_mask", [False, True])
@pytest.mark.parametrize("value_mask", [False, True])
@pytest.mark.parametrize("layer", ["dot", "additive", "heads"])
def test_masks(tmp_path, name, layer, query_mask, value_mask):
    """Both lead to a layer that sees the query's mask; one row of values is masked as a whole."""
    keras = framework(name)
    layers = keras.layers
    ids, (query, value) = embedded(keras, query_mask, value_mask)
    if layer == "heads":
        y = layers.MultiHeadAttention(2, 5)(query, value)
    else:
        y = LAYERS[layer](layers)([query, value])
    outputs = [y, layers.GRU(4, return_sequences=True)(y)]
    assert_parity(with_random_weights(keras.Model(ids, outputs)), tmp_path, IDS, SHORTER)


@pytest.mark.parametrize("options", [
    {}, {"value_dim": 4}, {"use_bias": False}, {"output_shape": (3,)}, {"attention_axes": (1,)}], ids=str)
def test_heads(tmp_path, name, options):
    keras = framework(name)
    query, value, key = inputs(keras)
    attention = keras.layers.MultiHeadAttention(3, 5, **options)
    causal = keras.layers.MultiHeadAttention(3, 5, **options)(
        query, value, return_attention_scores=True, use_causal_mask=True)
    outputs = [attention(query, value), attention(query, value, key=key), *causal]
    assert_parity(with_random_weights(keras.Model([query, value, key], outputs)), tmp_path, QUERY, VALUE, KEY)


def test_a_mask_of_pairs(tmp_path, name):
    keras = framework(name)
    query, value, _ = inputs(keras)
    pairs = keras.Input((None, None), dtype="bool", name="pairs")
    y = keras.layers.MultiHeadAttention(2, 3)(query, value, attention_mask=pairs)
    shown = RANDOM.random((BATCH, TIME, 4)) < 0.6
    shown[1, 2] = False
    assert_parity(with_random_weights(keras.Model([query, value, pairs], y)), tmp_path, QUERY, VALUE, shown)


def test_encoder_and_decoder_with_attention(tmp_path, name):
    keras = framework(name)
    layers = keras.layers
    ids, (source, target) = embedded(keras, True, False)
    steps, forward, backward = layers.Bidirectional(layers.GRU(3, return_sequences=True, return_state=True))(source)
    y = layers.GRU(WIDTH, return_sequences=True)(target, initial_state=layers.Concatenate()([forward, backward]))
    context = layers.AdditiveAttention()([y, steps])
    y = layers.TimeDistributed(layers.Dense(VOCABULARY, activation="softmax"))(layers.Concatenate()([y, context]))
    assert_parity(with_random_weights(keras.Model(ids, y)), tmp_path, IDS, SHORTER)
