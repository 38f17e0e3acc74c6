"""Odd values through a training that is killed and resumed: History, journal and trackers agree."""

from __future__ import annotations

import json
import math
import sys

import numpy as np
import pytest

import keras_candle as candle
from keras_candle.trackers.base import make
from keras_candle.trackers.mlflow import legal_name
from tests.callback import cases as fits
from tests.trackers.cases import reconcile
from tests.trackers.odd_values import CASES, EPOCHS, LogOdd, names_in_trackers, tracked
from tests.trackers.readers import of_wandb, read

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
FLOAT, FLOAT32 = sys.float_info.max, float(np.finfo("float32").max)


def same_as(given):
    return given


# The largest number that each holds, what it has of a number, and its spelling of a name.
TRACKERS = {
    "csv": (math.inf, same_as, same_as),
    "tensorboard": (FLOAT32, lambda value: float(np.float32(value)), same_as),
    "wandb": (FLOAT, of_wandb, lambda name: name or "logs/"),
    "mlflow": (FLOAT, lambda value: float(np.clip(float(value), -FLOAT, FLOAT)), legal_name),
}
# MLflow's server during the training, and its SQLite file afterwards from the journal.
PLACES = [*TRACKERS, "mlflow.db"]
each_case = pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])


@pytest.fixture(scope="module")
def training(tmp_path_factory, server):
    """The run directory of a training that was killed, its History, and what was printed."""
    run = tmp_path_factory.mktemp("odd") / "run"
    printed = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("MLFLOW_TRACKING_URI", server.uri)
        patch.setattr(candle.engine.Engine, "print_on_root", lambda _, text: printed.append(text))
        with pytest.raises(ZeroDivisionError):
            fit(run, [fits.fail_in_epoch(3)])
        history = fit(run).history
    return run, history, printed


@pytest.fixture(scope="module")
def rows(training, server):
    """rows[place]: what a tracker's own reader finds, by step."""
    run = training[0]
    assert reconcile(run, make("mlflow"), [], within_s=60)
    found = {name: read(name, run) for name in ("csv", "tensorboard", "wandb")}
    return {**found, "mlflow": read("mlflow", run, server.uri), "mlflow.db": read("mlflow", run)}


def fit(run, failing=()):
    fits.forget_fits()
    return fits.small_fit(
        run,
        epochs=EPOCHS,
        callbacks=[LogOdd(), *failing],
        checkpoint=candle.Checkpoint(every_epochs=2),  # the third epoch is trained again
        trackers=list(TRACKERS),
    )


def epochs_in(run):
    lines = map(json.loads, (run / "journal.jsonl").read_text().splitlines())
    return {line["epoch"] - 1: line for line in lines if line["event"] == "epoch"}


def same(one, other):
    return one == other or (math.isnan(one) and math.isnan(other))


def part(whole, names):
    return {name: value for name, value in whole.items() if name in names}


def agree(one, other):
    return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)


@each_case
def test_the_history_has_what_was_logged(training, case):
    _, history, _ = training
    for name in {name for logged in case.logged for name in logged}:
        wanted = [logged[name] for logged in case.logged if name in logged]
        assert len(history[name]) == len(wanted)
        if name in case.kept[0]:
            assert all(map(same, history[name], wanted))


@each_case
def test_the_journal_keeps_what_can_be_kept(training, case):
    lines = epochs_in(training[0])
    assert list(lines) == list(range(EPOCHS))
    for epoch, line in lines.items():
        assert agree(part(line["logs"], {n for kept in case.kept for n in kept}), case.kept[epoch])


def test_the_journal_keeps_nothing_else(training):
    wanted = {name for case in CASES for kept in case.kept for name in kept}
    assert {name for line in epochs_in(training[0]).values() for name in line["logs"]} == wanted


@each_case
@pytest.mark.parametrize("place", PLACES)
def test_every_tracker_has_the_journals_numbers(training, rows, place, case):
    steps = [line["step"] for line in epochs_in(training[0]).values()]
    largest, kept, spelled = TRACKERS[place.removesuffix(".db")]
    names = {spelled(name) for name in names_in_trackers(case)}
    assert list(rows[place]) == steps
    for epoch, step in enumerate(steps):
        wanted = {spelled(n): kept(value) for n, value in tracked(case, epoch, largest).items()}
        assert agree(part(rows[place][step], names), wanted)


@pytest.mark.parametrize("place", PLACES)
def test_no_tracker_has_anything_else(rows, place):
    spelled = TRACKERS[place.removesuffix(".db")][-1]
    wanted = {spelled(name) for case in CASES for name in names_in_trackers(case)}
    for epoch, row in enumerate(rows[place].values()):
        more = {key: value for key, value in row.items() if key not in wanted}
        assert more.pop("epoch") == epoch + 1
        assert all(key.startswith("performance/") for key in more)


@each_case
def test_what_is_not_recorded_or_tracked_is_said_once(training, case):
    _, _, printed = training
    unnumbered = {
        name
        for kept in case.kept
        for name, value in kept.items()
        if not isinstance(value, int | float) or FLOAT32 < abs(value) < math.inf
    }
    for name in {*case.refused, *unnumbered}:
        assert sum(repr(name) in text for text in printed) == 1
