"""The group `onnx`: files as exporters write them, end to end in lstmrt and in onnxruntime, with as many threads each."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from measure import in_turn, repeat
from report import Comparison, Row


@dataclass(frozen=True)
class Case:
    """What is exported: `write(hidden, rng)` gives an onnx.ModelProto of x (1, time, hidden)."""

    name: str
    hidden: int
    time: int
    write: Callable


def onnx(bench) -> Iterator[Comparison]:
    """A stacked LSTM with a dense layer as torch exports it, and Keras's GRU as the Loop that tf2onnx makes of it: a
    sequence, and one step. A detector: convolutions with an LSTM behind them, of a short chunk and of a longer one."""
    for case in bench.some(CASES):
        yield _compared(bench, case)


def _compared(bench, case: Case) -> Comparison:
    import onnxruntime

    import lstmrt

    rng = np.random.default_rng(0)
    x = rng.normal(size=(1, case.time, case.hidden)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        path.write_bytes(case.write(case.hidden, rng).SerializeToString())
        model = lstmrt.load(path, threads=bench.threads)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = bench.threads
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    ours, theirs = (lambda: model(x)), (lambda: session.run(None, {"x": x})[0])
    off = float(np.abs(ours() - theirs()).max())
    timings = in_turn({"lstmrt": repeat(ours), "onnxruntime": repeat(theirs)}, bench.rounds)
    rows = [Row(name, "f32", timing, 0.0 if name == "lstmrt" else off) for name, timing in timings.items()]
    return Comparison("onnx", f"{case.name} {case.hidden} T{case.time}", "call", bench.threads,
                      {"hidden": case.hidden, "time": case.time}, rows)


class _Writer:
    """An ONNX graph in the making."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng, self.nodes, self.initializers = rng, [], []

    def weights(self, *shape: int) -> str:
        return self.constant((self.rng.normal(size=shape) / np.sqrt(shape[-1])).astype(np.float32))

    def constant(self, array) -> str:
        from onnx import numpy_helper

        name = f"constant_{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def node(self, op: str, *inputs: str, outputs: int = 1, **attributes):
        from onnx import helper

        made = [f"value_{id(self)}_{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), made, **attributes))
        return made[0] if outputs == 1 else made

    def model(self, hidden: int, y: str):
        from onnx import TensorProto, helper

        values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
                  for name, shape in (("x", ("batch", "time", hidden)), (y, (None, None, None)))]
        graph = helper.make_graph(self.nodes, "export", values[:1], values[1:], self.initializers)
        return helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 20)])


def _torch_lstm(hidden: int, rng: np.random.Generator):
    """Two layers, batch first, states of zeros by the shape of x, a dense layer."""
    writer = _Writer(rng)
    x = writer.node("Transpose", "x", perm=[1, 0, 2])
    batch = writer.node("Unsqueeze", writer.node("Gather", writer.node("Shape", x), writer.constant(1)), writer.constant([0]))
    shape = writer.node("Concat", writer.constant([1]), batch, writer.constant([hidden]), axis=0)
    zeros = writer.node("Expand", writer.constant(np.zeros((1, 1, 1), np.float32)), shape)
    for _ in range(2):
        weights = [writer.weights(1, 4 * hidden, hidden), writer.weights(1, 4 * hidden, hidden), writer.weights(1, 8 * hidden)]
        y, *_ = writer.node("LSTM", x, *weights, "", zeros, zeros, outputs=3, hidden_size=hidden)
        x = writer.node("Squeeze", y, writer.constant([1]))
    x = writer.node("Transpose", x, perm=[1, 0, 2])
    dense = writer.node("MatMul", x, writer.weights(hidden, hidden))
    return writer.model(hidden, writer.node("Add", dense, writer.weights(hidden)))


def _keras_gru(hidden: int, rng: np.random.Generator):
    """A Loop over time whose body is a GRU of reset_after, in Keras's layout."""
    from onnx import TensorProto, helper

    writer, body = _Writer(rng), _Writer(rng)
    kernels = [writer.weights(hidden, 3 * hidden) for _ in range(2)]
    biases = [writer.weights(3 * hidden) for _ in range(2)]
    x = writer.node("Transpose", "x", perm=[1, 0, 2])
    shape = writer.node("Shape", x)
    length = writer.node("Gather", shape, writer.constant(0))
    rows = writer.node("Concat", writer.node("Gather", shape, writer.constant([1])), writer.constant([hidden]), axis=0)
    zeros = writer.node("Expand", writer.constant(np.float32(0)), rows)
    parts = []
    for source, kernel, bias in zip((body.node("Gather", x, "i"), "h"), kernels, biases):
        sums = body.node("Add", body.node("MatMul", source, kernel), bias)
        parts.append(body.node("Split", sums, outputs=3, axis=-1, num_outputs=3))
    (xz, xr, xh), (hz, hr, hh) = parts
    z, r = (body.node("Sigmoid", body.node("Add", a, b)) for a, b in ((xz, hz), (xr, hr)))
    g = body.node("Tanh", body.node("Add", xh, body.node("Mul", r, hh)))
    rest = body.node("Mul", body.node("Sub", writer.constant(np.float32(1)), z), g)
    new = body.node("Add", body.node("Mul", z, "h"), rest)
    scanned, going = body.node("Identity", new), body.node("Identity", "go")

    def value(name: str, kind: int = TensorProto.FLOAT, shape=None):
        return helper.make_tensor_value_info(name, kind, shape)

    graph = helper.make_graph(
        body.nodes, "body", [value("i", TensorProto.INT64, ()), value("go", TensorProto.BOOL, ()), value("h")],
        [value(going, TensorProto.BOOL, ()), value(new), value(scanned)])
    _, y = writer.node("Loop", length, "", zeros, outputs=2, body=graph)
    return writer.model(hidden, writer.node("Transpose", y, perm=[1, 0, 2]))


def _detector(hidden: int, rng: np.random.Generator):
    """Four convolutions over time, three of them with stride 2, an LSTM, a convolution of one step, a sigmoid."""
    writer = _Writer(rng)
    x = writer.node("Transpose", "x", perm=[0, 2, 1])
    for stride in (1, 2, 2, 2):
        filters = writer.constant((rng.normal(size=(hidden, hidden, 3)) / np.sqrt(3 * hidden)).astype(np.float32))
        x = writer.node("Relu", writer.node("Conv", x, filters, writer.weights(hidden), strides=[stride], pads=[1, 1]))
    x = writer.node("Transpose", x, perm=[2, 0, 1])
    weights = [writer.weights(1, 4 * hidden, hidden), writer.weights(1, 4 * hidden, hidden), writer.weights(1, 8 * hidden)]
    y, *_ = writer.node("LSTM", x, *weights, outputs=3, hidden_size=hidden)
    y = writer.node("Transpose", writer.node("Squeeze", y, writer.constant([1])), perm=[1, 2, 0])
    return writer.model(hidden, writer.node("Sigmoid", writer.node("Conv", y, writer.weights(1, hidden, 1))))


CASES = (
    Case("torch LSTM x2", 128, 100, _torch_lstm),
    Case("Keras GRU Loop", 128, 100, _keras_gru),
    Case("torch LSTM x2", 256, 100, _torch_lstm),
    Case("Keras GRU Loop", 256, 100, _keras_gru),
    Case("torch LSTM x2", 128, 1, _torch_lstm),
    Case("Keras GRU Loop", 128, 1, _keras_gru),
    Case("detector", 64, 8, _detector),
    Case("detector", 64, 64, _detector),
)
