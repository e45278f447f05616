"""The rules of a graph. `validate` lists every fault with its place, as `nodes[2] LSTM 'lstm_1' R: shape ...`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

import numpy as np

from .activations import recurrent_activations
from .containers import kind_of
from .errors import GraphError
from .graph import EXTENSION, Graph, Node
from .operators import REQUIRED, AttributeSpec, Operator, find, has_states, is_recurrent
from .passes.infer_shapes import infer
from .shapes import DTYPES, same_size

_KINDS = {"int": int, "float": float, "string": str}


def validate(graph: Graph) -> Graph:
    """`graph` itself, or a GraphError whose message has one line for each fault.

    Dtypes and shapes are looked at only in a graph whose structure (names, operators, attributes) is sound.
    """
    faults = [*_value_faults(graph), *_name_faults(graph), *_node_faults(graph)]
    if not faults:
        faults = _type_faults(graph)
    if faults:
        raise GraphError("\n".join(faults))
    return graph


def _value_faults(graph: Graph) -> Iterator[str]:
    for kind, values in (("inputs", graph.inputs), ("outputs", graph.outputs)):
        for i, value in enumerate(values):
            if not value.name:
                yield f"{kind}[{i}]: has no name"
            if kind_of(value.dtype) is None:
                yield f"{kind}[{i}] '{value.name}': dtype {value.dtype!r}, expected one of {', '.join(DTYPES.values())}"
            for size in value.shape or ():
                if not (size is None or isinstance(size, str) or (type(size) is int and size >= 0)):
                    yield f"{kind}[{i}] '{value.name}': size {size!r} in shape {value.shape}"
    for name, array in graph.constants.items():
        if not isinstance(array, np.ndarray):
            yield f"constants '{name}': {type(array).__name__}, expected an array"
        elif array.dtype.name not in DTYPES.values():
            yield f"constants '{name}': dtype {array.dtype.name}, expected one of {', '.join(DTYPES.values())}"


def _name_faults(graph: Graph, around: Mapping[str, str] = MappingProxyType({}), where: str = "") -> Iterator[str]:
    """Names that are undefined, defined twice, or used before their node. `around`, of a subgraph at `where`, are the
    names that it may capture, each with what defines it."""
    made_anywhere = {name for node in graph.nodes for name in node.outputs}
    defined = dict(around)
    sources = [("constants", name) for name in graph.constants]
    sources += [(f"inputs[{i}]", value.name) for i, value in enumerate(graph.inputs)]
    for place, name in sources:
        if name in defined:
            yield f"{where}{place} '{name}': defined before, by {defined[name]}"
        defined.setdefault(name, where + place)
    for i, node in enumerate(graph.nodes):
        place = f"{where}nodes[{i}] {node}"
        for name in filter(None, node.inputs):
            if name not in defined:
                yield f"{place}: input '{name}' is " + ("made later" if name in made_anywhere else "made by nobody")
        for key, subgraph in node.attributes.items():
            if isinstance(subgraph, Graph):
                yield from _name_faults(subgraph, defined, f"{place} {key} ")
                if subgraph.constants:
                    yield f"{place} {key}: has constants, which belong in the outermost graph"
        for name in filter(None, node.outputs):
            if name in defined:
                yield f"{place}: output '{name}' is defined before, by {defined[name]}"
            defined.setdefault(name, place)
    for i, value in enumerate(graph.outputs):
        if value.name not in defined:
            yield f"{where}outputs[{i}] '{value.name}': made by nobody"
    if not graph.outputs:
        yield f"{where}outputs: there are none"


def _node_faults(graph: Graph, where: str = "") -> Iterator[str]:
    for i, node in enumerate(graph.nodes):
        place = f"{where}nodes[{i}] {node}"
        if not (isinstance(node.inputs, tuple) and isinstance(node.outputs, tuple)):
            yield f"{place}: inputs {node.inputs} and outputs {node.outputs}, expected tuples"
            continue
        operator = find(node)
        if operator is not None:
            yield from (f"{place} {fault}" for fault in operator_faults(node, operator))
        elif node.domain == EXTENSION:
            yield f"{place}: the domain {EXTENSION} has no such operator"
        elif node.op in _SUBGRAPHS and not node.domain:
            yield from (f"{place} {fault}" for fault in _control_faults(node))
        for key, subgraph in node.attributes.items():
            if isinstance(subgraph, Graph):
                yield from _node_faults(subgraph, f"{place} {key} ")


_SUBGRAPHS = {"If": ("then_branch", "else_branch"), "Loop": ("body",), "Scan": ("body",)}


def _control_faults(node: Node) -> Iterator[str]:
    """What is wrong with the subgraphs of an If, Loop or Scan, and with the numbers of what goes in and out of them."""
    graphs = [node.attributes.get(key) for key in _SUBGRAPHS[node.op]]
    if not all(isinstance(graph, Graph) for graph in graphs):
        yield f"{', '.join(_SUBGRAPHS[node.op])}: a subgraph is missing"
        return
    if node.op == "Scan" and node.opset is not None and node.opset < 9:
        return  # one of batches, with their lengths: onnxruntime's
    given, made, scanned = len(node.inputs), len(node.outputs), node.attributes.get("num_scan_inputs")
    if node.op == "Scan" and (type(scanned) is not int or not 0 < scanned <= given):
        yield f"num_scan_inputs: {scanned!r} of {given} inputs"
        return
    inputs = {"If": 0, "Loop": given, "Scan": given}[node.op]
    outputs = made + 1 if node.op == "Loop" else made
    fewest = {"If": 0, "Loop": given - 1, "Scan": given - (scanned or 0)}[node.op]
    if (node.op == "If" and given != 1) or (node.op == "Loop" and given < 2):
        yield f"inputs: {given} of them"
    for graph in graphs:
        if len(graph.inputs) != inputs or len(graph.outputs) < max(outputs, fewest):
            yield f"a subgraph of {len(graph.inputs)} inputs and {len(graph.outputs)} outputs, expected {inputs} and {outputs}"


def operator_faults(node: Node, operator: Operator) -> Iterator[str]:
    """What is wrong with the inputs, outputs and attributes that a node names, whatever their dtypes and shapes."""
    given = {"inputs": (node.inputs, operator.inputs), "outputs": (node.outputs, operator.outputs)}
    for kind, (names, formal) in given.items():
        if len(names) > len(formal) and not formal[-1].endswith("*"):
            yield f"{kind}: {len(names)} of them, at most {len(formal)} expected"
        for position, name in enumerate(formal):
            if not name.endswith("?") and not "".join(names[position:position + 1]):
                yield f"{kind}: {name.rstrip('*')} is missing"
    if not any(node.outputs):
        yield "outputs: there are none"
    attribute_faults = list(_attribute_faults(node, operator))
    yield from attribute_faults
    if has_states(node) and not attribute_faults:
        try:
            recurrent_activations(node)
        except GraphError as error:
            yield str(error)


def _attribute_faults(node: Node, operator: Operator) -> Iterator[str]:
    for name in node.attributes:
        if name not in operator.attributes:
            yield f"{name}: unknown attribute, expected one of {', '.join(operator.attributes) or 'none'}"
    for name, spec in operator.attributes.items():
        if name not in node.attributes:
            if spec.default is REQUIRED:
                yield f"{name}: attribute is missing"
        elif not _is_kind(node.attributes[name], spec):
            yield f"{name}: {node.attributes[name]!r}, expected {spec.kind}"
        elif spec.allowed and node.attributes[name] not in spec.allowed:
            yield f"{name}: {node.attributes[name]!r}, expected one of {spec.allowed}"
    if is_recurrent(node) and isinstance(node.attributes.get("hidden_size"), int) and node.attributes["hidden_size"] < 1:
        yield f"hidden_size: {node.attributes['hidden_size']}, expected at least 1"


def _is_kind(value: object, spec: AttributeSpec) -> bool:
    element = _KINDS[spec.kind.removesuffix("s")]
    if spec.kind in _KINDS:
        return type(value) is element
    return isinstance(value, tuple) and all(type(one) is element for one in value)


def _type_faults(graph: Graph) -> list[str]:
    tensors, misfits = infer(graph)
    faults = list(misfits)
    for i, value in enumerate(graph.outputs):
        made = tensors.get(value.name)
        if made is None:
            continue
        if made.dtype != value.dtype:
            faults.append(f"outputs[{i}] '{value.name}': dtype {value.dtype}, but its node makes {made.dtype}")
        if made.shape is not None and value.shape is not None and not (
                len(made.shape) == len(value.shape) and all(map(same_size, made.shape, value.shape))):
            faults.append(f"outputs[{i}] '{value.name}': shape {value.shape}, but its node makes {made.shape}")
    return faults
