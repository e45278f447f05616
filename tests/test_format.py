"""The .lstmrt file: what is written is read again, and whatever is not intact is a ModelFileError."""

from __future__ import annotations

import copy
import json
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

import lstmrt
from lstmrt import format
from lstmrt.format import ModelFile
from lstmrt.generation_config import GenerationDefaults
from lstmrt.graph import Graph, Node, Value
from lstmrt.random_calls import record
from lstmrt.tokenizers import Tokenizer
from small_models import language_model

GOLDEN = Path(__file__).parent / "golden" / "v1.lstmrt"
INTACT = GOLDEN.read_bytes()
HEADER = 8 + int.from_bytes(INTACT[:8], "little")
fuzzed = settings(max_examples=300, deadline=None, derandomize=True)


def model_file() -> ModelFile:
    graph = language_model("GRU", (6, 4), mask=True)
    return ModelFile(graph, Tokenizer({"a": 1, "ß": 2}, char_level=True), GenerationDefaults("masked_window", 3),
                     {"framework": "keras", "source": "modèle.keras"}, record(graph))


def assert_same_graph(found: Graph, expected: Graph) -> None:
    assert (found.name, found.inputs, found.outputs) == (expected.name, expected.inputs, expected.outputs)
    assert found.nodes == expected.nodes
    assert_same_arrays(found.constants, expected.constants)


def assert_same_arrays(found, expected) -> None:
    assert set(found) == set(expected)
    for name, array in expected.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape), name
        assert found[name].tobytes() == array.tobytes(), name


# ---- what is written is read again ----


def test_everything_comes_back(tmp_path):
    path, wrote = tmp_path / "model.lstmrt", model_file()
    format.write(path, wrote)
    found = format.read(path)
    assert_same_graph(found.graph, wrote.graph)
    assert (found.tokenizer, found.generation) == (wrote.tokenizer, wrote.generation)
    assert found.provenance == wrote.provenance
    assert_same_arrays(found.selftest.inputs, wrote.selftest.inputs)
    assert_same_arrays(found.selftest.outputs, wrote.selftest.outputs)


def test_what_is_left_out_stays_out(tmp_path):
    format.write(tmp_path / "model.lstmrt", ModelFile(language_model()))
    found = format.read(tmp_path / "model.lstmrt")
    assert (found.tokenizer, found.generation, found.selftest, found.provenance) == (None, None, None, {})


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int64", "int32", "bool", ">f4"])
@pytest.mark.parametrize("shape", [(), (0,), (3, 5), (2, 0, 4)], ids=str)
def test_constants_of_every_type_and_shape(tmp_path, dtype, shape):
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
    graph = Graph((), (Value("b", array.dtype.name, None),), (Node("Identity", ("a",), ("b",)),), {"a": array})
    format.write(tmp_path / "model.lstmrt", ModelFile(graph))
    found = format.read(tmp_path / "model.lstmrt").graph.constants["a"]
    assert found.shape == shape and found.dtype == array.dtype.newbyteorder("=") and (found == array).all()


def test_the_same_model_gives_the_same_bytes(tmp_path):
    format.write(tmp_path / "a.lstmrt", model_file())
    format.write(tmp_path / "b.lstmrt", model_file())
    format.write(tmp_path / "c.lstmrt", format.read(tmp_path / "a.lstmrt"))
    content = (tmp_path / "a.lstmrt").read_bytes()
    assert content == (tmp_path / "b.lstmrt").read_bytes() == (tmp_path / "c.lstmrt").read_bytes()


def test_tensors_are_mapped_aligned_and_read_only(tmp_path):
    format.write(tmp_path / "model.lstmrt", model_file())
    for name, array in format.read(tmp_path / "model.lstmrt").graph.constants.items():
        assert array.ctypes.data % array.itemsize == 0 and not array.flags.writeable and not array.flags.owndata, name


