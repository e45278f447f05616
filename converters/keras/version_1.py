"""Configurations of Keras 1 in Keras 2's words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CLASSES = {"Convolution1D": "Conv1D", "AtrousConvolution1D": "Conv1D", "Convolution2D": "Conv2D",
           "TimeDistributedDense": "Dense"}
MERGES = {"sum": "Add", "mul": "Multiply", "ave": "Average", "max": "Maximum", "concat": "Concatenate"}
RECURRENT = ("SimpleRNN", "LSTM", "GRU")
KNOWN = frozenset({*RECURRENT, *CLASSES, "Dense", "Embedding", "Dropout", "SpatialDropout1D", "GaussianNoise",
                   "GaussianDropout", "BatchNormalization", "MaxPooling1D", "AveragePooling1D", "MaxPooling2D",
                   "AveragePooling2D", "Merge"})
OPTIONS = {"inner_activation": "recurrent_activation", "bias": "use_bias", "p": "rate", "sigma": "stddev",
           "nb_filter": "filters", "filter_length": "kernel_size", "border_mode": "padding", "subsample_length": "strides",
           "subsample": "strides", "atrous_rate": "dilation_rate", "pool_length": "pool_size", "dim_ordering": "data_format"}
FOR_TRAINING = {"init", "inner_init", "forget_bias_init", "consume_less", "dropout_W", "dropout_U", "input_dtype",
                "W_regularizer", "U_regularizer", "b_regularizer", "W_constraint", "U_constraint", "b_constraint"}


def as_keras_2(class_name: str, name: str, config: Mapping[str, Any]) -> tuple[str, str, Mapping[str, Any]]:
    """Class, name and options of a layer, whatever version wrote them: no option has meant two things."""
    if class_name not in KNOWN:
        return class_name, name, {key: value for key, value in config.items() if key != "input_dtype"}
    class_name = CLASSES.get(class_name, class_name)
    options = {OPTIONS.get(key, key): value for key, value in config.items() if key not in FOR_TRAINING}
    if class_name in (*RECURRENT, "Dense") and "output_dim" in options:
        options["units"] = options.pop("output_dim")
        options.pop("input_dim", None)
        options.setdefault("use_bias", True)
    if class_name.endswith("Pooling1D") and "stride" in options:
        options["strides"] = options.pop("stride")
    if class_name.startswith("Conv"):
        options.pop("input_dim", None)
    if options.get("data_format") in ("tf", "th"):
        options["data_format"] = {"tf": "channels_last", "th": "channels_first"}[options["data_format"]]
    if class_name == "BatchNormalization" and options.get("mode") in (0, 2):  # both normalise by the moving statistics
        del options["mode"]
    if class_name == "Merge" and options.get("mode") in MERGES:
        return MERGES[options["mode"]], name, _merge(options)
    return class_name, name, options


def _merge(options: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": options.get("name"), **({"axis": options["concat_axis"]} if options["mode"] == "concat" else {})}
