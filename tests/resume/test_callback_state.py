"""What callbacks change in themselves comes back to the bit, whatever it is made of."""

from __future__ import annotations

import functools
import logging
import re
import threading

import keras
import pytest

import keras_candle as candle
from tests.callback import callback_cases, cases

CALLBACKS = {
    "everything": callback_cases.everything,
    "a model": callback_cases.Averaging,
    "a subclass": callback_cases.stopping,
    "a subclass with get_state": callback_cases.with_protocol,
    "a schedule": lambda: keras.callbacks.LearningRateScheduler(callback_cases.Schedule()),
}


@pytest.mark.parametrize("name", CALLBACKS)
def test_a_callback_goes_on_to_the_bit(tmp_path, name):
    # Four steps an epoch: in the middle of one, twice, and at the end of one.
    for number, kills in enumerate(((3, 6), (9, 10))):
        folder = tmp_path / str(number)
        found = callback_cases.differences(folder, kills, make=CALLBACKS[name])
        assert found == {}


@pytest.mark.parametrize("make", [callback_cases.everything, callback_cases.Averaging])
def test_on_ranks(ranks, tmp_path, make):
    how = {"folder": str(tmp_path), "kills": (3, 5), "make": make}
    for found in ranks(2).run(callback_cases.differences, scale={"batch": "global"}, **how):
        assert found == {}


class Logging(keras.callbacks.Callback):
    """With states that no checkpoint can keep, and with much that is none."""

    def __init__(self, path):
        super().__init__()
        self.path, self.function, self.log = path, print, logging.getLogger("x")
        self.lock, self.loss = threading.Lock(), keras.losses.MeanSquaredError()
        self.count, self.inner = 0, [{"numbers": iter(range(3))}]

    def on_train_begin(self, logs=None):
        self.file = open(self.path, "a")  # noqa: SIM115 - it stays open
        self.also_the_model = self.model

    def on_train_end(self, logs=None):
        self.file.close()


def test_what_cannot_be_kept_is_named_once(tmp_path, capsys):
    for _ in range(2):
        callbacks = [Logging(tmp_path / "log.txt")]
        cases.small_fit(tmp_path / "run", epochs=2, callbacks=callbacks)
    said = capsys.readouterr().err
    assert said.count("checkpoints cannot keep the state of") == 1
    named = "Logging.inner[0]['numbers'] (range_iterator), Logging.file (_io.TextIOWrapper); a"
    assert named in said


def test_what_cannot_be_kept_is_refused_before_the_first_step(tmp_path):
    model = cases.small_model()
    callbacks = [Logging(tmp_path / "log.txt")]
    with pytest.raises(candle.CheckpointError, match="cannot keep the state of Logging"):
        cases.small_fit(tmp_path / "run", model, callbacks=callbacks, inexact_resume="refuse")
    callbacks[0].file.close()
    assert int(model.optimizer.iterations) == 0


class Growing(keras.callbacks.Callback):
    def __init__(self, units):
        super().__init__()
        self.layer = keras.layers.Dense(units)
        self.layer.build((None, 1))

    def on_train_batch_end(self, batch, logs=None):
        self.layer.kernel.assign_add(self.layer.kernel + 1)


def test_what_cannot_be_put_back_is_named_or_refused(tmp_path, capsys):
    fit = functools.partial(cases.small_fit, tmp_path / "run")
    fit(callbacks=[Growing(2)])
    cases.forget_fits()
    why = r"Growing.layer.kernel \(its shape was \[1, 2\] and is \[1, 3\]\)"
    with pytest.raises(candle.CheckpointError, match=why):
        fit(epochs=2, callbacks=[Growing(3)], inexact_resume="refuse")
    fit(epochs=2, callbacks=[Growing(3)])
    assert "Growing.layer.kernel (its shape was [1, 2]" in capsys.readouterr().err


def test_a_callback_whose_class_has_moved_is_named_or_refused(tmp_path, capsys, monkeypatch):
    fit = functools.partial(cases.small_fit, tmp_path / "run")
    fit(callbacks=[Growing(2)])
    cases.forget_fits()
    monkeypatch.setattr(Growing, "__module__", "moved")
    why = f"{__name__}.Growing (no callback of this class and module is in fit's list)"
    with pytest.raises(candle.CheckpointError, match=re.escape(why)):
        fit(epochs=2, callbacks=[Growing(2)], inexact_resume="refuse")
    fit(epochs=2, callbacks=[Growing(2)])
    assert why in capsys.readouterr().err


def test_the_former_name_of_inexact_resume_is_taken(tmp_path):
    with pytest.warns(DeprecationWarning, match="now named inexact_resume"):
        callback = candle.CandleCallback(tmp_path, inexact_data="refuse")
    assert callback.inexact_resume == "refuse"


def fail_on_rank_1(run):
    class Failing(keras.callbacks.Callback):
        def get_state(self):
            return {} if candle.is_root() else 1 / 0

        def set_state(self, state):
            pass

    cases.small_fit(run, callbacks=[Failing()])


def test_a_state_that_one_rank_cannot_give_stops_all(ranks, tmp_path):
    for error in ranks(2).errors(fail_on_rank_1, run=tmp_path):
        assert "rank 1: ZeroDivisionError" in error
