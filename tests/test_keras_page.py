"""docs/KERAS.md is whole: what `make keras-page` wrote names every layer, and has measured it."""

from __future__ import annotations

from keras_page import BEGINNING, CONTAINERS, END, PAGE, ROWS, classes_of, rows_of
from lstmrt.converters.keras.config import parse_layer
from test_golden_keras import ARCHIVES

LARGEST = 2e-6


def tables() -> list[dict[str, dict[str, str]]]:
    """row -> version -> cell of both."""
    written = PAGE.read_text(encoding="utf-8").split(BEGINNING)[1].split(END)[0]
    found = []
    for text in written.strip().split("\n\n"):
        (_, *versions), _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
        found.append({name: dict(zip(versions, cells)) for name, *cells in rows})
    return found


def test_every_layer_and_container_is_measured():
    layers, containers = tables()
    assert list(layers) == list(ROWS) and list(containers) == list(CONTAINERS.values())
    for rows in (layers, containers):
        unmeasured = [row for row, cells in rows.items() if not any(cells.values())]
        assert not unmeasured
        versions = set(next(iter(rows.values())))
        assert versions >= {archive.stem for archive in ARCHIVES} and len(versions) >= len(ARCHIVES) + 1


def test_no_error_is_larger_than_the_tests_allow():
    cells = [cell for rows in tables() for row in rows.values() for cell in row.values() if cell]
    assert len(cells) > 150
    assert all(cell == "exact" or 0 < float(cell) <= LARGEST for cell in cells)


def test_a_model_belongs_to_the_rows_of_all_its_layers():
    cell = {"class_name": "GRUCell", "config": {"name": "cell", "units": 3}}
    stacked = {"class_name": "StackedRNNCells", "config": {"name": "stack", "cells": [cell]}}
    rnn = {"class_name": "RNN", "config": {"name": "rnn", "cell": stacked}}
    steps = {"class_name": "TimeDistributed", "config": {"name": "steps", "layer": {
        "class_name": "Dense", "config": {"name": "dense"}}}}
    start = {"class_name": "InputLayer", "config": {"name": "x", "batch_shape": [None, 4, 2]}}
    model = {"class_name": "Sequential", "config": {"name": "model", "layers": [start, rnn, steps]}}
    assert set(classes_of(parse_layer(rnn))) == {"RNN", "StackedRNNCells", "GRUCell"}
    assert rows_of(model) == {"RNN", "StackedRNNCells", "GRUCell", "TimeDistributed", "Dense"}
