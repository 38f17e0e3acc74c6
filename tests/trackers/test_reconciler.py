"""A tracker that raises or hangs: told once, nothing lost, nothing twice, nothing stopped."""

from __future__ import annotations

import time

import pytest

from keras_candle.trackers import reconciler
from keras_candle.trackers.base import make
from keras_candle.trackers.reconciler import Reconciler
from tests.trackers import cases
from tests.trackers.cases import MORE, ROWS
from tests.trackers.readers import read


@pytest.fixture(autouse=True)
def _noted(tmp_path):
    cases.note(tmp_path, ROWS)


def until(condition, within_s=10.0):
    deadline_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def live(directory, tracker, said):
    return Reconciler(tracker, "own", cases.run_in(directory, said), directory / "journal.jsonl")


def test_it_gets_everything_and_the_end(tmp_path):
    said, tracker = [], cases.Recorder()
    (tmp_path / "performance.json").write_text("{}")
    assert cases.reconcile(tmp_path, tracker, said)
    assert dict(tracker.rows) == ROWS
    assert (tracker.files, tracker.status, said) == (["performance.json"], "finished", [])


def test_it_gets_new_lines_when_woken(tmp_path):
    tracker = cases.Recorder()
    own = live(tmp_path, tracker, [])
    until(lambda: len(tracker.rows) == 2)
    cases.note(tmp_path, MORE)
    own.wake()
    until(lambda: len(tracker.rows) == 3)
    assert dict(tracker.rows) == {**ROWS, **MORE}


@pytest.mark.parametrize("times", [1, 2])
def test_a_failure_that_passes_is_not_told(tmp_path, times):
    said, tracker = [], cases.Failing(times)
    assert cases.reconcile(tmp_path, tracker, said)
    assert tracker.rows == list(ROWS.items())
    assert said == []


def test_one_that_always_raises_is_told_once(tmp_path):
    said, tracker = [], cases.Failing(10**9)
    own = live(tmp_path, tracker, said)
    until(lambda: said)
    for _ in range(20):
        own.wake()
        time.sleep(0.01)
    assert tracker.left == 10**9 - 3  # left alone for a while
    own.end("finished")
    assert own.has_ended(10)
    (text,) = said
    assert (
        "own does not take the run's metrics (ValueError: no room). The training continues" in text
    )
    assert tracker.status == "finished"


def test_one_that_comes_back_gets_what_it_has_missed(tmp_path, monkeypatch):
    monkeypatch.setattr(reconciler, "_LATER_S", 0.05)
    said, tracker = [], cases.Failing(7)
    own = live(tmp_path, tracker, said)
    until(lambda: len(tracker.rows) == 2)
    own.end("finished")
    assert own.has_ended(10)
    assert tracker.rows == list(ROWS.items())
    assert len(said) == 1


def test_the_second_fit_of_a_process_gives_an_object_only_what_is_new(tmp_path):
    tracker = cases.Recorder()
    assert cases.reconcile(tmp_path, tracker, [])
    cases.note(tmp_path, MORE, fit=1)
    assert cases.reconcile(tmp_path, tracker, [])
    assert tracker.rows == [*ROWS.items(), *MORE.items()]


def test_one_that_ends_the_program_does_not(tmp_path):
    class Leaving(cases.Recorder):
        def start(self, run):
            raise SystemExit(3)

    said = []
    assert cases.reconcile(tmp_path, Leaving(), said)
    assert "SystemExit: 3" in said[0]


def test_one_that_hangs_holds_up_nobody(tmp_path):
    began_s = time.monotonic()
    assert not cases.reconcile(tmp_path, cases.Hanging(), [], within_s=0.2)
    assert time.monotonic() - began_s < 5


@pytest.mark.parametrize("room_bytes", [5, 30])  # a part of one line, and of the next one
def test_a_full_disk_is_told_and_leaves_no_half_line(tmp_path, room_bytes):
    cases.track(make("csv"), cases.run_in(tmp_path), {4: {**ROWS[4], "val_loss": 1.0}})
    cases.note(tmp_path, MORE)
    said, before = [], (tmp_path / "log.csv").stat().st_size
    with cases.room_for(before + room_bytes):
        assert cases.reconcile(tmp_path, make("csv"), said)
    assert len(said) == 1
    assert "File too large" in said[0]
    assert cases.reconcile(tmp_path, make("csv"), said)
    assert list(read("csv", tmp_path)) == [4, 8, 12]


@pytest.mark.parametrize(("name", "file"), [("csv", "log.csv"), ("tensorboard", "tensorboard")])
def test_a_place_that_cannot_be_written_for_a_while_is_told_and_gets_all(tmp_path, name, file):
    said = []
    assert cases.reconcile(tmp_path, make(name), said)
    away, place = tmp_path / "away", tmp_path / file
    place.rename(away)
    place.write_text("x") if away.is_dir() else place.mkdir()
    cases.note(tmp_path, MORE)
    assert cases.reconcile(tmp_path, make(name), said)
    (text,) = said
    assert "does not take the run's metrics" in text
    assert "The training continues" in text
    place.unlink() if place.is_file() else place.rmdir()
    away.rename(place)
    assert cases.reconcile(tmp_path, make(name), said)
    assert list(read(name, tmp_path)) == [4, 8, 12]


def test_no_password_is_told(tmp_path):
    class Telling(cases.Recorder):
        def start(self, run):
            raise ValueError("https://me:hush@host does not answer")

    said = []
    assert cases.reconcile(tmp_path, Telling(), said)
    assert "hush" not in said[0]
