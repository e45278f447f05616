"""The example app, run as a user would run it."""

from __future__ import annotations

import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

import lstmrt

APP = Path(__file__).parent.parent / "examples" / "app.py"


@pytest.mark.parametrize("way", [("--pace", "0.001"), ("--together",)], ids=" ".join)
def test_every_user_gets_the_text_of_their_own_prompt(tmp_path, way):
    command = [sys.executable, APP, *way]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")

    lines = done.stdout.splitlines()
    heard: dict[str, str] = {}
    for line in lines:
        if " -> " not in line:
            user, piece = line.split(":", 1)
            heard[user] = heard.get(user, "") + piece
    model = lstmrt.load(files("lstmrt") / "data" / "sample.lstmrt")
    prompts = {
        "Hamlet": "To be or not",
        "Ophelia": "To die to sleep",
        "Horatio": "Thus conscience",
        "Gertrude": "Is sicklied o'er",
    }
    assert heard == {user: model.generate(prompt, max_new_tokens=12) for user, prompt in prompts.items()}
    assert heard["Hamlet"].startswith(" to be that is the question whether")


def test_suggestions_follow_what_is_typed(tmp_path):
    command = [sys.executable, APP, "--pace", "0"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    suggestions = dict(line.split(" -> ") for line in done.stdout.splitlines() if " -> " in line)
    assert list(suggestions) == ["shuffled", "off", "this"]
    assert suggestions["off"].split(", ")[0] == "this"
    assert suggestions["this"].split(", ")[0] == "mortal"
