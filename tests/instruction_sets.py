"""Instruction sets that tests ask for by name; what this CPU lacks is skipped, and counted so."""

from __future__ import annotations

import pytest

from lstmrt import _core

REDUCED = [
    pytest.param(precision, isa, marks=pytest.mark.skipif(not supported, reason=f"this CPU has no {isa}"))
    for precision in ("bf16", "int8")
    for isa, supported in _core.isas(precision)
]
