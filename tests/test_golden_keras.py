"""Files that ten years of Keras wrote, each with what that version computed: golden/keras, made by the script there."""

from __future__ import annotations

import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

import lstmrt
from keras_models import compare
from lstmrt import cli

GOLDEN = Path(__file__).parent / "golden" / "keras"
ARCHIVES = sorted(GOLDEN.glob("*.zip"))
ALONE = (".weights.h5", ".only.h5", ".weights.json")
# These hold no vocabulary: HDF5 of Keras 3, and weights alone.
LOST = {"text.h5", "text.weights.h5"}


def models() -> list[tuple[Path, str]]:
    """Each archive with each model in it: files, folders and lists of files."""
    found = []
    for archive in ARCHIVES:
        with zipfile.ZipFile(archive) as members:
            tops = {name.split("/")[0] for name in members.namelist()}
        kinds = (".keras", ".h5", ".weights.json")
        found += [(archive, top) for top in sorted(tops)
                  if top.endswith(kinds) and "_split_" not in top or top.endswith(("_folder", "_saved_model"))]
    return found


def stem(name: str) -> str:
    """Of its recorded call."""
    name = name.split(".")[0]
    for suffix in ("_folder", "_saved_model", "_split"):
        name = name.removesuffix(suffix)
    return name


@pytest.fixture(scope="session")
def unpacked(tmp_path_factory):
    folders = {}

    def folder(archive: Path) -> Path:
        if archive not in folders:
            folders[archive] = tmp_path_factory.mktemp(archive.stem)
            with zipfile.ZipFile(archive) as members:
                members.extractall(folders[archive])
        return folders[archive]

    return folder


def test_every_version_is_there():
    assert {archive.stem for archive in ARCHIVES} == {
        "1.2.2", "2.12.0", "2.13.1", "2.14.0", "2.15.0", "3.0.5", "3.3.3", "3.15.1"}
    assert sum(archive.stat().st_size for archive in ARCHIVES) < 1_000_000


@pytest.mark.parametrize("archive, name", models(), ids=lambda part: getattr(part, "stem", part))
def test_gives_what_was_recorded(unpacked, archive, name):
    folder = unpacked(archive)
    config = folder / f"{stem(name)}.json" if name.endswith(ALONE) else None
    if name in LOST:
        with pytest.raises(lstmrt.ModelFileError, match="vocabulary"):
            lstmrt.load(folder / name, config=config)
        return
    recorded = np.load(folder / f"{stem(name)}.npz")
    inputs = [recorded[key] for key in sorted(recorded.files) if key.startswith("input")]
    model = lstmrt.load(folder / name, config=config)
    compare((folder / f"{stem(name)}.json").read_text, archive.stem, name.removeprefix(stem(name)), [model(*inputs)],
            [recorded["outputs"]], error=1e-6)
    version = model.provenance["version"]
    assert version == archive.stem or (config is not None and version == "3")


@pytest.mark.parametrize("archive", ARCHIVES, ids=lambda path: path.stem)
def test_inspect_shows_it(unpacked, archive, capsys):
    assert cli.main(["inspect", str(unpacked(archive) / "hard.h5")]) == 0
    shown = capsys.readouterr().out
    assert f"version: {archive.stem}\n" in shown
    rows = [line.split() for line in shown.splitlines() if line.startswith("gru")]
    assert rows[0][1] == "GRU" and "(batch, 6, 5)" in shown and rows[0][-1] == "native"
    assert int(rows[0][-2]) == 4 * int(rows[0][-3]) == 4 * sum(
        array.size for array in layer_arrays(unpacked(archive) / "hard.h5", "gru"))


def layer_arrays(path: Path, prefix: str) -> list[np.ndarray]:
    arrays = []
    with h5py.File(path) as file:
        groups = [group for name, group in file["model_weights"].items() if name.startswith(prefix)]
        for group in groups:
            group.visititems(lambda _, item: arrays.append(item[()]) if isinstance(item, h5py.Dataset) else None)
    return arrays
