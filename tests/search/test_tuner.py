"""CandleTuner with real models, on one rank and on groups of ranks."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_candle as candle
from keras_candle.errors import SearchError

ROOT = Path(__file__).parents[2]
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(64, 4)).astype("float32")
Y = (X[:, :1] * X[:, 1:2]).astype("float32")
DATA = {"x": X[:48], "y": Y[:48], "validation_data": (X[48:], Y[48:]), "batch_size": 16}


def build_model(hp):
    model = keras.Sequential([keras.Input((4,))])
    model.add(keras.layers.Dense(hp.Int("units", 2, 16), "relu", name="hidden"))
    model.add(keras.layers.Dense(1, name="out"))
    rate = hp.Float("rate", 1e-3, 1e-1, sampling="log")
    model.compile(keras.optimizers.Adam(rate), "mse")
    return model


class Noting(keras.callbacks.Callback):
    """Notes the steps that an optimizer has taken when a training begins and ends."""

    noted: list = []  # noqa: RUF012 - Keras Tuner copies the callback

    def on_train_begin(self, logs=None):
        self.noted.append([int(self.model.optimizer.iterations)])

    def on_train_end(self, logs=None):
        self.noted[-1].append(int(self.model.optimizer.iterations))


def tuned(folder, *, search=None, **options):
    Noting.noted.clear()
    tuner = candle.CandleTuner(
        build_model, options.pop("objective", "val_loss"), directory=folder, **options
    )
    given = {**DATA, "epochs": 1, **(search or {})}
    tuner.search(verbose=0, callbacks=[Noting()], **given)
    return tuner


def test_the_best_model_is_the_one_that_was_measured(tmp_path):
    tuner = tuned(tmp_path, max_trials=4)
    model, best = tuner.get_best_models()[0], tuner.oracle.get_best_trials()[0]
    assert model.evaluate(X[48:], Y[48:], verbose=0) == pytest.approx(best.score, rel=1e-5)
    tuner.results_summary()


def test_every_trial_has_its_cost(tmp_path):
    tuner = tuned(tmp_path, max_trials=3)
    for trial in tuner.oracle.trials.values():
        found = {name: trial.metrics.get_best_value(name) for name in trial.metrics.metrics}
        units = trial.hyperparameters["units"]
        assert found["parameters"] == 4 * units + units + units + 1
        assert found["device_seconds"] > 0
        assert found["prediction_latency_s"] > 0
        assert found["peak_memory_bytes"] > 1e7


def test_trials_leave_no_graphs_behind(tmp_path):
    def graphs_after(trials):
        tuned(tmp_path / str(trials), max_trials=trials)
        keras.backend.clear_session()
        return sum(isinstance(each, tf.Graph) for each in gc.get_objects())

    assert graphs_after(5) == graphs_after(2)


def test_the_front_of_quality_against_parameters(tmp_path):
    def both(trials):
        names = ("val_loss", "parameters")
        return [tuple(each.metrics.get_best_value(name) for name in names) for each in trials]

    tuner = tuned(tmp_path, objective=["val_loss", "parameters"], max_trials=6)
    found = both(tuner.oracle.trials.values())
    undominated = [
        (loss, size)
        for loss, size in found
        if not any(a <= loss and b <= size and (a, b) != (loss, size) for a, b in found)
    ]
    assert len(found) == 6
    assert both(tuner.pareto_front()) == sorted(undominated)


def test_the_best_are_trained_on_from_where_they_were(tmp_path):
    tuner = tuned(tmp_path, max_trials=13, max_epochs=9, search={"epochs": None})
    trials = tuner.oracle.trials.values()
    by_rung = {}
    for trial in trials:
        by_rung.setdefault(trial.hyperparameters.values["tuner/round"], []).append(trial)
    assert {trial.hyperparameters.values["tuner/epochs"] for trial in by_rung[0]} == {1}
    last = by_rung[2][0]
    assert last.hyperparameters.values["tuner/epochs"] == 9
    earlier = [trial for trial in by_rung[1] if trial.trial_id < last.trial_id]
    before = min(earlier, key=lambda trial: trial.score)
    assert last.hyperparameters.values["tuner/trial_id"] == before.trial_id
    steps = {tuple(each) for each in Noting.noted}
    assert steps == {(0, 3), (3, 9), (9, 27)}  # 3 steps an epoch, none of them taken twice


def test_a_callback_with_a_run_directory_has_one_for_each_trial(tmp_path):
    tuner = candle.CandleTuner(build_model, "val_loss", max_trials=2, directory=tmp_path / "s")
    durable = candle.CandleCallback(tmp_path / "runs")
    tuner.search(**DATA, verbose=0, epochs=1, callbacks=[durable])
    assert [each.status for each in tuner.oracle.trials.values()] == ["COMPLETED"] * 2
    found = sorted(each.name for each in (tmp_path / "runs").glob("trial_*"))
    assert found == ["trial_0000", "trial_0001"]


@pytest.mark.parametrize(
    ("options", "search", "says"),
    [
        ({"objective": "accuracy"}, {}, "not among what a trial returned: loss, val_loss"),
        ({}, {"validation_data": None}, "neither validation_data nor validation_split"),
        ({"ranks_per_trial": 2}, {}, "there are 1 ranks"),
        ({"max_epochs": 9}, {"epochs": 3}, "Leave epochs out"),
    ],
)
def test_what_cannot_work_is_named(tmp_path, options, search, says):
    with pytest.raises(SearchError, match=says):
        tuned(tmp_path, max_trials=2, search=search, **options)


def test_a_space_without_a_free_hyperparameter_is_named(tmp_path):
    def fixed(hp):
        hp.Fixed("units", 4)
        return build_model(type(hp)())

    with pytest.raises(SearchError, match="no free hyperparameter"):
        candle.CandleTuner(fixed, "val_loss", max_trials=2, directory=tmp_path)


JOB = """
import json, os, keras, numpy as np, keras_candle as candle
from tests.search.test_tuner import DATA, build_model
scaled = candle.scalable(build_model)
class Mine(candle.CandleTuner):
    def run_trial(self, trial, *args, **kwargs):
        if trial.trial_id == "0001" and candle.rank() == 1:
            raise MemoryError("on this rank only")
        return super().run_trial(trial, *args, **kwargs)
