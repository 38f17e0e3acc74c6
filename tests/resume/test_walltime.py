"""Stop before the job's limit: whom we ask for it, and from when on a checkpoint still fits."""

from __future__ import annotations

import time
from types import SimpleNamespace

import keras
import pytest

import keras_candle as candle
from keras_candle.cluster import schedulers
from keras_candle.engine.single import SingleEngine
from keras_candle.errors import CandleError
from keras_candle.launcher_messages import STARTED_S
from keras_candle.resume import walltime
from keras_candle.resume.data_state import FitProgress
from tests.callback import cases

JOB = {"Slurm": "SLURM_JOB_ID", "PBS": "PBS_JOBID", "LSF": "LSB_JOBID", "Flux": "FLUX_JOB_ID"}
COMMANDS = {"Slurm": "squeue", "PBS": "qstat", "LSF": "bjobs", "Flux": "flux"}


def ask(scheduler, printed, folder, monkeypatch, code=0, job="7", **variables):
    """What we read from a scheduler's command that prints this for one job and no other."""
    command = folder / COMMANDS[scheduler]
    (folder / "printed").write_text(printed)
    command.write_text(
        f'#!/bin/sh\ncase " $* " in *" {job} "*) cat {folder}/printed; exit {code};; esac; exit 3\n'
    )
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return schedulers.seconds_left({JOB[scheduler]: "7", **variables}, now_s=1000.0)


@pytest.mark.parametrize(
    ("scheduler", "printed", "seconds"),
    [
        ("Slurm", "1-02:03:04\n", 93784),
        ("Slurm", "59:30\n", 3570),
        ("Slurm", "UNLIMITED\n", None),
        (
            "PBS",
            "Job Id: 7.server\n    job_state = R\n    Resource_List.select = 4:ncpus=8\n"
            "    Resource_List.walltime = 12:00:00\n    resources_used.walltime = 00:30:10\n",
            43200 - 1810,
        ),
        ("PBS", "Job Id: 7\n    Resource_List.walltime = 00:10:00\n", 600),
        ("PBS", "Job Id: 7\n    job_state = R\n", None),
        ("LSF", "11:12 L\n", 40320),
        ("LSF", "0:05 E\n", None),
        ("LSF", "- \n", None),
        ("Flux", "7200\n", 7200),
        ("Flux", "4294967295\n", None),
    ],
)
def test_what_a_scheduler_says(scheduler, printed, seconds, tmp_path, monkeypatch):
    assert ask(scheduler, printed, tmp_path, monkeypatch) == seconds


def test_an_element_of_an_array_of_lsf_is_asked_for_by_its_number(tmp_path, monkeypatch):
    assert ask("LSF", "0:05 L\n", tmp_path, monkeypatch, job="7[2]", LSB_JOBINDEX="2") == 300
    assert ask("LSF", "0:05 L\n", tmp_path, monkeypatch, LSB_JOBINDEX="0") == 300


def test_a_scheduler_that_does_not_answer(tmp_path, monkeypatch):
    assert schedulers.seconds_left({}, now_s=0.0) is None
    end = {"SLURM_JOB_END_TIME": "1600"}
    assert ask("Slurm", "", tmp_path, monkeypatch, code=1, **end) == 600
    with pytest.raises(CandleError, match="Give it in seconds"):
        ask("Slurm", "INVALID", tmp_path, monkeypatch)
    with pytest.raises(CandleError, match=r"cannot read from qstat -f .* PBS job"):
        ask("PBS", "", tmp_path, monkeypatch, code=1)


@pytest.mark.parametrize("limit", [0, -3, "12:00:00", True])
def test_no_limit(limit, tmp_path):
    with pytest.raises(CandleError, match="expected a number of seconds above 0"):
        candle.CandleCallback(tmp_path, walltime=limit)


class Clock:
    """A training whose times we choose, with 10 steps an epoch."""

    def __init__(self, monkeypatch, limit):
        self.now_s = 0.0
        monkeypatch.setattr(walltime.time, "monotonic", lambda: self.now_s)
        monkeypatch.setattr(walltime.time, "time", lambda: self.now_s)
        monkeypatch.setenv(STARTED_S, "0")
        self._walltime = walltime.Walltime(limit, SingleEngine())
        self._progress = FitProgress(SimpleNamespace(num_batches=10), None)
        self.saves = SimpleNamespace(busy=False, longest_s=0.0, size_bytes=lambda: 0)

    def stops_at(self, in_epoch, after_s):
        self.now_s += after_s
        self._progress.in_epoch = in_epoch
        return self._walltime.must_stop(self._progress, 1, self.saves)


