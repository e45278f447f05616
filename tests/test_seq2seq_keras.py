"""Encoder-decoders from Keras files write what the usual loop around two Keras models writes, token for token."""

from __future__ import annotations

import numpy as np
import pytest
from keras_models import CONTAINERS, FRAMEWORKS, framework
from seq2seq_models import KINDS, START, Trio

import lstmrt

COUNT = 21
SOURCES = ((1, 5), (2, 12), (3, 2))  # seed and length


@pytest.fixture(scope="module", params=[(name, kind) for name in FRAMEWORKS for kind in KINDS],
                ids=lambda param: f"{param[0]}-{param[1].__name__}")
def trio(request) -> Trio:
    name, kind = request.param
    return kind(framework(name))


@pytest.fixture(scope="module")
def wanted(trio):
    """Each source's ids, the ids that Keras makes of them, and the attention's weights."""
    cases = []
    for seed, length in SOURCES:
        source = trio.source(seed, length)
        cases.append((source, *trio.loop(source, COUNT)))
    assert len({id for _, made, _ in cases for id in made}) > 8, "texts that vary show more"
    return cases


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
            assert list(output.attentions) == ["attention"] * bool(weights)
            for found in output.attentions.values():
                expected = np.concatenate([array.reshape(-1, len(source)) for array in weights])
                np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5)


def test_a_training_model_runs_as_keras_runs_it(trio, tmp_path):
    path, _, _ = trio.save(tmp_path, ".keras")
    random = np.random.default_rng(0)
    inputs = [random.integers(1, 29, (3, length)) for length in (6, 5)]
    if trio.rows:
        inputs = [np.eye(width, dtype=np.float32)[ids] for width, ids in zip((29, 31), inputs)]
    expected = np.asarray(trio.training(inputs))
    np.testing.assert_allclose(lstmrt.load(path)(*inputs), expected, rtol=0, atol=2e-5)
