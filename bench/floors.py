"""The least time that a piece of work can take on this machine, whoever does it.

A unit of work moves its weights once and does its multiply-adds: its floor is the larger of bytes over the measured
bandwidth of the level that the weights are read from, and operations over the measured peak.
"""

from __future__ import annotations

from dataclasses import dataclass

from lstmrt.machine import Limits
from models import GATES
from shapes import LayerShape, TokenShape

BYTES = {"f32": 4, "bf16": 2, "int8": 1}  # of a weight


@dataclass(frozen=True)
class Work:
    """What one unit needs: bytes of weights read, bytes of those that are read again by the next unit, operations."""

    moved: float
    resident: float
    operations: float

    def floor(self, limits: Limits, precision: str) -> float:
        """Microseconds. The peak is that of float32: reduced precisions have the bytes alone."""
        read = self.moved / limits.rates[limits.level(self.resident)]
        compute = self.operations / limits.flops if precision == "f32" else 0
        return 1e6 * max(read, compute)


def layer_work(shape: LayerShape, precision: str) -> Work:
    """A time step of the batch: R, and W's share, which a sequence reads once."""
    gates, size = shape.directions * GATES[shape.cell] * shape.hidden, BYTES[precision]
    recurrent, inputs = size * gates * shape.hidden, size * gates * shape.inputs
    return Work(
        moved=recurrent + inputs / shape.time,
        resident=recurrent + (inputs if shape.time == 1 else 0),
        operations=2 * shape.batch * gates * (shape.inputs + shape.hidden),
    )


def token_work(shape: TokenShape, precision: str, rows: int = 1, outputs: int = 1) -> Work:
    """A token of `rows` streams or windows, `outputs` of which reach the output layer. The first layer's input part is
    a row of a table."""
    gates = GATES[shape.cell] * shape.hidden
    recurrent = gates * shape.hidden * (2 * shape.layers - 1)
    output = shape.hidden * shape.vocabulary
    weights = BYTES[precision] * (recurrent + output)
    return Work(
        moved=weights + outputs * 4 * gates,
        resident=weights,
        operations=2 * (rows * recurrent + outputs * output),
    )
