"""SavedModel folders and checkpoints: damaged ones are refused. What sound ones give stands in test_golden_keras.py."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import lstmrt
from lstmrt.converters import load_source
from lstmrt.converters.keras.tensor_bundle import message, varint
from lstmrt.errors import InputError, LstmrtError, ModelFileError, UnsupportedError
from strategies import damaged

ARCHIVE = Path(__file__).parent / "golden" / "keras" / "2.15.0.zip"
NAME = "language_model_saved_model"
FILES = ("keras_metadata.pb", "variables/variables.index", "variables/variables.data-00000-of-00001")


@pytest.fixture
def saved(tmp_path) -> Path:
    with zipfile.ZipFile(ARCHIVE) as members:
        members.extractall(tmp_path)
    return tmp_path / NAME


def test_a_checkpoint_beside_its_configuration(saved):
    config = saved.parent / "language_model.json"
    index = saved / "variables" / "variables.index"
    ids = np.load(saved.parent / "language_model.npz")["input0"]
    np.testing.assert_array_equal(lstmrt.load(index, config=config)(ids), lstmrt.load(saved)(ids))
    with pytest.raises(InputError, match="for a Keras file, which this is not"):
        lstmrt.load(saved / FILES[2], config=config)


def test_another_configuration_for_a_saved_model(saved):
    (saved / FILES[0]).unlink()
    with pytest.raises(UnsupportedError, match="model.export.*save the model as .keras"):
        lstmrt.load(saved)
    assert lstmrt.load(saved, config=saved.parent / "language_model.json")


@pytest.mark.parametrize("file", FILES[1:])
def test_a_part_is_missing(saved, file):
    (saved / file).unlink()
    with pytest.raises(ModelFileError, match=f"there is no file {Path(file).name}"):
        lstmrt.load(saved)


def test_weights_behind_the_end_of_their_file(saved):
    path = saved / FILES[2]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ModelFileError, match="lies behind the end|expected .* bytes"):
        lstmrt.load(saved)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_gives_an_error_of_ours_or_a_model(saved, data):
    folder = saved.parent / "damaged"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(saved, folder)
    path = folder / data.draw(st.sampled_from(FILES[:2]))
    path.write_bytes(damaged(data.draw, path.read_bytes()))
    try:
        load_source(folder).graph.validate()
    except LstmrtError as error:
        assert str(folder) in str(error)


def test_protobuf():
    assert message(b"\x08\x96\x01\x12\x02hi\x15\1\2\3\4") == {1: [150], 2: [b"hi", b"\1\2\3\4"]}
    for wrong in (b"\x08", b"\x08" + b"\xff" * 10, b"\x12\x05hi", b"\x0b", b"\x15\1"):
        with pytest.raises(ModelFileError, match="damaged protobuf"):
            message(wrong)
    with pytest.raises(ModelFileError):
        varint(b"", 0)
