"""How many node tests of the onnx package's own suite lstmrt passes, and what runs them: `make onnx-suite`.

`python tests/onnx_suite.py -v` also names each test that does not pass, with the reason.
"""

from __future__ import annotations

import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx.backend.test.loader import load_model_tests
from onnx.backend.test.runner import Runner

from lstmrt.errors import LstmrtError, UnsupportedError
from lstmrt.onnx_backend import LstmrtBackend

KINDS = ("native", "NumPy", "onnxruntime")  # a test counts for the last one of these that it needs


def cases() -> list:
    """All node tests, as the onnx package makes them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return sorted(load_model_tests(kind="node"), key=lambda case: case.name)


@dataclass(frozen=True)
class Result:
    """What became of a test: `outcome` is the last of KINDS that it needed, "refused" or "wrong", with the `reason`.

    error  the largest difference from what the suite wants, where that is above 1 as a share of it
    """

    case: Any
    outcome: str
    reason: str = ""
    error: float = 0.0


def run(case) -> Result:
    try:
        prepared = LstmrtBackend.prepare(case.model)
        error = 0.0
        for inputs, outputs in case.data_sets:
            found = prepared.run(inputs)
            Runner.assert_similar_outputs(outputs, found, case.rtol, case.atol)
            error = max([error, *map(_difference, found, outputs)])
    except UnsupportedError as error:
        return Result(case, "refused", str(error))
    except (AssertionError, TypeError, LstmrtError) as error:
        return Result(case, "wrong", f"{type(error).__name__}: {error}")
    return Result(case, max(prepared.kinds, key=KINDS.index, default="NumPy"), error=error)


def _difference(found: np.ndarray | list | None, wanted: np.ndarray | list | None) -> float:
    if isinstance(wanted, list):
        return max(map(_difference, found, wanted), default=0.0)
    if np.asarray(wanted).dtype.kind not in "fiu":
        return 0.0
    found, wanted = (np.asarray(array, np.float64) for array in (found, wanted))
    finite = np.isfinite(wanted)
    return float((np.abs(found - wanted) / np.maximum(1, np.abs(wanted)))[finite].max(initial=0))


def results() -> Iterator[Result]:
    with np.errstate(all="ignore"):
        yield from map(run, cases())


def summary(counts: Mapping[str, int]) -> str:
    """One line of how many tests had which outcome."""
    passed = sum(counts[kind] for kind in KINDS)
    return (f"{passed} of {sum(counts.values())} node tests of onnx {onnx.__version__} pass: "
            + ", ".join(f"{counts[kind]} {kind}" for kind in KINDS)
            + f"; {counts['refused']} ask for what is refused, {counts['wrong']} fail")


def main() -> None:
    counts: Counter[str] = Counter()
    for result in results():
        counts[result.outcome] += 1
        if "-v" in sys.argv[1:] and result.reason:
            print(f"{result.outcome:9s}{result.case.name}: {' '.join(result.reason.split())[:200]}")
    print(summary(counts))


if __name__ == "__main__":
    main()
