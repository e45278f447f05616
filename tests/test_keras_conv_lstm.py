"""ConvLSTM layers beside Keras 3 and tf-keras: every option, wrappers, stacks as video models have them, damaged files."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

import lstmrt
from keras_models import FRAMEWORKS, assert_parity, framework, outputs_of, save, with_random_weights
from lstmrt.errors import LstmrtError, ModelFileError, UnsupportedError

RANDOM = np.random.default_rng(11)
BATCH, TIME, SIZES, CHANNELS, FILTERS = 3, 4, (7, 6), 2, 5
FRAMES = RANDOM.standard_normal((BATCH, TIME, *SIZES, CHANNELS)).astype(np.float32)
LINES = RANDOM.standard_normal((BATCH, TIME, 9, CHANNELS)).astype(np.float32)

both_frameworks = pytest.mark.parametrize("name", FRAMEWORKS)


def assert_all(keras, tmp_path, x, layers, **options):
    """Each of `layers` on frames `x`, as so many outputs of one model of any number of steps."""
    inputs = keras.Input((None, *x.shape[2:]))
    outputs = [y for layer in layers for y in _listed(layer(inputs))]
    return assert_parity(with_random_weights(keras.Model(inputs, outputs), 0.3), tmp_path, x, **options)


def _listed(made):
    return made if isinstance(made, (list, tuple)) else [made]


@both_frameworks
def test_windows(tmp_path, name):
    layer = framework(name).layers.ConvLSTM2D
    assert_all(framework(name), tmp_path, FRAMES, [
        layer(FILTERS, 3), layer(FILTERS, (2, 3), padding="same"), layer(4, (4, 1), strides=(2, 1)),
        layer(3, 2, strides=3, padding="same"), layer(FILTERS, (3, 2), dilation_rate=(2, 3)),
        layer(FILTERS, (2, 3), dilation_rate=2, padding="same"), layer(17, 1)])


@both_frameworks
def test_options(tmp_path, name):
    layer = framework(name).layers.ConvLSTM2D
    assert_all(framework(name), tmp_path, FRAMES, [
        layer(FILTERS, 3, use_bias=False), layer(FILTERS, 3, return_sequences=True),
        layer(FILTERS, 3, return_state=True), layer(FILTERS, 3, return_sequences=True, return_state=True, go_backwards=True),
        layer(FILTERS, 3, go_backwards=True, activation="relu", recurrent_activation="sigmoid"),
        layer(FILTERS, 3, activation="softsign", recurrent_activation="hard_sigmoid"),
        layer(FILTERS, 3, padding="same", unit_forget_bias=False, dropout=0.3, recurrent_dropout=0.2)])


@both_frameworks
def test_of_one_axis(tmp_path, name):
    layers = framework(name).layers
    assert_all(framework(name), tmp_path, LINES, [
        layers.ConvLSTM1D(FILTERS, 3, return_sequences=True), layers.ConvLSTM1D(FILTERS, 4, strides=2, padding="same"),
        layers.ConvLSTM1D(3, 2, dilation_rate=3, return_state=True)])


@both_frameworks
def test_of_three_axes(tmp_path, name):
    keras = framework(name)
    x = RANDOM.standard_normal((2, 3, 4, 3, 5, CHANNELS)).astype(np.float32)
    assert_all(keras, tmp_path, x, [keras.layers.ConvLSTM3D(3, (2, 1, 3), padding="same", return_sequences=True)])


@both_frameworks
def test_channels_first(tmp_path, name):
    layer, first = framework(name).layers.ConvLSTM2D, {"data_format": "channels_first", "return_state": True}
    frames = np.ascontiguousarray(np.moveaxis(FRAMES, -1, 2))
    assert_all(framework(name), tmp_path, frames, [
        layer(FILTERS, (2, 3), return_sequences=True, **first), layer(3, 3, padding="same", strides=2, **first)])


@both_frameworks
def test_initial_states(tmp_path, name):
    """Distinct ones, of a model's inputs: what is not kept by the layer itself."""
    keras = framework(name)
    x, h, c = keras.Input((None, *SIZES, CHANNELS)), keras.Input((*SIZES, FILTERS)), keras.Input((*SIZES, FILTERS))
    layer = keras.layers.ConvLSTM2D(FILTERS, 3, padding="same", return_sequences=True, return_state=True)
    model = with_random_weights(keras.Model([x, h, c], layer(x, initial_state=[h, c])), 0.3)
    states = [RANDOM.standard_normal((BATCH, *SIZES, FILTERS)).astype(np.float32) for _ in range(2)]
    loaded = assert_parity(model, tmp_path, FRAMES, *states)
    assert set(loaded.states) == {value.name for value in loaded.inputs[1:]}
    state, whole = loaded.new_state(BATCH), outputs_of(model, FRAMES, *np.zeros_like(states))[0]
    for t in range(TIME):
        np.testing.assert_allclose(loaded.step(FRAMES[:, t:t + 1], state), whole[:, t:t + 1], rtol=0, atol=2e-6)


