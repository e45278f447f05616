"""Writes the tables of docs/KERAS.md from what the tests measure: `make keras-page`."""

from __future__ import annotations

import json
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

import keras_models
from lstmrt.converters.keras.activations import AS_LAYER
from lstmrt.converters.keras.apply import HANDLERS
from lstmrt.converters.keras.config import Layer, parse_architecture, parse_layer
from lstmrt.converters.keras.recurrent import CELLS, RECURRENT

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "KERAS.md"
BEGINNING, END = "<!-- make keras-page: from here -->\n", "<!-- make keras-page: to here -->\n"
TESTS = ["attention", "conv_lstm", "layers", "models", "operators", "shapes", "text"]
FUNCTIONS = "functions between layers"
ROWS = (*sorted({*HANDLERS, *AS_LAYER, *RECURRENT, *CELLS, "StackedRNNCells"}), FUNCTIONS)
CONTAINERS = {".keras": "`.keras`", "_folder": "`.keras`, unzipped", ".h5": "`.h5`", "_saved_model": "SavedModel",
              ".weights.h5": "`.weights.h5`", ".only.h5": "weights alone in `.h5`",
              "_split.weights.json": "`.weights.json`, in several files"}

Errors = Mapping[str, Mapping[str, float]]  # row -> version -> largest error


class Measurements:
    """One of keras_models.WATCHERS."""

    def __init__(self) -> None:
        self.of_layers: dict[str, dict[str, float]] = defaultdict(dict)
        self.of_containers: dict[str, dict[str, float]] = defaultdict(dict)

    def __call__(self, config: Callable[[], str], version: str, container: str, error: float) -> None:
        for row in rows_of(json.loads(config())):
            self._note(self.of_layers[row], version, error)
        self._note(self.of_containers[CONTAINERS[container]], version, error)

    @staticmethod
    def _note(errors: dict[str, float], version: str, error: float) -> None:
        errors[version] = max(errors.get(version, 0.0), error)


def rows_of(model: Mapping) -> set[str]:
    """The rows that a serialised model belongs to."""
    classes = {name for layer in parse_architecture(model).every_layer() for name in classes_of(layer)}
    is_function = {name for name in classes if name.startswith("ops.") or name in ("TFOpLambda", "SlicingOpLambda")}
    return classes & set(ROWS) | ({FUNCTIONS} if is_function else set())


def classes_of(layer: Layer) -> Iterator[str]:
    """The layer's class, and those of its cells."""
    yield layer.class_name
    cells = [layer.config.get("cell"), *layer.config.get("cells", ())]
    for cell in cells:
        for one in cell if isinstance(cell, list) else [cell]:
            if isinstance(one, dict):
                yield from classes_of(parse_layer(one))


def in_order(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version))


def table(what: str, errors: Errors, rows: tuple[str, ...]) -> list[str]:
    versions = sorted({version for found in errors.values() for version in found}, key=in_order)
    lines = [f"| {what} | " + " | ".join(versions) + " |", "|---|" + "---|" * len(versions)]
    for row in rows:
        cells = [shown(errors.get(row, {}).get(version)) for version in versions]
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    return lines


def shown(error: float | None) -> str:
    return "" if error is None else "exact" if error == 0 else f"{error:.0e}"


def measured() -> Measurements:
    """What the tests of Keras files and layers find; ends the program where one of them fails."""
    found = Measurements()
    keras_models.WATCHERS.append(found)
    files = [HERE / "test_golden_keras.py", *(HERE / f"test_keras_{name}.py" for name in TESTS)]
    if status := pytest.main(["-q", "-p", "no:cacheprovider", *map(str, files)]):
        sys.exit(f"{PAGE.name} is left as it was: tests failed ({status})")
    return found


def main() -> None:
    found = measured()
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGINNING)
    _, _, after = rest.partition(END)
    layers = table("layer", found.of_layers, ROWS)
    containers = table("container", found.of_containers, tuple(CONTAINERS.values()))
    PAGE.write_text(before + BEGINNING + "\n".join([*layers, "", *containers, ""]) + END + after, encoding="utf-8")


if __name__ == "__main__":
    main()
