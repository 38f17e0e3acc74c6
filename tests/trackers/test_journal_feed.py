"""What the journal says, as rows: no epoch left out, none twice, steps that only grow."""

from __future__ import annotations

import json
import math

import pytest

from keras_candle.trackers.reconciler import JournalFeed, values_of
from tests.trackers.cases import MORE, ROWS, note


def rows(feed):
    return {row.step: row.values for row in feed.rows()}


def test_rows_are_what_was_noted_and_come_once(tmp_path):
    note(tmp_path, ROWS)
    feed = JournalFeed(tmp_path / "journal.jsonl")
    assert rows(feed) == ROWS
    note(tmp_path, MORE)
    assert rows(feed) == MORE


def test_an_epoch_that_is_trained_again_counts_once_as_it_was_first(tmp_path):
    note(tmp_path, ROWS)
    note(tmp_path, {8: {"epoch": 2, "loss": 9.0}, **MORE})
    assert rows(JournalFeed(tmp_path / "journal.jsonl")) == {**ROWS, **MORE}


def test_epochs_of_another_number_of_ranks_are_no_double_and_leave_no_gap(tmp_path):
    note(tmp_path, {24: {"epoch": 1}, 48: {"epoch": 2}})
    note(tmp_path, {36: {"epoch": 2}, 48: {"epoch": 3}})  # went on from step 24, on twice the ranks
    found = rows(JournalFeed(tmp_path / "journal.jsonl"))
    assert [each["epoch"] for each in found.values()] == [1, 2, 3]
    assert list(found) == sorted(found)


def test_the_epochs_of_a_second_fit_are_others(tmp_path):
    note(tmp_path, ROWS)
    note(tmp_path, {12: {"epoch": 1}}, fit=1)
    assert [each["epoch"] for each in rows(JournalFeed(tmp_path / "journal.jsonl")).values()] == [
        1,
        2,
        1,
    ]


@pytest.mark.parametrize("after", [-1, 4, 8, 12])
def test_what_is_held_is_left_out(tmp_path, after):
    note(tmp_path, ROWS)
    note(tmp_path, MORE)
    wanted = {step: values for step, values in {**ROWS, **MORE}.items() if step > after}
    assert rows(JournalFeed(tmp_path / "journal.jsonl", after=after)) == wanted


def test_values_that_are_held_are_not_parsed(tmp_path, monkeypatch):
    note(tmp_path, {step: {"epoch": step, "loss": 0.5} for step in range(1, 201)})
    parsed, loads = [], json.loads
    monkeypatch.setattr(json, "loads", lambda text: parsed.append(text) or loads(text))
    feed = JournalFeed(tmp_path / "journal.jsonl", after=198)
    assert list(rows(feed)) == [199, 200]
    assert sum(b"loss" in text for text in parsed) <= 2 * 2


def test_a_line_that_is_cut_waits_for_its_end(tmp_path):
    note(tmp_path, ROWS)
    whole = (tmp_path / "journal.jsonl").read_bytes()
    (tmp_path / "journal.jsonl").write_bytes(whole[:-9])
    feed = JournalFeed(tmp_path / "journal.jsonl")
    assert list(rows(feed)) == [4]
    (tmp_path / "journal.jsonl").write_bytes(whole)
    assert list(rows(feed)) == [8]


def test_lines_that_are_none_are_left_out(tmp_path):
    note(tmp_path, ROWS)
    with open(tmp_path / "journal.jsonl", "a") as file:
        file.write('{"event": "epoch", "lo\n[1]\n7\n' + json.dumps({"event": "stop"}) + "\n")
    note(tmp_path, MORE)
    assert rows(JournalFeed(tmp_path / "journal.jsonl")) == {**ROWS, **MORE}


def test_a_line_after_one_that_a_crash_has_cut_is_not_lost(tmp_path):
    (tmp_path / "journal.jsonl").write_text('{"event": "epo')
    note(tmp_path, ROWS)
    assert rows(JournalFeed(tmp_path / "journal.jsonl")) == ROWS


def test_performance_gives_its_finite_numbers_and_logs_all_of_theirs():
    line = {
        "epoch": 1,
        "logs": {"loss": math.inf, "text": "x"},
        "performance": {"a": {"b": 1, "c": math.nan, "d": "x", "e": True}, "f": None},
    }
    assert values_of(line) == {"epoch": 1, "loss": math.inf, "performance/a/b": 1}
