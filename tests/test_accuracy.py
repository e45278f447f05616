"""The f32 error against float64 is no larger than other runtimes', as `python bench accuracy` prints it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def tables(tmp_path_factory) -> list[dict]:
    pytest.importorskip("tensorflow", reason="the comparison needs TensorFlow")
    pytest.importorskip("onnxruntime", reason="the comparison needs onnxruntime")
    found = tmp_path_factory.mktemp("bench") / "accuracy.json"
    command = [sys.executable, "bench", "accuracy", "--runtimes", "onnxruntime,tf.function", "--json", found]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    return json.loads(found.read_text(encoding="utf-8"))["found"]


@pytest.mark.parametrize("figure", ["RMS error", "largest, mean", "largest"])
def test_error_is_no_larger_than_the_frameworks(tables, figure):
    short = []
    for table in tables:
        errors = {runtime: row[figure] for runtime, row in table["rows"].items()}
        ours = errors.pop("lstmrt")
        if ours > min(errors.values()):
            short.append(f"{table['title']}: {figure} {ours:.2e}, others {errors}")
    assert len(tables) == 10 and not short, short
