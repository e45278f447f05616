"""Layers that merge, move, pool, convolve and normalise, beside Keras 3 and tf-keras: many in one model, for speed."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

import lstmrt
from keras_models import (
    BATCH, FEATURES, FRAMEWORKS, IDS, TIME, VECTORS, VOCABULARY, assert_parity, framework, save, with_random_weights)
from lstmrt.errors import ModelFileError

pytestmark = pytest.mark.parametrize("name", FRAMEWORKS)

RANDOM = np.random.default_rng(3)
IMAGES = RANDOM.standard_normal((BATCH, 6, 7, 4)).astype(np.float32)
VOLUMES = RANDOM.standard_normal((2, 4, 6, 5, 3)).astype(np.float32)
STEPS = RANDOM.standard_normal((BATCH, 9, 4)).astype(np.float32)


def assert_all(keras, tmp_path, x, layers, *, time: int | None = None, positive: bool = False) -> None:
    """Each of `layers` on the input `x`, as so many outputs of one model."""
    shape = x.shape[1:] if time is None else (None, *x.shape[2:])
    inputs = keras.Input(shape, name="x")
    model = with_random_weights(keras.Model(inputs, [layer(inputs) for layer in layers]))
    if positive:  # variances
        model.set_weights([abs(array) for array in model.get_weights()])
        for layer in layers:
            getattr(layer, "finalize_state", lambda: None)()
    assert_parity(model, tmp_path, x)


def test_shaping(tmp_path, name):
    keras = framework(name)
    layers = keras.layers
    assert_all(keras, tmp_path, STEPS, [
        layers.Flatten(), layers.Reshape((4, 9)), layers.Reshape((-1, 2)), layers.Reshape((3, 3, 4)), layers.Permute((2, 1)),
        layers.Cropping1D(2), layers.Cropping1D((0, 3)), layers.ZeroPadding1D((1, 2)), layers.UpSampling1D(3)])
    assert_all(keras, tmp_path, IMAGES, [
        layers.Flatten(), layers.Permute((3, 1, 2)), layers.ZeroPadding2D(2), layers.ZeroPadding2D(((1, 2), (0, 3)))])
    assert_all(keras, tmp_path, VECTORS[:, 0], [layers.RepeatVector(4), layers.Flatten()])


def test_shaping_of_images_and_volumes(tmp_path, name):
    keras = framework(name)
    layers, first = keras.layers, {"data_format": "channels_first"}
    assert_all(keras, tmp_path, IMAGES, [
        layers.Cropping2D(1), layers.Cropping2D((0, 2)), layers.Cropping2D(((1, 2), (0, 3)), **first), layers.UpSampling2D((3, 2)),
        layers.UpSampling2D(2, **first), layers.ZeroPadding2D(((1, 2), (0, 3)), **first)])
    assert_all(keras, tmp_path, IMAGES, [
        layers.Cropping2D(((1, 2), (0, 3))), layers.UpSampling2D((3, 2)), layers.ZeroPadding2D((1, 3))], time=-1)
    assert_all(keras, tmp_path, VOLUMES, [
        layers.Cropping3D(((1, 0), (2, 1), (0, 3))), layers.UpSampling3D((1, 3, 2)), layers.ZeroPadding3D(((0, 1), (2, 0), (1, 3)))])


def test_shaping_of_any_length(tmp_path, name):
    keras = framework(name)
    layers = keras.layers
    assert_all(keras, tmp_path, STEPS, [
        layers.Cropping1D((1, 2)), layers.ZeroPadding1D(2), layers.UpSampling1D(2), layers.Permute((2, 1)),
        layers.LSTM(3, return_sequences=True)], time=-1)


@pytest.mark.parametrize("layer", ["Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate"])
def test_merging(tmp_path, name, layer):
    keras = framework(name)
    layers = keras.layers
    a, b, c = (keras.Input((None, FEATURES), name=letter) for letter in "abc")
    row = keras.Input((1, FEATURES), name="row")
    merge = getattr(layers, layer)
    outputs = [merge()([a, b]), layers.GRU(3)(merge()([b, a]))]
    if layer != "Subtract":
        outputs.append(merge()([a, b, c]))
    if layer != "Concatenate":
        outputs.append(merge()([a, row]))
    else:
        outputs += [merge(axis=1)([a, b, c]), merge(axis=-2)([a, row])]
    arrays = [RANDOM.standard_normal((BATCH, size, FEATURES)).astype(np.float32) for size in (TIME, TIME, TIME, 1)]
    assert_parity(with_random_weights(keras.Model([a, b, c, row], outputs)), tmp_path, *arrays)


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("layer", ["Add", "Multiply", "Maximum", "Concatenate", "Concatenate in time"])
def test_masks_of_merged_inputs(tmp_path, name, layer, both):
    """Two Embeddings that mask different steps, or one of them only."""
    keras = framework(name)
    layers = keras.layers
    if layer == "Concatenate in time" and not both and name == "tf_keras":
        pytest.skip("tf_keras cannot concatenate a mask with none")
    ids, others = (keras.Input((TIME,), dtype="int32", name=key) for key in ("ids", "others"))
    x = layers.Embedding(VOCABULARY, FEATURES, mask_zero=True)(ids)
    z = layers.Embedding(VOCABULARY, FEATURES, mask_zero=both)(others)
    merge = layers.Concatenate(axis=1) if "time" in layer else getattr(layers, layer)()
    y = layers.LSTM(4, return_sequences=True)(merge([x, z]))
    assert_parity(with_random_weights(keras.Model([ids, others], y)), tmp_path, IDS, IDS[::-1, ::-1].copy())


@pytest.mark.parametrize("normalize", [False, True])
def test_dot(tmp_path, name, normalize):
    keras = framework(name)
    dot = keras.layers.Dot
    a, b = keras.Input((TIME, FEATURES), name="a"), keras.Input((TIME, FEATURES), name="b")
    c, d = keras.Input((FEATURES,), name="c"), keras.Input((FEATURES,), name="d")
    outputs = [dot(2, normalize=normalize)([a, b]), dot(1, normalize=normalize)([a, b]),
               dot((2, 1), normalize=normalize)([a, c]), dot(1, normalize=normalize)([c, d]),
               dot((1, 2), normalize=normalize)([c, a])]
    arrays = [RANDOM.standard_normal(shape).astype(np.float32) for shape in [(BATCH, TIME, FEATURES)] * 2 + [(BATCH, FEATURES)] * 2]
    assert_parity(keras.Model([a, b, c, d], outputs), tmp_path, *arrays)


def test_pooling(tmp_path, name):
    keras = framework(name)
    layers = keras.layers
    one, two = [], []
    for padding in ("valid", "same"):
        for kind in ("Max", "Average"):
            one += [getattr(layers, f"{kind}Pooling1D")(size, strides, padding=padding)
                    for size, strides in ((2, None), (3, 2), (4, 1))]
            two += [getattr(layers, f"{kind}Pooling2D")(size, strides, padding=padding)
                    for size, strides in ((2, None), ((3, 2), (2, 1)))]
    everything = [getattr(layers, f"Global{kind}Pooling{axes}D")(keepdims=keepdims) for kind in ("Max", "Average")
                  for keepdims in (False, True) for axes in (1, 2)]
    assert_all(keras, tmp_path, STEPS, one + everything[::2])
    assert_all(keras, tmp_path, IMAGES, two + everything[1::2])
    assert_all(keras, tmp_path, STEPS, one + everything[::2], time=-1)


def test_pooling_and_convolution_of_volumes(tmp_path, name):
    keras = framework(name)
    layers = keras.layers
    kinds = [getattr(layers, f"{kind}Pooling3D") for kind in ("Max", "Average")]
    everything = [getattr(layers, f"Global{kind}Pooling3D")(keepdims=keepdims) for kind in ("Max", "Average")
                  for keepdims in (False, True)]
    convolutions = [layers.Conv3D(5, 3, activation="relu"), layers.Conv3D(4, (2, 3, 1), strides=(1, 2, 3), padding="same"),
                    layers.Conv3D(6, (1, 3, 2), padding="same", groups=3, use_bias=False), layers.Conv3DTranspose(5, 2, strides=2)]
    assert_all(keras, tmp_path, VOLUMES, [
        *(pool(size, padding=padding) for pool in kinds for size in (2, (1, 3, 2)) for padding in ("valid", "same")),
        *everything, *convolutions])
    assert_all(keras, tmp_path, VOLUMES, [kinds[0]((1, 2, 3)), kinds[1](2, 1, padding="same"), *convolutions[::2]], time=-1)


@pytest.mark.parametrize("layer", ["AveragePooling1D", "MaxPooling1D"])
def test_sequences_shorter_than_a_window(tmp_path, name, layer):
    """Windows that are whole do not fit into them; those that are padded do. Longer sequences are run between."""
    keras = framework(name)
    inputs = keras.Input((None, 4))
    pool = getattr(keras.layers, layer)
    whole, padded = (lstmrt.load(save(keras.Model(inputs, pool(3, padding=padding)(keras.layers.Conv1D(4, 2)(inputs))),
                                      tmp_path, ".keras")) for padding in ("valid", "same"))
    for steps in (2, 9, 3):
        assert padded(STEPS[:, :steps]).shape[1] == -(-(steps - 1) // 3)
        if steps < 4:
            with pytest.raises(lstmrt.InputError, match="Pool.*kernel of 3 .* does not fit into"):
                whole(STEPS[:, :steps])
        else:
            assert whole(STEPS[:, :steps]).shape[1] == (steps - 1) // 3


def test_averages_of_masked_steps(tmp_path, name):
    """The others do not heed masks."""
    keras = framework(name)
    layers = keras.layers
    ids = keras.Input((TIME,), dtype="int32", name="ids")
    x = layers.Embedding(VOCABULARY, FEATURES, mask_zero=True)(ids)
    model = keras.Model(ids, [layers.GlobalAveragePooling1D()(x), layers.GlobalAveragePooling1D(keepdims=True)(x),
                              layers.GlobalMaxPooling1D()(x)])
    assert_parity(with_random_weights(model), tmp_path, IDS[[0, 1, 2, 4]])


def test_convolution_of_steps(tmp_path, name):
    keras = framework(name)
    conv = keras.layers.Conv1D
    assert_all(keras, tmp_path, STEPS, [
        conv(5, 3), conv(5, 3, padding="same", activation="relu"), conv(5, 4, padding="same"), conv(5, 3, padding="causal"),
        conv(5, 3, strides=2), conv(5, 3, strides=2, padding="same"), conv(5, 4, strides=3, padding="same"),
        conv(6, 3, dilation_rate=2), conv(6, 2, dilation_rate=3, padding="causal", use_bias=False),
        conv(6, 3, dilation_rate=2, padding="same"), conv(6, 2, groups=2), conv(6, 1, strides=2, padding="causal")])
    assert_all(keras, tmp_path, STEPS, [conv(5, 3, padding=padding) for padding in ("valid", "same", "causal")], time=-1)


def test_convolution_of_images(tmp_path, name):
    keras = framework(name)
    conv = keras.layers.Conv2D
    assert_all(keras, tmp_path, IMAGES, [
        conv(5, 3), conv(5, (2, 4), padding="same", activation="tanh"), conv(5, 3, strides=(2, 1), padding="same"),
        conv(6, 2, dilation_rate=2, padding="same"), conv(6, 2, groups=2, use_bias=False)])


def test_separable_and_depthwise_convolution(tmp_path, name):
    keras = framework(name)
    layers = keras.layers
    one = [layers.SeparableConv1D(5, 3), layers.SeparableConv1D(5, 2, padding="same", depth_multiplier=3, activation="relu"),
           layers.DepthwiseConv1D(3), layers.DepthwiseConv1D(2, depth_multiplier=2, padding="same", use_bias=False)]
    two = [layers.SeparableConv2D(5, 3, padding="same", depth_multiplier=2), layers.SeparableConv2D(5, 2, strides=2),
           layers.DepthwiseConv2D(3), layers.DepthwiseConv2D((2, 3), depth_multiplier=2, padding="same")]
    assert_all(keras, tmp_path, STEPS, one)
    assert_all(keras, tmp_path, IMAGES, two)


def test_transposed_convolution(tmp_path, name):
    keras = framework(name)
    layers = keras.layers
    one = [layers.Conv1DTranspose(5, size, strides=strides, padding=padding) for padding in ("valid", "same")
           for size, strides in ((1, 1), (1, 3), (2, 1), (3, 2), (4, 1), (5, 2))]
    two = [layers.Conv2DTranspose(5, (3, 2), strides=(2, 3), padding=padding, activation="tanh", use_bias=False)
           for padding in ("valid", "same")]
    assert_all(keras, tmp_path, STEPS, one)
    two += [layers.Conv2DTranspose(5, (3, 2), strides=(2, 3), padding=padding, output_padding=more)
            for padding in ("valid", "same") for more in ((0, 2), (1, 1))]
    two += [layers.Conv2DTranspose(5, (3, 2), dilation_rate=2, padding=padding) for padding in ("valid", "same")]
    assert_all(keras, tmp_path, STEPS, one[::5], time=-1)
    assert_all(keras, tmp_path, IMAGES, two)


def test_kernels_of_their_own_for_each_place(tmp_path, name):
    keras = framework(name)
    layers = keras.layers
    if name == "keras":
        pytest.skip("Keras 3 has none")
    assert_all(keras, tmp_path, STEPS, [layers.LocallyConnected1D(5, 3, activation="tanh"),
                                        layers.LocallyConnected1D(2, 4, strides=2, use_bias=False),
                                        layers.LocallyConnected1D(3, 2, data_format="channels_first")])
    assert_all(keras, tmp_path, IMAGES, [layers.LocallyConnected2D(5, (3, 2)), layers.LocallyConnected2D(2, 3, strides=(1, 2)),
                                         layers.LocallyConnected2D(3, (2, 3), data_format="channels_first")])


@pytest.mark.parametrize("option", ["cropping", "padding"])
def test_numbers_that_are_too_large(tmp_path, name, option):
    keras = framework(name)
    layer = {"cropping": keras.layers.Cropping1D, "padding": keras.layers.ZeroPadding1D}[option](2, name="moved")
    inputs = keras.Input((9, 4))
    path = save(keras.Model(inputs, layer(inputs)), tmp_path, ".h5")
    with h5py.File(path, "r+") as file:
        config = file.attrs["model_config"]
        assert f'"{option}": [2, 2]' in config
        file.attrs["model_config"] = config.replace(f'"{option}": [2, 2]', f'"{option}": [{10**20}, 2]')
    with pytest.raises(ModelFileError, match=f"layer {type(layer).__name__} 'moved': a number in its configuration is too large"):
        lstmrt.load(path)


@pytest.mark.parametrize("shape, message", [
    ("[null, 2, 4]", r"LocallyConnected1D 'places': kernel_size=\[3\] on an input of shape \('batch', 2, 4\)"),
    ("[null, 1000000000000, 4]", r"LocallyConnected1D 'places': kernel: expected shape \(499999999999, 12, 5\)"),
])
def test_kernels_for_other_places(tmp_path, name, shape, message):
    """Before anything as large as the places is made."""
    if name == "keras":
        pytest.skip("Keras 3 has no such layer")
    keras = framework(name)
    inputs = keras.Input((9, 4))
    path = save(keras.Model(inputs, keras.layers.LocallyConnected1D(5, 3, strides=2, name="places")(inputs)), tmp_path, ".h5")
    with h5py.File(path, "r+") as file:
        file.attrs["model_config"] = file.attrs["model_config"].replace("[null, 9, 4]", shape)
    with pytest.raises(ModelFileError, match=message):
        lstmrt.load(path)


ROW_FUNCTIONS = {"keras": ("softmax", "log_softmax", "glu", "sparsemax"), "tf_keras": ("softmax", "log_softmax")}


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_convolutions_activated_by_functions_of_rows(tmp_path, name, data_format):
    """These run along the last axis of what the layer gives, whatever that axis is; glu halves it. (10 filters, unlike
    any other size: TensorFlow adds a bias to a last axis of as many elements, channels or not.)"""
    keras = framework(name)
    layers = keras.layers
    for axes, x in ((1, RANDOM.standard_normal((BATCH, 8, 6)).astype(np.float32)), (2, IMAGES[:, :, :6])):
        kinds = [(f"Conv{axes}D", 10), (f"SeparableConv{axes}D", 10), (f"Conv{axes}DTranspose", 10), (f"DepthwiseConv{axes}D",)]
        assert_all(keras, tmp_path, x, [
            getattr(layers, kind)(*filters, 3, activation=function, data_format=data_format)
            for kind, *filters in kinds for function in ROW_FUNCTIONS[name]])
    if data_format == "channels_last":
        free = [layers.Conv1D(4, 3, activation=function) for function in ROW_FUNCTIONS[name]]
        assert_all(keras, tmp_path, STEPS, free, time=-1)


def test_dense_by_an_equation(tmp_path, name):
    keras = framework(name)
    dense = keras.layers.EinsumDense
    equations = [dense("abc,cd->abd", output_shape=(None, 5), bias_axes="d", activation="tanh"),
                 dense("abc,cde->abde", output_shape=(None, 3, 2), bias_axes="de"), dense("...c,cd->...d", output_shape=5),
                 dense("abc,bd->adc", output_shape=(5, 4), bias_axes="d"), dense("abc,bce->ae", output_shape=(5,), bias_axes="e")]
    assert_all(keras, tmp_path, STEPS, equations)
    assert_all(keras, tmp_path, STEPS, equations[:3], time=-1)


def test_discretization(tmp_path, name):
    keras = framework(name)
    numbers = keras.Input((FEATURES,))
    x = 2 * VECTORS[:, 0]
    x[0, 0], x[1, 0] = -0.5, 0.7  # on a boundary
    modes = ("int", "multi_hot", "count", "one_hot")[:4 if name == "keras" else 3]
    outputs = [keras.layers.Discretization([-0.5, 0.0, 0.7], output_mode=mode)(numbers) for mode in modes]
    outputs.append(keras.layers.Embedding(4, 3)(outputs[0]))
    assert_parity(with_random_weights(keras.Model(numbers, outputs)), tmp_path, x)


def test_normalization_of_groups_and_lengths(tmp_path, name):
    keras = framework(name)
    layers, groups = keras.layers, keras.layers.GroupNormalization
    assert_all(keras, tmp_path, STEPS, [
        groups(2), groups(4, center=False), groups(-1, scale=False, epsilon=0.1), groups(3, axis=1), layers.UnitNormalization(),
        layers.UnitNormalization(axis=1)])
    assert_all(keras, tmp_path, STEPS, [groups(2), layers.UnitNormalization()], time=-1)
    assert_all(keras, tmp_path, IMAGES, [groups(2), groups(3, axis=1)])


def test_normalization(tmp_path, name):
    keras = framework(name)
    layers = keras.layers
    several = [layers.BatchNormalization(), layers.BatchNormalization(scale=False, epsilon=0.02),
               layers.BatchNormalization(center=False), layers.BatchNormalization(axis=1), layers.LayerNormalization(),
               layers.LayerNormalization(epsilon=0.05, center=False), layers.LayerNormalization(scale=False),
               layers.LayerNormalization(axis=[1, 2]), layers.Rescaling(0.25, 1.5), layers.Normalization(),
               layers.Normalization(axis=1), layers.Normalization(mean=0.5, variance=3.0),
               layers.Normalization(mean=0.5, variance=3.0, invert=True)]
    assert_all(keras, tmp_path, STEPS, several, positive=True)


def test_normalization_of_axes_that_are_not_the_last(tmp_path, name):
    keras = framework(name)
    layer = keras.layers.LayerNormalization
    assert_all(keras, tmp_path, STEPS, [layer(axis=1), layer(axis=[1], scale=False), layer(axis=-2, epsilon=0.2, center=False)])
    assert_all(keras, tmp_path, IMAGES, [layer(axis=axis) for axis in (1, 2, [1, 2], [1, 3], [-1, 2], [1, -2, 3])])


@pytest.mark.parametrize("layer", ["BatchNormalization", "LayerNormalization", "Masking", "PReLU", "UnitNormalization"])
def test_masks_go_through(tmp_path, name, layer):
    keras = framework(name)
    layers = keras.layers
    middle = getattr(layers, layer)(**{"shared_axes": [1]} if layer == "PReLU" else {})
    model = keras.Sequential([keras.Input((TIME,)), layers.Embedding(VOCABULARY, FEATURES, mask_zero=True), middle,
                              layers.LSTM(4, return_sequences=True)])
    model = with_random_weights(model)
    model.set_weights([abs(array) for array in model.get_weights()])
    assert_parity(model, tmp_path, IDS)


@pytest.mark.parametrize("layer", [
    lambda layers: layers.Conv1D(4, 2, padding="same"), lambda layers: layers.MaxPooling1D(1),
    lambda layers: layers.Reshape((TIME, FEATURES)), lambda layers: layers.ZeroPadding1D(1)],
    ids=["Conv1D", "MaxPooling1D", "Reshape", "ZeroPadding1D"])
def test_masks_end(tmp_path, name, layer):
    keras = framework(name)
    layers = keras.layers
    model = keras.Sequential([keras.Input((TIME,)), layers.Embedding(VOCABULARY, FEATURES, mask_zero=True),
                              layer(layers), layers.LSTM(4)])
    assert_parity(with_random_weights(model), tmp_path, IDS)


@pytest.mark.parametrize("mask_value", [0.0, -1.5])
def test_masking(tmp_path, name, mask_value):
    """A step is masked where all its features are the value; masked steps become 0 for what follows."""
    keras = framework(name)
    layers = keras.layers
    x = VECTORS.copy()
    x[IDS == 0] = mask_value
    x[1, 1, 0] = x[2, 5, 1] = mask_value
    inputs = keras.Input((None, FEATURES))
    masked = layers.Masking(mask_value)(inputs)
    outputs = [masked, layers.GRU(4, return_sequences=True)(masked), layers.Bidirectional(layers.LSTM(3))(masked)]
    assert_parity(with_random_weights(keras.Model(inputs, outputs)), tmp_path, x)


def test_activation_layers_with_weights_or_several_options(tmp_path, name):
    keras = framework(name)
    layers = keras.layers
    assert_all(keras, tmp_path, STEPS, [
        layers.PReLU(), layers.PReLU(shared_axes=[1]), layers.ReLU(max_value=0.6, negative_slope=0.3),
        layers.ReLU(max_value=0.9, threshold=0.2, negative_slope=0.1), layers.ReLU(threshold=0.4, negative_slope=0.2), layers.Softmax(),
        layers.Softmax(axis=1), *([layers.ThresholdedReLU(0.3)] if name == "tf_keras" else [])])


def test_category_encoding(tmp_path, name):
    keras = framework(name)
    encoding = keras.layers.CategoryEncoding
    ids = keras.Input((TIME,), dtype="int32")
    outputs = [encoding(VOCABULARY, output_mode=mode)(ids) for mode in ("multi_hot", "count")]
    assert_parity(keras.Model(ids, outputs), tmp_path, IDS, containers=[".keras"])


def test_what_does_nothing_at_inference(tmp_path, name):
    keras = framework(name)
    layers = keras.layers
    assert_all(keras, tmp_path, IMAGES, [layers.SpatialDropout2D(0.4), layers.ActivityRegularization(l2=0.1), layers.Identity()])
    assert_all(keras, tmp_path, VOLUMES, [layers.SpatialDropout3D(0.3)])
