"""Makes KERAS_VERSION.zip, here or in FOLDER: small models in every container that one version of Keras writes, and what it computed.

    python make_files.py [FOLDER]

Run in an environment with Keras 1.2.2 (Theano), 2.12 to 2.15 or 3 (TensorFlow); the archive that is kept was made by the
version that it is called after. Each member is NAME.CONTAINER, with inputs and outputs in NAME.npz. Weights are random,
all different, and the same in each run.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import numpy as np

try:
    import collections
    import collections.abc
    import inspect

    import keras
except (ImportError, AttributeError):  # Keras 1 under a Python that is younger than it
    for name in ("Iterable", "Mapping", "Sequence"):
        setattr(collections, name, getattr(collections.abc, name))
    inspect.getargspec = lambda function: inspect.getfullargspec(function)[:4]
    import keras
    import theano.ifelse
from keras import layers
from keras.models import Model, Sequential

VERSION = tuple(int(part) for part in keras.__version__.split(".")[:2])
TIME, FEATURES, VOCABULARY, BATCH = 6, 3, 11, 3
OLD = VERSION < (2, 0)
STEPS = {"unroll": True} if OLD else {}  # Theano's loop does not compile under a Python that is younger than it
GATE = {**STEPS, "inner_activation" if OLD else "recurrent_activation": "hard_sigmoid"}
LENGTH = {"input_length": TIME} if VERSION < (3, 0) else {}
TEXTS = ["to be or not", "Be! the question", "ophelia"]


def language_model():
    return Sequential([layers.Embedding(VOCABULARY, 4, mask_zero=True, **LENGTH),
                       layers.LSTM(5, return_sequences=True, **GATE), layers.LSTM(3, **STEPS), layers.Dropout(0.5),
                       layers.Dense(VOCABULARY, activation="softmax")])


def hard():
    return Sequential([layers.GRU(5, return_sequences=True, input_shape=(TIME, FEATURES), **GATE),
                       layers.Dense(3, activation="tanh"), layers.SimpleRNN(4, **STEPS)])


def both():
    return Sequential([layers.Bidirectional(layers.LSTM(3, return_sequences=True, **STEPS), merge_mode="ave",
                                            input_shape=(TIME, FEATURES)),
                       layers.TimeDistributed(layers.Dense(4)), layers.Bidirectional(layers.GRU(2, **STEPS))])


def branches():
    """Two inputs, a layer called twice, a model in the model."""
    inner = Sequential([layers.Dense(4, activation="tanh", input_shape=(TIME, FEATURES), name="first"),
                        layers.LSTM(3, name="second", **STEPS)], name="inner")
    a, b = (layers.Input(shape=(TIME, FEATURES), name=name) for name in "ab")
    shared = layers.GRU(2, name="shared", **STEPS)
    parts = [shared(a), shared(b), inner(a)]
    joined = layers.merge(parts, mode="concat") if OLD else layers.Concatenate()(parts)
    return Model([a, b], layers.Dense(2, name="last")(joined))


def cells():
    return Sequential([layers.RNN([layers.LSTMCell(3), layers.GRUCell(2)], return_sequences=True,
                                  input_shape=(TIME, FEATURES)),
                       layers.RNN(layers.SimpleRNNCell(2))])


def convolution():
    conv = layers.Convolution1D(4, 1) if OLD else layers.Conv1D(4, 3, padding="same")
    norm = layers.BatchNormalization()
    return Sequential([layers.Bidirectional(layers.SimpleRNN(2, return_sequences=True, **STEPS), input_shape=(TIME, FEATURES)),
                       conv, norm, layers.LSTM(3, **STEPS)])


def frozen():
    """A frozen layer's weights come last in legacy files."""
    inner = Sequential([layers.Embedding(VOCABULARY, 4, trainable=False, name="table", **LENGTH),
                        layers.GRU(3, return_sequences=True, name="read", **STEPS)], name="inner")
    ids = layers.Input(shape=(TIME,), name="ids")
    return Model(ids, layers.SimpleRNN(2, **STEPS)(inner(ids)))


