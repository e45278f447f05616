"""Parts of graphs run on random numbers, to see that a rewrite computes what was there before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from ..errors import LstmrtError
from ..graph import Node
from ..reference import as_float64, run_nodes
from ..shapes import Tensor

MASK = (False, True, True, False, False, True, True)  # rows that begin, and end, with a masked step, and rows that do not
TOLERANCE = 1e-5  # of the largest magnitude: weights that were added up in another order are rounded to float32


class Unknown(Exception):
    """A value that depends on more than what is given."""


def evaluate(nodes: Sequence[Node], constants: Mapping[str, np.ndarray], tensors: Mapping[str, Tensor],
             given: Mapping[str, np.ndarray], sizes: Mapping[str, int], wanted: Iterable[str]) -> dict[str, np.ndarray]:
    """The values `wanted` in float64, from those `given` and from shapes, in which `sizes` are what symbols stand for.

    Raises Unknown where that is not enough.
    """
    values = {name: as_float64(array) for name, array in given.items()}
    needed, chosen = {name for name in wanted if name not in values}, []
    for node in reversed(nodes):
        if not needed & set(node.outputs):
            continue
        needed -= set(node.outputs)
        shape = _shape(node, tensors, sizes)
        if shape is not None:
            values[node.outputs[0]] = shape
        else:
            chosen.append(node)
            needed |= {name for name in node.reads if name not in values}
    for name in needed:
        if name not in constants:
            raise Unknown(name)
        values[name] = as_float64(constants[name])
    try:
        with np.errstate(all="ignore"):
            run_nodes(reversed(chosen), values)
    except (LstmrtError, ValueError, IndexError, KeyError) as error:
        raise Unknown(str(error)) from error
    return values


def _shape(node: Node, tensors: Mapping[str, Tensor], sizes: Mapping[str, int]) -> np.ndarray | None:
    """What a Shape node gives, where the sizes are known."""
    if node.op != "Shape" or node.domain or node.inputs[0] not in tensors:
        return None
    shape = assumed_shape(tensors[node.inputs[0]], sizes)
    return None if shape is None else np.array(shape[node.attributes.get("start", 0):node.attributes.get("end")], np.int64)


def assumed_shape(tensor: Tensor, sizes: Mapping[str, int]) -> tuple[int, ...] | None:
    """The tensor's shape with numbers in place of symbols; None where a size is unknown."""
    if tensor.shape is None:
        return None
    shape = tuple(sizes.get(size, None) if isinstance(size, str) else size for size in tensor.shape)
    return None if None in shape else shape


def random_values(names: Iterable[str], tensors: Mapping[str, Tensor], sizes: Mapping[str, int],
                  rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Normal numbers of each value's shape, or a mask. Raises Unknown where a shape is not known."""
    made = {}
    for name in names:
        shape = assumed_shape(tensors[name], sizes) if name in tensors else None
        if shape is None or tensors[name].dtype not in ("float32", "float64", "float16", "bool"):
            raise Unknown(name)
        made[name] = np.resize(MASK, shape) if tensors[name].dtype == "bool" else rng.normal(size=shape)
    return made


def mask_patterns(given: Mapping[str, np.ndarray]) -> Iterator[Mapping[str, np.ndarray]]:
    """`given` and, if there are masks in it, the same with these turned around, so that both ends of a row are masked once."""
    masks = {name: array for name, array in given.items() if array.dtype == bool}
    yield given
    if masks:
        yield {**given, **{name: np.flip(mask) if mask.size > 1 else ~mask for name, mask in masks.items()}}


def agree(before: Mapping[str, np.ndarray], after: Mapping[str, np.ndarray], names: Iterable[str]) -> bool:
    """Whether the values `names` are the same, but for rounding, finite, and not all zeros."""
    return all(_close(before[name], after[name]) for name in names)


def _close(a: np.ndarray, b: np.ndarray) -> bool:
    if a.shape != b.shape or not np.isfinite(a).all():
        return False
    return bool(np.abs(a - b).max(initial=0) <= TOLERANCE * max(1.0, np.abs(a).max(initial=0)))
