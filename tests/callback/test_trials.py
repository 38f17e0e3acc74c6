"""Keras Tuner copies the callback for each trial: the trials' checkpoints must not mix."""

from __future__ import annotations

import keras
import keras_tuner
import numpy as np
import pytest

import keras_candle as candle
from keras_candle.checkpoints.folder import CheckpointFolder
from tests.callback import cases

pytestmark = pytest.mark.filterwarnings("ignore:(currentThread|getName).*:DeprecationWarning")
X = np.arange(24, dtype="float32").reshape(8, 3) / 24
STEPS_OF_A_FIT = 4


class KilledError(BaseException):
    """No Exception: Keras Tuner would go on with the next trial."""


class Steps(keras.callbacks.Callback):
    """Counts the steps of this process, in all trials and whatever a checkpoint says."""

    def __init__(self, kill):
        super().__init__()
        self.taken, self._kill = 0, kill

    def __deepcopy__(self, memo):
        return self

    def get_state(self):
        return {}

    def set_state(self, state):
        pass

    def on_train_batch_end(self, batch, logs=None):
        self.taken += 1
        if self.taken == self._kill:
            raise KilledError


class Search(keras_tuner.RandomSearch):
    def _configure_tensorboard_dir(self, *_):
        """Imports tensorboard, although no callback here needs it."""


def build(hp):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(hp.Float("rate", 0.01, 0.3)), "mse")
    return model


def search(tuner, run, kill=None, seed=1):
    """As in a process of its own: each trial's values and score, and the steps that were taken."""
    cases.forget_fits()
    steps = Steps(kill)
    tuner = Search(
        build,
        objective="loss",
        max_trials=2,
        seed=seed,
        executions_per_trial=2,
        max_consecutive_failed_trials=1,
        directory=tuner,
    )
    durable = candle.CandleCallback(run, candle.Checkpoint(every_steps=1))
    data = {"x": X, "y": X[:, :1], "batch_size": 4, "epochs": 2}
    tuner.search(**data, verbose=0, callbacks=[steps, durable])
    trials = tuner.oracle.trials.items()
    return {name: (each.hyperparameters.values, each.score) for name, each in trials}, steps.taken


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A search that was not killed, and its run directory."""
    folder = tmp_path_factory.mktemp("whole")
    return search(folder / "tuner", folder / "run"), folder / "run"


@pytest.mark.parametrize("kill", [3, 3 * STEPS_OF_A_FIT + 3])
def test_a_search_killed_in_a_trial_goes_on_in_that_trial(tmp_path, whole, kill):
    (trials, steps), _ = whole
    assert steps == 2 * 2 * STEPS_OF_A_FIT
    with pytest.raises(KilledError):
        search(tmp_path / "tuner", tmp_path / "run", kill)
    parts, left = search(tmp_path / "tuner", tmp_path / "run")
    assert parts == trials
    assert left == steps - (kill - 1)


def test_each_trial_has_a_run_directory_of_its_own(whole):
    (trials, _), run = whole
    folders = [CheckpointFolder(run / f"trial_{name}" / "checkpoints") for name in trials]
    assert [each.steps()[-1] for each in folders] == [2 * STEPS_OF_A_FIT] * 2
    assert not (run / "checkpoints").exists()


def test_another_search_in_the_same_run_directory_is_refused(tmp_path, whole):
    _, run = whole
    with pytest.raises(RuntimeError, match=r"was made with other hyperparameters: .*rate"):
        search(tmp_path / "another", run, seed=2)
