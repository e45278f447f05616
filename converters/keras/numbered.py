"""Weights in groups that are called after classes and numbered: `.keras`, `.weights.h5`, Keras 2.12 and later."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import TYPE_CHECKING

from ...errors import ModelFileError
from .config import Layer
from .weights import LayerWeights, NoWeights, Stored, Variable, subgroup, text

if TYPE_CHECKING:
    import h5py

LAYER_GROUPS = ("layers", "_layer_checkpoint_dependencies")  # the second up to Keras 2.14


def is_numbered(file: h5py.File) -> bool:
    """Whether the file is one of weights in this layout."""
    return any(name in file for name in LAYER_GROUPS)


def snake_case(class_name: str) -> str:
    """As Keras does it: SimpleRNN -> simple_rnn, CuDNNLSTM -> cu_dnnlstm, package>Scale -> scale."""
    name = re.sub(r"\W+", "", class_name.rpartition(">")[2])
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


class NumberedWeights:
    """The weights below one group: variables are `vars/0`, `vars/1`, ...; children are groups.

    groups       that one group in each file that has a part of it: Keras 3 splits large weights over several
    check_names  whether the layer names that Keras from 3.6 on writes down must be those of the configuration
    assets       gives what a file of the model holds, by path, None where there is none
    """

    def __init__(self, groups: Sequence[h5py.Group], check_names: bool = True,
                 assets: Callable[[str], bytes | None] = lambda path: None) -> None:
        self._groups, self._check_names, self._assets = groups, check_names, assets

    @property
    def _name(self) -> str:
        return self._groups[0].name

    def _members(self) -> list[str]:
        return list(dict.fromkeys(name for group in self._groups for name in group))

    def variables(self) -> list[Variable]:
        variables = [subgroup(group, "vars") for group in self._groups if "vars" in group]
        owners = {name: group for group in variables for name in group}
        for i in range(len(owners)):
            if str(i) not in owners:
                raise ModelFileError(f"'{self._name}/vars' has {len(owners)} variables, but none is called {i}")
        return [Stored.at(owners[str(i)], str(i)) for i in range(len(owners))]

    def child(self, attribute: str) -> NumberedWeights:
        names = [attribute, f"_{attribute}"]  # what MultiHeadAttention holds was private up to Keras 2
        found = [subgroup(group, name) for group in self._groups for name in names if name in group]
        if not found:
            raise ModelFileError(f"the file has no weights '{attribute}' in '{self._name}'")
        return NumberedWeights(found, self._check_names, self._assets)

    def layers(self, layers: Sequence[Layer]) -> Mapping[str, LayerWeights]:
        root = next((name for name in LAYER_GROUPS if name in self._members()), None)
        if root is None:
            raise ModelFileError(f"'{self._name}': expected a group {' or '.join(LAYER_GROUPS)}, "
                                 f"got {', '.join(self._members()) or 'none'}")
        weights = self.child(root)._shared_out(layers)
        return {layer.name: found for layer, found in zip(layers, weights) if found}

    def cells(self, cells: Sequence[Layer]) -> Sequence[LayerWeights]:
        return [found or NoWeights() for found in self.child("cells")._shared_out(cells)]

    def everything(self) -> Mapping[str, Variable]:
        found = dict(zip(map(str, count()), self.variables())) if any("vars" in group for group in self._groups) else {}
        for name in sorted({name for group in self._groups for name in group} - {"vars"}):
            found.update((f"{name}/{key}", variable) for key, variable in self.child(name).everything().items())
        return found

    def asset(self, name: str) -> bytes | None:
        return self._assets(f"assets{self._name}/{name}")

    def _shared_out(self, layers: Sequence[Layer]) -> list[NumberedWeights | None]:
        """For each layer its group: those of a class by number, in the order of the configuration."""
        stems = [snake_case(layer.class_name) for layer in layers]
        names = {stem: self._numbered(stem, stems.count(stem)) for stem in stems}
        found = []
        for layer, stem in zip(layers, stems):
            name = names[stem].pop(0)
            weights = self.child(name) if name else None
            if weights and self._check_names:
                weights.check_name(layer.name)
            found.append(weights)
        return found

    def _numbered(self, stem: str, wanted: int) -> list[str | None]:
        """`wanted` names: `stem`, `stem_1`, ... as far as they are there.

        Keras up to 2.13 leaves numbers out. Keras 3 does so for layers it has written elsewhere: then there are too few.
        """
        matches = (re.fullmatch(rf"{stem}(?:_([0-9]{{1,9}}))?", name) for name in self._members())
        found = {int(match[1] or 0): match.string for match in matches if match}
        in_order = [found[number] for number in sorted(found)]
        return in_order[:wanted] if len(found) >= wanted else [found.get(number) for number in range(wanted)]

    def check_name(self, layer: str) -> None:
        """Raises ModelFileError where the file says that these are the weights of another layer."""
        for variables in (subgroup(group, "vars") for group in self._groups if "vars" in group):
            written = text(variables, "name") if "name" in variables.attrs else layer
            if layer and written != layer:
                raise ModelFileError(f"'{self._name}' holds the weights of '{written}', expected '{layer}'")
