"""Odd values through a training that is killed and resumed: History, journal and trackers agree."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

import keras_candle as candle
from tests.callback import cases as fits
from tests.trackers.odd_values import CASES, EPOCHS, LogOdd, names_in_trackers, tracked
from tests.trackers.readers import read

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
# The largest number that each holds.
TRACKERS = {"csv": math.inf, "tensorboard": float(np.finfo("float32").max)}
each_case = pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])


@pytest.fixture(scope="module")
def training(tmp_path_factory):
    """The run directory of a training that was killed, its History, and what was printed."""
    run = tmp_path_factory.mktemp("odd") / "run"
    printed = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(candle.engine.Engine, "print_on_root", lambda _, text: printed.append(text))
        with pytest.raises(ZeroDivisionError):
            fit(run, [fits.fail_in_epoch(3)])
        history = fit(run).history
    return run, history, printed


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
@pytest.mark.parametrize("name", TRACKERS)
def test_every_tracker_has_the_journals_numbers(training, name, case):
    run, _, _ = training
    steps = [line["step"] for line in epochs_in(run).values()]
    rows = read(name, run)
    assert list(rows) == steps
    for epoch, step in enumerate(steps):
        wanted = tracked(case, epoch, TRACKERS[name])
        if name == "tensorboard":
            wanted = {key: float(np.float32(value)) for key, value in wanted.items()}
        assert agree(part(rows[step], names_in_trackers(case)), wanted)


@pytest.mark.parametrize("name", TRACKERS)
def test_no_tracker_has_anything_else(training, name):
    wanted = {name for case in CASES for name in names_in_trackers(case)}
    for epoch, row in enumerate(read(name, training[0]).values()):
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
        if not isinstance(value, int | float) or TRACKERS["tensorboard"] < abs(value) < math.inf
    }
    for name in {*case.refused, *unnumbered}:
        assert sum(repr(name) in text for text in printed) == 1
