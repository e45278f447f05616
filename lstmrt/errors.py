"""Everything lstmrt raises on purpose.

Each class is an `LstmrtError` and, where Python has a natural builtin for it, that builtin too, so that
`except ValueError` and `except lstmrt.LstmrtError` both do what a reader expects.
"""


class LstmrtError(Exception):
    """Base of every error that lstmrt raises on purpose."""


class ModelFileError(LstmrtError, ValueError):
    """A model file is damaged, inconsistent, or not a model at all. The message starts with the file's name."""


class UnsupportedError(LstmrtError, NotImplementedError):
    """A sound model asks for something lstmrt does not have; the message names every such layer or operator."""


class GraphError(LstmrtError, ValueError):
    """A graph breaks its own rules; the message lists every fault."""


class InputError(LstmrtError, ValueError):
    """A call's argument does not fit the model: what was expected and what came."""


class MissingDependencyError(LstmrtError, ImportError):
    """An optional package is needed; the message gives the `pip install lstmrt[...]` that brings it."""


class IsaError(LstmrtError, ValueError):
    """`LSTMRT_ISA` or `isa=` names an instruction set that is unknown, or that this CPU lacks."""


class OutOfMemoryError(LstmrtError, MemoryError):
    """The C core could not get the memory it asked for; nothing was leaked."""


class ModelWarning(UserWarning):
    """A model runs, but hardly as whoever made it meant."""
