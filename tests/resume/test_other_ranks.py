"""A checkpoint of N ranks goes on with M, each with the batches that it had: what changes."""

from __future__ import annotations

import os
import threading
import time

import keras
import numpy as np
import pytest

import keras_candle as candle
from keras_candle.checkpoints.folder import CheckpointFolder
from keras_candle.resume.checkpoint_schedule import Intervals
from tests.callback.cases import fail_to_write, small_fit, small_model
from tests.callback.training_job import KilledError, Killer

ROWS, BATCH = 50, 4


class Notes(keras.callbacks.Callback):
    """What a training was like, batch by batch."""

    def __init__(self):
        super().__init__()
        self.moving = []
        self.rates = []

    def get_state(self):
        return {}

    def set_state(self, state):
        pass

    def on_train_batch_begin(self, batch, logs=None):
        self.moving.append(self.model.get_layer("moving").get_weights()[2])

    def on_epoch_end(self, epoch, logs=None):
        self.rates.append(logs.get("effective_learning_rate"))


class Rows(keras.utils.PyDataset):
    """The same rows, in batches that Keras shuffles."""

    def __init__(self, x, y):
        super().__init__()
        self.x, self.y = x, y

    def __len__(self):
        return ROWS // 5

    def __getitem__(self, i):
        return self.x[5 * i : 5 * i + 5], self.y[5 * i : 5 * i + 5]


