"""Encoder-decoders from Keras files write what the usual loop around two Keras models writes, token for token."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from keras_models import CONTAINERS, FRAMEWORKS, framework
from seq2seq_models import KINDS, SOURCE_WORDS, START, TARGET_WORDS, Trio

import lstmrt

NETRA = Path(__file__).parents[1].with_name("shared") / "acceptance"
COUNT = 21
SOURCES = np.random.default_rng(1).integers(1, SOURCE_WORDS, (4, 9))  # 0 is padding


@pytest.fixture(scope="module", params=[(name, kind) for name in FRAMEWORKS for kind in KINDS],
                ids=lambda param: f"{param[0]}-{param[1].__name__}")
def trio(request) -> Trio:
    name, kind = request.param
    return kind(framework(name))


@pytest.fixture(scope="module")
def wanted(trio) -> list[tuple[np.ndarray, list[int], np.ndarray | None]]:
    """Each source, the ids that Keras makes of it, and the attention's weights."""
    made, weights = trio.loop(SOURCES, COUNT)
    assert len(np.unique(made)) > 8, "texts that vary show more"
    return list(zip(SOURCES, made.tolist(), [None] * len(SOURCES) if weights is None else weights))


@pytest.mark.parametrize("container", CONTAINERS)
def test_greedy_text_is_that_of_the_two_model_loop(trio, wanted, container, tmp_path):
    training, encoder, decoder = trio.save(tmp_path, container)
    models = [lstmrt.load(training), lstmrt.load(encoder, decoder=decoder)]
    for i, model in enumerate(models):
        model.save(tmp_path / f"{i}.lstmrt")
    models += [lstmrt.load(tmp_path / f"{i}.lstmrt") for i in range(2)]
    for model in models:
        assert "native" in model.encoder_decoder.segments["decoder step"]
        for source, made, weights in wanted:
            output = model.generate(source, max_new_tokens=COUNT, decoder_start_token_id=START, output_attentions=True)
            assert output.result.tolist() == made
            assert list(output.attentions) == ([] if weights is None else ["attention"])
            for found in output.attentions.values():
                np.testing.assert_allclose(found, weights, rtol=0, atol=2e-5)


def test_masked_padding_changes_nothing(trio, wanted, tmp_path):
    if not trio.masked:
        pytest.skip("its encoder has no mask")
    model = lstmrt.load(trio.save(tmp_path, ".keras")[0], generation={"padding": "right", "decoder_start_token_id": START})
    for source, made, _ in wanted:
        for padded in (np.pad(source, (0, 3)), np.pad(source, (2, 1))):
            output = model.generate(padded, max_new_tokens=COUNT, output_attentions=True)
            assert output.result.tolist() == made
            for weights in output.attentions.values():
                assert weights.shape == (COUNT, len(padded)) and not weights[:, padded == 0].any()
        assert model.generate(source, max_new_tokens=COUNT, window=15).tolist() == made


def test_a_training_model_runs_as_keras_runs_it(trio, tmp_path):
    path, _, _ = trio.save(tmp_path, ".keras")
    random = np.random.default_rng(0)
    inputs = [random.integers(1, words, (3, length)) for words, length in ((SOURCE_WORDS, 6), (TARGET_WORDS, 5))]
    if trio.rows:
        inputs = [np.eye(words, dtype=np.float32)[ids] for words, ids in zip((SOURCE_WORDS, TARGET_WORDS), inputs)]
    expected = np.asarray(trio.training(inputs))
    np.testing.assert_allclose(lstmrt.load(path)(*inputs), expected, rtol=0, atol=2e-5)


@pytest.mark.skipif(not NETRA.exists(), reason="the folder of real models, ../shared/acceptance, is not there")
def test_a_published_transliterator_writes_what_it_wrote_in_keras():
    """Its recorded decoder inputs are what it had made so far, from 79 on; 80 ends a word."""
    settings = {"decoder_start_token_id": 79, "eos_token_id": 80, "window": 25, "padding": "right"}
    model = lstmrt.load(NETRA / "models" / "netra-transliterate.keras", generation=settings)
    recorded = np.load(NETRA / "refs" / "netra-transliterate.npz")
    for source, tokens in zip(recorded["x_enc_ids"], recorded["x_dec_ids"]):
        output = model.generate(source[source > 0], output_attentions=True)
        assert output.result.tolist() == tokens[1:tokens.tolist().index(80)].tolist()
        (weights,) = output.attentions.values()
        looked_at = weights.argmax(axis=1)
        assert (np.diff(looked_at) >= 0).all(), "it reads from left to right"
