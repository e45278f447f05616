"""Fast CPU inference for trained recurrent networks, from the Keras or ONNX file to tokens. Start with `load`."""

import importlib
import importlib.util

from .errors import (
    GraphError,
    InputError,
    IsaError,
    LstmrtError,
    MissingDependencyError,
    ModelFileError,
    ModelWarning,
    OutOfMemoryError,
    UnsupportedError,
)

__all__ = [
    "GraphError",
    "InputError",
    "IsaError",
    "LstmrtError",
    "MissingDependencyError",
    "Model",
    "ModelFileError",
    "ModelWarning",
    "OutOfMemoryError",
    "UnsupportedError",
    "convert",
    "load",
    "plot_alignment",
]

_PLACES = {"Model": ".model", "plot_alignment": ".plotting"}  # of what is not in loading.py


if importlib.util.find_spec(f"{__name__}._core") is None:
    raise ImportError("this is the source tree of lstmrt, without its compiled core: leave it, or pip install -e .")


def __getattr__(name: str) -> object:
    """What is imported when it is first asked for, which keeps `import lstmrt` light."""
    if name == "__version__":
        from importlib.metadata import version

        return version("lstmrt")
    if name not in __all__:
        raise AttributeError(f"module 'lstmrt' has no attribute {name!r}")
    return getattr(importlib.import_module(_PLACES.get(name, ".loading"), __name__), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
