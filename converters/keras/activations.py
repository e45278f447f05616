"""Keras's activation functions, by name or as a layer, in terms of ONNX's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Union

from ...activations import FUNCTIONS, Activation
from ...errors import UnsupportedError
from .functions import COMPOSED
from .json import shown

ActivationConfig = Union[str, dict]

SOFTMAX = Activation("softmax")
RELU6 = Activation("Clip", 0.0, 6.0)

BY_NAME: Mapping[str, Activation] = {
    "linear": Activation("Identity"),
    "sigmoid": Activation("Sigmoid"),
    "tanh": Activation("Tanh"),
    "relu": Activation("Relu"),
    "relu6": RELU6,
    "leaky_relu": Activation("LeakyRelu", 0.2),
    "elu": Activation("Elu", 1.0),
    "celu": Activation("Elu", 1.0),
    "selu": Activation("Selu", *FUNCTIONS["Selu"]),
    "softplus": Activation("Softplus"),
    "softsign": Activation("Softsign"),
    "exponential": Activation("Exp"),
    "swish": Activation("Swish"),
    "silu": Activation("Swish"),
    "sparse_sigmoid": Activation("HardSigmoid", 0.5, 0.5),
    "gelu": Activation("Gelu"),
    "mish": Activation("Mish"),
    "hard_tanh": Activation("Clip", -1.0, 1.0),
    "hard_swish": Activation("hard_silu"),
    **{name: Activation(name) for name in COMPOSED},  # no functions of a recurrent operator
}


def named_activation(name: str, keras_major: int) -> Activation:
    """The function that Keras of this major version calls `name`; UnsupportedError for one that lstmrt lacks.

    hard_sigmoid is clip(x / 5 + 1 / 2, 0, 1) up to Keras 2 and clip(x / 6 + 1 / 2, 0, 1) since Keras 3.
    """
    if name == "hard_sigmoid":
        return Activation("HardSigmoid", 0.2 if keras_major < 3 else 1 / 6, 0.5)
    if name not in BY_NAME:
        raise UnsupportedError(f"activation '{name}'")
    return BY_NAME[name]


def relu(*, max_value: Union[float, None] = None, negative_slope: float = 0.0, threshold: float = 0.0) -> Activation:
    """Keras's ReLU layer, in the forms that one ONNX function can say."""
    if max_value is None and not threshold:
        return Activation("LeakyRelu", float(negative_slope)) if negative_slope else Activation("Relu")
    if max_value is not None and not threshold and not negative_slope:
        return Activation("Clip", 0.0, float(max_value))
    if max_value is None and not negative_slope and threshold > 0:
        return Activation("ThresholdedRelu", float(threshold))
    raise UnsupportedError(f"max_value={max_value}, negative_slope={negative_slope}, threshold={threshold} together")


def leaky_relu(*, negative_slope: Union[float, None] = None, alpha: Union[float, None] = None) -> Activation:
    """Keras's LeakyReLU layer; `alpha` is what Keras 2 calls the slope."""
    slopes = [slope for slope in (negative_slope, alpha) if slope is not None]
    return Activation("LeakyRelu", float(slopes[0]) if slopes else 0.3)


def elu(*, alpha: float = 1.0) -> Activation:
    """Keras's ELU layer."""
    return Activation("Elu", float(alpha))


def thresholded_relu(*, theta: float = 1.0) -> Activation:
    """Keras 2's ThresholdedReLU layer."""
    return Activation("ThresholdedRelu", float(theta))


def softmax(*, axis: int = -1) -> Activation:
    """Keras's Softmax layer over the last axis."""
    if axis != -1:
        raise UnsupportedError(f"axis={shown(axis)}")
    return SOFTMAX


AS_LAYER = {"ReLU": relu, "LeakyReLU": leaky_relu, "ThresholdedReLU": thresholded_relu, "ELU": elu, "Softmax": softmax}
