"""Generation in every mode against a loop that runs the float64 reference again for every token."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lstmrt
from lstmrt import _core
from lstmrt.generation import until_stopped
from lstmrt.generation_config import GenerationDefaults
from small_models import VOCABULARY, compiled, hair_trigger, language_model, logits_of, padded, plain_loop

COUNT = 25
WINDOW = 6
PROMPTS = ([7], [3, 5, 8], [1, 2, 3, 4, 5, 6], [9, 20, 4, 17, 11, 2, 2, 15, 6, 13])  # below, at and above WINDOW
GRAPHS = {
    "LSTM": language_model("LSTM", (11,)),
    "two LSTMs": language_model("LSTM", (13, 7)),
    "GRU": language_model("GRU", (19,), linear_before_reset=1),
    "GRU, reset before": language_model("GRU", (10,), linear_before_reset=0),
    "RNN": language_model("RNN", (17,)),
    "every step": language_model("LSTM", (15,), every_step=True),
}
MASKED = {
    "LSTM": language_model("LSTM", (11,), mask=True),
    "two GRUs": language_model("GRU", (13, 7), mask=True, linear_before_reset=1),
    "zero": language_model("LSTM", (12, 5), mask=True, masked_output="zero"),
}
NOT_CAUSAL = language_model("GRU", (14,), direction="reverse", linear_before_reset=1)
SUPPORTED = [name for name, supported in _core.isas() if supported]
LSTM = compiled(GRAPHS["LSTM"], GenerationDefaults("window", WINDOW))
LETTERS = dict(zip("abcdefghijklmnopqrstuv", range(1, VOCABULARY)))  # 0 has no text


# ---- modes ----


@pytest.mark.parametrize("prompt", PROMPTS, ids=len)
@pytest.mark.parametrize("name", GRAPHS)
def test_window_is_a_run_over_the_last_ids(name, prompt):
    model = compiled(GRAPHS[name], GenerationDefaults("window", WINDOW, pad_id=1))
    expected = plain_loop(GRAPHS[name], prompt, COUNT, padded(WINDOW, pad_id=1))
    assert model.generate(prompt, max_new_tokens=COUNT).tolist() == expected


@pytest.mark.parametrize("prompt", PROMPTS, ids=len)
@pytest.mark.parametrize("name", MASKED)
def test_masked_window_skips_the_padding(name, prompt):
    model = compiled(MASKED[name], GenerationDefaults("masked_window", WINDOW))
    expected = plain_loop(MASKED[name], prompt, COUNT, padded(WINDOW))
    assert model.generate(prompt, max_new_tokens=COUNT).tolist() == expected


@pytest.mark.parametrize("graph, mode", [(GRAPHS["two LSTMs"], "window"), (MASKED["LSTM"], "masked_window")])
def test_padding_on_the_right(graph, mode):
    model = compiled(graph, GenerationDefaults(mode, WINDOW, padding="right"))
    for prompt in PROMPTS:
        expected = plain_loop(graph, prompt, COUNT, padded(WINDOW, right=True))
        assert model.generate(prompt, max_new_tokens=COUNT).tolist() == expected


@pytest.mark.parametrize("mode", ["stateful", "growing"])
@pytest.mark.parametrize("name", GRAPHS)
def test_carried_states_and_a_growing_context_are_a_run_over_all_ids(name, mode):
    for prompt in PROMPTS:
        expected = plain_loop(GRAPHS[name], prompt, COUNT, list)
        assert compiled(GRAPHS[name]).generate(prompt, max_new_tokens=COUNT, mode=mode).tolist() == expected


@pytest.mark.parametrize("mode, context", [("growing", list), ("window", padded(WINDOW))])
def test_a_model_that_looks_ahead_is_run_again(mode, context):
    model = compiled(NOT_CAUSAL)
    for prompt in PROMPTS:
        expected = plain_loop(NOT_CAUSAL, prompt, COUNT, context)
        window = WINDOW if mode == "window" else None
        assert model.generate(prompt, max_new_tokens=COUNT, mode=mode, window=window).tolist() == expected


def test_a_model_of_fixed_length_has_its_window():
    graph = language_model("LSTM", (11,), time=4)
    for prompt in PROMPTS:
        expected = plain_loop(graph, prompt, COUNT, padded(4))
        assert compiled(graph).generate(prompt, max_new_tokens=COUNT, mode="window").tolist() == expected


# ---- staggered windows: the bits of running each window again ----


BITWISE = {
    "LSTM": language_model("LSTM", (37,), head=hair_trigger(37)),
    "two LSTMs": language_model("LSTM", (21, 33), head=hair_trigger(33)),
    "GRU": language_model("GRU", (29,), head=hair_trigger(29), linear_before_reset=1),
    "wide RNN": language_model("RNN", (141,), head=hair_trigger(141)),
    "masked": language_model("LSTM", (18, 35), head=hair_trigger(35), mask=True),
    "every step": language_model("GRU", (27,), head=hair_trigger(27), every_step=True),
}


def decoded(model: lstmrt.Model, mode: str, prompt: list[int], window: int, count: int = 60) -> list[int]:
    decoder = model.native.model.decoder(mode=mode, window=window)
    decoder.prompt(np.array(prompt))
    made: list[int] = []
    while len(made) < count:
        made += decoder.next(count - len(made))[0].tolist()
    return made


@pytest.mark.parametrize("isa", SUPPORTED)
@pytest.mark.parametrize("name", BITWISE)
def test_staggered_windows_have_the_bits_of_windows_run_again(name, isa):
    model = compiled(BITWISE[name], isa=isa)
    for window in (1, 2, 5, 17):
        for prompt in PROMPTS:
            assert decoded(model, "staggered", prompt, window) == decoded(model, "window", prompt, window)


def test_the_comparison_above_sees_the_last_bit():
    graph = BITWISE["LSTM"]
    table = np.nextafter(graph.constants["table"], np.float32(9))
    nudged = compiled(replace(graph, constants={**graph.constants, "table": table}))
    assert decoded(compiled(graph), "window", [3], 5) != decoded(nudged, "window", [3], 5)


# ---- sampling ----


def test_one_seed_gives_one_text():
    def text(seed: int | None, **options) -> list[int]:
        return LSTM.generate([3, 5], max_new_tokens=40, do_sample=True, seed=seed, **options).tolist()

    assert text(7) == text(7)
    assert text(7) != text(8)
    assert text(None) != text(None)
    assert text(7, temperature=3.0) != text(7)


@pytest.mark.skipif(len(SUPPORTED) < 2, reason="this CPU has one instruction set only")
def test_one_seed_gives_one_text_on_every_instruction_set():
    options = {"max_new_tokens": 50, "seed": 11, "top_k": 5, "temperature": 0.8}
    defaults = GenerationDefaults("stateful")
    models = [compiled(GRAPHS["two LSTMs"], defaults, isa=isa) for isa in SUPPORTED]
    texts = {model.generate([3, 5], **options).tobytes() for model in models}
    assert len(texts) == 1


@pytest.mark.parametrize("options", [{"top_k": 1}, {"top_k": 1, "temperature": 5.0, "seed": 3}, {"top_p": 1e-9}])
def test_one_candidate_is_greedy(options):
    assert (LSTM.generate([3, 5], max_new_tokens=COUNT, **options) == LSTM.generate([3, 5], max_new_tokens=COUNT)).all()


@pytest.mark.parametrize("options", [{}, {"temperature": 0.5}, {"temperature": 2.5, "top_k": 4}, {"top_p": 0.7},
                                     {"top_k": 9, "top_p": 0.6, "temperature": 1.5}], ids=str)
def test_draws_follow_the_distribution(options):
    draws = 3000
    made = [LSTM.generate([3, 5], max_new_tokens=1, do_sample=True, seed=seed, **options)[0] for seed in range(draws)]
    logits = logits_of(GRAPHS["LSTM"], np.array(padded(WINDOW)([3, 5])))
    expected = distribution(logits, **options)
    found = np.bincount(made, minlength=VOCABULARY) / draws
    assert not found[expected == 0].any()
    deviation = np.sqrt(expected * (1 - expected) / draws)
    assert (np.abs(found - expected) <= 4.5 * deviation + 1e-12).all()


def distribution(logits: np.ndarray, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0) -> np.ndarray:
    """The probabilities of one draw by the definition of the options."""
    order = np.argsort(-logits, kind="stable")[:top_k or None]
    powers = np.exp((logits[order] - logits.max()) / temperature)
    probabilities = powers / powers.sum()
    kept = np.cumsum(probabilities) - probabilities < top_p
    result = np.zeros(len(logits))
    result[order[kept]] = probabilities[kept] / probabilities[kept].sum()
    return result


@pytest.mark.parametrize("penalty", [1.3, 4.0, 0.7])
def test_repetition_penalty_is_the_formula(penalty):
    for prompt in PROMPTS:
        expected = plain_loop(GRAPHS["LSTM"], prompt, COUNT, padded(WINDOW), penalty)
        assert LSTM.generate(prompt, max_new_tokens=COUNT, repetition_penalty=penalty).tolist() == expected


# ---- ends ----


def test_eos_ends_the_text_and_is_left_out():
    text = LSTM.generate([3, 5], max_new_tokens=COUNT).tolist()
    place = max(text.index(id) for id in text)
    end = text[place]
    assert place > 0
    assert LSTM.generate([3, 5], max_new_tokens=COUNT, eos_token_id=end).tolist() == text[:place]
    assert LSTM.generate([3, 5], max_new_tokens=COUNT, eos_token_id=(end, np.int64(text[1]))).tolist() == text[:1]
    assert LSTM.generate([3, 5], max_new_tokens=COUNT, eos_token_id=text[0]).tolist() == []


def speaking(vocabulary) -> lstmrt.Model:
    return compiled(GRAPHS["LSTM"], GenerationDefaults("window", WINDOW), vocabulary)


def test_an_id_without_text_ends_the_text():
    text = LSTM.generate([3, 5], max_new_tokens=COUNT).tolist()
    place = max(text.index(id) for id in text)
    known = {chr(ord("A") + id): id for id in range(VOCABULARY) if id != text[place]}
    assert place > 0 and {3, 5} <= set(known.values())
    expected = "".join(chr(ord("A") + id) for id in text[:place])
    assert speaking(known).generate("DF", max_new_tokens=COUNT) == expected


def test_stop_strings_may_span_pieces():
    letters = {chr(ord("A") + id): id for id in range(VOCABULARY)}
    model = speaking(letters)
    text = model.generate("DF", max_new_tokens=COUNT)
    stop = text[4:7]
    assert model.generate("DF", max_new_tokens=COUNT, stop_strings=stop) == text[:text.index(stop)]
    assert model.generate("DF", max_new_tokens=COUNT, stop_strings=[stop, text[:2]]) == ""
    assert model.generate("DF", max_new_tokens=COUNT, stop_strings=["never"]) == text


@given(st.lists(st.text("abc", max_size=3), max_size=9), st.lists(st.text("abc", min_size=1, max_size=4), max_size=3))
@settings(max_examples=300, deadline=None)
def test_text_is_cut_where_the_first_stop_string_is_complete(pieces, stops):
    expected = "".join(pieces)
    for n in range(len(pieces) + 1):
        text = "".join(pieces[:n])
        if any(stop in text for stop in stops):
            expected = text[:min(text.index(stop) for stop in stops if stop in text)]
            break
    assert "".join(until_stopped(iter(pieces), tuple(stops))) == expected


# ---- prompts and results ----


def test_text_words_and_echo():
    words = ["", *(f"word{id}" for id in range(1, VOCABULARY))]
    model = speaking(words)
    ids = LSTM.generate([3, 5], max_new_tokens=8, eos_token_id=0).tolist()
    text = "".join(f" word{id}" for id in ids)
    assert len(ids) > 2
    assert model.generate("word3 word5", max_new_tokens=8) == text
    assert model.generate("word3 word5", max_new_tokens=8, echo=True) == "word3 word5" + text
    assert LSTM.generate([3, 5], max_new_tokens=8, eos_token_id=0, echo=True).tolist() == [3, 5, *ids]


def test_lists_give_lists():
    alone = [LSTM.generate(prompt, max_new_tokens=7) for prompt in PROMPTS]
    together = LSTM.generate([*PROMPTS[:2], np.array(PROMPTS[2]), tuple(PROMPTS[3])], max_new_tokens=7)
    assert isinstance(together, list) and all(ids.dtype == np.int64 for ids in together)
    assert [ids.tolist() for ids in together] == [ids.tolist() for ids in alone]
    model = speaking(LETTERS)
    assert model.generate(["ab", [3, 5]])[0] == model.generate("ab")


def test_streams_are_the_text_in_pieces():
    model = speaking({chr(ord("A") + id): id for id in range(VOCABULARY)})
    pieces = list(model.stream("DF", max_new_tokens=12, echo=True))
    assert pieces[0] == "DF" and len(pieces) > 2
    assert "".join(pieces) == model.generate("DF", max_new_tokens=12, echo=True)
    assert list(LSTM.stream([3, 5], max_new_tokens=12, echo=True)) == [3, 5, *LSTM.generate([3, 5], max_new_tokens=12)]


def test_no_tokens_asked_for():
    assert LSTM.generate([3], max_new_tokens=0).shape == (0,)
    assert LSTM.generate([3], max_new_tokens=0, echo=True).tolist() == [3]


# ---- bad calls ----


@pytest.mark.parametrize("prompt, options, message", [
    ([], {}, "at least one token"),
    ([[]], {}, "at least one token"),
    ([3, VOCABULARY], {}, f"id {VOCABULARY} is outside the model's vocabulary of {VOCABULARY}"),
    ([-1], {}, "id -1 is outside"),
    (np.array([0.5]), {}, "got float64"),
    (np.zeros((2, 3), int), {}, r"of shape \(2, 3\)"),
    ("text", {}, "needs a tokenizer"),
    ([3], {"stop_strings": "x"}, "the prompt is ids"),
    ([3], {"stop_strings": [""]}, "stop_strings"),
    ([3], {"stop_strings": 5}, "stop_strings"),
    ([3], {"max_new_tokens": 2**70}, "max_new_tokens"),
    ([3], {"top_k": 2**70}, "top_k"),
    ([3], {"eos_token_id": 2**70}, "eos_token_id"),
    ([3], {"eos_token_id": [[1], [2, 3]]}, "eos_token_id"),
    ([3], {"mode": "beam"}, "one of window, masked_window, stateful, growing"),
    ([3], {"mode": "masked_window"}, "use mode='window'"),
    ([3], {"window": 0}, "window"),
    ([3], {"window": -2}, "window"),
    ([3], {"mode": "growing", "window": 4}, "mode 'growing' has none"),
    ([3], {"max_new_tokens": -1}, "max_new_tokens"),
    ([3], {"max_new_tokens": 2.5}, "max_new_tokens"),
    ([3], {"temperature": 0}, "temperature"),
    ([3], {"temperature": float("nan")}, "temperature"),
    ([3], {"top_k": -1}, "top_k"),
    ([3], {"top_p": 1.5}, "top_p"),
    ([3], {"repetition_penalty": 0}, "repetition_penalty"),
    ([3], {"seed": -1}, "seed"),
    ([3], {"seed": 1, "do_sample": False}, "do_sample=False"),
    ([3], {"eos_token_id": "x"}, "eos_token_id"),
    ([3], {"num_beams": 4}, "unknown generation options: num_beams; known are max_new_tokens"),
], ids=str)
def test_bad_calls_are_refused(prompt, options, message):
    with pytest.raises(lstmrt.InputError, match=message):
        LSTM.generate(prompt, **options)


def test_bad_streams_are_refused():
    with pytest.raises(lstmrt.InputError, match="one prompt"):
        LSTM.stream([[3], [5]])
    with pytest.raises(lstmrt.InputError, match="the prompt is ids"):
        LSTM.stream([3], stop_strings="x")


def test_modes_that_do_not_fit_the_model():
    with pytest.raises(lstmrt.InputError, match="does mask the padding: use mode='masked_window'"):
        compiled(MASKED["LSTM"]).generate([3], mode="window", window=4)
    with pytest.raises(lstmrt.InputError, match="needs a length"):
        compiled(GRAPHS["LSTM"]).generate([3], mode="window")
    with pytest.raises(lstmrt.InputError):
        compiled(NOT_CAUSAL).generate([3], mode="stateful")
    with pytest.raises(lstmrt.InputError, match=f"pad_id: 99 is outside the vocabulary of {VOCABULARY}"):
        compiled(GRAPHS["LSTM"], GenerationDefaults("window", 4, pad_id=99)).generate([3])


# ---- texts recorded from Keras ----

GREEDY = Path(__file__).parents[2] / "shared" / "samples" / "greedy"


@pytest.mark.skipif(not GREEDY.exists(), reason="the recorded texts are not beside the checkout")
@pytest.mark.parametrize("text, name, mode", [
    ("window_nomask", "window_nomask", "window"),
    ("window_mask_zero", "window_mask_zero", "masked_window"),
    ("growing_context", "window_nomask", "growing"),
    ("stateful", "stateful_b1", "stateful"),
])
def test_texts_are_those_recorded_from_keras(text, name, mode):
    pytest.importorskip("h5py", reason="Keras files need h5py")
    gold = json.loads((GREEDY / "gold.json").read_text(encoding="utf-8"))
    window = gold["window"] if mode.endswith("window") else None
    model = lstmrt.load(GREEDY / f"{name}.keras")
    found = model.generate(gold["seed"], max_new_tokens=gold["steps"], mode=mode, window=window, echo=True)
    assert found.tolist() == gold[text]


def test_a_prompt_that_ends_in_a_space_gets_no_second_one():
    model = lstmrt.load(files("lstmrt") / "data" / "sample.lstmrt")
    assert model.generate("To be or not ", max_new_tokens=3) == "to be that"
    assert model.generate("To be or not", max_new_tokens=3) == " to be that"


@pytest.mark.parametrize("options", [{"temperature": 10**400}, {"do_sample": "no"}, {"echo": 1}, {"temperature": 1j}])
def test_options_of_no_sensible_kind(options):
    model = lstmrt.load(files("lstmrt") / "data" / "sample.lstmrt")
    with pytest.raises(lstmrt.InputError, match=next(iter(options))):
        model.generate("To be", **options)


def test_an_array_may_name_the_ids_that_end_the_text():
    model = lstmrt.load(files("lstmrt") / "data" / "sample.lstmrt")
    ids = model.tokenizer.encode("To be or not")
    first = model.generate(ids, max_new_tokens=3)
    for ending in (np.array(first[1]), np.array([first[1]]), int(first[1])):
        assert model.generate(ids, eos_token_id=ending).tolist() == first[:1].tolist()
