"""Texts written side by side are those written one by one, to the last bit, whoever comes and goes beside them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lstmrt
from lstmrt import _core, streams
from lstmrt.generation_config import GenerationDefaults
from small_models import VOCABULARY, compiled, hair_trigger, language_model

WINDOW = 5
SUPPORTED = [name for name, supported in _core.isas() if supported]
# The winner hangs on the last bits of h.
GRAPHS = {
    "two LSTMs": language_model("LSTM", (21, 33), head=hair_trigger(33)),
    "GRU": language_model("GRU", (29,), head=hair_trigger(29), linear_before_reset=1),
    "GRU, reset before": language_model("GRU", (19,), head=hair_trigger(19), linear_before_reset=0),
    "wide RNN": language_model("RNN", (141,), head=hair_trigger(141)),
    "every step": language_model("GRU", (27,), head=hair_trigger(27), every_step=True, linear_before_reset=1),
    "masked": language_model("LSTM", (18, 35), head=hair_trigger(35), mask=True),
}
NOT_CAUSAL = compiled(language_model("GRU", (14,), direction="reverse", linear_before_reset=1))
LSTM = compiled(GRAPHS["two LSTMs"], GenerationDefaults("stateful"))
LETTERS = {chr(ord("A") + id): id for id in range(VOCABULARY)}
WRITER = compiled(language_model("LSTM", (11,)), GenerationDefaults("window", WINDOW), LETTERS)
DRAWS = st.just({}) | st.fixed_dictionaries({"seed": st.integers(0, 3), "top_k": st.integers(1, 5)})
OTHERS = st.fixed_dictionaries({"max_new_tokens": st.integers(0, 12)}, optional={
    "repetition_penalty": st.sampled_from([1.0, 1.7]), "eos_token_id": st.integers(0, VOCABULARY - 1),
    "echo": st.booleans()})
OPTIONS = st.builds(lambda others, draws: others | draws, OTHERS, DRAWS)
PROMPTS = st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=9)


def prompts_of_all_lengths(count: int, seed: int = 3) -> list[list[int]]:
    random = np.random.default_rng(seed)
    return [random.integers(0, VOCABULARY, 1 + i % 8).tolist() for i in range(count)]


def same(some: list, others: list) -> bool:
    return len(some) == len(others) and all(
        a == b if isinstance(a, str) else np.array_equal(a, b) and a.dtype == b.dtype for a, b in zip(some, others))


# ---- a list of prompts ----


@pytest.mark.parametrize("isa", SUPPORTED)
@pytest.mark.parametrize("name", GRAPHS)
def test_a_list_is_what_its_prompts_are_alone(name, isa):
    mode = "masked_window" if name == "masked" else "window"
    model = compiled(GRAPHS[name], GenerationDefaults(mode, WINDOW), isa=isa)
    prompts = prompts_of_all_lengths(13)
    for options in ({}, {"mode": "stateful"}, {"window": 1}, {"seed": 5, "temperature": 3.0, "repetition_penalty": 1.3},
                    {"mode": "growing", "eos_token_id": [3, 8]}):
        alone = [model.generate(prompt, max_new_tokens=21, **options) for prompt in prompts]
        assert same(model.generate(prompts, max_new_tokens=21, **options), alone)


def test_more_prompts_than_fit_wait_for_a_row(monkeypatch):
    monkeypatch.setattr(streams, "MOST_ROWS", 3)
    monkeypatch.setattr(streams, "STEPS", 2)
    prompts = prompts_of_all_lengths(11)
    ends = {"eos_token_id": [1, 2, 3, 4], "max_new_tokens": 9}
    assert same(LSTM.generate(prompts, **ends), [LSTM.generate(prompt, **ends) for prompt in prompts])


@pytest.mark.parametrize("model, options", [
    (NOT_CAUSAL, {"mode": "growing"}),
    (NOT_CAUSAL, {"mode": "window", "window": 4}),
    (compiled(GRAPHS["GRU"], GenerationDefaults("window", WINDOW, padding="right")), {}),
], ids=["looks ahead", "looks ahead in a window", "padded on the right"])
def test_where_texts_are_run_again_they_are_written_one_by_one(model, options):
    prompts = prompts_of_all_lengths(4)
    assert same(model.generate(prompts, **options), [model.generate(prompt, **options) for prompt in prompts])
    with pytest.raises(lstmrt.InputError, match="runs its text again for each token"):
        model.batch(2, **options)


@pytest.mark.parametrize("options", [{}, {"echo": True}, {"stop_strings": ["B", "KQ", "R"]}, {"max_new_tokens": 0},
                                     {"eos_token_id": 9, "seed": 2}], ids=str)
def test_texts(options):
    prompts = ["ABC", "Q", "HELLO", "TT", "A" * 40]
    options = {"max_new_tokens": 30, **options}
    alone = [WRITER.generate(prompt, **options) for prompt in prompts]
    assert WRITER.generate(prompts, **options) == alone
    assert same(WRITER.generate(["ABC", [3, 5]]), [WRITER.generate("ABC"), WRITER.generate([3, 5])])


def test_without_a_seed_each_text_has_its_own():
    texts = LSTM.generate([[3]] * 4, do_sample=True, temperature=4.0, max_new_tokens=30)
    assert len({text.tobytes() for text in texts}) == 4


# ---- a batch ----


@given(st.lists(st.tuples(PROMPTS, OPTIONS), min_size=1, max_size=7), st.integers(1, 4), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_streams_come_and_go(jobs, most, chance):
    """Whatever is added and dropped when: each is what it is alone, or the beginning of it."""
    batch, waiting = LSTM.batch(most), list(jobs)
    added: list[tuple[streams.Stream, dict]] = []
    seen: dict[int, list] = {}
    dropped = set()
    while waiting or batch:
        while waiting and batch.free and chance.random() < 0.6:
            prompt, options = waiting.pop()
            added.append((batch.add(prompt, **options), options))
        for stream, piece in batch.advance(chance.randint(1, 3)):
            seen.setdefault(id(stream), []).append(piece)
        if added and chance.random() < 0.1:
            victim, _ = chance.choice(added)
            dropped |= set() if victim.ended else {id(victim)}
            victim.drop()
    for stream, options in added:
        alone = LSTM.generate(stream.prompt, **options)
        assert stream.ended
        if id(stream) in dropped:
            assert np.array_equal(stream.result, alone[:len(stream.result)])
        else:
            assert np.array_equal(stream.result, alone)
            made = alone[len(stream.prompt):] if options.get("echo") else alone
            assert seen.get(id(stream), [None]) == [*made.tolist(), None]


def test_pieces_of_text_join_to_the_result():
    batch = WRITER.batch()
    options = [{"stop_strings": "GH"}, {}, {"max_new_tokens": 3}, {"stop_strings": ["F", "S"], "echo": True}]
    writing = {batch.add("DF" * (i + 1), **{"max_new_tokens": 25, **given}): given for i, given in enumerate(options)}
    assert (len(batch), batch.free) == (4, 12)
    pieces: dict[streams.Stream, list] = {stream: [] for stream in writing}
    for step in batch:
        assert len({stream for stream, _ in step}) <= len(step) <= 2 * len(writing)
        for stream, piece in step:
            pieces[stream].append(piece)
    for stream, options in writing.items():
        assert stream.ended and pieces[stream].pop() is None and None not in pieces[stream]
        assert stream.result == WRITER.generate(stream.prompt, **{"max_new_tokens": 25, **options})
        assert stream.result == (stream.prompt if options.get("echo") else "") + "".join(pieces[stream])
    assert len(batch) == 0 and list(batch) == []


def test_a_stream_may_be_dropped_while_others_go_on():
    batch = LSTM.batch(2)
    first, second = batch.add([1, 2, 3], max_new_tokens=20), batch.add([4], max_new_tokens=20)
    for pieces in batch:
        if len(first.result) == 5 and not first.ended:
            first.drop()
            first.drop()
            third = batch.add([9], max_new_tokens=4)
    assert [len(stream.result) for stream in (first, second, third)] == [5, 20, 4]
    assert np.array_equal(third.result, LSTM.generate([9], max_new_tokens=4))


def test_any_number_of_threads_have_batches_of_one_model():
    prompts = prompts_of_all_lengths(6)
    expected = [LSTM.generate(prompt, max_new_tokens=200) for prompt in prompts]
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: LSTM.generate(prompts, max_new_tokens=200), range(8)):
            assert same(found, expected)


# ---- bad calls ----


@pytest.mark.parametrize("call, message", [
    (lambda batch: batch.add([]), "at least one token"),
    (lambda batch: batch.add([[1, 2], [3]]), "expected text, ids, or a list of either"),
    (lambda batch: batch.add([VOCABULARY]), "outside the model's vocabulary"),
    (lambda batch: batch.add("text"), "needs a tokenizer"),
    (lambda batch: batch.add([1], stop_strings="x"), "the prompt is ids"),
    (lambda batch: batch.add([1], num_beams=2), "unknown generation options: num_beams"),
    (lambda batch: batch.add([1], mode="growing"), "mode and window are the batch's"),
    (lambda batch: [batch.add([1]) for _ in range(3)], "all 2 streams of this batch are running"),
    (lambda batch: LSTM.batch(0), "max_streams: expected a number from 1 to"),
    (lambda batch: LSTM.batch(2**31 - 1), "max_streams: expected a number from 1 to 65536"),
    (lambda batch: LSTM.batch(True), "max_streams"),
    (lambda batch: batch.advance(-1), "steps: expected a number of 0 or above, got -1"),
    (lambda batch: batch.advance(None), "steps"),
    (lambda batch: batch.advance(2**70), "steps"),
    (lambda batch: LSTM.batch(2, mode="beam"), "mode: expected one of"),
    (lambda batch: LSTM.batch(2, mode="window"), "needs a length"),
    (lambda batch: LSTM.generate([[1], [VOCABULARY]]), "outside the model's vocabulary"),
    (lambda batch: LSTM.stream([[1], [2]]), "one prompt"),
])
def test_bad_calls_are_refused(call, message):
    batch = LSTM.batch(2)
    with pytest.raises(lstmrt.InputError, match=message):
        call(batch)


def test_models_that_cannot_generate():
    from lstmrt.graph import Graph, Node, Value

    value = Value("x", "float32", ("batch", 3))
    model = compiled(Graph((value,), (Value("y", "float32", ("batch", 3)),), (Node("Relu", ("x",), ("y",)),), {}))
    for call in (lambda: model.batch(2, mode="stateful"), lambda: model.generate([[1], [2]])):
        with pytest.raises(lstmrt.UnsupportedError, match="ids into logits"):
            call()
