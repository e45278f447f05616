"""Layers that take text: vocabularies out of `.keras` files, and what Keras's own layers make of text."""

from __future__ import annotations

import json
from pathlib import Path

import keras_models
import numpy as np
import pytest
from test_keras_files import archive, folder, hdf5, layer, refused

import lstmrt
from lstmrt.converters.keras.text import split_lines
from lstmrt.errors import InputError, ModelFileError, UnsupportedError
from lstmrt.text_inputs import TextInput
from lstmrt.tokenizers import Tokenizer, load_tokenizer

TEXTS = ["to be, or not to be", "Don't!", "ÉTÉ straße\tÎle\n x", "", "  a \u00a0b  ", "the QUESTION the question the question"]
TOKENS = ["to", "be", "question", "dont", "don't", "Été", "été", "ÉtÉ", "straße", "x", "a", "\u00a0b"]


# ---- against Keras ----


@pytest.fixture(scope="module")
def keras():
    return keras_models.framework("keras")


def assert_same_answers(keras, first, start, tmp_path: Path, given: np.ndarray) -> None:
    """Keras and lstmrt agree on a model of `first`, an Embedding and a GRU; the file has been converted and reloaded."""
    import tensorflow

    inputs = keras.Input(start, dtype="string")
    x = keras.layers.Embedding(30, 3, mask_zero=True)(first(inputs))
    model = keras.Model(inputs, keras.layers.GRU(4, return_sequences=True)(x))
    path = keras_models.save(model, tmp_path, ".keras")
    lstmrt.convert(path, tmp_path / "model.lstmrt")
    expected = np.asarray(model(tensorflow.constant(given)))
    found = lstmrt.load(tmp_path / "model.lstmrt")(given)
    keras_models.compare(model.to_json, keras.__version__, ".keras", [found], [expected], error=1e-6)


@pytest.mark.parametrize("standardize", ["lower_and_strip_punctuation", "lower", "strip_punctuation", None])
@pytest.mark.parametrize("split", ["whitespace", "character"])
@pytest.mark.parametrize("length", [4, None])
@pytest.mark.parametrize("inline", [True, False])
def test_text_vectorization(keras, tmp_path, standardize, split, length, inline):
    options = {"standardize": standardize, "split": split, "output_sequence_length": length}
    if inline:
        vectorize = keras.layers.TextVectorization(vocabulary=TOKENS + list("bcdé!'"), **options)
    else:
        vectorize = keras.layers.TextVectorization(max_tokens=30, **options)
        vectorize.adapt(TEXTS[:4])
    assert_same_answers(keras, vectorize, (1,), tmp_path, np.array(TEXTS)[:, None])


@pytest.mark.parametrize("mask_token", ["", None, "[MASK]"])
@pytest.mark.parametrize("inline", [True, False])
def test_string_lookup(keras, tmp_path, mask_token, inline):
    lookup = keras.layers.StringLookup(mask_token=mask_token, vocabulary=TOKENS if inline else None)
    if not inline:
        lookup.adapt([*TOKENS, *TOKENS[:3]])
    given = np.array([["to", "be", "[UNK]", "nothing"], ["", "[MASK]", "TO", "straße"]])
    assert_same_answers(keras, lookup, (4,), tmp_path, given)


def test_a_model_of_texts_generates_with_its_vocabulary(keras, tmp_path):
    """The loop of Keras: the last words, which the layer pads behind them."""
    import tensorflow

    vectorize = keras.layers.TextVectorization(vocabulary=TOKENS[:8], output_sequence_length=5)
    start = keras.Input((1,), dtype="string")
    x = keras.layers.LSTM(6)(keras.layers.Embedding(10, 4, mask_zero=True)(vectorize(start)))
    model = keras_models.with_random_weights(keras.Model(start, keras.layers.Dense(10)(x)), scale=2)
    text = "to be question"
    for _ in range(6):
        logits = np.asarray(model(tensorflow.constant([" ".join(text.split()[-5:])])))[0]
        text += " " + vectorize.get_vocabulary()[logits.argmax()]
    loaded = lstmrt.load(keras_models.save(model, tmp_path, ".keras"))
    assert loaded.generation.padding == "right"
    assert loaded.generate("to be question", max_new_tokens=6, echo=True) == text


# ---- files ----


def members(first: dict, assets: dict[str, bytes]) -> dict[str, bytes]:
    model = {"class_name": "Sequential", "config": {"name": "model", "layers": [
        layer("InputLayer", "text", batch_shape=[None, 1], dtype="string"), first,
        layer("Embedding", "embedding", input_dim=9, output_dim=2)]}}
    arrays = {"layers/embedding/vars/0": np.arange(18, dtype="f4").reshape(9, 2), "layers/string_lookup/none": np.zeros(1)}
    return {"config.json": json.dumps(model).encode(), "metadata.json": b'{"keras_version": "3.15.1"}',
            "model.weights.h5": hdf5(arrays), **assets}


