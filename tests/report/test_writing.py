"""Which directories are taken, and how the file is written."""

from __future__ import annotations

import json

import pytest

from keras_candle.errors import CandleError
from keras_candle.report import write_report


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    line = {"time_s": 1e9, "event": "epoch", "fit": 0, "epoch": 1, "step": 3, "logs": {"loss": 1.5}}
    (folder / "journal.jsonl").write_text(json.dumps(line))
    return folder


def test_the_page_lies_in_the_first_directory_or_where_it_is_asked(run, tmp_path):
    assert write_report([run])[0] == run / "report.html"
    out, said = write_report([run], tmp_path / "p.html")
    assert out.read_text().startswith("<!doctype html>")
    assert said == "1 run with 1 epoch and 0 restarts"


def test_a_directory_of_something_else_is_refused_with_what_is_expected(run, tmp_path):
    with pytest.raises(CandleError, match=r"neither a run nor a search.*journal\.jsonl.*run"):
        write_report([tmp_path])
    with pytest.raises(CandleError, match="is not there"):
        write_report([tmp_path / "nowhere"])
    with pytest.raises(CandleError, match="is no directory"):
        write_report([run / "journal.jsonl"])
    with pytest.raises(CandleError, match="needs a directory"):
        write_report([])


def test_a_page_that_cannot_be_written_leaves_nothing(run, tmp_path):
    with pytest.raises(CandleError, match="-o"):
        write_report([run], tmp_path / "no" / "such" / "folder.html")
    (tmp_path / "taken").mkdir()
    with pytest.raises(CandleError, match="cannot be written"):
        write_report([run], tmp_path / "taken")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["run", "taken"]


def test_the_same_directory_twice_is_one_run(run):
    assert write_report([run, run / ".." / "run"])[1].startswith("1 run")
