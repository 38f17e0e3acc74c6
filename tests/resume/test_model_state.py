"""Whatever a model's state is, it comes back to the bit."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import keras_candle as candle
from tests.resume import state_cases
from tests.resume.state_cases import MODELS


@pytest.mark.parametrize("kind", MODELS)
def test_one_rank(tmp_path, kind):
    assert state_cases.differences(tmp_path, kind, kill=9) == []


@pytest.mark.parametrize("kind", ["own saving", "own files", "adapters", "three optimizers"])
def test_two_ranks(ranks, tmp_path, kind):
    for found in ranks(2).run(state_cases.differences, folder=str(tmp_path), kind=kind, kill=9):
        assert found == []


def test_plain_keras_loads_adapters_as_part_of_the_kernel(tmp_path):
    trained = state_cases.train(tmp_path, "adapters")["outputs"]
    model = MODELS["adapters"]()
    model.optimizer.build(model.trainable_variables)
    model.load_weights(tmp_path / "checkpoints" / "last" / "model.weights.h5")
    x = np.random.default_rng(1).normal(size=(5, 4)).astype("float32")
    assert np.allclose(model(x), trained, rtol=1e-5, atol=1e-6)


def test_other_optimizers_are_refused(tmp_path, monkeypatch):
    def with_one_less():
        model = state_cases.Game()
        model.compile([keras.optimizers.Adam(0.01)])
        return model

    def with_another_part():
        model = state_cases.three_optimizers()
        model.others[1].build(model.judges.trainable_variables)
        return model

    def for_another_part():
        model = state_cases.three_optimizers()
        model.others[0].build(model.judges.trainable_variables)
        return model

    state_cases.train(tmp_path, "three optimizers")
    for other, words in (
        (with_one_less, "other optimizers"),
        (with_another_part, "is missing there"),
        (for_another_part, r"optimizer 2 \(Adam\) is built for other variables"),
    ):
        monkeypatch.setitem(MODELS, "other", other)
        with pytest.raises(candle.CheckpointError, match=words):
            state_cases.train(tmp_path, "other")


def test_a_layer_that_cannot_load_what_it_saved_is_named(tmp_path, monkeypatch):
    def fail(layer, store):
        raise ValueError("no such factor")

    state_cases.train(tmp_path, "own saving")
    monkeypatch.setattr(state_cases.Scale, "load_own_variables", fail)
    with pytest.raises(candle.CheckpointError, match=r"cannot load what it saved \(no such factor"):
        state_cases.train(tmp_path, "own saving")
