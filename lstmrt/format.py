"""The `.lstmrt` file: one safetensors file that holds a whole model. docs/FORMAT.md is its description.

Nothing is packed for a CPU here: tensors lie as the graph has them, aligned, and are mapped rather than read.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import safetensors

from .errors import InputError, LstmrtError, ModelFileError, UnsupportedError
from .generation_config import GenerationDefaults, defaults_from_json
from .graph import Attribute, Graph, Node, Value
from .precision import PRECISIONS, from_bf16, from_int8, to_bf16, to_int8, weights

if TYPE_CHECKING:
    from .seq2seq.config import EncoderDecoderDefaults
    from .text_inputs import TextInput
    from .tokenizers import Tokenizer

VERSION = 1  # of files whose weights are all float32
REDUCED_VERSION = 2
EXTENSION = ".lstmrt"
ALIGNMENT = 64  # of the first tensor, and of the others as far as their own sizes keep it

_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1",
           "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1", "BOOL": "|b1"}
_DTYPE_NAMES = {np.dtype(code): name for name, code in _DTYPES.items()}
_BF16 = {"BF16": "<u2"}  # of weights alone
_CONSTANT, _SCALE, _ATTRIBUTE = "constant.", "scale.", "attribute."
_TEST_INPUT, _TEST_OUTPUT = "selftest.in.", "selftest.out."
_PREFIXES = (_CONSTANT, _SCALE, _ATTRIBUTE, _TEST_INPUT, _TEST_OUTPUT)
_DEEPEST = 32  # subgraphs within subgraphs
_CHECKSUM = rb'"checksum":"([0-9a-f]{8})"'
_NO_CHECKSUM = b"00000000"


class SelfTest(NamedTuple):
    """One recorded call: arrays by the names of the graph's inputs and outputs."""

    inputs: Mapping[str, np.ndarray]
    outputs: Mapping[str, np.ndarray]


class ModelFile(NamedTuple):
    """What a `.lstmrt` file says.

    provenance   words like "framework" and "source" to text
    states       names of inputs to those of the outputs that take their place at the next call; None: to be found
    text_inputs  how inputs that take text make ids of it, by the input's name
    precision    of the weights; in `graph` they are float32 in any, rounded to what it can hold (precision.rounded)
    """

    graph: Graph
    tokenizer: Tokenizer | None = None
    generation: GenerationDefaults | EncoderDecoderDefaults | None = None
    provenance: Mapping[str, str] = MappingProxyType({})
    selftest: SelfTest | None = None
    decoder_tokenizer: Tokenizer | None = None  # of an encoder-decoder whose tokens out are not those in
    states: Mapping[str, str] | None = None
    precision: str = "f32"
    text_inputs: Mapping[str, TextInput] = MappingProxyType({})
    mapping: mmap.mmap | None = None  # that the arrays are views of

    def leave_memory(self) -> None:
        """Lets the system take the mapped file's pages back; what is read of it again comes from the file again."""
        if self.mapping is not None and hasattr(mmap, "MADV_DONTNEED"):
            self.mapping.madvise(mmap.MADV_DONTNEED)


def is_lstmrt(path: str | os.PathLike) -> bool:
    """Whether the file begins as a safetensors file does: a length, then a JSON object. Raises OSError."""
    with open(path, "rb") as file:
        return file.read(9)[8:] == b"{"


# ---- writing ----