def lookup(**options) -> dict:
    return layer("StringLookup", "look", mask_token=None, **options)


ASSET = "assets/layers/string_lookup/vocabulary.txt"


def test_a_vocabulary_beside_an_unzipped_model(tmp_path):
    content = members(lookup(vocabulary_size=3), {})
    path = folder(tmp_path / "model", content)
    (path / ASSET).parent.mkdir(parents=True)
    (path / ASSET).write_bytes("[UNK]\né\nb".encode())
    assert list(lstmrt.load(path).tokenizer.vocabulary) == ["[UNK]", "é", "b"]


@pytest.mark.parametrize("first, assets, error, words", [
    (lookup(), {}, ModelFileError, "vocabulary.txt"),
    (lookup(), {ASSET: b"\xff"}, ModelFileError, "not UTF-8"),
    (lookup(), {ASSET: b"a\nb\na"}, ModelFileError, "'a' twice"),
    (lookup(vocabulary_size=4), {ASSET: b"[UNK]\na"}, ModelFileError, "expected 4 tokens, got 2"),
    (lookup(vocabulary=[1, 2]), {}, UnsupportedError, "vocabulary=[1, 2]"),
    (lookup(vocabulary="/etc/passwd"), {}, ModelFileError, "vocabulary"),
    (lookup(vocabulary=["a"], invert=True), {}, UnsupportedError, "invert=True"),
    (lookup(vocabulary=["a"], output_mode="multi_hot"), {}, UnsupportedError, "output_mode='multi_hot'"),
    (layer("TextVectorization", "words", standardize={"class_name": "function"}, split="whitespace"), {},
     UnsupportedError, "TextVectorization 'words' with standardize="),
    (layer("TextVectorization", "words", split="whitespace", ngrams=2), {}, UnsupportedError, "ngrams=2"),
])
def test_vocabularies_that_are_refused(tmp_path, first, assets, error, words):
    refused(archive(tmp_path / "model.keras", members(first, assets)), error, words)


@pytest.mark.parametrize("tokens, masked", [
    (["[UNK]", "\n", "a"], False), (["", "[UNK]", "a", "\n"], True), (["[UNK]", "a", "\n", "b"], False),
    (["\n", "a"], False), (["", "[UNK]", "\n"], True), (["a", "b"], False), (["", "[UNK]", "\r", "\u2028"], True)])
@pytest.mark.parametrize("known", [True, False])
def test_a_line_end_that_is_a_token(tokens, masked, known):
    written = "\n".join(tokens).encode()
    assert split_lines(written, len(tokens) if known else None, masked) == tokens


def test_text_where_it_does_not_belong(tmp_path):
    model = lstmrt.load(archive(tmp_path / "model.keras", members(lookup(vocabulary=["a"], num_oov_indices=0), {})))
    np.testing.assert_array_equal(model([["a"]]), model([[0]]))
    np.testing.assert_array_equal(model(np.array([[b"a"]])), model([[0]]))
    with pytest.raises(InputError, match="input 'text': 'b' is not in the vocabulary"):
        model([["b"]])
    with pytest.raises(InputError, match="expected text, got 3.5"):
        model(np.array([[3.5]], object))
    texts = TextInput(model.tokenizer, texts=True)
    with pytest.raises(InputError, match=r"expected texts \(batch,\) or \(batch, 1\), got \(1, 2\)"):
        texts.ids("text", np.array([["a", "a"]]))
    assert texts.ids("text", np.array([], str)).shape == (0, 0)


# ---- tokenizers ----


def test_a_vocabulary_of_keras_knows_what_is_unknown():
    tokenizer = load_tokenizer(["", "[UNK]", "to", "be"])
    assert tokenizer.encode("to sleep be") == [2, 1, 3]
    assert load_tokenizer(["to", "be", "[UNK]"]).oov_token is None


def test_what_a_tokenizer_leaves_out():
    tokenizer = Tokenizer({"dont": 1, "été": 2, "ÉtÉ": 3}, char_level=False, lower=True, ascii_case=True, deleted="'!")
    assert tokenizer.encode("DON'T! ÉTÉ") == [1, 3]
    assert Tokenizer.from_json(tokenizer.to_json()) == tokenizer
    with pytest.raises(InputError, match="deleted"):
        Tokenizer({"a": 1}, char_level=False, deleted=3)


@pytest.mark.parametrize("settings", [None, {}, {"tokenizer": {}, "texts": True, "length": None},
                                      {"tokenizer": {"vocabulary": {"a": 1}, "char_level": True}, "texts": 1, "length": 2},
                                      {"tokenizer": {"vocabulary": {"a": 1}, "char_level": True}, "texts": True, "length": 0}])
def test_text_inputs_that_are_none(settings):
    with pytest.raises(InputError):
        TextInput.from_json(settings)
