"""Weights in groups that are called after classes and numbered: `.keras`, `.weights.h5`, Keras 2.12 and later."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Mapping, Sequence

from ..errors import ModelFileError
from .keras_config import Layer
from .keras_weights import LayerWeights, NoWeights, member, subgroup, text

if TYPE_CHECKING:
    import h5py

LAYER_GROUPS = ("layers", "_layer_checkpoint_dependencies")  # the second up to Keras 2.14


def is_numbered(file: h5py.File) -> bool:
    """Whether the file is one of weights in this layout."""
    return any(name in file for name in LAYER_GROUPS)


def snake_case(class_name: str) -> str:
    """As Keras does it: SimpleRNN -> simple_rnn, CuDNNLSTM -> cu_dnnlstm."""
    name = re.sub(r"\W+", "", class_name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


class NumberedWeights:
    """The weights below one group: variables are `vars/0`, `vars/1`, ...; children are groups.

    check_names  whether the layer names that Keras from 3.6 on writes down must be those of the configuration
    """

    def __init__(self, group: h5py.Group, check_names: bool = True) -> None:
        self._group, self._check_names = group, check_names

    def datasets(self) -> list:
        variables = subgroup(self._group, "vars")
        return [member(variables, str(i)) for i in range(len(variables))]

    def child(self, attribute: str) -> NumberedWeights:
        return NumberedWeights(subgroup(self._group, attribute), self._check_names)

    def layers(self, layers: Sequence[Layer]) -> Mapping[str, LayerWeights]:
        root = next((name for name in LAYER_GROUPS if name in self._group), None)
        if root is None:
            raise ModelFileError(f"'{self._group.name}': expected a group {' or '.join(LAYER_GROUPS)}, "
                                 f"got {', '.join(self._group) or 'none'}")
        weights = self.child(root)._shared_out(layers)
        return {layer.name: found for layer, found in zip(layers, weights) if found}

    def cells(self, cells: Sequence[Layer]) -> Sequence[LayerWeights]:
        return [found or NoWeights() for found in self.child("cells")._shared_out(cells)]

    def _shared_out(self, layers: Sequence[Layer]) -> list[NumberedWeights | None]:
        """For each layer its group: those of a class by number, in the order of the configuration."""
        left = {stem: self._numbered(stem) for stem in {snake_case(layer.class_name) for layer in layers}}
        found = []
        for layer in layers:
            names = left[snake_case(layer.class_name)]
            weights = self.child(names.pop(0)) if names else None
            if weights and self._check_names:
                weights.check_name(layer.name)
            found.append(weights)
        return found

    def _numbered(self, stem: str) -> list[str]:
        """`stem`, `stem_1`, ... as far as they are there, by number; Keras up to 2.13 leaves numbers out."""
        found = [re.fullmatch(rf"{stem}(?:_([0-9]{{1,9}}))?", name) for name in self._group]
        return [match.string for match in sorted(filter(None, found), key=lambda match: int(match[1] or 0))]

    def check_name(self, layer: str) -> None:
        """Raises ModelFileError where the file says that these are the weights of another layer."""
        if not layer or "vars" not in self._group:
            return
        variables = subgroup(self._group, "vars")
        written = text(variables, "name") if "name" in variables.attrs else layer
        if written != layer:
            raise ModelFileError(f"'{self._group.name}' holds the weights of '{written}', expected '{layer}'")
