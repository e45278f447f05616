"""The example that reads dates, trained for a moment and run as a user would run it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import lstmrt

DATES = Path(__file__).parent.parent / "examples" / "dates"


def run(script: str, *arguments: object, cwd: Path) -> str:
    done = subprocess.run([sys.executable, DATES / script, *map(str, arguments)], cwd=cwd, capture_output=True, text=True,
                          timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_dates_are_learned_read_and_drawn(tmp_path):
    pytest.importorskip("keras", reason="keras is not installed")
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    run("train.py", tmp_path, "--epochs", 1, "--pairs", 256, cwd=tmp_path)
    shown = run("translate.py", tmp_path, "3rd march 2017", "9.11.1989", "--picture", "alignment.png", cwd=tmp_path)
    model = lstmrt.load(tmp_path / "dates.keras", tokenizer=tmp_path / "source_letters.json",
                        decoder_tokenizer=tmp_path / "target_letters.json")
    assert (model.generation.decoder_start_token_id, model.generation.eos_token_id) == (1, (2,))
    made = model.generate(["3rd march 2017", "9.11.1989"], max_new_tokens=10)
    assert shown.splitlines() == [f"{date} -> {text}" for date, text in zip(("3rd march 2017", "9.11.1989"), made)]
    assert all(set(text) <= set("-0123456789") for text in made)
    assert (tmp_path / "alignment.png").read_bytes().startswith(b"\x89PNG")
