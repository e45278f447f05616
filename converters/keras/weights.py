"""Weights out of HDF5, read only when they are what the configuration says they are.

Both Keras containers hold HDF5. A dataset is read after its shape was compared with the one its layer needs, and
its size with the bytes that the file really has for it; links and datasets that lead out of the file are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Protocol, Union

import numpy as np

from ...errors import LstmrtError, MissingDependencyError, ModelFileError

if TYPE_CHECKING:
    import h5py

    from .config import Layer

LARGEST_RATIO = 100  # of unpacked to packed bytes: trained weights do not shrink to a hundredth, bombs do

BFLOAT16 = np.dtype("V2")  # h5py has no such type: two opaque bytes

Shape = tuple[int, ...]


class LayerWeights(Protocol):
    """The weights of one layer, wherever a container keeps them."""

    def variables(self) -> list[Variable]:
        """The layer's own variables, in the order in which Keras made them."""

    def child(self, attribute: str) -> LayerWeights:
        """The weights of the layer or cell that Keras keeps in this attribute."""

    def layers(self, layers: Sequence[Layer]) -> Mapping[str, LayerWeights]:
        """Of a nested model: the weights of its `layers`, by name; without those that have none in the file."""

    def cells(self, cells: Sequence[Layer]) -> Sequence[LayerWeights]:
        """Of stacked cells: the weights of each of `cells`."""

    def everything(self) -> Mapping[str, Variable]:
        """All variables, those of inner layers too, by name: for layers that only the caller knows."""

    def asset(self, name: str) -> bytes | None:
        """What the file `name` of the layer holds, None where there is none; a vocabulary stands in one."""


class NoWeights:
    """The weights of a layer that the file has none for."""

    def variables(self) -> list[Variable]:
        return []

    def child(self, attribute: str) -> NoWeights:
        return self

    def layers(self, layers: Sequence[Layer]) -> Mapping[str, LayerWeights]:
        return {}

    def cells(self, cells: Sequence[Layer]) -> Sequence[LayerWeights]:
        return [self] * len(cells)

    def everything(self) -> Mapping[str, Variable]:
        return {}

    def asset(self, name: str) -> None:
        return None


@contextmanager
def open_hdf5(source: Union[str, BinaryIO]) -> Iterator[h5py.File]:
    """The HDF5 file `source`; whatever h5py has to say about a damaged one becomes a ModelFileError."""
    try:
        import h5py
    except ImportError:
        raise MissingDependencyError("reading Keras files needs h5py: pip install lstmrt[keras]") from None
    try:
        with h5py.File(source, "r") as file:
            yield file
    except LstmrtError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, MemoryError) as error:
        raise ModelFileError(f"damaged HDF5: {error}") from error


def texts(node: Union[h5py.Group, h5py.File], attribute: str) -> list[str]:
    """The strings in an attribute. Keras writes str or bytes, by version, and an empty list as one of numbers.

    The HDF5 library crashes on damaged attributes of other types and believes any size: both are looked at first.
    """
    import h5py

    id = node.attrs.get_id(attribute)
    if 0 in id.shape:
        return []
    if h5py.check_string_dtype(id.dtype) is None or id.get_storage_size() > node.file.id.get_filesize():
        raise ModelFileError(f"attribute {attribute} of '{node.name}': expected text, got {id.dtype} {id.shape}")
    return [text.decode() if isinstance(text, bytes) else text for text in np.ravel(node.attrs[attribute])]


def text(node: Union[h5py.Group, h5py.File], attribute: str) -> str:
    """The one string in an attribute."""
    found = texts(node, attribute)
    if len(found) != 1:
        raise ModelFileError(f"attribute {attribute} of '{node.name}': expected one text, got {len(found)}")
    return found[0]


def member(group: h5py.Group, path: str) -> Union[h5py.Group, h5py.Dataset]:
    """What lies at `path` below `group`, by hard links alone."""
    import h5py

    found = group
    for part in filter(None, path.split("/")):
        if not isinstance(found, h5py.Group) or part not in found:
            raise ModelFileError(f"the file has no weights '{path}' in '{group.name}'")
        if not isinstance(found.get(part, getlink=True), h5py.HardLink):
            raise ModelFileError(f"'{part}' in '{found.name}' is a link that leads elsewhere")
        found = found[part]
    return found


