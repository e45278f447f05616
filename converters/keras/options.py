"""A layer's options, checked against the signature of the function that handles the layer.

The keyword-only parameters of a handler are the list of what it supports: their annotations are the types, a Literal
names the values, a parameter without a default must be in the file. An option that is no parameter and changes results
is refused by name.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_origin, get_type_hints

from ...activations import Activation
from ...errors import ModelFileError, UnsupportedError
from ..located import located
from .activations import AS_LAYER, ActivationConfig, named_activation
from .config import Layer, parse_layer
from .json import field, fits, shown

# Options that mean the same in every layer: for training, for building, or about how to compute and not what.
WITHOUT_EFFECT = frozenset({
    "name", "trainable", "dtype", "dynamic", "seed", "implementation", "unroll", "unit_forget_bias", "input_length",
    "batch_input_shape", "batch_shape", "dropout", "recurrent_dropout", "rate", "stddev", "noise_shape", "l1", "l2", "momentum",
    "renorm_clipping", "renorm_momentum", "virtual_batch_size", "synchronized", "fused", "query_shape", "key_shape",
    "value_shape", "flash_attention", "softmax_robust_masking", "sparse", "ragged", "autocast",
    "lora_rank", "lora_alpha",  # Keras adds the product of the two thin matrices to the weights that it saves
})
TRAINING_SUFFIXES = ("_initializer", "_regularizer", "_constraint")
QUANTIZED_POLICY = re.compile("(int|float)[48](_from_|/|$)|gptq|awq")


def options(handlers: Sequence[Callable], layer: Layer, keras_major: int) -> dict[str, Any]:
    """The options of `layer` as keyword arguments for all `handlers`; activations come as Activation.

    Raises UnsupportedError that lists all options that no handler has, and ModelFileError for one whose type is wrong
    or that is missing.
    """
    parameters = {name: parameter for handler in handlers for name, parameter in keyword_only(handler).items()}
    hints = {name: hint for handler in handlers for name, hint in get_type_hints(handler).items()}
    refused = [f"{key}={shown(value)}" for key, value in layer.config.items()
               if value is not None and key not in parameters and not _is_without_effect(key)]
    refused += [] if "dtype" in parameters else _refused_dtype(layer)
    bound = {}
    for name, parameter in parameters.items():
        try:
            if name in layer.config or parameter.default is parameter.empty:
                bound[name] = _option(layer, name, hints[name], keras_major)
        except UnsupportedError as error:
            refused.append(str(error))
    if refused:
        raise UnsupportedError(f"with {', '.join(refused)}")
    return bound


def keyword_only(handler: Callable) -> dict[str, inspect.Parameter]:
    """The parameters that are options."""
    return {name: parameter for name, parameter in inspect.signature(handler).parameters.items()
            if parameter.kind is parameter.KEYWORD_ONLY}


def own_options(handler: Callable, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Of the options of several handlers those of this one."""
    return {name: chosen[name] for name in keyword_only(handler) if name in chosen}


def _option(layer: Layer, name: str, hint: Any, keras_major: int) -> Any:
    if name not in layer.config:
        raise ModelFileError(f"{layer} lacks its option {name}")
    value = layer.config[name]
    if hint is Activation:
        return _activation(layer, name, keras_major)
    if get_origin(hint) is Literal and not fits(value, hint):
        raise UnsupportedError(f"{name}={shown(value)}")
    with located(str(layer)):
        return field(layer.config, name, hint)


def _activation(layer: Layer, name: str, keras_major: int) -> Activation:
    """The option `name`: a function's name, null for none, or a serialised function or activation layer."""
    with located(str(layer)):
        config = field(layer.config, name, ActivationConfig, default="linear")
    if isinstance(config, str):
        return named_activation(config, keras_major)
    if config.get("class_name") == "function" and isinstance(config.get("config"), str):
        return named_activation(config["config"], keras_major)
    if config.get("class_name") in AS_LAYER:
        inner = parse_layer(config)
        handler = AS_LAYER[inner.class_name]
        return handler(**options((handler,), inner, keras_major))
    raise UnsupportedError(f"{name}={shown(config.get('registered_name') or config)}, a function of the model's own")


def _is_without_effect(key: str) -> bool:
    return key in WITHOUT_EFFECT or key.endswith(TRAINING_SUFFIXES)


def _refused_dtype(layer: Layer) -> list[str]:
    policy = layer.config.get("dtype")
    if isinstance(policy, dict):
        settings = policy.get("config")
        policy = (settings.get("mode") or settings.get("name")) if isinstance(settings, dict) else None
    return [f"quantized weights ({policy})"] if isinstance(policy, str) and QUANTIZED_POLICY.match(policy) else []