def write(path: str | os.PathLike, model: ModelFile) -> None:
    """Writes `model` under a temporary name and renames it to `path`. The same model gives the same bytes.

    Raises as `replacing` does, and UnsupportedError for a constant or attribute that the format has no type for.
    """
    header, tensors = _layout(model)
    with replacing(path) as temporary, open(temporary, "wb") as file:
        file.write(header)
        for array in tensors:
            file.write(array.data)
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place at the end, or is removed if an exception ends the block.

    Raises InputError where something stands there that is no regular file (a device must not be replaced by one), and
    ModelFileError, which names `path`, for every OSError.
    """
    import tempfile  # which brings much along that reading does not need

    path = Path(path)
    try:
        if path.exists() and not path.is_file():
            raise InputError(f"{path}: is there already and is no regular file")
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".lstmrt-") as folder:
            temporary = Path(folder, "model")  # any name: the real one may be as long as a name can be
            yield temporary
            os.replace(temporary, path)
    except OSError as error:
        raise ModelFileError(f"{path}: {error.strerror or error}") from error


def _layout(model: ModelFile) -> tuple[bytes, list[np.ndarray]]:
    """The bytes before the tensors, checksum included, and the tensors in the order they lie in."""
    graph, attributes = graph_to_json(model.graph)
    reduced = _reduced_weights(model)
    named = {_CONSTANT + name: array for name, array in model.graph.constants.items() if _CONSTANT + name not in reduced}
    named |= {f"{_ATTRIBUTE}{i}": array for i, array in enumerate(attributes)}
    if model.selftest:
        named |= {_TEST_INPUT + name: array for name, array in model.selftest.inputs.items()}
        named |= {_TEST_OUTPUT + name: array for name, array in model.selftest.outputs.items()}
    stored = {name: _storable(name, array) for name, array in named.items()} | reduced
    tensors = {name: array for name, (_, array) in stored.items()}
    order = sorted(tensors, key=lambda name: (-tensors[name].itemsize, name))  # keeps every tensor aligned to its items

    entries: dict[str, Any] = {"__metadata__": _metadata(model, graph)}
    offset = 0
    for name in order:
        array = tensors[name]
        end = offset + array.nbytes
        entries[name] = {"dtype": stored[name][0], "shape": array.shape, "data_offsets": [offset, end]}
        offset = end
    try:
        header = _to_json(entries).encode()
    except UnicodeEncodeError as error:
        raise UnsupportedError(f"a name or a word is not valid Unicode: {error}") from None
    header += b" " * (-(8 + len(header)) % ALIGNMENT)
    header = len(header).to_bytes(8, "little") + header
    checksum = _checksum([header] + [tensors[name].data for name in order])
    return header.replace(_NO_CHECKSUM, checksum, 1), [tensors[name] for name in order]


def _reduced_weights(model: ModelFile) -> dict[str, tuple[str, np.ndarray]]:
    """Tensors of the weights that are not stored as float32: their safetensors dtypes and arrays."""
    tensors: dict[str, tuple[str, np.ndarray]] = {}
    for name, axis in weights(model.graph).items() if model.precision != "f32" else ():
        array = model.graph.constants[name]
        if model.precision == "bf16":
            tensors[_CONSTANT + name] = "BF16", to_bf16(array)
        else:
            q, scales = to_int8(array, axis)
            tensors |= {_CONSTANT + name: ("I8", q), _SCALE + name: ("F32", scales)}
    return tensors


def _storable(name: str, array: np.ndarray) -> tuple[str, np.ndarray]:
    array = np.asarray(array)  # np.ascontiguousarray would give a scalar an axis
    little = array.astype(array.dtype.newbyteorder("<"), order="C", copy=False)
    if little.dtype not in _DTYPE_NAMES:
        raise UnsupportedError(f"{name}: a .lstmrt file has no type for {array.dtype}")
    return _DTYPE_NAMES[little.dtype], little


def _metadata(model: ModelFile, graph: str) -> dict[str, str]:
    metadata = {
        "format": "lstmrt",
        "version": str(VERSION if model.precision == "f32" else REDUCED_VERSION),
        "checksum": _NO_CHECKSUM.decode(),
        "provenance": _to_json(dict(model.provenance)),
        "graph": graph,
    }
    if model.precision != "f32":
        metadata["precision"] = model.precision
    if model.generation:
        metadata["generation"] = _to_json(model.generation.to_json())
    if model.states is not None:
        metadata["states"] = _to_json(dict(model.states))
    if model.tokenizer:
        metadata["tokenizer"] = model.tokenizer.to_json()
    if model.decoder_tokenizer:
        metadata["decoder_tokenizer"] = model.decoder_tokenizer.to_json()
    if model.text_inputs:
        metadata["text_inputs"] = _to_json({name: given.to_json() for name, given in sorted(model.text_inputs.items())})
    return metadata


def _checksum(parts: list) -> bytes:
    crc = 0
    for part in parts:
        crc = zlib.crc32(part, crc)
    return b"%08x" % crc


def graph_to_json(graph: Graph) -> tuple[str, list[np.ndarray]]:
    """Everything of `graph` but arrays: its constants, and the attributes that are tensors, which come second."""
    tensors: list[np.ndarray] = []

    def values(items):
        return [{"name": value.name, "dtype": value.dtype, "shape": value.shape} for value in items]

    def document(graph: Graph) -> dict[str, Any]:
        nodes = [{"op": node.op, "domain": node.domain, "name": node.name, "inputs": node.inputs,
                  "outputs": node.outputs, "attributes": dict(sorted(node.attributes.items())),
                  **({} if node.opset is None else {"opset": node.opset})} for node in graph.nodes]
        return {"name": graph.name, "inputs": values(graph.inputs), "outputs": values(graph.outputs), "nodes": nodes}

    def attribute(value: Any) -> dict[str, Any]:
        if isinstance(value, Graph):
            return {"graph": document(value)}
        if isinstance(value, np.ndarray):
            tensors.append(value)
            return {"tensor": len(tensors) - 1}
        raise TypeError(f"{type(value).__name__} {value!r}")

    try:
        return _to_json(document(graph), attribute), tensors
    except (TypeError, ValueError) as error:
        raise UnsupportedError(f"the graph has an attribute that a .lstmrt file cannot hold: {error}") from None


def _to_json(value: Any, default: Callable[[Any], Any] | None = None) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=default)


# ---- reading ----


def read(path: str | os.PathLike) -> ModelFile:
    """The model in the file `path`; its arrays are read-only views of the mapped file.

    Raises OSError if it cannot be opened, and ModelFileError for anything but an intact file of a known version.
    """
    try:
        mapping = _map(path)
        metadata, entries = _header(path, mapping)
        model = _model(metadata, {name: _tensor(mapping, entry) for name, entry in entries.items()})
        return model._replace(mapping=mapping.obj)
    except _Damage as damage:
        raise ModelFileError(f"{os.fspath(path)}: {damage}") from None


class _Damage(Exception):
    """What is wrong with the file, without its name."""


def _map(path: str | os.PathLike) -> memoryview:
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size < 8:
            raise _Damage("cut short: not even the length of its header is there")
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _header(path: str | os.PathLike, mapping: memoryview) -> tuple[dict[str, str], dict[str, dict]]:
    """The metadata and the tensors' entries, whose "data_offsets" now count from the start of the file.

    safetensors itself checks the sizes: known dtypes, shapes that fill their offsets, no holes, no tail.
    """
    length = int.from_bytes(mapping[:8], "little")
    if length > len(mapping) - 8:
        raise _Damage(f"cut short: a header of {length} bytes in a file of {len(mapping)}")
    try:
        with safetensors.safe_open(os.fspath(path), framework="numpy") as checked:
            metadata = checked.metadata() or {}
        entries = json.loads(bytes(mapping[8:8 + length]))
    except (safetensors.SafetensorError, ValueError, RecursionError) as error:
        raise _Damage(f"not a sound safetensors file: {error}") from None
    if metadata.get("format") != "lstmrt":
        raise _Damage("a safetensors file, but no lstmrt model: its metadata does not say format=lstmrt")
    if metadata.get("version") not in (str(VERSION), str(REDUCED_VERSION)):
        raise _Damage(f"format version {metadata.get('version')}, expected {VERSION} or {REDUCED_VERSION}")
    _check_sum(mapping, 8 + length)
    entries.pop("__metadata__")
    for entry in entries.values():
        entry["data_offsets"] = [8 + length + offset for offset in entry["data_offsets"]]
    return metadata, entries


def _check_sum(mapping: memoryview, start: int) -> None:
    header = bytes(mapping[:start])
    found = re.findall(_CHECKSUM, header)
    if len(found) != 1:
        raise _Damage("its header holds no checksum")
    actual = _checksum([re.sub(_CHECKSUM, b'"checksum":"%s"' % _NO_CHECKSUM, header), mapping[start:]])
    if found[0] != actual:
        raise _Damage(f"damaged: its checksum is {found[0].decode()}, its bytes give {actual.decode()}")


def _tensor(mapping: memoryview, entry: dict) -> np.ndarray:
    known = _DTYPES | _BF16
    if entry["dtype"] not in known:
        raise _Damage(f"a tensor of type {entry['dtype']}, expected one of {', '.join(known)}")
    begin, end = entry["data_offsets"]
    array = np.frombuffer(mapping[begin:end], known[entry["dtype"]]).reshape(entry["shape"])
    if entry["dtype"] == "BF16":
        return from_bf16(array)
    return array if array.flags.aligned else array.copy()  # only a file by another writer has such tensors


def _model(metadata: Mapping[str, str], tensors: Mapping[str, np.ndarray]) -> ModelFile:
    groups: dict[str, dict[str, np.ndarray]] = {prefix: {} for prefix in _PREFIXES}
    for name, array in tensors.items():
        prefix = next((prefix for prefix in groups if name.startswith(prefix)), None)
        if prefix is None:
            raise _Damage(f"a tensor named {name!r}, expected {', '.join(prefix + '*' for prefix in groups)}")
        groups[prefix][name.removeprefix(prefix)] = array
    for name, scales in groups[_SCALE].items():
        groups[_CONSTANT][name] = _scaled(name, groups[_CONSTANT].get(name), scales)
    graph = _graph("graph", _from_json("graph", metadata), groups[_ATTRIBUTE], groups[_CONSTANT])
    inputs, outputs = groups[_TEST_INPUT], groups[_TEST_OUTPUT]
    if inputs or outputs:
        _same_names("self-test inputs", inputs, graph.inputs)
        _same_names("self-test outputs", outputs, graph.outputs)
    try:
        return ModelFile(
            graph.validate(),
            tokenizer=_tokenizer(metadata.get("tokenizer")),
            generation=defaults_from_json(_from_json("generation", metadata)) if "generation" in metadata
            else None,
            provenance=_provenance(_from_json("provenance", metadata)),
            selftest=SelfTest(inputs, outputs) if outputs else None,
            decoder_tokenizer=_tokenizer(metadata.get("decoder_tokenizer")),
            states=_states(_from_json("states", metadata), graph) if "states" in metadata else None,
            precision=_precision(metadata),
            text_inputs=_text_inputs(_from_json("text_inputs", metadata), graph) if "text_inputs" in metadata else {},
        )
    except LstmrtError as error:
        raise _Damage(str(error)) from None


def _tokenizer(text: str | None) -> Tokenizer | None:
    if text is None:
        return None
    from .tokenizers import Tokenizer

    return Tokenizer.from_json(text)


def _scaled(name: str, q: np.ndarray | None, scales: np.ndarray) -> np.ndarray:
    if q is None or q.dtype != np.int8:
        raise _Damage(f"{_SCALE}{name}: expected {_CONSTANT}{name} of type I8, got {'none' if q is None else q.dtype}")
    fits = scales.ndim == q.ndim and all(size in (1, whole) for size, whole in zip(scales.shape, q.shape))
    if scales.dtype != np.float32 or not fits:
        raise _Damage(f"{_SCALE}{name}: {scales.dtype} {scales.shape} does not fit {q.shape}")
    array = from_int8(q, scales)
    array.flags.writeable = False
    return array


def _precision(metadata: Mapping[str, str]) -> str:
    precision = metadata.get("precision", "f32")
    if precision not in PRECISIONS:
        raise _Damage(f"metadata 'precision': expected one of {', '.join(PRECISIONS)}, got {precision!r}")
    return precision


def _same_names(what: str, arrays: Mapping[str, np.ndarray], values: tuple[Value, ...]) -> None:
    expected = {value.name for value in values}
    if set(arrays) != expected:
        raise _Damage(f"{what}: expected {sorted(expected)}, got {sorted(arrays)}")


def _from_json(key: str, metadata: Mapping[str, str]) -> Any:
    if key not in metadata:
        raise _Damage(f"its metadata has no {key!r}")
    try:
        return json.loads(metadata[key])
    except (ValueError, RecursionError) as error:
        raise _Damage(f"metadata {key!r}: {error}") from None


def _states(states: Any, graph: Graph) -> dict[str, str]:
    inputs, outputs = ({value.name for value in values} for values in (graph.inputs, graph.outputs))
    if not isinstance(states, dict) or not inputs.issuperset(states) or not all(
            isinstance(name, str) and name in outputs for name in states.values()):
        raise _Damage("metadata 'states': expected an object of inputs and outputs of the graph")
    return states


def _provenance(facts: Any) -> dict[str, str]:
    if not isinstance(facts, dict) or not all(isinstance(fact, str) for fact in facts.values()):
        raise _Damage("metadata 'provenance': expected an object of strings")
    return facts


def _text_inputs(document: Any, graph: Graph) -> dict[str, TextInput]:
    from .text_inputs import TextInput

    ids = {value.name for value in graph.inputs if value.dtype == "int64"}
    if not isinstance(document, dict) or not set(document) <= ids:
        raise _Damage(f"metadata 'text_inputs': expected some of the inputs of ids, {sorted(ids)}, got {_short(document)}")
    return {name: TextInput.from_json(settings) for name, settings in document.items()}


# ---- the graph's JSON, checked for types here; Graph.validate checks what it says ----

_VALUE = {"name": str, "dtype": str, "shape": (list, type(None))}
_NODE = {"op": str, "domain": str, "name": str, "inputs": list, "outputs": list, "attributes": dict}
_GRAPH = {"name": str, "inputs": list, "outputs": list, "nodes": list}


def _graph(where: str, document: Any, tensors: Mapping[str, np.ndarray], constants: Mapping[str, np.ndarray]) -> Graph:
    """The graph that `document`, at `where` in the header, describes; `tensors` are those of attributes, by number."""
    if where.count(".attributes.") > _DEEPEST:
        raise _Damage(f"graphs within graphs, more than {_DEEPEST} deep")
    _check(where, document, _GRAPH)
    return Graph(
        inputs=tuple(_value(f"{where}.inputs[{i}]", item) for i, item in enumerate(document["inputs"])),
        outputs=tuple(_value(f"{where}.outputs[{i}]", item) for i, item in enumerate(document["outputs"])),
        nodes=tuple(_node(f"{where}.nodes[{i}]", item, tensors) for i, item in enumerate(document["nodes"])),
        constants=constants,
        name=document["name"],
    )


def _value(where: str, item: Any) -> Value:
    _check(where, item, _VALUE)
    shape = item["shape"]
    if shape is not None and not all(size is None or type(size) in (int, str) for size in shape):
        raise _Damage(f"{where}.shape: expected sizes, names of sizes, or null, got {shape}")
    return Value(item["name"], item["dtype"], None if shape is None else tuple(shape))


def _node(where: str, item: Any, tensors: Mapping[str, np.ndarray]) -> Node:
    _check(where, item, {**_NODE, "opset": int} if isinstance(item, dict) and "opset" in item else _NODE)
    for key in ("inputs", "outputs"):
        if not all(isinstance(name, str) for name in item[key]):
            raise _Damage(f"{where}.{key}: expected names, got {item[key]}")
    attributes = {key: _attribute(f"{where}.attributes.{key}", value, tensors)
                  for key, value in item["attributes"].items()}
    return Node(item["op"], tuple(item["inputs"]), tuple(item["outputs"]), attributes, item["name"], item["domain"],
                item.get("opset"))


def _attribute(where: str, value: Any, tensors: Mapping[str, np.ndarray]) -> Attribute:
    if isinstance(value, dict) and set(value) == {"graph"}:
        return _graph(where, value["graph"], tensors, {})
    if isinstance(value, dict) and set(value) == {"tensor"}:
        if str(value["tensor"]) not in tensors:
            raise _Damage(f"{where}: no tensor {_ATTRIBUTE}{_short(value['tensor'])}")
        return tensors[str(value["tensor"])]
    value = tuple(value) if isinstance(value, list) else value
    if not all(type(scalar) in (int, float, str) for scalar in (value if isinstance(value, tuple) else (value,))):
        raise _Damage(f"{where}: expected a number, a text, a list of them, a graph or a tensor, got {_short(value)}")
    return value


def _check(where: str, item: Any, fields: Mapping[str, Any]) -> None:
    if not isinstance(item, dict) or set(item) != set(fields):
        raise _Damage(f"{where}: expected an object with {', '.join(fields)}, got {_short(item)}")
    for key, kind in fields.items():
        if not isinstance(item[key], kind):
            raise _Damage(f"{where}.{key}: got {_short(item[key])}")


def _short(item: Any) -> str:
    text = repr(item)
    return text if len(text) <= 80 else text[:77] + "..."
