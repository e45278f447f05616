"""Layers and models applied to tensors: nodes are appended to the graph, call by call."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, get_type_hints

from ...errors import ModelFileError, UnsupportedError
from ..located import located
from .activations import AS_LAYER
from .builder import Scope, Tensor
from .calls import Call, Reference
from .config import Architecture, Layer, parse_layer
from .custom import apply_custom, custom_function
from .json import field, fits, shown
from .layers import LAYERS, ROW_WISE, activated
from .operators import OPERATORS
from .options import options
from .recurrent import RECURRENT, bidirectional, recurrent
from .tensorflow import FUNCTIONS
from .tensorflow import LAYERS as TENSORFLOW_LAYERS
from .weights import LayerWeights, NoWeights


def apply_model(scope: Scope, model: Architecture, weights: Mapping[str, LayerWeights],
                inputs: list[Tensor]) -> list[Tensor]:
    """The outputs of `model`, in its order; `inputs` in its order too."""
    if len(inputs) != len(model.inputs):
        raise ModelFileError(f"called on {len(inputs)} tensors, expected {len(model.inputs)}")
    made = {reference: tensor for (_, reference), tensor in zip(model.inputs, inputs)}
    layers = {layer.name: layer for layer in model.layers}
    for call in model.calls:
        layer = layers[call.layer]
        with located(f"layer {layer}"):
            if layer.class_name == "InputLayer":
                if Reference(layer.name, 0, 0) not in made:
                    raise ModelFileError("is read, but no input of the model")
                continue
            own = replace(scope, layer=f"{scope.layer}/{layer.name}".lstrip("/"),
                          weights=weights.get(layer.name, NoWeights()))
            try:
                outputs = apply_layer(own, layer, _resolved(call.args, made), _resolved(call.kwargs, made))
            except OverflowError as error:
                raise ModelFileError(f"a number in its configuration is too large: {error}") from error
        made.update((Reference(layer.name, call.node, i), tensor) for i, tensor in enumerate(outputs))
    return [_made(reference, made) for _, reference in model.outputs]


def _resolved(value: Any, made: Mapping[Reference, Tensor]) -> Any:
    """Arguments with tensors in place of references."""
    if isinstance(value, Reference):
        return _made(value, made)
    if isinstance(value, (list, tuple)):
        return [_resolved(item, made) for item in value]
    if isinstance(value, Mapping):
        return {key: _resolved(item, made) for key, item in value.items()}
    return value


def _made(reference: Reference, made: Mapping[Reference, Tensor]) -> Tensor:
    if reference not in made:
        raise ModelFileError(f"'{reference.layer}' has no output {reference.tensor}")
    return made[reference]


def apply_layer(scope: Scope, layer: Layer, args: list, kwargs: Mapping[str, Any]) -> list[Tensor]:
    """The outputs of one call of `layer`."""
    if function := custom_function(layer, scope.custom):
        return apply_custom(scope, function, layer, args, kwargs, apply_layer)
    if layer.model:
        return _apply_nested(scope, layer.model, args, kwargs)
    if layer.class_name in RECURRENT:
        return recurrent(scope, layer, **_bound(recurrent, args, kwargs))
    if layer.class_name not in HANDLERS and layer.class_name in AS_LAYER:
        handler = AS_LAYER[layer.class_name]
        chosen = options((handler,), layer, scope.keras_major)
        return [activated(scope, **_bound(activated, args, kwargs), activation=handler(**chosen))]
    if operator := operator_of(layer):
        return _apply_operator(scope, operator, args, kwargs)
    handler = HANDLERS[layer.class_name]
    result = handler(scope, **_bound(handler, args, kwargs), **options((handler,), layer, scope.keras_major))
    return result if isinstance(result, list) else [result]


@dataclass(frozen=True)
class Operator:
    """A layer that is a call of a function: with the arguments that its configuration holds, and those of the call by
    the names that they have there."""

    function: Callable
    settings: Mapping[str, Any]
    names: Mapping[str, str]


def operator_of(layer: Layer) -> Operator | None:
    """The function that `layer` calls; None for a layer that is none, or calls one that lstmrt does not have."""
    if layer.class_name in TENSORFLOW_LAYERS:
        found = FUNCTIONS.get(field(layer.config, "function", str))
        return Operator(found[0], {}, found[1]) if found else None
    if layer.class_name.startswith("ops.") and layer.class_name[4:] in OPERATORS:
        settings = {key: value for key, value in layer.config.items() if key != "name" and value is not None}
        return Operator(OPERATORS[layer.class_name[4:]], settings, {})
    return None


def _apply_operator(scope: Scope, operator: Operator, args: list, kwargs: Mapping[str, Any]) -> list[Tensor]:
    given = {operator.names.get(key, key): value for key, value in kwargs.items() if key != "name"}
    given.pop("", None)
    given = {**operator.settings, **given}
    try:
        bound = inspect.signature(operator.function).bind(scope, *args, **given).arguments
    except TypeError as error:
        raise UnsupportedError(f"called with arguments it does not have: {error}") from None
    hints = get_type_hints(operator.function)
    for name, value in bound.items():
        if name in hints and not fits(value, hints[name]):
            raise UnsupportedError(f"called with {name}={shown(value)}")
    result = operator.function(scope, *args, **given)
    return result if isinstance(result, list) else [result]


def _apply_nested(scope: Scope, model: Architecture, args: list, kwargs: Mapping[str, Any]) -> list[Tensor]:
    (given,) = args
    if isinstance(given, dict):
        given = [given[name] for name, _ in model.inputs if name in given]
    inputs = _with_masks(given if isinstance(given, list) else [given], kwargs.get("mask"))
    return apply_model(scope, model, scope.weights.layers(model.layers), inputs)


def _with_masks(tensors: list[Tensor], masks: Any) -> list[Tensor]:
    """The tensors with the masks that the call gives them."""
    if masks is None:
        return tensors
    given = masks if isinstance(masks, list) else [masks]
    if len(given) != len(tensors) or not all(mask is None or isinstance(mask, Tensor) for mask in given):
        raise UnsupportedError(f"called with mask={shown(masks)}")
    return [replace(x, mask=mask.name) if mask else x for x, mask in zip(tensors, given)]


# ---- arguments ----


def call_parameters(handler: Callable) -> dict[str, inspect.Parameter]:
    """The arguments that calls of a layer may have."""
    return {name: parameter for name, parameter in inspect.signature(handler).parameters.items()
            if parameter.kind is parameter.POSITIONAL_OR_KEYWORD and name not in ("scope", "layer", "activation")}


def argument_faults(handler: Callable, call: Call) -> list[str]:
    """The arguments of a call that a layer's function does not take."""
    known = call_parameters(handler)
    surplus = [f"args[{i}]" for i in range(len(known), len(call.args))]
    return surplus + [name for name in call.kwargs if name not in known and name != "mask"]


