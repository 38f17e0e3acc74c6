"""The order of a fit's parts: as the table has it, around the callbacks."""

from __future__ import annotations

import functools

import keras
import numpy as np
import pytest

import keras_candle as candle
from keras_candle.callback import fit_hooks
from keras_candle.callback.display import Display
from keras_candle.callback.tracker_hook import JournalHook
from keras_candle.performance.recorder import PerformanceRecorder
from keras_candle.training.fit_chain import ORDER, FitChain, FitHook, Place
from tests.callback import cases

PARTS = (
    *(fit_hooks.ResumeHook, fit_hooks.CaptureHook, fit_hooks.StopHook, fit_hooks.WatchdogHook),
    *(Display, JournalHook, PerformanceRecorder),
)
STEP = """
before_step watchdog timing
callbacks on_train_batch_begin
begin_step timing
end_step watchdog timing
callbacks on_train_batch_end
after_step display timing resume watchdog capture stop
leave_step timing
"""
FIT = f"""
before_fit capture resume
callbacks on_train_begin
begin_fit stop watchdog capture timing journal resume
before_epoch timing display
callbacks on_epoch_begin
begin_epoch resume capture watchdog timing
{STEP}{STEP}
before_evaluation timing
before_evaluation_batch watchdog
after_evaluation timing
end_epoch watchdog timing
callbacks on_epoch_end
after_epoch timing resume watchdog journal capture stop display
leave_epoch timing
callbacks on_train_end
after_fit watchdog capture timing journal stop
close stop watchdog timing display resume capture
"""
FAILED = f"""
{FIT.partition("end_step")[0]}
end_step watchdog timing
callbacks on_train_batch_end
close stop watchdog timing display resume capture
"""


@pytest.fixture
def calls(monkeypatch):
    """The calls of all parts, as (event, place), while a test runs."""
    seen = []

    def seen_by(place, event, plain):
        @functools.wraps(plain)
        def call(*args):
            seen.append((event, place))
            return plain(*args)

        return call

    for part in PARTS:
        for event in set(ORDER).intersection(vars(part)):
            call = seen_by(part.place.value, event, vars(part)[event])
            monkeypatch.setattr(part, event, call)
    return seen


class Sees(keras.callbacks.Callback):
    def __init__(self, calls, fails=False):
        super().__init__()
        self.calls, self.fails = calls, fails
        for event in ("train_begin", "epoch_begin", "train_batch_begin", "epoch_end", "train_end"):
            setattr(self, f"on_{event}", functools.partial(self.see, f"on_{event}"))

    def see(self, event, *_, **__):
        self.calls.append(("callbacks", event))

    def on_train_batch_end(self, batch, logs=None):
        self.see("on_train_batch_end")
        if self.fails:
            raise ZeroDivisionError


def expected(text):
    rows = [line.split() for line in text.split("\n") if line]
    return [(event, place) for event, *places in rows for place in places]


def fit(run, callback):
    model, data = cases.small_model(), (np.ones((8, 3)), np.ones((8, 1)))
    callbacks = [callback, candle.CandleCallback(run)]
    held_out = (data[0][:4], data[1][:4])
    model.fit(*data, batch_size=4, validation_data=held_out, verbose=0, callbacks=callbacks)


def test_the_parts_of_a_fit_are_called_in_this_order(tmp_path, calls):
    fit(tmp_path, Sees(calls))
    assert calls == expected(FIT)


def test_a_fit_that_fails_closes_its_parts(tmp_path, calls):
    with pytest.raises(ZeroDivisionError):
        fit(tmp_path, Sees(calls, fails=True))
    assert calls == expected(FAILED)


def test_each_place_has_a_part_and_each_event_a_place():
    assert {each.place for each in PARTS} | {Place.GUARD} == set(Place)
    assert all(ORDER.values())
    assert set(ORDER) - {"around_step"} == {name for name in vars(FitHook) if name[0] != "_"}


class Unlisted(JournalHook):
    def before_step(self):
        """An event in whose row of the table the journal is not."""


class Incomplete(FitHook):
    place = Place.JOURNAL


@pytest.mark.parametrize(
    ("hook", "event"),
    [(Unlisted(None, None, None, None), "before_step"), (Incomplete(), "begin_fit")],
)
def test_a_part_without_its_place_in_a_row_is_refused(hook, event):
    name = type(hook).__name__
    with pytest.raises(TypeError, match=f"{name}.{event} and its row in ORDER differ"):
        FitChain([hook])
