"""A request to stop takes effect also where a fit is about to end, and around a fit in another."""

from __future__ import annotations

import functools
import os
import signal

import keras
import numpy as np
import pytest

import keras_candle as candle
from tests.callback import callback_cases, cases

X = np.ones((8, 3), "float32")


class Signalling(keras.callbacks.Callback):
    """Sends this process a signal at a place in its last epoch."""

    def __init__(self, place, epochs):
        super().__init__()
        self._place, self._epochs = place, epochs

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def _send(self, place):
        if place == self._place and self._epoch + 1 == self._epochs:
            os.kill(os.getpid(), signal.SIGTERM)

    def on_test_end(self, logs=None):
        self._send("validation")

    def on_epoch_end(self, epoch, logs=None):
        self._send("epoch end")

    def on_train_end(self, logs=None):
        self._send("train end")


def fit(run, place=None, epochs=2):
    """The epochs of a fit; the code with which it ends the program."""
    cases.forget_fits()
    callbacks = [candle.CandleCallback(run)]
    if place and candle.rank() == candle.size() - 1:
        callbacks.append(Signalling(place, epochs))
    data = {"x": X, "y": X[:, :1], "validation_data": (X, X[:, :1])}
    before = signal.getsignal(signal.SIGTERM)
    try:
        how = {"batch_size": 4, "epochs": epochs, "verbose": 0, "callbacks": callbacks}
        return cases.small_model().fit(**data, **how).epoch
    except SystemExit as stopped:
        return stopped.code
    finally:
        assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("place", ["validation", "epoch end", "train end"])
def test_a_signal_at_the_end_of_a_fit_ends_the_program_when_all_is_saved(tmp_path, place, capsys):
    assert fit(tmp_path, place) == 75
    assert "SIGTERM: saved at step 4" in capsys.readouterr().err
    assert fit(tmp_path) == [0, 1]


def test_one_ranks_signal_at_the_end_ends_all(ranks, tmp_path):
    for place in ("validation", "train end"):
        run = tmp_path / place.replace(" ", "-")
        assert ranks(2).run(fit, run=run, place=place) == [75, 75]


class Probing(keras.callbacks.Callback):
    """Trains a small model at the end of each epoch, inside of a fit of its own."""

    def __init__(self, folder):
        super().__init__()
        self.folder, self.losses = folder, []

    def on_epoch_end(self, epoch, logs=None):
        probe = candle.scale(keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)]))
        probe.compile("sgd", "mse")
        probe.set_weights([np.full((3, 1), epoch + 1.0), np.zeros(1)])
        run = candle.CandleCallback(f"{self.folder}/{epoch}", resume="never", stall_timeout=30)
        callbacks = [run, *self.inside()]
        history = probe.fit(X, X[:, :1], epochs=2, verbose=0, callbacks=callbacks)
        self.losses.append(history.history["loss"])

    def inside(self):
        return []

    def ends(self):
        return self.losses


def test_a_fit_in_a_callback_of_another(tmp_path):
    make = functools.partial(Probing, str(tmp_path / "probes"))
    assert callback_cases.differences(tmp_path, (3, 6), make=make) == {}


def test_a_fit_in_a_callback_on_ranks(ranks, tmp_path):
    make = functools.partial(Probing, str(tmp_path / "probes"))
    how = {"folder": str(tmp_path), "kills": (3,), "make": make, "scale": {"batch": "global"}}
    for found in ranks(2).run(callback_cases.differences, **how):
        assert found == {}


def test_a_signal_in_an_inner_fit_stops_the_outer_one(tmp_path):
    class SignalInside(Probing):
        def inside(self):
            return [Signalling("epoch end", 1)]

    inside = SignalInside(str(tmp_path / "probes"))
    with pytest.raises(SystemExit) as stopped:
        cases.small_fit(tmp_path / "outer", epochs=3, callbacks=[inside])
    assert (stopped.value.code, len(inside.losses)) == (75, 1)


def test_the_run_directory_of_the_outer_fit_is_refused(tmp_path):
    inner = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: cases.small_fit(tmp_path / "run")
    )
    with pytest.raises(candle.CheckpointError, match="a directory of its own"):
        cases.small_fit(tmp_path / "run", callbacks=[inner])
    cases.small_fit(tmp_path / "run", epochs=2)
