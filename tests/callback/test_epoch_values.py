"""What the History has of an epoch is in the journal, whoever logged it and in which epochs."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_candle as candle
from keras_candle.callback.epoch_values import MOST_ELEMENTS, recordable
from tests.callback import cases

BLEU = {1: 0.5, 3: 0.25}


class Bleu(keras.callbacks.Callback):
    """Logs a value in every second epoch."""

    def on_epoch_end(self, epoch, logs=None):
        if epoch in BLEU:
            logs["bleu"] = BLEU[epoch]


class BleuInHistory(keras.callbacks.Callback):
    """Writes it into the History itself."""

    def on_epoch_end(self, epoch, logs=None):
        if epoch in BLEU:
            self.model.history.history.setdefault("bleu", []).append(BLEU[epoch])


class BleuOfBatch(keras.callbacks.Callback):
    """The same, within the epoch."""

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if batch == 1:
            BleuInHistory.on_epoch_end(self, self.epoch)


def journal(run):
    """The logs of each epoch, as they were first."""
    found = {}
    for line in map(json.loads, (Path(run) / "journal.jsonl").read_text().splitlines()):
        if line["event"] == "epoch":
            found.setdefault(line["epoch"] - 1, line["logs"])
    return found


def train(run, others, place=0, epochs=4, metrics=None, checkpoint=None):
    """A training with a CandleCallback at a place of the list; its History."""
    cases.forget_fits()
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, "softmax")])
    model.compile("sgd", "categorical_crossentropy", metrics=metrics)
    x = np.random.default_rng(0).normal(size=(32, 3))
    callbacks = list(others)
    callbacks.insert(place, candle.CandleCallback(run, checkpoint))
    fit = {"batch_size": 8, "epochs": epochs, "verbose": 0, "callbacks": callbacks}
    return candle.scale(model).fit(x, np.eye(2)[(x[:, 0] > 0) * 1], **fit).history


@pytest.mark.parametrize("place", [0, 2])
@pytest.mark.parametrize("others", [(Bleu,), (BleuInHistory,), (BleuOfBatch,)])
@pytest.mark.parametrize("history", [[], [keras.callbacks.History]])
def test_a_value_of_some_epochs_is_in_the_journal_of_these(tmp_path, place, others, history):
    train(tmp_path, [kind() for kind in (*history, *others)], place)
    found = {epoch: logs["bleu"] for epoch, logs in journal(tmp_path).items() if "bleu" in logs}
    assert found == BLEU


def test_the_journal_has_what_a_callback_made_of_a_value(tmp_path):
    replace = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: logs.update(loss=float(epoch))
    )
    assert train(tmp_path, [replace])["loss"] == [0, 1, 2, 3]
    assert [logs["loss"] for logs in journal(tmp_path).values()] == [0, 1, 2, 3]


def test_an_array_of_a_metric_is_recorded_by_its_elements(tmp_path):
    history = train(tmp_path, [], metrics=[keras.metrics.F1Score(average=None, name="f1")])
    wanted = [each.tolist() for each in history["f1"]]
    assert [[logs["f1/0"], logs["f1/1"]] for logs in journal(tmp_path).values()] == wanted


def test_a_value_of_some_epochs_can_be_monitored(tmp_path, capsys):
    checkpoint = candle.Checkpoint(keep_last=1, monitor="bleu", mode="max")
    train(tmp_path, [Bleu()], checkpoint=checkpoint)
    assert os.readlink(tmp_path / "checkpoints" / "best") == "step-00000008"
    told = capsys.readouterr().err
    assert told.count("Checkpoint(monitor='bleu') is not in the epoch's logs") == 1


@pytest.mark.parametrize("value", [math.nan, "none", None, 10**400, [1.0]])
def test_what_cannot_be_compared_is_never_the_best(tmp_path, capsys, value):
    score = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: logs.update(score=[value, 3.0, value, 2.0][epoch])
    )
    checkpoint = candle.Checkpoint(keep_last=1, monitor="score", mode="min")
    train(tmp_path, [score], checkpoint=checkpoint)
    assert os.readlink(tmp_path / "checkpoints" / "best") == "step-00000016"
    assert capsys.readouterr().err.count("monitor='score') is") == (value != 10**400)


def interrupted(run):
    """Killed in an epoch after one that no checkpoint has, then resumed with one metric more."""
    log = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: logs.update(note="warm", image=np.zeros((40, 40)))
    )
    checkpoint = candle.Checkpoint(every_epochs=2)
    with pytest.raises(ZeroDivisionError):
        train(run, [Bleu(), log, cases.fail_in_epoch(3)], checkpoint=checkpoint)
    return train(run, [Bleu(), log], metrics=["mae"], checkpoint=checkpoint)


@pytest.mark.parametrize("size", [1, 2])
def test_after_a_kill_the_journal_agrees_with_the_history(ranks, tmp_path, size):
    histories = ranks(size).run(interrupted, run=str(tmp_path))
    logs = list(journal(tmp_path).values())
    for name in ("loss", "bleu", "note"):
        assert histories[0][name] == [each[name] for each in logs if name in each]
    # The third epoch counts as it was first, when there was no such metric.
    assert [("mae" in each) for each in logs] == [False, False, False, True]
    assert len(histories[0]["mae"]) == 2
    told = ranks(size).log()
    assert told.count("The logs' 'image': not recorded, it has more than 1,000 elements.") == 1
    assert told.count("The logs' 'note': text is kept in journal.jsonl") == 1


def test_what_nobody_can_read_is_refused_and_the_rest_is_kept():
    class Raising:
        def __array__(self, *_, **__):
            raise MemoryError("no room")

    endless = []
    endless.append(endless)
    values, refused = recordable(
        {"raises": Raising(), "endless": endless, "some": [1.0, object()], "loss": 0.5}
    )
    assert values == {"some/0": 1.0, "loss": 0.5}
    assert list(refused) == ["raises", "endless", "some/1"]


def test_the_limit_is_that_of_the_page():
    assert len(recordable({"a": np.zeros(MOST_ELEMENTS)})[0]) == MOST_ELEMENTS
    page = (Path(__file__).parents[2] / "docs" / "trackers.md").read_text()
    assert f"more than {MOST_ELEMENTS:,} elements" in page