def _bound(handler: Callable, args: list, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The call's arguments by the names of the function's parameters.

    A mask that the function does not ask for becomes that of the tensor, or those of the tensors, in the first one.
    """
    known, hints = call_parameters(handler), get_type_hints(handler)
    bound = {**dict(zip(known, args)), **{name: value for name, value in kwargs.items() if name in known}}
    for name, value in bound.items():
        bound[name] = _as_hinted(name, value, hints[name])
    missing = [name for name, parameter in known.items() if name not in bound and parameter.default is parameter.empty]
    if missing:
        raise ModelFileError(f"called without {', '.join(missing)}")
    if kwargs.get("mask") is not None and "mask" not in known:
        first = next(iter(bound))
        single = isinstance(bound[first], Tensor)
        tensors = _with_masks([bound[first]] if single else bound[first], kwargs["mask"])
        bound[first] = tensors[0] if single else tensors
    return bound


def _as_hinted(name: str, value: Any, hint: Any) -> Any:
    """`value` as a parameter of this type wants it: Keras wraps one tensor in a list, or leaves the list out."""
    if hint is Tensor and isinstance(value, list) and len(value) == 1:
        value = value[0]
    if hint == list[Tensor]:
        value = value if isinstance(value, list) else [value]
        fitting = all(isinstance(one, Tensor) for one in value)
    else:
        fitting = fits(value, hint)
    if not fitting:
        raise UnsupportedError(f"called with {name}={shown(value)}")
    return value


# ---- wrappers ----


def time_distributed(scope: Scope, x: Tensor, *, layer: dict) -> list[Tensor]:
    """A layer at each time step. Those of ROW_WISE do that by themselves; others see the steps as so many rows."""
    inner, own = parse_layer(layer), scope.child("layer")
    if inner.class_name in ROW_WISE:
        return [_with_mask_of_steps(scope, x, y) for y in apply_layer(own, inner, [x], {})]
    rows = own.reshape(x.name, [-1, *x.shape[2:]], x)
    mask = own.reshape(x.mask, [-1, *scope.tensor(x.mask).shape[2:]], x) if _mask_rank(scope, x) > 2 else ""
    outputs = []
    for y in apply_layer(own, inner, [own.tensor(rows, mask)], {}):
        steps = own.reshape(y.name, [*x.shape[:2], *y.shape[1:]], x, y)
        inner_mask = own.reshape(y.mask, [*x.shape[:2], *scope.tensor(y.mask).shape[1:]], x, y) if y.mask else ""
        outputs.append(_with_mask_of_steps(scope, x, own.tensor(steps, inner_mask)))
    return outputs


def _mask_rank(scope: Scope, x: Tensor) -> int:
    return scope.tensor(x.mask).rank if x.mask else 0


def _with_mask_of_steps(scope: Scope, x: Tensor, y: Tensor) -> Tensor:
    """Keras 3 hands the mask of the input on. Up to Keras 2 the inner layer's comes first; without one a step counts
    where anything in it does."""
    if scope.keras_major >= 3:
        return replace(y, mask=x.mask)
    if y.mask or _mask_rank(scope, x) <= 2:
        return y if y.mask else replace(y, mask=x.mask)
    return replace(y, mask=scope.any(x.mask, range(2, _mask_rank(scope, x))))


WRAPPERS = {"Bidirectional": bidirectional, "TimeDistributed": time_distributed}
HANDLERS: Mapping[str, Callable] = {**LAYERS, **WRAPPERS}
