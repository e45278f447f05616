"""The limits that benchmarks are held against are measured, and the benchmark compares what agrees."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import lstmrt
from lstmrt import _core, machine

ROOT = Path(__file__).parent.parent


def test_rates_are_measured():
    assert _core.read_rate(1 << 16, 2_000_000) > 1e8
    assert _core.read_rate(0, 1_000_000) == 0
    for precision in ("f32", "bf16", "int8"):
        assert _core.fma_rate(2_000_000, precision) > 1e7


@pytest.mark.parametrize("measure", [lambda: _core.read_rate(64, 0), lambda: _core.fma_rate(-1)])
def test_no_time_is_refused(measure):
    with pytest.raises(lstmrt.InputError):
        measure()


def test_more_memory_than_there_is():
    with pytest.raises(lstmrt.OutOfMemoryError):
        _core.read_rate(2**62, 1_000_000)


def test_a_level_is_where_the_weights_fit():
    limits = machine.Limits(2, {"L2": 1 << 20, "L3": 16 << 20}, {}, {})
    assert [limits.level(size) for size in (1, 3 << 19, (3 << 19) + 1, 12 << 20, (12 << 20) + 1)] == \
        ["L2", "L2", "L3", "L3", "DRAM"]


def test_cache_sizes_come_from_the_system(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "CACHES", tmp_path)
    assert machine.cache_sizes() == {"L2": 1 << 20, "L3": 16 << 20}
    for index, (level, kind, size) in enumerate([(1, "Data", "32K"), (2, "Unified", "2048K"), (3, "Unified", "36M")]):
        folder = tmp_path / f"index{index}"
        folder.mkdir()
        for name, text in (("level", level), ("type", kind), ("size", size)):
            (folder / name).write_text(f"{text}\n")
    assert machine.cache_sizes() == {"L2": 2 << 20, "L3": 36 << 20}


def test_the_benchmark_compares_what_agrees(tmp_path):
    pytest.importorskip("onnxruntime", reason="the comparison needs onnxruntime")
    found = tmp_path / "found.json"
    groups = ["step", "sequence", "token", "tutorial"]
    command = [sys.executable, "bench", *groups, "--quick", "--rounds", "1", "--runtimes", "onnxruntime", "--json", found]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    results = json.loads(found.read_text(encoding="utf-8"))["found"]
    assert {result["group"] for result in results} == set(groups)
    for result in results:
        assert {"lstmrt", "onnxruntime"} <= {row["runtime"] for row in result["rows"]}, result["notes"]
        assert all(row["timing"]["median"] > 0 for row in result["rows"])
