"""Encoder-decoders taken apart, put together, and made to write: on graphs made by hand, with the float64 reference as judge."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from seq2seq_graphs import HIDDEN, SOURCE, TOKENS, WORDS, traced_pair, translator, two_graphs
from small_models import compiled, weights

import lstmrt
from lstmrt import cli, reference
from lstmrt.converters.to_onnx import write_onnx
from lstmrt.errors import InputError, ModelFileError, UnsupportedError
from lstmrt.format import ModelFile
from lstmrt.generation_config import defaults_from_json
from lstmrt.graph import Graph, Node, Value
from lstmrt.model import Model
from lstmrt.seq2seq.causality import check_steps
from lstmrt.seq2seq.config import EncoderDecoderDefaults
from lstmrt.seq2seq.halves import find_decoder_input, split
from lstmrt.seq2seq.joining import join
from lstmrt.tokenizers import load_tokenizer

CLEAR = 1e-4


def again_and_again(graph: Graph, source: list[int], count: int, start: int = 1) -> list[int]:
    """Greedy ids, each from a run of the whole graph over all tokens so far."""
    tokens = [start]
    for _ in range(count):
        (probabilities,) = reference.run(graph, {"source": np.array([source]), "target": np.array([tokens])}).values()
        second, best = np.sort(np.log(probabilities[0, -1]))[-2:]
        assert best - second > CLEAR, "take another seed"
        tokens.append(int(np.argmax(probabilities[0, -1])))
    return tokens[1:]


def model_of(graph: Graph, tokenizer=None, decoder_tokenizer=None, **settings) -> Model:
    specs = [None if spec is None else load_tokenizer(spec) for spec in (tokenizer, decoder_tokenizer)]
    defaults = EncoderDecoderDefaults("target", **{"decoder_start_token_id": 1, **settings})
    return Model(ModelFile(graph, specs[0], defaults, decoder_tokenizer=specs[1]))


# ---- taking apart ----


@pytest.mark.parametrize("options", [{}, {"mask": True}, {"time": 9}, {"handed_over": False}], ids=str)
def test_steps_write_what_whole_runs_write(options):
    graph = translator(**options)
    source = SOURCE + [0, 0] * (options.keys() & {"time", "mask"} != set())
    assert find_decoder_input(graph) == "target"
    model = model_of(graph)
    made = model.generate(source, max_new_tokens=20).tolist()
    assert made == again_and_again(graph, source, 20)
    assert len(set(made)) > 4, "a text that varies shows more"


def test_what_does_not_depend_on_the_tokens_is_the_encoders():
    halves = split(translator(mask=True), "target", {})
    encoder, decoder = ({name for node in half.nodes for name in node.outputs} for half in (halves.encoder, halves.decoder))
    assert {"words", "mask", "memory", "keys", "rows_away"} <= encoder
    assert {"tokens", "queries", "scores", "context", "logits"} <= decoder and not encoder & decoder
    assert set(halves.memory) == {"memory", "keys", "rows_away"}
    assert [(state.initial, state.shape) for state in halves.states] == [("encoder_h", ("batch", 1, HIDDEN))]
    assert halves.attentions == {"attention": "shares"} and halves.logits == "logits"


def test_an_input_of_the_encoder_that_the_decoder_reads_crosses_as_well():
    graph = translator()
    extra = (Node("Cast", ("source",), ("floats",), {"to": 1}), Node("ReduceMean", ("floats", "one"), ("mean",)),
             Node("Unsqueeze", ("mean", "two"), ("level",)), Node("Add", ("joined", "level"), ("lifted",)))
    lifted = translator(extra=extra, read="lifted")
    made = model_of(lifted).generate(SOURCE, max_new_tokens=12).tolist()
    assert made == again_and_again(lifted, SOURCE, 12) != again_and_again(graph, SOURCE, 12)


def test_a_tagger_of_two_inputs_is_no_encoder_decoder():
    graph = translator()
    assert find_decoder_input(replace(graph, inputs=graph.inputs[:1])) is None
    small = {**graph.constants, "target_table": graph.constants["target_table"][:TOKENS - 1]}
    assert find_decoder_input(replace(graph, constants=small)) is None  # it could not read all that it makes
    assert find_decoder_input(translator(direction="reverse")) == "target"
    with pytest.raises(UnsupportedError, match="GRU 'decoder' reads backwards"):
        split(translator(direction="reverse"), "target", {})


def test_what_a_layer_begins_with_is_no_decoders_input():
    """Rows of one sequence and one step have the shape of a state."""
    random = np.random.default_rng(0)
    constants = {name: weights(random, 1, 3 * HIDDEN, HIDDEN) for name in ("W", "R")}
    graph = Graph((Value("x", "float32", ("time", 1, HIDDEN)), Value("h0", "float32", (1, 1, HIDDEN))),
                  (Value("rows", "float32", ("time", 1, HIDDEN)), Value("last", "float32", (1, 1, HIDDEN))),
                  (Node("GRU", ("x", "W", "R"), ("", "last"), {"hidden_size": HIDDEN}),
                   Node("GRU", ("x", "W", "R", "", "", "h0"), ("y", "h"), {"hidden_size": HIDDEN}, "decoder"),
                   Node("Squeeze", ("y", "axis"), ("rows",))), {**constants, "axis": np.array([1])}).validate()
    with pytest.raises(UnsupportedError, match="GRU 'decoder' begins with what the decoder reads"):
        split(graph, "h0", {})


@pytest.mark.parametrize("op", ["ReduceMean", "ReduceMax"])
def test_a_decoder_that_looks_at_other_steps_is_refused_by_the_layers_name(op):
    pooled = translator(extra=(Node(op, ("joined", "one"), ("pooled",), {}, "pooling"),
                               Node("Add", ("joined", "pooled"), ("mixed",), {}, "adding")), read="mixed")
    with pytest.raises(UnsupportedError, match=f"step by step: {op} 'pooling' looks at other steps"):
        check_steps(pooled, split(pooled, "target", {}))
    with pytest.raises(UnsupportedError, match="pooling"):
        model_of(pooled).generate(SOURCE)


def test_an_encoder_decoder_is_found_in_an_onnx_file(tmp_path):
    pytest.importorskip("onnx", reason="onnx is not installed")
    graph = translator()
    Model(ModelFile(graph)).save(tmp_path / "m.lstmrt")
    lstmrt.convert(tmp_path / "m.lstmrt", tmp_path / "m.onnx")
    output = lstmrt.load(tmp_path / "m.onnx").generate(
        SOURCE, max_new_tokens=20, decoder_start_token_id=1, output_attentions=True)
    assert output.result.tolist() == again_and_again(graph, SOURCE, 20)
    assert [weights.shape for weights in output.attentions.values()] == [(20, len(SOURCE))]


def test_what_only_looks_like_an_encoder_decoder_is_converted_without_settings(tmp_path):
    pooled = translator(extra=(Node("ReduceMean", ("joined", "one"), ("pooled",), {}, "pooling"),
                               Node("Add", ("joined", "pooled"), ("mixed",))), read="mixed")
    paths = [tmp_path / name for name in ("pooled.lstmrt", "converted.lstmrt")]
    Model(ModelFile(pooled)).save(paths[0])
    with pytest.raises(UnsupportedError, match="pooling"):
        lstmrt.load(paths[0]).generate(SOURCE, decoder_start_token_id=1)
    with pytest.raises(UnsupportedError, match="pooling"):
        lstmrt.convert(*paths, decoder_input="target")
    lstmrt.convert(*paths)
    inputs = {"source": np.array([SOURCE]), "target": np.array([[1, 2]])}
    np.testing.assert_allclose(lstmrt.load(paths[1]).run(inputs)["probabilities"],
                               reference.run(pooled, inputs)["probabilities"], atol=1e-5)


def test_a_decoders_attention_to_itself_is_refused():
    extra = (Node("Transpose", ("joined",), ("turned",), {"perm": (0, 2, 1)}),
             Node("MatMul", ("joined", "turned"), ("own",), {}, "itself"), Node("Softmax", ("own",), ("mixing",), {"axis": -1}),
             Node("MatMul", ("mixing", "joined"), ("mixed",)))
    graph = translator(extra=extra, read="mixed")
    with pytest.raises(UnsupportedError, match="Attention 'itself' looks at other steps"):
        check_steps(graph, split(graph, "target", {}))


def test_what_is_no_decoders_input_is_refused():
    graph = translator()
    with pytest.raises(InputError, match="no input 'nobody'; it has source, target"):
        split(graph, "nobody", {})
    with pytest.raises(InputError, match="states: expected values and outputs"):
        split(graph, "target", {"encoder_h": "nothing"})
    with pytest.raises(InputError, match="'source' is not what a decoder reads"):
        split(replace(graph, inputs=graph.inputs[:1]), "source", {})


# ---- putting together ----


def two_model_loop(encoder: Graph, decoder: Graph, source: list[int], count: int) -> list[int]:
    encoded = reference.run(encoder, {"source": np.array([source])})
    state, token, made = encoded["last"], 1, []
    for _ in range(count):
        logits, state = reference.run(
            decoder, {"target": np.array([[token]]), "memory": encoded["memory"], "state": state}).values()
        token = int(np.argmax(logits))
        made.append(token)
    return made


def test_two_graphs_become_one_whose_declared_states_are_carried(tmp_path):
    encoder, decoder = two_graphs()
    joined = join(encoder, decoder)
    assert (joined.decoder_input, joined.states) == ("target", {"state": "next"})
    model = Model(ModelFile(joined.graph, None, EncoderDecoderDefaults("target", joined.states)))
    model.save(tmp_path / "m.lstmrt")
    expected = two_model_loop(encoder, decoder, SOURCE, 20)
    assert len(set(expected)) > 4
    for one in (model, lstmrt.load(tmp_path / "m.lstmrt")):
        output = one.generate(SOURCE, max_new_tokens=20, decoder_start_token_id=1, output_attentions=True)
        assert output.result.tolist() == expected
        assert output.attentions["looking"].shape == (20, len(SOURCE))


def test_graphs_that_do_not_fit_are_refused_by_input():
    encoder, decoder = two_graphs()
    wider = replace(decoder, inputs=(*decoder.inputs[:2], Value("state", "float32", ("batch", HIDDEN + 1))))
    with pytest.raises(ModelFileError, match=r"no output of the encoder fits the decoder's input 'state' .*'last'"):
        join(encoder, wider)
    with pytest.raises(InputError, match="the decoder has no input 'ids'; it has target, memory, state"):
        join(encoder, decoder, "ids")
    with pytest.raises(InputError, match="say which input of the decoder"):
        join(encoder, replace(decoder, constants={**decoder.constants, "target_table": decoder.constants["target_table"][:9]}))


@pytest.mark.parametrize("prefix", [False, True])
def test_pairs_of_onnx_files_whose_decoder_makes_one_token_a_call(prefix, tmp_path):
    ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    sessions, paths = [], []
    for graph in traced_pair(prefix):
        paths.append(tmp_path / f"{graph.name}.onnx")
        write_onnx(graph, paths[-1])
        sessions.append(ort.InferenceSession(paths[-1], providers=["CPUExecutionProvider"]))
    hidden, memory = sessions[0].run(None, {"source": np.array([SOURCE])})
    made = [1]
    for _ in range(20):
        logits, hidden = sessions[1].run(None, {"memory": memory, "hidden": hidden,
                                                "prefix": np.array([made] if prefix else made[-1:])})
        made.append(int(logits.argmax()))
    model = lstmrt.load(paths[0], decoder=paths[1])
    assert len(set(made)) > 4
    assert model.generate(SOURCE, max_new_tokens=20, decoder_start_token_id=1).tolist() == made[1:]


# ---- sources, tokens, text ----

LETTERS = ["", *"abcdefghijkl"]
MARKED = ["", "<start>", "<end>", *"ABCDEFGHIJKLMN"]


@pytest.fixture(scope="module")
def plain() -> Model:
    return model_of(translator())


def test_sources_come_as_lists_arrays_batches_and_by_name(plain):
    one = plain.generate(SOURCE, max_new_tokens=9)
    assert one.dtype == np.int64 and one.shape == (9,)
    for many in ([SOURCE, SOURCE[:3]], np.array([SOURCE, SOURCE[::-1]])):
        made = plain.generate(many, max_new_tokens=9)
        assert [ids.tolist() for ids in made] == [plain.generate(source, max_new_tokens=9).tolist() for source in many]
    assert plain.generate({"source": SOURCE}, max_new_tokens=9).tolist() == one.tolist()
    assert list(plain.stream(SOURCE, max_new_tokens=9)) == one.tolist()


MANY = [SOURCE, [5, 3, 8], SOURCE[::-1], [7, 7, 7], [2, 9, 4], [0, 0, 0, 4, 1, 9, 2], [6]]


@pytest.mark.parametrize("options", [{}, {"temperature": 2.0, "seed": 5}, {"repetition_penalty": 1.5}], ids=str)
@pytest.mark.parametrize("kind", [{}, {"handed_over": False}], ids=str)
def test_sources_of_a_list_are_written_together_as_alone(monkeypatch, kind, options):
    model = model_of(translator(**kind))
    alone = [model.generate(source, max_new_tokens=15, output_attentions=True, **options) for source in MANY]
    ending = int(alone[1].result[6])  # ends some of them early
    asked = {"max_new_tokens": 15, "output_attentions": True, "eos_token_id": ending, **options}
    alone = [model.generate(source, **asked) for source in MANY]
    steps, decoder = [], model.encoder_decoder._decoder
    monkeypatch.setattr(decoder, "compute", lambda values, run=decoder.compute: steps.append(1) or run(values))
    together = model.generate(MANY, **asked)
    taken = [min(len(one.result) + 1, 15) for one in alone]
    of_lengths = [max(n for n, source in zip(taken, MANY) if len(source) == length) for length in {*map(len, MANY)}]
    assert len(set(taken)) > 2 and len(steps) == sum(of_lengths) < sum(taken)
    for one, other in zip(alone, together):
        assert one.result.tolist() == other.result.tolist() and one.source_tokens == other.source_tokens
        assert one.attentions["attention"].tobytes() == other.attentions["attention"].tobytes()


def test_the_same_source_twice_is_drawn_twice(plain):
    one, other = plain.generate([SOURCE, SOURCE], max_new_tokens=15, temperature=3.0)
    assert one.tolist() != other.tolist()


def test_rows_are_one_hot_or_what_they_are():
    """Tables that the ids index become kernels that one-hot rows are multiplied with."""
    graph = translator()
    rows = [replace(node, op="MatMul", inputs=node.inputs[::-1], attributes={}) if node.op == "Gather" else node
            for node in graph.nodes]
    inputs = (Value("source", "float32", ("batch", "source_time", WORDS)),
              Value("target", "float32", ("batch", "steps", TOKENS)))
    model = model_of(replace(graph, inputs=inputs, nodes=tuple(rows)).validate())
    expected = again_and_again(graph, SOURCE, 20)
    one_hot = np.eye(WORDS, dtype=np.float32)[SOURCE]
    for source in (SOURCE, one_hot, one_hot.astype(bool), {"source": one_hot}):
        assert model.generate(source, max_new_tokens=20).tolist() == expected
    assert model.generate(one_hot[None], max_new_tokens=20)[0].tolist() == expected
    padded = model.generate(SOURCE, max_new_tokens=20, window=9)
    assert padded.tolist() == model.generate(np.pad(one_hot, ((2, 0), (0, 0))), max_new_tokens=20).tolist()


@pytest.mark.parametrize("padding, pad_id", [("left", None), ("right", None), ("right", 6)])
def test_sources_are_padded_to_the_length_the_encoder_has(padding, pad_id):
    fixed, free = translator(time=9), translator()
    model = model_of(fixed, padding=padding, pad_id=pad_id)
    fill = [pad_id or 0] * 2
    expected = again_and_again(free, fill + SOURCE if padding == "left" else SOURCE + fill, 20)
    output = model.generate(SOURCE, max_new_tokens=20, output_attentions=True)
    assert output.result.tolist() == expected
    assert output.attentions["attention"].shape == (20, len(SOURCE)) and output.source_tokens == SOURCE
    long = SOURCE * 2
    output = model.generate(long, max_new_tokens=20, output_attentions=True)
    assert output.result.tolist() == again_and_again(free, long[-9:], 20) and output.source_tokens == long[-9:]


def test_attentions_are_the_graphs_own(plain):
    graph = plain.source.graph
    output = plain.generate(SOURCE, max_new_tokens=6, output_attentions=True)
    shares = replace(graph, outputs=(Value("shares", "float32", None),))
    tokens = [1, *output.result.tolist()[:-1]]
    (expected,) = reference.run(shares, {"source": np.array([SOURCE]), "target": np.array([tokens])}).values()
    np.testing.assert_allclose(output.attentions["attention"], expected[0], atol=1e-6)
    np.testing.assert_allclose(output.attentions["attention"].sum(axis=1), 1, atol=1e-5)
    assert plain.generate(SOURCE, max_new_tokens=0, output_attentions=True).attentions["attention"].shape == (0, 7)


def test_draws_and_penalties_are_those_of_other_models(plain):
    drawn = [plain.generate(SOURCE, max_new_tokens=12, temperature=2.0, seed=seed).tolist() for seed in (1, 1, 2, 3)]
    assert drawn[0] == drawn[1] and len({tuple(ids) for ids in drawn}) == 3
    greedy = plain.generate(SOURCE, max_new_tokens=12).tolist()
    assert plain.generate(SOURCE, max_new_tokens=12, top_k=1, seed=5).tolist() == greedy
    unlike = plain.generate(SOURCE, max_new_tokens=12, repetition_penalty=1e6).tolist()
    assert len(set(unlike)) == 12 and 1 not in unlike  # the token that it begins with counts too


def test_text_becomes_text_with_a_tokenizer_for_each_side(tmp_path):
    graph = translator()
    ids = again_and_again(graph, SOURCE, 20)
    marked = ["Z", *MARKED[1:]]
    marked[ids[7]], marked[2] = "<end>", marked[ids[7]]
    path = tmp_path / "m.lstmrt"
    model_of(graph, LETTERS, marked, eos_token_id=(ids[7],)).save(path)
    model = lstmrt.load(path)
    text = "".join(LETTERS[id] for id in SOURCE)
    until = ids[:ids.index(ids[7])]
    expected = "".join(marked[id] for id in until)
    assert model.generate(text) == "".join(model.stream(text)) == expected
    assert model.generate([text, text]) == [expected, expected]
    assert model.generate(text, stop_strings=expected[3:5]) == expected[:expected.index(expected[3:5])]
    output = model.generate(text, output_attentions=True)
    assert (output.result, output.source_tokens, output.target_tokens) == (expected, list(text), list(expected))
    silent = {token: id for id, token in enumerate(marked) if id != ids[4]}
    assert lstmrt.load(path, decoder_tokenizer=silent).generate(text) == expected[:4]  # an id without text ends it too
    named = model.generate(text, decoder_start_token_id="B", eos_token_id="<end>", max_new_tokens=4)
    assert named == model.generate(text, decoder_start_token_id=marked.index("B"), max_new_tokens=4)


def test_usual_marks_are_found_and_others_are_given_by_name(tmp_path):
    path = tmp_path / "m.lstmrt"
    Model(ModelFile(translator(), None, EncoderDecoderDefaults("target"))).save(path)
    found = lstmrt.load(path, tokenizer=LETTERS, decoder_tokenizer=MARKED)
    assert (found.generation.decoder_start_token_id, found.generation.eos_token_id) == (1, (2,))
    given = lstmrt.load(path, decoder_tokenizer=MARKED, generation={"decoder_start_token_id": "C", "eos_token_id": ["A", 2]})
    assert (given.generation.decoder_start_token_id, given.generation.eos_token_id) == (5, (3, 2))
    shared = lstmrt.load(path, tokenizer=MARKED)
    assert (shared.decoder_tokenizer, shared.generation) == (shared.tokenizer, found.generation)
    with pytest.raises(InputError, match="eos_token_id: the tokenizer has no token 'Z'"):
        lstmrt.load(path, decoder_tokenizer=MARKED, generation={"eos_token_id": "Z"})
    with pytest.raises(InputError, match="decoder_start_token_id: say which token"):
        lstmrt.load(path).generate(SOURCE)
    with pytest.raises(InputError, match=r"generation: unknown settings in \['beams'\]"):
        lstmrt.load(path, generation={"beams": 4})
    with pytest.raises(InputError, match="mode: there is no such option"):
        lstmrt.load(path, mode="stateful")


@pytest.mark.parametrize("source, options, message", [
    ([], {}, "source: expected at least one token"),
    ([WORDS], {}, f"source: id {WORDS} is outside the encoder's vocabulary of {WORDS}"),
    ([0.5, 1.0], {}, "source 'source': expected text or ids"),
    ("abc", {}, "a text needs tokenizers"),
    ({"sauce": SOURCE}, {}, "source: expected source, got sauce"),
    (SOURCE, {"mode": "window"}, "mode: there is no such option"),
    (SOURCE, {"echo": True}, "echo: there is no such option"),
    (SOURCE, {"stop_strings": "x"}, "stop_strings: the source is no text"),
    (SOURCE, {"decoder_start_token_id": TOKENS}, f"expected one of the {TOKENS} ids"),
    (SOURCE, {"decoder_start_token_id": "<s>"}, "'<s>' needs a tokenizer"),
    (SOURCE, {"beams": 3}, "unknown generation options: beams"),
])
def test_bad_calls_are_refused(plain, source, options, message):
    with pytest.raises(InputError, match=message):
        plain.generate(source, **options)


def test_options_of_encoder_decoders_are_no_options_of_other_models():
    with pytest.raises(InputError, match="unknown generation options: output_attentions"):
        compiled(translator()).generate([1], output_attentions=True)


def test_an_encoder_decoder_has_no_batch(plain):
    with pytest.raises(UnsupportedError, match="use generate"):
        plain.batch(2)


# ---- files ----


def test_settings_survive_a_file(tmp_path):
    settings = EncoderDecoderDefaults("target", {}, 9, 3, "right", 4, (5, 6))
    assert defaults_from_json(json.loads(json.dumps(settings.to_json()))) == settings
    Model(ModelFile(translator(), load_tokenizer(LETTERS), settings, decoder_tokenizer=load_tokenizer(MARKED))).save(
        tmp_path / "m.lstmrt")
    model = lstmrt.load(tmp_path / "m.lstmrt")
    assert model.generation == settings
    assert (model.tokenizer.vocabulary["b"], model.decoder_tokenizer.vocabulary["B"]) == (2, 4)


@pytest.mark.parametrize("settings", [
    {"mode": "encoder_decoder"}, {"mode": "encoder_decoder", "decoder_input": 3},
    {"mode": "encoder_decoder", "decoder_input": "x", "beams": 2},
    {"mode": "encoder_decoder", "decoder_input": "x", "eos_token_id": "1"},
    {"mode": "encoder_decoder", "decoder_input": "x", "eos_token_id": [-1]},
    {"mode": "encoder_decoder", "decoder_input": "x", "padding": "middle"},
    {"mode": "encoder_decoder", "decoder_input": "x", "window": 0},
    {"mode": "encoder_decoder", "decoder_input": "x", "states": [1]},
])
def test_bad_settings_are_refused(settings):
    with pytest.raises(InputError, match="generation"):
        defaults_from_json(settings)


def test_a_model_generates_without_its_source(plain):
    model = model_of(translator())
    model.release_source()
    assert model.generate(SOURCE, max_new_tokens=9).tolist() == plain.generate(SOURCE, max_new_tokens=9).tolist()


# ---- the command line ----


def test_the_command_line_joins_converts_inspects_and_decodes(tmp_path, capsys):
    graphs = two_graphs()
    paths = [str(tmp_path / name) for name in ("encoder.lstmrt", "decoder.lstmrt", "both.lstmrt")]
    for graph, path in zip(graphs, paths):
        Model(ModelFile(graph)).save(path)
    for name, tokens in (("letters.json", LETTERS), ("marked.json", ["Z", *MARKED[1:]])):
        (tmp_path / name).write_text(json.dumps(tokens))
    tokenizers = ["--tokenizer", str(tmp_path / "letters.json"), "--decoder-tokenizer", str(tmp_path / "marked.json")]
    assert cli.main(["convert", paths[0], paths[2], "--decoder", paths[1], "--end", "16", *tokenizers]) == 0
    ids = two_model_loop(*graphs, SOURCE, 6)
    text = "".join(LETTERS[id] for id in SOURCE)
    capsys.readouterr()
    assert cli.main(["generate", text, "-m", paths[2], "-n", "6"]) == 0
    assert capsys.readouterr().out == "".join(["Z", *MARKED[1:]][id] for id in ids) + "\n"
    assert cli.main(["inspect", paths[2]]) == 0
    shown = capsys.readouterr().out
    for line in ("generation: encoder_decoder", "decoder input: target", "start token: 1 '<start>'", "end token: 16 'N'",
                 "attention: looking", "decoder tokenizer: 17 characters"):
        assert line in shown
    assert cli.main(["generate", text, "-m", paths[0], "--start", "1", *tokenizers[:2]]) == 1
    assert cli.main(["convert", paths[0], paths[2], "--decoder", paths[0], "--force"]) == 1
    assert "the decoder reads its tokens and nothing" in capsys.readouterr().err
