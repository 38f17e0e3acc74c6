"""The trials of a search are nested in one run of MLflow, and are a group of Weights & Biases."""

from __future__ import annotations

import json

import keras
import keras_tuner
import numpy as np
import pytest

import keras_candle as candle
from tests.trackers.cases import Recorder
from tests.trackers.readers import mlflow_runs, read, wandb_records

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore:(currentThread|getName).*"
)
X = np.arange(24, dtype="float32").reshape(8, 3) / 24


class Search(keras_tuner.RandomSearch):
    def _configure_tensorboard_dir(self, *_):
        """Imports tensorboard, although no callback here needs it."""


def build(hp):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(hp.Float("rate", 0.01, 0.3)), "mse")
    return model


@pytest.fixture(scope="module")
def search(tmp_path_factory):
    """A search of two trials with two executions each: its oracle, and its run directory."""
    folder = tmp_path_factory.mktemp("search")
    tuner = Search(
        build,
        objective="loss",
        max_trials=2,
        executions_per_trial=2,
        seed=1,
        max_consecutive_failed_trials=1,
        directory=folder / "tuner",
    )
    durable = candle.CandleCallback(folder / "run", trackers=["csv", "mlflow", "wandb", Recorder()])
    tuner.search(X, X[:, :1], batch_size=4, epochs=2, verbose=0, callbacks=[durable])
    return tuner.oracle, folder / "run"


def test_a_trial_is_a_nested_run_with_its_hyperparameters(search):
    oracle, run = search
    client, runs = mlflow_runs(run)
    (parent,) = (each for each in runs if "mlflow.parentRunId" not in each.data.tags)
    nested = {each.info.run_name: each for each in runs if each is not parent}
    assert sorted(nested) == sorted(f"trial_{name}" for name in oracle.trials)
    for name, trial in oracle.trials.items():
        data = nested[f"trial_{name}"].data
        assert data.tags["mlflow.parentRunId"] == parent.info.run_id
        rate = trial.hyperparameters.get("rate")
        assert float(data.params["hyperparameters/rate"]) == pytest.approx(rate)
        assert len(client.get_metric_history(nested[f"trial_{name}"].info.run_id, "loss")) == 4


def test_the_trials_of_a_search_are_one_group(search):
    oracle, run = search
    search_id = json.loads((run / "trackers.json").read_text())["id"]
    ids = set()
    for name in oracle.trials:
        runs = [
            each["run"] for each in wandb_records(run / f"trial_{name}") if each["type"] == "run"
        ]
        assert {each["run_group"] for each in runs} == {f"run-{search_id}"}
        ids |= {each["run_id"] for each in runs}
    assert len(ids) == len(oracle.trials)


@pytest.mark.parametrize("name", ["csv", "wandb"])
def test_the_executions_of_a_trial_are_one_run(search, name):
    oracle, run = search
    for trial in oracle.trials:
        found = read(name, run / f"trial_{trial}")
        assert [each["epoch"] for _, each in sorted(found.items())] == [1, 2, 1, 2]
