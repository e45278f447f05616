"""What a model asks for and lstmrt does not have: all of it, before anything is read."""

from __future__ import annotations

from collections.abc import Iterator

from ...errors import UnsupportedError
from .activations import AS_LAYER
from .apply import HANDLERS, argument_faults, operator_of
from .calls import Call
from .config import Architecture, Layer
from .custom import CustomLayers, custom_function
from .layers import activated
from .options import options
from .recurrent import RECURRENT, layer_faults, recurrent

ADVICE = {"Lambda": "Python code in a model file is never run: say what it does with custom_layers="}


def refuse_unsupported(model: Architecture, keras_major: int, custom: CustomLayers) -> None:
    """Raises UnsupportedError that names every layer and option that lstmrt lacks; layers in `custom` are the caller's."""
    faults = list(dict.fromkeys(_model_faults(model, keras_major, custom)))
    if faults:
        raise UnsupportedError(f"lstmrt does not have: {'; '.join(faults)}")


def _model_faults(model: Architecture, keras_major: int, custom: CustomLayers) -> Iterator[str]:
    layers = {layer.name: layer for layer in model.layers}
    for call in model.calls:
        layer = layers[call.layer]
        if layer.class_name != "InputLayer" and custom_function(layer, custom) is None:
            yield from _layer_faults(layer, keras_major, custom)
            yield from (f"{layer} called with {name}" for name in _argument_faults(layer, call))


def _layer_faults(layer: Layer, keras_major: int, custom: CustomLayers) -> Iterator[str]:
    if custom_function(layer, custom):
        return
    if layer.custom:
        yield f"{layer} (a custom layer: say what it computes with custom_layers=)"
    elif layer.model:
        yield from _model_faults(layer.model, keras_major, custom)
    elif layer.class_name in RECURRENT:
        yield from layer_faults(layer, keras_major)
    elif operator_of(layer):
        return
    elif layer.class_name in HANDLERS or layer.class_name in AS_LAYER:
        try:
            options((HANDLERS.get(layer.class_name) or AS_LAYER[layer.class_name],), layer, keras_major)
        except UnsupportedError as error:
            yield f"{layer} {error}"
        for inner in layer.wrapped():
            if layer.class_name == "Bidirectional" and inner.class_name not in RECURRENT:
                yield f"{inner} in {layer}"
            else:
                yield from _layer_faults(inner, keras_major, custom)
    else:
        yield f"{layer} ({ADVICE.get(layer.class_name, 'say what it computes with custom_layers=')})"


def _argument_faults(layer: Layer, call: Call) -> list[str]:
    if layer.model:
        return [name for name in call.kwargs if name != "mask"] + ["args"] * (len(call.args) != 1)
    if layer.class_name in RECURRENT:
        return argument_faults(recurrent, call)
    if layer.class_name in HANDLERS:
        return argument_faults(HANDLERS[layer.class_name], call)
    return argument_faults(activated, call) if layer.class_name in AS_LAYER else []