def subgroup(group: h5py.Group, path: str) -> h5py.Group:
    """The group at `path` below `group`."""
    import h5py

    found = member(group, path)
    if not isinstance(found, h5py.Group):
        raise ModelFileError(f"'{found.name}': expected a group, got a dataset")
    return found


class Variable(Protocol):
    """One array of a layer; its shape is known before its values are read."""

    shape: Shape

    def read(self, name: str, integers: bool = False) -> np.ndarray:
        """The values as float32, read-only; `name` is the variable's in messages.

        Raises ModelFileError for others than floating-point ones, or, where `integers` is true, than numbers.
        """


class Stored:
    """A variable that is a dataset of an HDF5 file."""

    def __init__(self, dataset: h5py.Dataset) -> None:
        self._dataset = dataset
        self.shape: Shape = dataset.shape or ()

    @classmethod
    def at(cls, group: h5py.Group, path: str) -> Stored:
        """The dataset at `path` below `group`."""
        import h5py

        found = member(group, path)
        if not isinstance(found, h5py.Dataset):
            raise ModelFileError(f"'{found.name}': expected a dataset, got a group")
        return cls(found)

    def read(self, name: str, integers: bool = False) -> np.ndarray:
        dataset = self._dataset
        if dataset.dtype.kind not in ("iuf" if integers else "f") and dataset.dtype != BFLOAT16:
            raise ModelFileError(f"{name}: expected floating-point weights, got {dataset.dtype}")
        _check_storage(dataset, name)
        array = dataset[()]
        if array.dtype == BFLOAT16:
            array = widened(array)
        array = np.ascontiguousarray(array, np.float32)
        array.flags.writeable = False
        return array


def widened(array: np.ndarray) -> np.ndarray:
    """float32 of bfloat16, which NumPy does not have: two bytes of which it knows nothing."""
    return (array.view(np.uint16).astype(np.uint32) << 16).view(np.float32)


@dataclass(frozen=True)
class Derived:
    """A variable made of those that an older Keras stored in its place: `make` takes their values."""

    shape: Shape
    sources: tuple[Variable, ...]
    make: Callable[..., np.ndarray]

    def read(self, name: str, integers: bool = False) -> np.ndarray:
        array = np.ascontiguousarray(self.make(*(source.read(name, integers) for source in self.sources)))
        array.flags.writeable = False
        return array


def take(weights: LayerWeights, integers: bool = False, **variables: Union[Shape, Sequence[Shape]]) -> list[np.ndarray]:
    """All the layer's variables, named in Keras's order, each with the shape it must have, or a list of such shapes.

    integers  whether they may be integers, as those of quantized layers are

    Returns read-only float32 arrays. Raises ModelFileError when their number, a shape or a type differs.
    """
    stored = weights.variables()
    if len(stored) != len(variables):
        raise ModelFileError(f"expected {len(variables)} weights ({', '.join(variables)}), the file has {len(stored)}")
    return [_read(variable, name, shapes if isinstance(shapes, list) else [shapes], integers)
            for variable, (name, shapes) in zip(stored, variables.items())]


def take_first(weights: LayerWeights, **variables: Shape) -> list[np.ndarray]:
    """As `take`, of a layer that keeps more behind these: what only training reads."""
    stored = weights.variables()
    if len(stored) < len(variables):
        raise ModelFileError(f"expected the weights {', '.join(variables)}, the file has {len(stored)}")
    return [_read(variable, name, [shape], integers=False) for variable, (name, shape) in zip(stored, variables.items())]


def _read(variable: Variable, name: str, shapes: list[Shape], integers: bool) -> np.ndarray:
    if variable.shape not in shapes or min(variable.shape, default=1) < 1:
        raise ModelFileError(f"{name}: expected shape {' or '.join(map(str, shapes))}, got {variable.shape}")
    return variable.read(name, integers)


def _check_storage(dataset: h5py.Dataset, name: str) -> None:
    if dataset.external or dataset.is_virtual:
        raise ModelFileError(f"{name}: its values lie outside the file")
    stored = dataset.id.get_storage_size()
    ratio = LARGEST_RATIO if dataset.id.get_create_plist().get_nfilters() else 1
    if dataset.nbytes > ratio * stored:
        raise ModelFileError(f"{name}: says {dataset.nbytes} bytes, but the file has {stored} for it")

