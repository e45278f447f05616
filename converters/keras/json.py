"""Typed reading of Keras's JSON: a value of the wrong type is a ModelFileError that says what was expected."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal, Union, get_args, get_origin

from ...errors import ModelFileError

REQUIRED = object()


def parse(text: Union[str, bytes], what: str) -> dict:
    """The JSON object in `text`; `what` names it in messages."""
    try:
        value = json.loads(text, object_hook=_without_tuples)
        if isinstance(value, str):  # some write what to_json gives as JSON once more
            value = json.loads(value, object_hook=_without_tuples)
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{what}: not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ModelFileError(f"{what}: expected a JSON object, got {shown(value)}")
    return value


def _without_tuples(value: dict) -> Any:
    """SavedModels tell tuples from lists."""
    return value["items"] if value.get("class_name") == "__tuple__" and "items" in value else value


def field(config: Mapping[str, Any], key: str, hint: Any, default: Any = REQUIRED) -> Any:
    """`config[key]`, which must fit the type `hint`; `default` where the key is absent or null."""
    value = config.get(key)
    if value is None and default is not REQUIRED:
        return default
    if not fits(value, hint):
        raise ModelFileError(f"{key}: expected {hint_name(hint)}, got {shown(value)}")
    return value


def fits(value: Any, hint: Any) -> bool:
    """Whether a JSON value has the type `hint`: a JSON type, a Literal or a Union of them. A bool is no number."""
    if hint is Any:
        return True
    if get_origin(hint) is Literal:
        return any(value == allowed and type(value) is type(allowed) for allowed in get_args(hint))
    if get_origin(hint) is Union:
        return any(fits(value, option) for option in get_args(hint))
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(value, hint) and (hint is bool or not isinstance(value, bool))


def hint_name(hint: Any) -> str:
    """`hint` in words."""
    if get_origin(hint) is Literal:
        return " or ".join(map(repr, get_args(hint)))
    if get_origin(hint) is Union:
        return " or ".join(map(hint_name, get_args(hint)))
    names = {str: "a string", int: "an integer", float: "a number", bool: "true or false", dict: "an object",
             list: "a list", type(None): "null"}
    return names[hint]


def shown(value: Any) -> str:
    """A value for a message, however long it is."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
