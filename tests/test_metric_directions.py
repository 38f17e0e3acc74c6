"""Which way a metric gets better is known by its name, the same in the whole package."""

from __future__ import annotations

import keras
import keras_tuner
import numpy as np
import pytest

import keras_candle as candle
from keras_candle.keras_private.models import metric_direction
from keras_candle.metric_directions import direction_of
from keras_candle.report.run import ReportedRun
from keras_candle.search.objectives import make_objective
from keras_candle.training.metrics import direction_in_model
from tests.callback import cases

MORE = ["val_precision", "recall_2", "head_accuracy", "r2", "val_f1_score", "val_mean_io_u", "AUC"]
LESS = ["loss", "val_head_loss", "mse", "root_mean_squared_error_1", "kl_divergence"]
NEITHER = ["spread", "learning_rate", "accuracy_of_what", "positives"]


def test_a_name_says_which_way():
    assert {direction_of(each) for each in MORE} == {"max"}
    assert {direction_of(each) for each in LESS} == {"min"}
    assert {direction_of(each) for each in NEITHER} == {None}
    # The longest ending counts.
    assert direction_of("false_positives") == "min"
    assert direction_of("val_precision_at_recall") == "max"


def test_keras_agrees_on_its_own_metrics():
    said = 0
    for name in dir(keras.metrics):
        kind = getattr(keras.metrics, name)
        if not (isinstance(kind, type) and issubclass(kind, keras.metrics.Metric)):
            continue
        try:
            metric = kind()
        except TypeError:  # it needs a number of classes, or a threshold
            continue
        expected = metric_direction(metric)
        if expected is not None:
            said += 1
            assert direction_of(metric.name) == expected, metric.name
    # A renamed attribute would leave none.
    assert said >= 20


@pytest.mark.parametrize("name", ["val_precision", "val_r2", "spread_error"])
def test_report_and_search_say_the_same(name, tmp_path):
    expected = direction_of(name)
    assert make_objective(name) == keras_tuner.Objective(name, expected)
    assert ReportedRun(tmp_path, "x").smaller_is_better(name) == (expected == "min")


class Upward(keras.metrics.Mean):
    def __init__(self, name="strange_error"):
        super().__init__(name)
        self._direction = "up"

    def update_state(self, y_true, y_pred, sample_weight=None):
        return super().update_state(y_true - y_pred)


def test_a_models_own_metric_knows_better():
    inputs = keras.Input((3,))
    model = keras.Model(inputs, {"head": keras.layers.Dense(1, name="head")(inputs)})
    model.compile("sgd", {"head": "mse"}, metrics={"head": [Upward()]})
    model.fit(np.ones((4, 3)), {"head": np.ones((4, 1))}, verbose=0)
    for name in ("strange_error", "val_strange_error", "val_head_strange_error"):
        assert direction_in_model(model, name) == "max"
    assert direction_in_model(model, "val_head_mse") is None


def values_in_turn(name, values):
    def put(epoch, logs):
        logs[name] = values[epoch]

    return keras.callbacks.LambdaCallback(on_epoch_end=put)


@pytest.mark.parametrize(("name", "best"), [("val_precision", 2), ("val_spread", 3)])
def test_the_best_checkpoint_is_the_best(name, best, tmp_path, capsys):
    checkpoint = candle.Checkpoint(keep_last=1, monitor=name)
    callbacks = [values_in_turn(name, [0.5, 0.9, 0.1])]
    cases.small_fit(tmp_path, epochs=3, rows=4, callbacks=callbacks, checkpoint=checkpoint)
    kept = (tmp_path / "checkpoints" / "best").resolve().name
    assert kept == f"step-{best:08d}"
    unknown = "cannot infer whether to minimise or maximise monitor="
    assert capsys.readouterr().err.count(unknown) == (name == "val_spread")
