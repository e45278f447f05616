"""Attention in all its forms and masks, beside Keras 3 and tf-keras."""

from __future__ import annotations

import json
import zipfile

import numpy as np
import pytest

import lstmrt
from keras_models import (
    BATCH, FRAMEWORKS, IDS, TIME, VOCABULARY, assert_close, assert_parity, framework, outputs_of, save, with_random_weights)

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


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("scores", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_rows_that_are_hidden_as_a_whole(tmp_path, name, dropout, scores, causal):
    """By masks of queries, of keys before the first that a causal row sees, of all keys, of pairs. Each attention has inputs
    of its own: Keras 3 takes the masks off what an attention has read."""
    keras = framework(name)
    layers = keras.layers
    ids = [keras.Input((None,), dtype="int32", name=key) for key in ("ids", "others")]
    pairs = keras.Input((None, None), dtype="bool", name="pairs")

    def steps(one, masked=True):
        return layers.Embedding(VOCABULARY, WIDTH, mask_zero=masked)(one)

    def attention(query, value, **options):
        made = layers.MultiHeadAttention(2, 3, dropout=dropout)(
            query, value, use_causal_mask=causal, return_attention_scores=scores, **options)
        return list(made) if scores else [made]

    itself = steps(ids[0])
    outputs = [*attention(itself, itself), *attention(steps(ids[0]), steps(ids[1])),
               *attention(steps(ids[0], False), steps(ids[1])), *attention(steps(ids[0]), steps(ids[1], False)),
               *attention(steps(ids[0], False), steps(ids[1]), attention_mask=pairs)]
    shown = RANDOM.random((BATCH, TIME, SHORTER.shape[1])) < 0.6
    shown[1, 2] = False
    assert_parity(with_random_weights(keras.Model([*ids, pairs], outputs)), tmp_path, IDS, SHORTER, shown, containers=[".keras"])


def test_hidden_weights_are_left_before_keras_3_10(tmp_path, name):
    """The file says which version computed with it."""
    keras = framework(name)
    ids, (query, value) = embedded(keras, True, True)
    models = [with_random_weights(keras.Model(ids, keras.layers.MultiHeadAttention(2, 3, dropout=rate)(query, value)))
              for rate in (0.0, 0.1)]
    expected = outputs_of(models[0], IDS, SHORTER)
    path = save(models[1], tmp_path, ".keras")
    old = tmp_path / "old.keras"
    with zipfile.ZipFile(path) as file, zipfile.ZipFile(old, "w") as written:
        for member in file.namelist():
            data = file.read(member)
            if member == "metadata.json":
                data = json.dumps({**json.loads(data), "keras_version": "3.9.2"}).encode()
            written.writestr(member, data)
    assert_close([lstmrt.load(old)(IDS, SHORTER)], expected)


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