def text():
    vectorize = layers.TextVectorization(output_sequence_length=TIME, name="words")
    vectorize.adapt(["to be or not to be", "that is the question"])
    start = keras.Input(shape=(1,), dtype="string")
    x = layers.Embedding(len(vectorize.get_vocabulary()), 4, mask_zero=True)(vectorize(start))
    return Model(start, layers.Dense(3)(layers.LSTM(4)(x)))


def with_random_weights(model):
    random = np.random.RandomState(1599)
    for layer in model.layers:
        if "TextVectorization" not in type(layer).__name__:
            arrays = [0.5 * random.standard_normal(array.shape) for array in layer.get_weights()]
            layer.set_weights([abs(array) if is_variance(weight) else array
                               for weight, array in zip(layer.weights, arrays)])
    return model


def is_variance(weight):
    return weight.name.split("/")[-1].startswith("moving_variance") or "running_std" in weight.name


def inputs_of(name, model):
    random = np.random.RandomState(7)
    if name == "text":
        return [np.array(TEXTS)[:, None]]
    given = []
    for tensor in model.inputs:
        shape = (BATCH, *[int(size) for size in (getattr(tensor, "_keras_shape", None) or tensor.shape)[1:]])
        ids = random.randint(0, VOCABULARY, shape)
        given.append(ids * (ids > 2) if name in ("language_model", "frozen") else
                     random.standard_normal(shape).astype("float32"))
    return given


def outputs_of(name, model, given):
    if name == "text":
        import tensorflow

        return np.asarray(model(tensorflow.constant(given[0])))
    return model.predict(given if len(given) > 1 else given[0])


def containers(model, stem):
    """Writes the model in each way that this version has."""
    Path(f"{stem}.json").write_text(model.to_json(), encoding="utf-8")
    if not OLD:
        model.save(f"{stem}.keras")
    if VERSION >= (2, 12):
        model.save_weights(f"{stem}.weights.h5")
    legacy = {f"{stem}.h5": model.save}
    if VERSION < (3, 0):
        legacy[f"{stem}.only.h5"] = model.save_weights
    for path, write in legacy.items():
        try:
            write(path)
        except Exception as error:  # vocabularies, and in Keras 3.0 weights that have one name; it fails in the middle
            print(f"{path}: {type(error).__name__}")
            Path(path).unlink()
    if VERSION >= (3, 9) and Path(stem).name == "branches":
        model.save(f"{stem}_folder", zipped=False)
    if VERSION >= (3, 10) and Path(stem).name == "hard":
        model.save_weights(f"{stem}_split.weights.json", max_shard_size=4e-7)
    if (2, 12) <= VERSION < (3, 0) and Path(stem).name in ("language_model", "branches", "cells"):
        model.save(f"{stem}_saved_model", save_format="tf")


def main():
    makers = [language_model, hard, both, branches, convolution, frozen]
    makers += [cells] if VERSION >= (2, 2) else []
    makers += [text] if VERSION >= (2, 13) else []
    with tempfile.TemporaryDirectory() as folder:
        for make in makers:
            name = make.__name__
            getattr(keras.backend, "clear_session", int)()
            model = make()
            if not model.weights:
                model.build((None, TIME) if name == "language_model" else (None, TIME, FEATURES))
            with_random_weights(model)
            given = inputs_of(name, model)
            outputs = outputs_of(name, model, given)
            np.savez(Path(folder, name), outputs=outputs, **{f"input{i}": array for i, array in enumerate(given)})
            containers(model, str(Path(folder, name)))
        for path in Path(folder).glob("*_saved_model/saved_model.pb"):  # the traced functions, which nobody reads
            path.write_bytes(b"")
            shutil.rmtree(path.parent / "assets", ignore_errors=True)
        target = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent) / f"{keras.__version__}.zip"
        with zipfile.ZipFile(target, "w", zipfile.ZIP_LZMA) as archive:
            for path in sorted(Path(folder).glob("**/*")):
                if path.is_file():
                    archive.writestr(zipfile.ZipInfo(path.relative_to(folder).as_posix()), path.read_bytes(),
                                     zipfile.ZIP_LZMA)
    print(target, target.stat().st_size)


if __name__ == "__main__":
    main()
