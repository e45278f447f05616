"""The picture of an alignment: the right weights at the right tokens."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import lstmrt
from lstmrt.errors import InputError, MissingDependencyError

WEIGHTS = np.random.default_rng(0).random((3, 4)).astype(np.float32)
SOURCE, TARGET = ["ich", " ", "bin", "$da"], [7, "am", "\n"]


@pytest.fixture(autouse=True)
def matplotlib():
    return pytest.importorskip("matplotlib", reason="matplotlib is not installed")


def labels(axis) -> list[str]:
    return [label.get_text() for label in axis.get_ticklabels()]


def test_source_along_the_top_target_down_the_side(tmp_path):
    ax = lstmrt.plot_alignment(WEIGHTS, SOURCE, TARGET)
    (image,) = ax.images
    np.testing.assert_array_equal(image.get_array(), WEIGHTS)
    assert labels(ax.xaxis) == ["ich", "␣", "bin", r"\$da"] and ax.xaxis.get_ticks_position() == "top"
    assert labels(ax.yaxis) == ["7", "am", "\\n"]
    assert image.get_cmap().name == "gray" and image.get_clim()[0] == 0
    ax.figure.savefig(tmp_path / "alignment.png")
    assert (tmp_path / "alignment.png").read_bytes().startswith(b"\x89PNG")


def test_of_layers_the_first_of_heads_the_mean():
    heads = np.stack([WEIGHTS, 1 - WEIGHTS, WEIGHTS], axis=1)
    ax = lstmrt.plot_alignment({"upper": heads, "lower": WEIGHTS}, SOURCE, TARGET)
    np.testing.assert_allclose(ax.images[0].get_array(), (1 + WEIGHTS) / 3, rtol=1e-6)
    assert ax.get_title() == "upper"


def test_axes_may_be_given():
    from matplotlib.figure import Figure

    ax = Figure().subplots()
    assert lstmrt.plot_alignment(WEIGHTS, SOURCE, TARGET, ax=ax) is ax and ax.images


@pytest.mark.parametrize("weights, message", [({}, "there are none"), (WEIGHTS.T, r"expected weights \(3, 4\)"),
                                              (WEIGHTS[0], r"expected weights \(3, 4\) .*got \(4,\)")])
def test_weights_that_do_not_fit_are_refused(weights, message):
    with pytest.raises(InputError, match=message):
        lstmrt.plot_alignment(weights, SOURCE, TARGET)


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingDependencyError, match=r"pip install lstmrt\[plot\]"):
        lstmrt.plot_alignment(WEIGHTS, SOURCE, TARGET)