def test_any_safetensors_reader_can_read_it(tmp_path):
    format.write(tmp_path / "model.lstmrt", model_file())
    tensors = safetensors.numpy.load_file(tmp_path / "model.lstmrt")
    constants = {f"constant.{name}": array for name, array in model_file().graph.constants.items()}
    assert_same_arrays({name: array for name, array in tensors.items() if name in constants}, constants)


@pytest.mark.parametrize("attributes", [{"alpha": float("nan")}, {"value": b"bytes"}, {"value": np.zeros(2, np.complex64)}], ids=str)
def test_attributes_without_a_form_in_the_file_are_refused(tmp_path, attributes):
    node = Node("Foreign", ("x",), ("y",), attributes)
    graph = Graph((Value("x", "float32", None),), (Value("y", "float32", None),), (node,), {})
    with pytest.raises(lstmrt.UnsupportedError, match="attribute"):
        format.write(tmp_path / "model.lstmrt", ModelFile(graph))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("dtype", ["complex128", "object"])
def test_constants_without_a_form_in_the_file_are_refused(tmp_path, dtype):
    cast = Node("Cast", ("a",), ("b",), {"to": 1})
    graph = Graph((), (Value("b", "float32", None),), (cast,), {"a": np.array([1], dtype)})
    with pytest.raises(lstmrt.UnsupportedError, match=f"constant.a: a .lstmrt file has no type for {dtype}"):
        format.write(tmp_path / "model.lstmrt", ModelFile(graph))
    assert not list(tmp_path.iterdir())


# ---- what is stored to verify a model with ----


def layer_graph(*axes: str, layout: int) -> Graph:
    random = np.random.default_rng(4)
    constants = {"W": random.normal(size=(1, 12, 5)).astype(np.float32), "R": random.normal(size=(1, 12, 4)).astype(np.float32)}
    node = Node("GRU", ("x", "W", "R"), ("Y", "Y_h"), {"hidden_size": 4, "layout": layout})
    outputs = (Value("Y", "float32", (None,) * 4), Value("Y_h", "float32", (None,) * 3))
    return Graph((Value("x", "float32", (*axes, 5)),), outputs, (node,), constants).validate()


@pytest.mark.parametrize("axes, layout, shape", [
    (("N", "T"), 1, (2, 7, 5)), (("T", "N"), 0, (7, 2, 5)), (("steps", 3), 0, (7, 3, 5)), (("batch", "time"), 1, (2, 7, 5))])
def test_several_steps_are_recorded_whatever_axes_are_called(axes, layout, shape):
    """Of a single step from zero states the recurrent weights are no part."""
    assert record(layer_graph(*axes, layout=layout)).inputs["x"].shape == shape


def test_models_of_many_steps_and_of_one_are_recorded_with_those():
    graph = layer_graph("N", "T", layout=1)
    index = {"ninth": np.array(9)}
    taken = Node("Gather", ("Y", "ninth"), ("z",), {"axis": 1})
    long = replace(graph, nodes=(*graph.nodes, taken), constants={**graph.constants, **index},
                   outputs=(*graph.outputs, Value("z", "float32", None)))
    assert record(long.validate()).inputs["x"].shape == (2, 64, 5)
    only = replace(graph, nodes=(Node("Squeeze", ("x", "one"), ("step",)), Node("Unsqueeze", ("step", "one"), ("again",)),
                                 replace(graph.nodes[0], inputs=("again", "W", "R"))),
                   constants={**graph.constants, "one": np.array([1])})
    assert record(only.validate()).inputs["x"].shape == (2, 1, 5)


