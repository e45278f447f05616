"""The one place that reads activation functions off a node.

ONNX's rule for recurrent nodes: `activations` names the functions of the first direction and then of the second, in
any case; `activation_alpha` and `activation_beta` are consumed in that order, only by the functions that take one,
and a function that finds its list used up has its default.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from .errors import GraphError
from .graph import EXTENSION, Attribute, Node

REQUIRED = object()  # a parameter for which ONNX gives no default


class Activation(NamedTuple):
    """`function` is a key of FUNCTIONS; a parameter that the function does not take is 0."""

    function: str
    alpha: float = 0.0
    beta: float = 0.0

    @property
    def c_name(self) -> str:
        """The function's name in LSTMRT_ACTIVATIONS of csrc/lstmrt.h."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", self.function).upper()


# function -> the defaults of alpha, or of alpha and beta, that it takes. The formulas stand in csrc/lstmrt.h and, in
# float64, in reference.py. Functions from Selu on are extensions: Keras has them, ONNX's recurrent operators do not.
FUNCTIONS: Mapping[str, tuple] = {
    "Sigmoid": (),
    "Tanh": (),
    "Relu": (),
    "Affine": (REQUIRED, REQUIRED),
    "LeakyRelu": (0.01,),
    "ThresholdedRelu": (1.0,),
    "ScaledTanh": (REQUIRED, REQUIRED),
    "HardSigmoid": (0.2, 0.5),
    "Elu": (1.0,),
    "Softsign": (),
    "Softplus": (),
    "Selu": (1.67326319217681884765625, 1.05070102214813232421875),
    "Identity": (),
    "Exp": (),
    "Swish": (),
    "Gelu": (),
    "GeluTanh": (),
    "Sqrt": (),
    "Log": (),
    "Erf": (),
    "Mish": (),
    "Clip": (REQUIRED, REQUIRED),
}
EXTENSIONS = frozenset(list(FUNCTIONS)[list(FUNCTIONS).index("Selu"):])
ELEMENTWISE = frozenset(FUNCTIONS) - {"Affine", "ScaledTanh", "Swish", "GeluTanh"} | {"Abs", "Neg"}  # operators of ONNX on their own
DEFAULTS = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "ConvLSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"),
            "RNN": ("Tanh",)}

_BY_LOWER_CASE = {name.lower(): name for name in FUNCTIONS}


def recurrent_activations(node: Node) -> tuple[tuple[Activation, ...], ...]:
    """For each direction of an LSTM, ConvLSTM, GRU or RNN node its functions (LSTM f, g, h; GRU f, g; RNN f).

    Raises GraphError for an unknown function, an extension outside the domain `lstmrt`, a wrong number of functions,
    too many alphas or betas, or a missing one that has no default.
    """
    directions = 2 if node.attributes.get("direction") == "bidirectional" else 1
    per_direction = len(DEFAULTS[node.op])
    names = node.attributes.get("activations", DEFAULTS[node.op] * directions)
    if len(names) != directions * per_direction:
        raise GraphError(f"activations: {len(names)} functions {names}, expected {directions * per_direction}")
    alphas, betas = (list(node.attributes.get(key, ())) for key in ("activation_alpha", "activation_beta"))
    functions = [_take(name, alphas, betas) for name in names]
    extensions = [a.function for a in functions if a.function in EXTENSIONS]
    if extensions and node.domain != EXTENSION:
        raise GraphError(f"activations: ONNX has no {', '.join(extensions)}; the node's domain must be {EXTENSION!r}")
    for key, rest in (("activation_alpha", alphas), ("activation_beta", betas)):
        if rest:
            raise GraphError(f"{key}: {len(rest)} more values than {names} take")
    return tuple(tuple(functions[i:i + per_direction]) for i in range(0, len(functions), per_direction))


def _take(name: str, alphas: list[float], betas: list[float]) -> Activation:
    function = _BY_LOWER_CASE.get(name.lower())
    if function is None:
        raise GraphError(f"activations: unknown function {name!r}, expected one of {', '.join(FUNCTIONS)}")
    parameters = []
    for key, default, given in zip(("alpha", "beta"), FUNCTIONS[function], (alphas, betas)):
        value = given.pop(0) if given else default
        if value is REQUIRED:
            raise GraphError(f"activations: {function} needs its activation_{key}")
        parameters.append(float(value))
    return Activation(function, *parameters)


def activation_attributes(activations: Iterable[Activation]) -> dict[str, Attribute]:
    """The attributes that say `activations` (of all directions, in order): `recurrent_activations` the other way."""
    activations = tuple(activations)
    attributes = {
        "activations": tuple(a.function for a in activations),
        "activation_alpha": tuple(a.alpha for a in activations if len(FUNCTIONS[a.function]) >= 1),
        "activation_beta": tuple(a.beta for a in activations if len(FUNCTIONS[a.function]) == 2),
    }
    return {name: values for name, values in attributes.items() if values}


def elementwise_activation(node: Node, constants: Mapping[str, np.ndarray]) -> Activation | None:
    """The function that a one-input node (Sigmoid, HardSigmoid, Gelu, Clip ...) applies, or None if it is no such node.

    A Clip whose bounds are not scalars in `constants` is none; one without a bound has an infinite one.
    """
    if node.domain or node.op not in ELEMENTWISE:
        return None
    if node.op == "Clip":
        return _clip(node, constants)
    if node.op == "Neg":
        return Activation("Affine", -1.0, 0.0)
    if node.op == "Abs":
        return Activation("LeakyRelu", -1.0, 0.0)
    if node.op == "Gelu" and node.attributes.get("approximate") == "tanh":
        return Activation("GeluTanh")
    keys = ("alpha", "gamma" if node.op == "Selu" else "beta")
    return Activation(node.op, *(float(node.attributes.get(key, default))
                                 for key, default in zip(keys, FUNCTIONS[node.op])))


def _clip(node: Node, constants: Mapping[str, np.ndarray]) -> Activation | None:
    bounds = [-np.inf, np.inf]
    for i, name in enumerate(node.inputs[1:]):
        if name:
            if name not in constants or constants[name].size != 1:
                return None
            bounds[i] = float(constants[name].reshape(()))
    return Activation("Clip", *bounds)