def test_it_stops_where_the_next_step_and_a_checkpoint_would_not_fit(monkeypatch):
    clock = Clock(monkeypatch, 1000.0)
    clock.saves.longest_s = 50.0
    assert not clock.stops_at(1, after_s=300.0)  # the first step builds the function
    for _ in range(63):
        assert not clock.stops_at(2, after_s=10.0)
    assert not clock.stops_at(3, after_s=4.0)
    assert clock.now_s == 1000 - 10 - 50 - 5 - 1
    assert clock.stops_at(4, after_s=1.0)


def test_a_checkpoint_that_is_being_written_is_waited_for_first(monkeypatch):
    clock = Clock(monkeypatch, 1000.0)
    clock.saves.longest_s = 50.0
    assert not clock.stops_at(1, after_s=900.0)
    clock.saves.busy = True
    assert clock.stops_at(2, after_s=1.0)


def test_it_stops_before_an_evaluation_that_would_not_fit(monkeypatch):
    clock = Clock(monkeypatch, 1000.0)
    for step in range(1, 11):
        assert not clock.stops_at(step, after_s=1.0)
    assert not clock.stops_at(0, after_s=200.0)
    for _ in range(584):
        assert not clock.stops_at(8, after_s=1.0)
    assert clock.now_s == 1000 - 200 - 1 - 5
    assert clock.stops_at(9, after_s=0.0)  # the next one comes after the evaluation


def test_before_the_first_checkpoint_its_time_goes_by_its_size(monkeypatch):
    clock = Clock(monkeypatch, 100.0)
    clock.saves.size_bytes = lambda: 2_000_000_000
    assert not clock.stops_at(1, after_s=0.0)
    assert not clock.stops_at(2, after_s=1.0)
    for _ in range(72):
        assert not clock.stops_at(2, after_s=1.0)
    assert clock.stops_at(2, after_s=1.0)


def exits(*seconds):
    """A journal with these times that jobs took to end."""
    return [{"event": "begin"}, *({"event": "exit", "seconds": each} for each in seconds)]


@pytest.mark.parametrize(
    ("ranks", "events", "reserve_s"),
    [
        (1, [], 5),
        (1, exits(0.3), 5),
        (1, exits(40.0, 9.0, 1.0, 2.0), 18),
        (101, exits(9.0), 19),
        (101, [{"event": "exit", "seconds": "soon"}, {"event": "exit"}], 6),
    ],
)
def test_the_reserve_grows_with_the_last_ends_and_the_ranks(ranks, events, reserve_s):
    assert walltime.reserve_of(ranks, events) == reserve_s


@pytest.mark.parametrize("reserve_s", [-1, "60", True])
def test_no_reserve(reserve_s, tmp_path):
    with pytest.raises(CandleError, match=r"walltime_reserve_s=.*, expected a number of seconds"):
        candle.CandleCallback(tmp_path, walltime_reserve_s=reserve_s)


def test_a_reserve_that_is_given_decides(tmp_path, monkeypatch):
    monkeypatch.setenv(STARTED_S, str(time.time()))
    with pytest.raises(SystemExit):
        cases.small_fit(tmp_path, epochs=9, walltime=1e6, walltime_reserve_s=1e6)
    assert len(list((tmp_path / "checkpoints").glob("step-*"))) == 1


def train_until_the_limit(run, started_s=None):
    """Returns the code that it ended with."""
    started_s = started_s or time.time()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(STARTED_S, str(started_s))
        with pytest.raises(SystemExit) as exit_:
            cases.small_fit(run, epochs=10**6, walltime=8.0)
    return exit_.value.code, time.time() - started_s


@pytest.mark.parametrize("size", [1, 2])
def test_a_training_saves_and_ends_before_its_limit(ranks, size, tmp_path, capfd):
    if size == 1:
        found = [train_until_the_limit(tmp_path)]
    else:
        found = ranks(2).run(train_until_the_limit, run=str(tmp_path))
    assert all(code == 75 and seconds < 8 for code, seconds in found)
    assert size > 1 or "walltime: saved at step" in capfd.readouterr().err
    saved = list((tmp_path / "checkpoints").glob("step-*"))
    assert saved
    assert keras.saving.load_model(saved[0]).count_params() == 4