def test_a_detector_without_names_of_axes_is_recorded_with_a_chunk_of_sound():
    """Inputs (batch, samples) and (2, batch, 4), as unnamed as exporters leave them, and filters of 100 samples."""
    random = np.random.default_rng(5)
    constants = {"filters": random.normal(size=(5, 1, 100)).astype(np.float32), "one": np.array([1])}
    layers = [replace(node, inputs=(x, "W", "R", "", "", f"h{i}"), outputs=("", f"h{i}_next"))
              for i, (x, node) in enumerate([("frames", layer_graph("N", "T", layout=0).nodes[0])] * 2)]
    graph = Graph(
        (Value("x", "float32", (None, None)), Value("h", "float32", (2, None, 4))), (Value("y", "float32", None),),
        (Node("Unsqueeze", ("x", "one"), ("sound",)), Node("Conv", ("sound", "filters"), ("found",), {"strides": (50,)}),
         Node("Transpose", ("found",), ("frames",), {"perm": (2, 0, 1)}), Node("Split", ("h",), ("h0", "h1"), {"axis": 0, "num_outputs": 2}),
         *layers, Node("Concat", ("h0_next", "h1_next"), ("y",), {"axis": 0})),
        {**constants, **layer_graph("N", "T", layout=0).constants})
    stored = record(graph.validate())
    assert {name: array.shape for name, array in stored.inputs.items()} == {"x": (2, 256), "h": (2, 2, 4)}
    assert stored.outputs["y"].shape == (2, 2, 4)


# ---- the golden file ----


def test_the_golden_file_is_read_as_ever():
    model = lstmrt.load(GOLDEN)
    assert model.provenance == {"source": "make_v1.py", "framework": "none", "version": "", "lstmrt": "0.1.0",
                                "selftest": "float64 reference"}
    words = {"the": 1, "café": 2, "is": 3, "open": 4, "every": 5, "day": 6}
    assert model.tokenizer == Tokenizer(words, char_level=False, lower=True)
    assert model.generation == GenerationDefaults("masked_window", 4)
    stored = model.source.selftest
    found = model.run(stored.inputs)["probabilities"]
    np.testing.assert_allclose(found, stored.outputs["probabilities"], rtol=0, atol=1e-6)
    assert model.generate("The café", max_new_tokens=6) == " day the café day the café"
    masked = [0.034, 0.349, 0.073, 0.029, 0.093, 0.038, 0.384]
    np.testing.assert_allclose(model([[1, 2, 3, 0]])[0], masked, rtol=0, atol=1e-3)


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_files_of_version_2_are_read_as_ever(precision):
    """`lstmrt convert v1.lstmrt v2_int8.lstmrt --precision int8` made them."""
    model = lstmrt.load(GOLDEN.with_name(f"v2_{precision}.lstmrt"))
    assert model.precision == precision
    stored = model.source.selftest
    found = model.run(stored.inputs)["probabilities"]
    np.testing.assert_allclose(found, stored.outputs["probabilities"], rtol=0, atol=5e-3)
    masked = [0.034, 0.349, 0.073, 0.029, 0.093, 0.038, 0.384]
    np.testing.assert_allclose(model([[1, 2, 3, 0]])[0], masked, rtol=0, atol=1e-2)


@pytest.mark.parametrize("name", ["v1", "v2_bf16", "v2_int8"])
def test_golden_files_are_still_written_byte_by_byte(tmp_path, name):
    golden = GOLDEN.with_stem(name)
    format.write(tmp_path / golden.name, format.read(golden))
    assert (tmp_path / golden.name).read_bytes() == golden.read_bytes()


# ---- damage ----


