"""What a unit of each kind of work needs: the weights it reads and the multiply-adds it does, whoever does it."""

from __future__ import annotations

from lstmrt.benchmark import BYTES, SCREENED, Work
from models import GATES
from shapes import LayerShape, TokenShape


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
    a row of a table; of a large output layer the bytes of the bounds are read, and few of its rows."""
    gates = GATES[shape.cell] * shape.hidden
    recurrent = gates * shape.hidden * (2 * shape.layers - 1)
    output = shape.hidden * shape.vocabulary
    weights = BYTES[precision] * recurrent + output * (1 if output >= SCREENED else BYTES[precision])
    return Work(
        moved=weights + outputs * 4 * gates,
        resident=weights,
        operations=2 * (rows * recurrent + outputs * output),
    )