@both_frameworks
@pytest.mark.parametrize("return_sequences", [False, True])
def test_masks(tmp_path, name, return_sequences):
    """Of ids beside the frames, masked at other steps in each row; the last row counts nowhere."""
    keras = framework(name)
    ids, x = keras.Input((TIME,), dtype="int32"), keras.Input((TIME, *SIZES, CHANNELS))
    mask = keras.layers.Embedding(4, 2, mask_zero=True).compute_mask(ids) if name == "tf_keras" else None
    if mask is None:
        mask = keras.ops.not_equal(ids, 0)
    layer = keras.layers.ConvLSTM2D
    outputs = [layer(FILTERS, 3, return_sequences=return_sequences)(x, mask=mask),
               layer(FILTERS, 2, return_sequences=return_sequences, go_backwards=True)(x, mask=mask),
               *layer(FILTERS, 2, return_state=True)(x, mask=mask)]
    model = with_random_weights(keras.Model([ids, x], outputs), 0.3)
    assert_parity(model, tmp_path, np.array([[0, 3, 0, 1], [2, 1, 3, 0], [0, 0, 0, 0]]), FRAMES)


@both_frameworks
def test_wrappers(tmp_path, name):
    layers = framework(name).layers
    assert_all(framework(name), tmp_path, FRAMES, [
        layers.Bidirectional(layers.ConvLSTM2D(FILTERS, 3, return_sequences=True)),
        layers.Bidirectional(layers.ConvLSTM2D(4, 2, padding="same"), merge_mode="ave")])
    clips = RANDOM.standard_normal((2, 3, TIME, 9, CHANNELS)).astype(np.float32)
    assert_all(framework(name), tmp_path, clips, [layers.TimeDistributed(layers.ConvLSTM1D(3, 2, return_sequences=True))])


@both_frameworks
def test_next_frames(tmp_path, name):
    """As Keras's example of next-frame prediction has them, and a head for each step or for all."""
    keras = framework(name)
    layers = keras.layers
    inputs = keras.Input((None, *SIZES, CHANNELS))
    x = inputs
    for size in (5, 3, 1):
        x = layers.ConvLSTM2D(8, size, padding="same", return_sequences=True, activation="relu")(x)
        x = layers.BatchNormalization()(x)
    each = layers.TimeDistributed(layers.Conv2D(3, 3, activation="relu"))(x)
    pooled = layers.TimeDistributed(layers.MaxPooling2D(2))(x)
    classes = layers.Dense(4, activation="softmax")(layers.LSTM(5)(layers.TimeDistributed(layers.Flatten())(pooled)))
    model = keras.Model(inputs, [layers.Conv3D(1, 3, padding="same", activation="sigmoid")(x), each, classes])
    weights = with_random_weights(model, 0.15).get_weights()
    model.set_weights([abs(array) + 0.5 if array.shape == (8,) else array for array in weights])  # variances
    assert_parity(model, tmp_path, FRAMES, error=1e-5)


@both_frameworks
def test_stateful(tmp_path, name):
    """A call begins at zeros, as the layer does after reset_states; steps carry what the layer keeps between calls."""
    keras = framework(name)
    inputs = keras.Input(batch_shape=(BATCH, TIME, *SIZES, CHANNELS))
    layer = keras.layers.ConvLSTM2D(FILTERS, 3, stateful=True, return_sequences=True)
    loaded = assert_parity(with_random_weights(keras.Model(inputs, layer(inputs)), 0.3), tmp_path, FRAMES)
    state, whole = loaded.new_state(BATCH), loaded(FRAMES)
    for t in range(TIME):
        np.testing.assert_array_equal(loaded.step(FRAMES[:, t], state), whole[:, t])


