"""Operators that are not lstmrt's to run: connected ones together as one onnxruntime session."""

from __future__ import annotations

import importlib.util
import re
import threading
from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np

from ..containers import is_array
from ..errors import InputError, MissingDependencyError, UnsupportedError
from ..graph import EXTENSION, Node, Value
from ..onnx_proto import model_proto
from ..passes.infer_shapes import infer_node, infer_nodes
from ..shapes import Mismatch, Tensor
from ..sizes import LONGEST


def require_runtime(nodes: Iterable[Node]) -> None:
    """Raises MissingDependencyError that lists the operators of `nodes` unless onnx and onnxruntime are installed,
    and UnsupportedError for operators of lstmrt's own domain, which nobody has."""
    counts = Counter(f"{node.domain}:{node.op}" if node.domain else node.op for node in nodes)
    unknown = [node for node in nodes if node.domain == EXTENSION]
    if unknown:
        raise UnsupportedError(f"unknown operators: {', '.join(map(str, unknown))}")
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        listed = ", ".join(f"{count} {op}" for op, count in sorted(counts.items()))
        raise MissingDependencyError(f"onnxruntime has to run {listed}: pip install lstmrt[onnx]") from error


def has_runtime() -> bool:
    return all(importlib.util.find_spec(name) for name in ("onnx", "onnxruntime"))


class ForeignStep:
    """Some nodes, in order. The session is made by the first run, which knows the dtypes of what comes in; it uses the
    thread that calls, and more of its own only where `threads` says so.

    `containers`, value name -> dtype, is all steps' of a graph: of sequences and optional values that come in, which do not
    always tell, and of those that the steps before make, who add them."""

    kind = "onnxruntime"

    def __init__(self, nodes: list[Node], outputs: list[str], constants: Mapping[str, np.ndarray],
                 tensors: Mapping[str, Tensor], containers: dict[str, str], threads: int) -> None:
        made = {name for node in nodes for name in node.outputs}
        read = dict.fromkeys(name for node in nodes for name in node.reads if name not in made)
        self.nodes = nodes
        self.reads = [name for name in read if name not in constants]
        self.fresh = outputs
        self._shapes = {name: tensors[name].shape for name in self.reads if name in tensors}
        self._constants = {name: constants[name] for name in read if name in constants}
        self._pools = [node for node in nodes if _takes_whole_windows(node)]
        self._known = {name: _known(array) for name, array in self._constants.items()} if self._pools else {}
        self._fitting: dict[str, Tensor] = {}  # the last inputs that all windows fitted into
        self._containers = containers
        self._threads = max(threads, 1)
        self._lock = threading.Lock()
        self._session = None

    def run(self, values: dict[str, np.ndarray]) -> None:
        inputs = {name: values[name] for name in self.reads}
        if self._pools:
            self._check_pools(inputs)
        session = self._session or self._open(inputs)
        try:
            made = session.run(self.fresh, inputs)
        except Exception as error:  # onnxruntime has a class for each status, all of them plain Exceptions
            raise InputError(f"onnxruntime could not run {self._named()}: {error}") from error
        values.update(zip(self.fresh, made))

    def _check_pools(self, inputs: Mapping[str, np.ndarray]) -> None:
        """Raises InputError where a window does not fit: onnxruntime, whose division rounds to 0, makes one up that does."""
        given = {name: Tensor(array.dtype.name, array.shape) for name, array in inputs.items() if name not in self._containers}
        if given == self._fitting:
            return
        tensors = {**self._known, **given}
        infer_nodes(self.nodes, tensors)
        for node in self._pools:
            try:
                infer_node(node, tensors)
            except Mismatch as mismatch:
                raise InputError(f"{node}: {'; '.join(mismatch.args)}") from None
        self._fitting = given

    def _value(self, name: str, given: np.ndarray | list[np.ndarray] | None) -> Value:
        """With the sizes that are the same at every call: onnxruntime computes ahead what depends on those alone."""
        if name in self._containers:
            return Value(name, self._containers[name], None)
        known = self._shapes.get(name) or (None,) * given.ndim
        return Value(name, given.dtype.name, tuple(
            size if isinstance(size, int) and size == actual else None for size, actual in zip(known, given.shape)))

    def _named(self) -> str:
        return ", ".join(map(str, self.nodes))

    def _open(self, inputs: Mapping[str, np.ndarray]):
        import onnxruntime

        with self._lock:
            if self._session is None:
                model = model_proto(
                    "foreign",
                    [self._value(name, given) for name, given in inputs.items()],
                    [Value(name, "", None) for name in self.fresh],
                    self.nodes,
                    self._constants,
                )
                options = onnxruntime.SessionOptions()
                options.log_severity_level = 4  # what it would print of an error, the exception says
                options.intra_op_num_threads = self._threads
                try:
                    session = onnxruntime.InferenceSession(
                        model.SerializeToString(), options, providers=["CPUExecutionProvider"])
                except Exception as error:  # see run
                    raise UnsupportedError(f"onnxruntime refuses {self._named()}: {error}") from error
                dtypes = {made.name: _dtype(made.type) for made in session.get_outputs()}
                self._containers.update((name, dtype) for name, dtype in dtypes.items() if not is_array(dtype))
                self._constants.clear()  # the session has its own
                self._session = session
            return self._session


_DTYPES = {"float": "float32", "double": "float64", "string": "object"}


def _dtype(of_runtime: str) -> str:
    """seq(tensor(float)) as seq(float32)."""
    return re.sub(r"tensor\((\w+)\)", lambda match: _DTYPES.get(match[1], match[1]), of_runtime)


def _takes_whole_windows(node: Node) -> bool:
    return node.op in ("AveragePool", "MaxPool") and node.attributes.get("auto_pad") == "VALID"


def _known(constant: np.ndarray) -> Tensor:
    """What shapes can depend on: elements of small constants alone."""
    return Tensor.of(constant) if constant.size <= LONGEST else Tensor(constant.dtype.name, constant.shape)
