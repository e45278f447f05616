"""What is given as a path and is none."""

from __future__ import annotations

from importlib.resources import files

import pytest

import lstmrt
from lstmrt.errors import InputError
from lstmrt.tokenizers import load_tokenizer

SAMPLE = files("lstmrt") / "data" / "sample.lstmrt"


@pytest.mark.parametrize("wrong, words", [("a\0b", "NUL"), (3, "got int"), (None, "got NoneType"), (b"a\0", "NUL"), ([], "got list")])
def test_every_door_says_so(tmp_path, wrong, words):
    model = lstmrt.load(SAMPLE)
    for call in (lambda: lstmrt.load(wrong), lambda: model.save(wrong), lambda: lstmrt.convert(wrong, tmp_path / "x"),
                 lambda: lstmrt.convert(SAMPLE, wrong)):
        with pytest.raises(InputError, match=words):
            call()


def test_a_tokenizer_that_is_no_path():
    with pytest.raises(InputError, match="NUL"):
        load_tokenizer("a\0b")


def test_bytes_are_a_path(tmp_path):
    path = tmp_path / "model.lstmrt"
    lstmrt.load(str(SAMPLE).encode()).save(str(path).encode())
    assert lstmrt.load(path)
