"""Damaged Keras files for a while: LSTMRT_FUZZ_SECONDS, or `make fuzz-keras` for an hour."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SECONDS = os.environ.get("LSTMRT_FUZZ_SECONDS", "15")


def test_damaged_files_are_read_or_refused():
    run = subprocess.run([sys.executable, Path(__file__).with_name("fuzz_keras.py"), SECONDS, "1599"],
                         capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "'refused'" in run.stdout and "'read'" in run.stdout
