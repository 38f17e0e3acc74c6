"""Trackers that cannot begin or end: root says so, and no rank waits for another."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

import keras_candle as candle
from keras_candle.callback import tracker_hook
from tests.callback.cases import forget_fits


class UnsendableError(Exception):
    def __init__(self, first, second):
        super().__init__(f"{first} and {second}")


def fail(*_, **__):
    raise UnsendableError("this", "that")


def train(folder, name):
    """Trains with a part of the tracking that fails; returns the epochs that were trained."""
    forget_fits()
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    model = candle.scale(model)
    callback = candle.CandleCallback(str(Path(folder) / "run"), trackers="csv")
    before = vars(tracker_hook.TrackerHook).get(name) or getattr(tracker_hook, name)
    holder = tracker_hook.TrackerHook if name in vars(tracker_hook.TrackerHook) else tracker_hook
    setattr(holder, name, fail)
    try:
        history = model.fit(
            np.ones((8, 3)), np.ones((8, 1)), epochs=3, verbose=0, callbacks=[callback]
        )
    finally:
        setattr(holder, name, before)
    return len(history.epoch)


@pytest.mark.parametrize("name", ["identify", "Reconciler", "redacted", "_end"])
def test_the_training_goes_on(ranks, tmp_path, name):
    assert ranks(2).run(train, folder=str(tmp_path), name=name, timeout_s=60) == [3, 3]
    assert "UnsendableError: this and that). The training continues." in ranks(2).log()


def test_a_check_that_fails_on_root_is_every_ranks_error(ranks, tmp_path):
    errors = ranks(2).errors(train, folder=str(tmp_path), name="check_packages", timeout_s=60)
    assert errors == ["CandleError: UnsendableError: this and that"] * 2
