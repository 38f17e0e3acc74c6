"""Run directories of earlier versions resume as they would have then."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_candle as candle
from tests.callback import cases

RUN = Path(__file__).with_name("run_of_format_1")
# What that version came to without interruption.
WEIGHTS = [[[0.005599223], [-1.175032139], [0.792845845]], [0.011165963]]
LOSSES = [2.818800449, 2.751361847, 2.472761393]


def test_it_resumes(tmp_path, capsys):
    shutil.copytree(RUN, tmp_path / "run")
    keras.utils.set_random_seed(3)
    layers = [keras.Input((3,)), keras.layers.Dense(1), keras.layers.Dropout(0.5)]
    model = keras.Sequential(layers)
    model.compile("adam", "mse", metrics=["mae"])
    checkpoint = candle.Checkpoint(every_steps=2, every_epochs=None)
    history = cases.small_fit(tmp_path / "run", model, 3, rows=16, checkpoint=checkpoint)
    assert "step-00000008 (epoch 2, 4 steps of it done)" in capsys.readouterr().err
    assert history.epoch == [0, 1, 2]
    assert np.allclose(history.history["loss"], LOSSES, rtol=1e-5)
    for weight, expected in zip(model.get_weights(), WEIGHTS, strict=True):
        assert np.allclose(weight, expected, rtol=1e-4)


# The second one was made before the modules of resume and data had their present names.
OWN_RUNS = ("run_of_format_1_with_own_state", "run_of_format_2")
OWN_LOSS = 122.32515716552734


class Rows(keras.utils.PyDataset):
    """Shuffled anew in each epoch."""

    def __init__(self):
        super().__init__()
        self._x = np.random.default_rng(0).normal(size=(24, 3)).astype("float32")
        self._order, self.level = np.arange(24), 1

    def __len__(self):
        return 6

    def __getitem__(self, i):
        x = self._x[self._order[4 * i : 4 * i + 4]]
        return x, x.sum(axis=1, keepdims=True) * self.level

    def on_epoch_end(self):
        self.level += 1
        np.random.shuffle(self._order)


class Counter(keras.callbacks.Callback):
    """Keeps what it changes."""

    def __init__(self):
        super().__init__()
        self.epochs, self.sums, self.latest = [], np.zeros(2), {"epoch": -1}
        self.count = 0

    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append(epoch)
        self.count += 1
        self.sums = self.sums + 1
        self.latest["epoch"] = epoch


class Asked(keras.callbacks.Callback):
    """Is asked for its state."""

    count = 0

    def on_epoch_end(self, epoch, logs=None):
        self.count += 1

    def get_state(self):
        return {"count": self.count}

    def set_state(self, state):
        self.count = state["count"]


# The checkpoint names these classes by the module in which they were when it was written.
RECORDED = "tests.callback.test_run_of_format_1"
sys.modules[RECORDED] = sys.modules[__name__]
Counter.__module__ = Asked.__module__ = RECORDED


def train_with_own_state(run, epochs):
    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("adam", "mse", metrics=["mae"])
    model = candle.scale(model)
    counter, asked = Counter(), Asked()
    durable = candle.CandleCallback(run, candle.Checkpoint(keep_last=1, keep_best=0), trackers=())
    history = model.fit(
        Rows(), epochs=epochs, shuffle=False, verbose=0, callbacks=[counter, asked, durable]
    ).history
    state = counter.epochs, counter.count, counter.sums.tolist(), counter.latest, asked.count
    return state, history["loss"][-1]


@pytest.mark.parametrize("recorded", OWN_RUNS)
@pytest.mark.parametrize("size", [1, 2])
def test_the_state_of_callbacks_and_data_comes_back(ranks, tmp_path, size, recorded):
    shutil.copytree(Path(__file__).with_name(recorded), tmp_path / "run")
    run = str(tmp_path / "run")
    for state, loss in ranks(size).run(train_with_own_state, run=run, epochs=5):
        assert state == ([0, 1, 2, 3, 4], 5, [5.0, 5.0], {"epoch": 4}, 5)
        assert size > 1 or loss == pytest.approx(OWN_LOSS, rel=1e-5)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_run_with_a_file_for_each_rank_comes_back(ranks, tmp_path, size):
    recorded = Path(__file__).with_name("run_of_format_2_on_2_ranks")
    shutil.copytree(recorded, tmp_path / "run")
    uninterrupted = ranks(2).run(train_with_own_state, run=str(tmp_path / "new"), epochs=5)
    for state, loss in ranks(size).run(train_with_own_state, run=str(tmp_path / "run"), epochs=5):
        assert state == uninterrupted[0][0]
        assert size != 2 or loss == pytest.approx(uninterrupted[0][1], rel=1e-5)
    newest = tmp_path / "run" / "checkpoints" / "last"
    assert [each.name for each in newest.glob("rank*")] == ["ranks.zip"]