tuner = Mine(scaled, "val_loss", max_trials=5, directory="runs", ranks_per_trial=2)
class Sum(keras.callbacks.Callback):
    def on_train_end(self, logs=None):
        weights = np.concatenate([w.ravel() for w in self.model.get_weights()])
        print("@", candle.size(), candle.rank(), float(weights.sum()), flush=True)
tuner.search(**DATA, epochs=1, verbose=0, callbacks=[Sum()])
best = tuner.get_best_hyperparameters()[0].values
print("#", json.dumps(best, sort_keys=True), flush=True)
"""


def test_two_groups_of_two_ranks_train_each_trial_together_and_fail_together(tmp_path):
    (tmp_path / "job.py").write_text(JOB)
    command = [sys.executable, "-m", "keras_candle.launch.cli", "run", "-np", "4", "--all-output"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [*command, "job.py"], cwd=tmp_path, env=environment, capture_output=True, text=True,
        timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = [line.partition("@ ")[2].split() for line in done.stdout.splitlines() if "@ " in line]
    assert sorted(rank for _, rank, _ in lines) == ["0"] * 4 + ["1"] * 4
    assert {size for size, *_ in lines} == {"2"}
    assert len({total for *_, total in lines}) == 4  # the ranks of a group have the same weights
    best = {line.partition("# ")[2] for line in done.stdout.splitlines() if "# " in line}
    assert len(best) == 1
    project = tmp_path / "runs/untitled_project"
    insight = json.loads((project / "insight.json").read_text())
    assert [each["status"] for each in insight["table"]].count("FAILED") == 1
    failed = json.loads((project / "trial_0001/trial.json").read_text())
    assert "MemoryError: on this rank only" in failed["message"]