def train(run, kill=None, epochs=3, rate=1e-12, metrics=None, evaluates=False, in_batches=False):
    """Trains weights that hardly change: the loss of an epoch is the mean of its rows' targets."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((3,))
    moving = keras.layers.BatchNormalization(name="moving")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(1, kernel_initializer="zeros")(moving))
    if rate == "schedule":
        rate = keras.optimizers.schedules.CosineDecay(1e-12, 200)
    model.compile(keras.optimizers.SGD(rate), "mae", metrics=metrics)
    model = candle.scale(model)
    y = np.arange(1.0, ROWS + 1)
    x = np.random.default_rng(0).normal(size=(ROWS, 3)) + y[:, None]
    notes = Notes()
    callbacks = [notes, candle.CandleCallback(run, candle.Checkpoint(every_steps=1))]
    if kill:
        callbacks.append(Killer(kill))
    history = None
    fit = {"batch_size": BATCH, "epochs": epochs, "verbose": 0, "callbacks": callbacks}
    if evaluates:
        fit["validation_data"] = (x[:8], y[:8])
    try:
        if in_batches:
            del fit["batch_size"]
            history = model.fit(Rows(x, y), **fit).history
        else:
            history = model.fit(x, y, **fit).history
    except KilledError:
        assert kill
    return {"history": history, "moving": notes.moving, "rates": notes.rates}


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1)])
def test_a_resumed_fit_evaluates_and_has_a_metric_more(ranks, before, after, tmp_path):
    ranks(before).run(train, run=str(tmp_path), kill=16 // before, evaluates=True)
    ended = ranks(after).run(train, run=str(tmp_path), metrics=["mse"], evaluates=True)
    counts = {name: len(series) for name, series in ended[0]["history"].items()}
    assert counts["loss"] == counts["val_loss"] == 3
    assert counts["mse"] == counts["val_mse"] == 2


@pytest.mark.parametrize(("before", "after"), [(3, 2), (2, 3), (2, 1)])
def test_each_rank_keeps_its_batch_size_and_no_row_is_lost(ranks, before, after, tmp_path):
    # 5 steps of 12 rows an epoch, or 7 of 8: the ninth step is in the middle of the second one.
    run = str(tmp_path)
    found = ranks(before).run(train, run=run, kill=10)
    killed = ranks(after).run(train, run=run) if after > 1 else [train(run)]
    for each in killed:
        assert each["history"]["loss"] == pytest.approx([(ROWS + 1) / 2] * 3, rel=1e-6)
    if after > 1:
        rates = killed[0]["history"]["effective_learning_rate"]
        # Of so small numbers pytest.approx would let any pass.
        expected = [before * 1e-12, after * 1e-12, after * 1e-12]
        assert rates == pytest.approx(expected, rel=1e-6, abs=0)
    # Before its first step, every rank has the mean of the statistics that the others had.
    at_checkpoint = np.mean([each["moving"][9] for each in found], axis=0)
    for each in killed:
        np.testing.assert_allclose(each["moving"][0], at_checkpoint, rtol=1e-6)
    assert len({tuple(each["moving"][9].tolist()) for each in found}) == before


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_each_batch_of_a_pydataset_is_read_once(ranks, before, after, tmp_path):
    ranks(before).run(train, run=str(tmp_path), kill=14 // before, in_batches=True)
    for each in ranks(after).run(train, run=str(tmp_path), in_batches=True):
        assert each["history"]["loss"] == pytest.approx([(ROWS + 1) / 2] * 3, rel=1e-6)


def test_a_schedule_goes_on_where_it_was(ranks, tmp_path):
    run = str(tmp_path)
    ranks(3).run(train, run=run, kill=8, rate="schedule")
    for each in ranks(2).run(train, run=run, rate="schedule"):
        # 7 steps count for 3 each, then the rows that are left of two epochs, 8 in a step.
        left = ROWS - 2 * 3 * BATCH
        steps = -(-left // (2 * BATCH)) + -(-ROWS // (2 * BATCH))
        position = 7 * 3 + steps * 2
        expected = 2 * 0.5e-12 * (1 + np.cos(np.pi * position / 200))
        found = each["history"]["effective_learning_rate"][-1]
        assert found == pytest.approx(expected, rel=1e-2, abs=0)


def fit_with_a_disk_that_is_full_once(run):
    plain, calls = os.posix_fallocate, []

    def fallocate(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        plain(*arguments)

    os.posix_fallocate = fallocate
    try:
        checkpoint = candle.Checkpoint(on_error="warn", keep_every=2, keep_last=1)
        small_fit(run, epochs=5, checkpoint=checkpoint)
    finally:
        os.posix_fallocate = plain
    return len(calls)


def fit_with_a_full_disk(run):
    """Root sees in the middle of an epoch that its only checkpoint could not be written."""
    plain, full = os.posix_fallocate, threading.Event()

    def fallocate(*arguments):
        full.set()
        raise OSError(28, "No space left on device")

    def wait(batch, logs):
        if batch == 9 and candle.is_root():
            full.wait(60)
            time.sleep(0.1)

    os.posix_fallocate = fallocate
    durable = candle.CandleCallback(run, candle.Checkpoint(every_epochs=None, every_steps=9))
    durable.intervals = Intervals(consensus_s=0.0)
    waiting = keras.callbacks.LambdaCallback(on_train_batch_end=wait)
    x = np.ones((16 * 4 * candle.size(), 3))
    try:
        small_model().fit(x, x[:, :1], batch_size=4, verbose=0, callbacks=[durable, waiting])
    finally:
        os.posix_fallocate = plain


def test_a_checkpoint_that_cannot_be_written_ends_all_ranks(ranks, tmp_path):
    for error in ranks(2).errors(fit_with_a_full_disk, run=tmp_path):
        assert error.startswith("CheckpointError: The checkpoint")
        assert "make room there" in error


def test_on_several_ranks_a_full_disk_need_not_stop_the_training(ranks, tmp_path):
    # Root writes; the third of five checkpoints is missing, and only the last and even ones stay.
    assert ranks(2).run(fit_with_a_disk_that_is_full_once, run=tmp_path) == [5, 0]
    assert CheckpointFolder(tmp_path / "checkpoints").steps() == [2, 4, 5]


@pytest.mark.parametrize("epochs", [1, 3])
def test_all_ranks_raise_when_root_cannot_write(ranks, tmp_path, epochs):
    """In the last checkpoint, and in one before."""
    one, other = ranks(2).run(fail_to_write, run=tmp_path, epochs=epochs)
    assert "cannot be written" in one
    assert one == other
