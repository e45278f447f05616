"""Generation with models that read one-hot vectors: the loop of Keras's character examples."""

from __future__ import annotations

import keras_models
import numpy as np
import pytest

import lstmrt
from lstmrt.one_hot import reads_one_hot, with_ids

CHARACTERS = list("\n abcdehnort")
WINDOW = 6


def one_hot(ids) -> np.ndarray:
    return np.eye(len(CHARACTERS), dtype=np.float32)[np.asarray(ids, int)]


@pytest.fixture(scope="module", params=keras_models.FRAMEWORKS)
def keras(request):
    return keras_models.framework(request.param)


def made_by(keras, time, *layers, batch=None):
    model = keras.Sequential([keras.Input(batch_shape=(batch, time, len(CHARACTERS))), *layers])
    return keras_models.with_random_weights(model, scale=2)


@pytest.mark.parametrize("prompt", ["to be or not", "bet"])
def test_the_window_of_keras(keras, tmp_path, prompt):
    """The last characters as vectors, zeros in front where there are too few."""
    layers = keras.layers
    model = made_by(keras, WINDOW, layers.GRU(7, return_sequences=True), layers.LSTM(5),
                    layers.Dense(len(CHARACTERS), activation="softmax"))
    ids = [CHARACTERS.index(character) for character in prompt]
    for _ in range(12):
        window = np.zeros((1, WINDOW, len(CHARACTERS)), np.float32)
        last = ids[-WINDOW:]
        window[0, WINDOW - len(last):] = one_hot(last)
        ids.append(int(np.asarray(model(window))[0].argmax()))
    expected = ids[len(prompt):]

    lstmrt.convert(keras_models.save(model, tmp_path, ".keras"), tmp_path / "model.lstmrt", tokenizer=CHARACTERS)
    loaded = lstmrt.load(tmp_path / "model.lstmrt")
    assert loaded.generation.mode == "window" and loaded.generation.pad_id == len(CHARACTERS)
    assert loaded.generate(ids[:len(prompt)], max_new_tokens=12).tolist() == expected
    assert loaded.generate(prompt, max_new_tokens=12) == "".join(CHARACTERS[id] for id in expected)
    assert "".join(loaded.stream(prompt, max_new_tokens=12)) == loaded.generate([prompt], max_new_tokens=12)[0]
    x = one_hot([ids[:WINDOW], ids[2:2 + WINDOW]])
    np.testing.assert_allclose(loaded(x), np.asarray(model(x)), rtol=0, atol=2e-6)


def test_one_character_at_a_time(keras, tmp_path):
    layers = keras.layers
    model = made_by(keras, 1, layers.LSTM(9, stateful=True, return_sequences=True),
                    layers.TimeDistributed(layers.Dense(len(CHARACTERS), activation="softmax")), batch=1)
    ids, made = [3, 1, 4], []
    for id in ids:
        probabilities = np.asarray(model(one_hot([[id]])))[0, 0]
    for _ in range(10):
        made.append(int(probabilities.argmax()))
        probabilities = np.asarray(model(one_hot([made[-1:]])))[0, 0]
    loaded = lstmrt.load(keras_models.save(model, tmp_path, ".keras"))
    assert loaded.generation.mode == "stateful"
    assert loaded.generate(ids, max_new_tokens=10).tolist() == made


def test_what_does_not_read_one_hot_vectors(keras, tmp_path):
    layers = keras.layers
    for width, last in ((len(CHARACTERS) + 1, "softmax"), (len(CHARACTERS), "linear")):
        model = made_by(keras, WINDOW, layers.GRU(4), layers.Dense(width, activation=last))
        loaded = lstmrt.load(keras_models.save(model, tmp_path, ".keras"))
        assert loaded.generation is None
        with pytest.raises(lstmrt.UnsupportedError, match="ids"):
            loaded.generate([1, 2])


def test_the_same_graph_behind_a_table(keras, tmp_path):
    layers = keras.layers
    model = made_by(keras, None, layers.SimpleRNN(4), layers.Dense(len(CHARACTERS), activation="softmax"))
    graph = lstmrt.load(keras_models.save(model, tmp_path, ".keras")).source.graph
    assert reads_one_hot(graph)
    of_ids = with_ids(graph).validate()
    assert not reads_one_hot(of_ids)
    from lstmrt import reference

    (name,), (output,) = [value.name for value in graph.inputs], [value.name for value in graph.outputs]
    ids = np.array([[1, 2, 3]])
    np.testing.assert_array_equal(reference.run(of_ids, {name: ids})[output],
                                  reference.run(graph, {name: one_hot(ids)})[output])
