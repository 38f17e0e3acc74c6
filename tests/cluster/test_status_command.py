"""`candle status` and `candle logs` without a scheduler: names, run directories, output files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from keras_candle.cluster.job_folder import JOBS, JobFolder
from keras_candle.errors import LaunchError
from keras_candle.launch import cli
from keras_candle.launch.logs import Outputs, find_job
from keras_candle.launch.status import FoundJob, duration, find
from keras_candle.run_directory import RunDirectory


@pytest.fixture
def job(tmp_path: Path, monkeypatch) -> JobFolder:
    monkeypatch.chdir(tmp_path)
    folder = JobFolder(tmp_path / JOBS / "train")
    folder.path.mkdir(parents=True)
    folder.script.touch()
    folder.write_facts({"scheduler": "slurm", "id": "7", "array": None})
    return folder


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    directory = RunDirectory(tmp_path / "runs" / "a")
    directory.checkpoints.mkdir(parents=True)
    return directory


def test_a_job_is_found_by_its_name_its_folder_and_its_run(job, run) -> None:
    facts = {"folder": str(job.path), "id": "7", "element": 3}
    run.job.write_text(json.dumps(facts))
    for given in ("train", f"{JOBS}/train", str(job.path)):
        found = find(given)
        assert isinstance(found, FoundJob)
        assert (found.folder.path, found.element) == (job.path, None)
    found = find("runs/a")
    assert isinstance(found, FoundJob)
    assert (found.folder.path, found.element) == (job.path, 3)


def test_a_run_of_an_earlier_job_of_the_name_is_found_where_that_was_set_aside(job, run) -> None:
    run.job.write_text(json.dumps({"folder": str(job.path), "id": "5", "element": None}))
    assert find("runs/a") == Path("runs/a")
    aside = JobFolder(job.path.with_name("train-5"))
    aside.path.mkdir()
    aside.write_facts({"scheduler": "slurm", "id": "5"})
    assert find_job("runs/a").folder.path == aside.path


def test_a_run_of_no_submitted_job_is_shown_from_its_journal(run, capsys, monkeypatch) -> None:
    monkeypatch.chdir(run.path.parent)
    run.log_event("begin", step=0)
    run.log_event("stop", reason="signal", step=40)
    assert cli.main(["status", "a"]) == 0
    shown = capsys.readouterr().out
    assert "saved" in shown
    assert "not of a submitted job, so no scheduler was asked; step 40 of a 0 s ago" in shown
    with pytest.raises(LaunchError, match="a is the run directory of no submitted job"):
        find_job("a")


def test_a_damaged_job_hides_no_other(job, capsys, monkeypatch) -> None:
    monkeypatch.setenv("KERAS_CANDLE_CACHE", str(job.path))
    monkeypatch.setenv("PATH", "/nowhere")
    damaged = JobFolder(job.path.with_name("broken"))
    damaged.path.mkdir()
    damaged.script.touch()
    (damaged.path / "job.json").write_text("{")
    assert cli.main(["status"]) == 0
    rows = [line.split()[:3] for line in capsys.readouterr().out.splitlines()]
    assert rows[1:] == [["broken", "-", "unknown"], ["train", "7", "unknown"]]
    assert cli.main(["cancel", "broken"]) == 2
    assert "job.json" in capsys.readouterr().err


def test_there_may_be_no_jobs_yet(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["status"]) == 0
    assert capsys.readouterr().out.startswith("no jobs in")


def test_a_job_that_was_never_taken_is_shown_as_such(job, capsys, monkeypatch) -> None:
    monkeypatch.setenv("KERAS_CANDLE_CACHE", str(job.path))
    monkeypatch.setenv("PATH", "/nowhere")
    job.write_facts({"scheduler": "slurm", "id": None, "array": None})
    assert cli.main(["status"]) == 0
    assert "train  -   not submitted" in capsys.readouterr().out
    assert cli.main(["cancel", "train"]) == 2
    assert "it was not submitted" in capsys.readouterr().err


def test_without_the_schedulers_command_the_answer_is_missing(job, capsys, monkeypatch) -> None:
    monkeypatch.setenv("KERAS_CANDLE_CACHE", str(job.path))
    monkeypatch.setenv("PATH", "/nowhere")
    assert cli.main(["status", "train"]) == 0
    shown = capsys.readouterr().out
    assert "unknown (no answer)" in shown
    assert "squeue cannot be started" in shown


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["logs", "train", "-n", "-1"], "-n got -1, expected 0 lines or more"),
        (["logs", "train", "--element", "2"], "--element got 2, but train has no array"),
        (["cancel", "train", "--within", "-1"], "--within got -1, expected 0 seconds or more"),
    ],
)
def test_an_option_that_cannot_be_is_named(job, capsys, arguments, problem) -> None:
    assert cli.main(arguments) == 2
    assert problem in capsys.readouterr().err


@pytest.mark.parametrize(
    ("lines", "expected"),
    [(None, b"one\ntwo\nthree\n"), (2, b"two\nthree\n"), (9, b"one\ntwo\nthree\n"), (0, b"")],
)
def test_the_last_lines_come_first_and_then_what_is_new(
    tmp_path, capfdbinary, lines, expected
) -> None:
    path = tmp_path / "output.log"
    outputs = Outputs([path], lines)
    assert not outputs.show()
    path.write_bytes(b"one\ntwo\nthree\n")
    outputs.show()
    assert capfdbinary.readouterr().out == expected
    with path.open("ab") as file:
        file.write(b"fo\xff")
    assert outputs.show()
    assert not outputs.show()
    assert capfdbinary.readouterr().out == b"fo\xff"
    path.write_bytes(b"a start that replaced it\n"[:5])
    outputs.show()
    assert capfdbinary.readouterr().out == b"a sta"


def test_the_last_lines_of_a_file_of_many_blocks(tmp_path, capfdbinary) -> None:
    path = tmp_path / "output.log"
    lines = [b"%d" % number * 5 for number in range(30_000)]
    path.write_bytes(b"\n".join(lines))
    Outputs([path], 20_000).show()
    assert capfdbinary.readouterr().out == b"\n".join(lines[-20_000:])


def test_durations_have_their_largest_unit() -> None:
    given = (0.4, 59, 60, 3599, 3600, 90_000, 172_800)
    expected = ["0 s", "59 s", "1 min", "60 min", "1 h", "25 h", "2 days"]
    assert [duration(each) for each in given] == expected