def test_no_onnx(tmp_path):
    keras = framework("keras")
    inputs = keras.Input((None, *SIZES, CHANNELS))
    path = save(keras.Model(inputs, keras.layers.ConvLSTM2D(2, 3, name="frames")(inputs)), tmp_path, ".keras")
    with pytest.raises(UnsupportedError, match="lstmrt:ConvLSTM 'frames'"):
        lstmrt.convert(path, tmp_path / "model.onnx")
    lstmrt.convert(path, tmp_path / "model.lstmrt")
    np.testing.assert_array_equal(lstmrt.load(tmp_path / "model.lstmrt")(FRAMES), lstmrt.load(path)(FRAMES))


def test_masks_of_places_are_refused(tmp_path):
    keras = framework("keras")
    frames = keras.layers.ConvLSTM2D(FILTERS, 3, name="frames")
    path = tmp_path / "model.keras"
    keras.Sequential([keras.Input((None, *SIZES, CHANNELS)), keras.layers.Masking(), frames]).save(path)
    with pytest.raises(UnsupportedError, match=r"'frames'.*a mask \('batch', 'time', 7, 6\)"):
        lstmrt.load(path)


# ---- files that are not what they say ----


def _damaged(tmp_path, edit_weights=None, **options):
    """A `.h5` whose layer has other options than its weights were made with, or weights that are edited."""
    keras = framework("tf_keras")
    inputs = keras.Input((None, *SIZES, CHANNELS))
    model = keras.Model(inputs, keras.layers.ConvLSTM2D(FILTERS, 3, name="frames")(inputs))
    path = save(model, tmp_path, ".h5")
    with h5py.File(path, "r+") as file:
        config = file.attrs["model_config"]
        for name, (old, new) in options.items():
            old, new = f'"{name}": {old}', f'"{name}": {new}'
            assert old in config
            config = config.replace(old, new)
        file.attrs["model_config"] = config
        if edit_weights:
            edit_weights(file["model_weights/frames/frames"])
    return path


@pytest.mark.parametrize("options, error, message", [
    ({"filters": ("5", "6")}, ModelFileError, "kernel: expected shape"),
    ({"filters": ("5", "0")}, ModelFileError, "kernel: expected shape"),
    ({"filters": ("5", "100000000000")}, ModelFileError, "kernel: expected shape"),
    ({"kernel_size": ("[3, 3]", "[3, 4]")}, ModelFileError, "kernel: expected shape"),
    ({"kernel_size": ("[3, 3]", "[3]")}, ModelFileError, "kernel_size: expected 2 numbers"),
    ({"kernel_size": ("[3, 3]", "[3, -3]")}, ModelFileError, "kernel_size: expected 2 numbers"),
    ({"strides": ("[1, 1]", "[0, 1]")}, ModelFileError, "strides: expected 2 numbers"),
    ({"strides": ("[1, 1]", "[10000000000, 1]")}, ModelFileError, "strides .*: windows of 2"),
    ({"strides": ("[1, 1]", '"many"')}, ModelFileError, "strides"),
    ({"dilation_rate": ("[1, 1]", "[1000000000000, 1]")}, ModelFileError, "does not fit into"),
    ({"data_format": ('"channels_last"', '"channels_middle"')}, UnsupportedError, "data_format='channels_middle'"),
    ({"padding": ('"valid"', '"causal"')}, UnsupportedError, "padding='causal'"),
    ({"recurrent_activation": ('"hard_sigmoid"', '"softmax"')}, UnsupportedError, "softmax"),
    ({"time_major": ("false", "true")}, UnsupportedError, "time_major"),
])
def test_options_that_do_not_fit(tmp_path, options, error, message):
    with pytest.raises(error, match=message) as caught:
        lstmrt.load(_damaged(tmp_path, **options))
    assert "frames" in str(caught.value)


def test_weights_that_do_not_fit(tmp_path):
    def shorter(group):
        kernel = group["recurrent_kernel:0"][:, :, :-1]
        del group["recurrent_kernel:0"]
        group["recurrent_kernel:0"] = kernel

    with pytest.raises(LstmrtError, match="recurrent_kernel: expected shape .* got"):
        lstmrt.load(_damaged(tmp_path, shorter))