@pytest.fixture(scope="module")
def target(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("damaged") / "damaged.lstmrt"


def refused(path: Path, content: bytes) -> str:
    """The message of the ModelFileError with which `content` is refused."""
    path.write_bytes(content)
    with pytest.raises(lstmrt.ModelFileError) as caught:
        lstmrt.load(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    return message


@fuzzed
@given(length=st.integers(0, len(INTACT) - 1))
def test_cut_short(target, length):
    refused(target, INTACT[:length])


@fuzzed
@given(bit=st.one_of(st.integers(0, 8 * HEADER - 1), st.integers(8 * HEADER, 8 * len(INTACT) - 1)))
def test_one_bit_flipped(target, bit):
    content = bytearray(INTACT)
    content[bit // 8] ^= 1 << bit % 8
    refused(target, bytes(content))


@fuzzed
@given(st.integers(0, len(INTACT)), st.binary(min_size=1, max_size=40), st.integers(0, 40))
def test_a_stretch_replaced(target, start, stretch, length):
    content = INTACT[:start] + stretch + INTACT[start + length:]
    if content != INTACT:
        refused(target, content)


@pytest.mark.parametrize("length", [2**64 - 1, 2**63, 2**32, 100_000_001, len(INTACT), len(INTACT) - 7])
def test_a_header_larger_than_the_file(target, length):
    assert f"a header of {length} bytes" in refused(target, length.to_bytes(8, "little") + INTACT[8:])


def test_a_header_of_deeply_nested_json(target):
    header = b'{"__metadata__":' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    refused(target, len(header).to_bytes(8, "little") + header)


def test_bytes_behind_the_tensors(target):
    assert "not a sound safetensors file" in refused(target, INTACT + b"\0")


# ---- files whose checksum is right and whose contents are not ----


def sealed(header: dict, tensors: bytes = INTACT[HEADER:]) -> bytes:
    """A file with this header and its right checksum."""
    text = re.sub(rb'"checksum":"[^"]*"', b'"checksum":"00000000"', json.dumps(header, separators=(",", ":")).encode())
    content = len(text).to_bytes(8, "little") + text + tensors
    return content.replace(b'"checksum":"00000000"', b'"checksum":"%08x"' % zlib.crc32(content), 1)


def header() -> dict:
    return json.loads(INTACT[8:HEADER])


def with_metadata(**changes: Any) -> bytes:
    changed = header()
    for key, value in changes.items():
        changed["__metadata__"][key] = value
        if value is None:
            del changed["__metadata__"][key]
    return sealed(changed)


def with_graph(change: Callable[[dict], Any]) -> bytes:
    graph = json.loads(header()["__metadata__"]["graph"])
    change(graph)
    return with_metadata(graph=json.dumps(graph))


def test_sealing_by_the_description_is_what_writing_does(target):
    target.write_bytes(sealed(header()))
    assert_same_graph(format.read(target).graph, format.read(GOLDEN).graph)


@pytest.mark.parametrize("changes, message", [
    ({"format": "other"}, "no lstmrt model"),
    ({"format": None}, "no lstmrt model"),
    ({"version": "3"}, "format version 3, expected 1 or 2"),
    ({"version": None}, "format version None, expected 1 or 2"),
    ({"precision": "int4"}, "'precision': expected one of f32, bf16, int8, got 'int4'"),
    ({"checksum": None}, "holds no checksum"),
    ({"graph": None}, "no 'graph'"),
    ({"graph": "{"}, "'graph': "),
    ({"graph": "[" * 100_000}, "'graph': "),
    ({"graph": "[]"}, "graph: expected an object"),
    ({"provenance": None}, "no 'provenance'"),
    ({"provenance": '{"a": 1}'}, "an object of strings"),
    ({"tokenizer": "{}"}, "tokenizer"),
    ({"tokenizer": "nonsense"}, "tokenizer"),
    ({"tokenizer": '{"vocabulary": {"a": 1, "b": 1}, "char_level": true}'}, "the same id 1"),
    ({"generation": '{"mode": "beam"}'}, "generation mode"),
    ({"generation": '{"mode": "window"}'}, "generation window"),
    ({"generation": '{"mode": "window", "window": 4, "pad_id": -1}'}, "pad_id"),
    ({"generation": "null"}, "generation settings"),
], ids=str)
def test_metadata_that_make_no_sense(target, changes, message):
    assert message in refused(target, with_metadata(**changes))


@pytest.mark.parametrize("change, message", [
    (lambda graph: graph.pop("nodes"), "graph: expected an object"),
    (lambda graph: graph.update(extra=1), "graph: expected an object"),
    (lambda graph: graph["nodes"].pop(0), "embedded"),
    (lambda graph: graph["nodes"].reverse(), "nodes[0]"),
    (lambda graph: graph["nodes"][3].update(op="GRU"), "lstm"),
    (lambda graph: graph["nodes"][3]["attributes"].update(hidden_size=6), "LSTM"),
    (lambda graph: graph["nodes"][3]["attributes"].update(hidden_size=2**70), "LSTM"),
    (lambda graph: graph["nodes"][3]["attributes"].update(activations=["HardSigmoid", "Evil", "Tanh"]), "Evil"),
    (lambda graph: graph["nodes"][3]["attributes"].update(code={"a": 1}), "graph.nodes[3].attributes.code"),
    (lambda graph: graph["nodes"][5]["attributes"].update(axis=7), "Gather"),
    (lambda graph: graph["inputs"][0].update(dtype="complex64"), "dtype 'complex64'"),
    (lambda graph: graph["inputs"][0].update(shape=[1.5]), "graph.inputs[0].shape"),
    (lambda graph: graph["outputs"][0].update(name="nowhere"), "expected ['nowhere']"),
], ids=lambda value: value if isinstance(value, str) else "")
def test_graphs_that_make_no_sense(target, change, message):
    assert message in refused(target, with_graph(change))


@pytest.mark.parametrize("change", [
    lambda tensors: tensors["constant.W"].update(dtype="I32"),
    lambda tensors: tensors["constant.W"].update(shape=[1, 3, 20]),
    lambda tensors: tensors["constant.W"].update(dtype="BF16", shape=[1, 20, 6]),
    lambda tensors: tensors["constant.W"].update(shape=[2**40, 2**40]),
    lambda tensors: tensors["constant.W"].update(data_offsets=[0, 240]),
    lambda tensors: tensors["constant.bias"].update(data_offsets=[936, 2**63]),
    lambda tensors: tensors.update({"constant.V": tensors.pop("constant.W")}),
    lambda tensors: tensors.update({"odd": tensors.pop("constant.W")}),
    lambda tensors: tensors.update({"selftest.in.odd": tensors.pop("selftest.in.ids")}),
    lambda tensors: tensors.update({"constant.ids": tensors.pop("selftest.in.ids")}),
])
def test_tensors_that_do_not_fit(target, change):
    changed = header()
    change(changed)
    refused(target, sealed(changed))


def places(item: Any) -> Iterator[tuple]:
    """The path of everything inside a JSON document."""
    children = item.items() if isinstance(item, dict) else enumerate(item) if isinstance(item, list) else ()
    for key, child in children:
        yield (key,)
        yield from ((key, *rest) for rest in places(child))


GRAPH = json.loads(header()["__metadata__"]["graph"])
ODD = (None, True, -1, 0, 1, 2**31, 2**70, 0.5, "", "ids", "h", "lstmrt", "LSTM", "Concat", "Loop", [], [1], ["ids"],
       {}, {"a": 1})


@fuzzed
@given(place=st.sampled_from(list(places(GRAPH))), odd=st.sampled_from(ODD))
def test_any_part_of_the_graph_replaced(target, place, odd):
    """Reading gives a graph that says so, or a ModelFileError; compiling and running it, errors of lstmrt's own."""
    changed = copy.deepcopy(GRAPH)
    owner = changed
    for key in place[:-1]:
        owner = owner[key]
    owner[place[-1]] = odd
    target.write_bytes(with_metadata(graph=json.dumps(changed)))
    try:
        format.read(target)
    except lstmrt.ModelFileError as error:
        assert str(error).startswith(str(target))
        return
    try:
        model = lstmrt.load(target)
        model(*[np.ones([size if isinstance(size, int) else 2 for size in value.shape or ()], value.dtype)
                for value in model.inputs])
    except lstmrt.LstmrtError:
        pass
