"""When a job is requeued: the decision, its sentences, and the commands of the schedulers."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from keras_candle.cluster import job_folder
from keras_candle.cluster.job_folder import Attempt, JobFolder
from keras_candle.cluster.requeue import decide, startup_warning


def attempt(*saved_steps, code=75, ended_s=2.0):
    return Attempt(1.0, ended_s, code, saved_steps)


def decision(*attempts, code=75, is_cancelled=False, requeue_by="command"):
    return decide(
        code, is_cancelled=is_cancelled, requeue_by=requeue_by, attempts=attempts or [attempt(5)]
    )


@pytest.mark.parametrize(
    ("saved", "is_requeued"),
    [
        ([(5,)], True),
        ([()], True),
        ([(), ()], False),
        ([(5,), ()], True),
        ([(5,), (), ()], False),
        ([(5,), (), (7,)], True),
        # It began at 5 and saved that again.
        ([(5,), (5,), (5,)], False),
        ([(5,), (5,), (6,)], True),
        # The trials of a search each begin at 0.
        ([(9,), (3, 4), (2,)], True),
    ],
)
def test_two_starts_without_a_new_checkpoint_are_enough(saved, is_requeued):
    made = decision(*(attempt(*steps) for steps in saved))
    assert made.requeue == is_requeued
    assert ("two starts" in made.sentence) != is_requeued
    assert is_requeued or made.code == 1


def test_a_start_whose_end_is_unknown_may_have_saved():
    assert decision(attempt(5), attempt(ended_s=None, code=None), attempt()).requeue


def test_a_cancelled_job_is_not_requeued():
    made = decision(is_cancelled=True)
    assert (made.requeue, made.code) == (False, 143)
    assert "candle cancel has ended" in made.sentence


@pytest.mark.parametrize("code", [0, 1, 124, 143])
def test_only_75_asks_for_a_requeue(code):
    assert decision(code=code) == (False, "", code)


def test_with_exit_code_the_scheduler_gets_75_unless_nothing_new_was_saved():
    assert decision(requeue_by="exit-code")[0::2] == (False, 75)
    assert decision(attempt(), attempt(), requeue_by="exit-code").code == 1
    assert decision(requeue_by="exit-code", is_cancelled=True).code == 143


def test_without_requeue_75_stays():
    assert decision(requeue_by="none") == (False, "not requeued: --requeue-by none", 75)


def journal(begun_s, saved_s):
    return [
        {"time_s": 5.0, "event": "begin", "step": 0},
        {"time_s": 8.0, "event": "checkpoint", "step": 3},
        {"time_s": begun_s, "event": "begin", "step": 3},
        {"time_s": saved_s, "event": "checkpoint", "step": 4},
    ]


def test_a_start_that_trains_for_less_time_than_it_takes_to_begin():
    warning = startup_warning(100.0, 180.0, journal(163.0, 170.0))
    assert "trained for 7 s after a start-up of 63 s" in warning
    assert startup_warning(100.0, 300.0, journal(163.0, 290.0)) == ""
    # A search begins with its first trial.
    assert startup_warning(100.0, 310.0, journal(300.0, 305.0) + journal(110.0, 130.0)) == ""
    assert startup_warning(100.0, 180.0, []) == ""


COMMANDS = {
    "slurm": ({"SLURM_JOB_ID": "7"}, "scontrol requeue 7"),
    "pbs": ({"PBS_JOBID": "7[1].server"}, "qrerun 7[1].server"),
    "lsf": ({"LSB_JOBID": "7", "LSB_JOBINDEX": "2"}, "brequeue 7[2]"),
    "flux": ({}, "flux --parent batch --dependency=afterany:f7 {folder}/job.sh"),
}


def fake(folder: Path, name: str, printed: str, code: int = 0, state: str = "", end: str = ""):
    """A scheduler's command that writes down its words; `end` is what else it does."""
    path = folder / name
    path.write_text(
        f'#!/bin/bash\necho "{name} $*" >> {folder}/calls\n'
        'case "$*" in *getattr*) echo f7; exit;; '
        f"*show*|*eventlog*) echo '{state}'; exit;; esac\n"
        f"echo '{printed}' >&{2 if code else 1}\n{end}\nexit {code}\n"
    )
    path.chmod(0o755)


def requeue(
    folder: Path, tmp_path: Path, variables: dict[str, str], *, ends: bool, state: str = ""
):
    """The module as the job's script calls it; `ends`: the scheduler then ends the job."""
    if ends:
        for name in ("scontrol", "qrerun", "brequeue"):
            fake(tmp_path, name, "", state=state, end="kill -TERM $PPID")
    return subprocess.run(
        [sys.executable, "-m", "keras_candle.cluster.requeue", str(folder), "75"],
        env={**os.environ, **variables, "PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


LINE = "JobId=7 JobName=first JobState={} Reason={} PreemptEligibleTime=Unknown PreemptTime={}"


@pytest.fixture
def folder(tmp_path):
    made = JobFolder(tmp_path / "candle-jobs" / "first")
    made.path.mkdir(parents=True)
    made.log_attempt("start", None, 0)
    made.log_attempt("end", None, 0, code=75, saved_steps=[5])
    return made


@pytest.mark.parametrize("name", COMMANDS)
def test_each_scheduler_has_its_command(name, folder, tmp_path):
    variables, expected = COMMANDS[name]
    folder.write_facts({"scheduler": name, "id": "f7", "requeue_by": "command"})
    fake(tmp_path, "flux", "f8")
    done = requeue(folder.path, tmp_path, variables, ends=True)
    assert done.returncode == 75
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls[-1] == expected.format(folder=folder.path)
    assert (
        " starts the job again" if name != "flux" else "submitted again as job f8"
    ) in done.stderr
    assert "saved" not in done.stderr  # candle run has said so, where it is so
    assert folder.facts()["id"] == ("f8" if name == "flux" else "f7")


def test_the_warning_is_of_the_elements_own_run(tmp_path):
    folder, now_s = JobFolder(tmp_path), time.time()
    for element, begun_s in enumerate((now_s - 4, now_s - 9)):
        run = tmp_path / f"run-{element}"
        run.mkdir()
        folder.log_run(run, element)
        folder.log_attempt("start", element, 0, time_s=now_s - 10)
        events = [(begun_s, "begin"), (now_s - 2, "checkpoint")]
        lines = [json.dumps({"time_s": time_s, "event": event}) for time_s, event in events]
        (run / "journal.jsonl").write_text("\n".join(lines))
    warning = "trained for 2 s after a start-up of 6 s"
    for element, is_warned in ((0, True), (1, False)):
        done = requeue(tmp_path, tmp_path, {"KERAS_CANDLE_ELEMENT": f"{element}/2"}, ends=False)
        assert (warning in done.stderr) == is_warned
    # An end that a user has chosen says nothing about the walltime.
    folder.write_facts({"scheduler": "slurm", "id": "7", "requeue_by": "command"})
    state, variables = LINE.format("COMPLETING", "None", "None"), {"SLURM_JOB_ID": "7"}
    variables["KERAS_CANDLE_ELEMENT"] = "0/2"
    done = requeue(tmp_path, tmp_path, variables, ends=True, state=state)
    assert (done.returncode, warning in done.stderr) == (143, False)
    folder.cancel()
    done = requeue(tmp_path, tmp_path, variables, ends=True)
    assert (done.returncode, warning in done.stderr) == (143, False)


def test_pbs_submits_anew_where_qrerun_is_the_operators_alone(folder, tmp_path):
    folder.write_facts({"scheduler": "pbs", "id": "7.server", "requeue_by": "command"})
    fake(tmp_path, "qrerun", "qrerun: Unauthorized Request 7.server", 1)
    fake(tmp_path, "qsub", "8.server")
    done = requeue(folder.path, tmp_path, {"PBS_JOBID": "7.server"}, ends=False)
    assert done.returncode == 75
    assert done.stderr.endswith("candle: submitted again as job 8.server\n")
    assert folder.facts()["id"] == "8.server"


def test_a_refused_requeue_names_the_refusal_and_what_to_do(folder, tmp_path):
    folder.write_facts({"scheduler": "slurm", "id": "7", "requeue_by": "command"})
    fake(tmp_path, "scontrol", "Requested operation is disabled", 1)
    done = requeue(folder.path, tmp_path, {"SLURM_JOB_ID": "7"}, ends=False)
    assert done.returncode == 75
    assert "not requeued: scontrol refused it: Requested operation is disabled" in done.stderr
    assert f"sbatch --parsable {folder.script}" in done.stderr


def test_nothing_is_called_for_a_cancelled_job(folder, tmp_path):
    folder.write_facts({"scheduler": "slurm", "id": "7", "requeue_by": "command"})
    folder.cancel()
    done = requeue(folder.path, tmp_path, {"SLURM_JOB_ID": "7"}, ends=True)
    assert done.returncode == 143
    assert not (tmp_path / "calls").exists()


@pytest.mark.parametrize(
    ("name", "printed", "is_cancelled"),
    [
        ("slurm", LINE.format("COMPLETING", "None", "None"), True),
        ("slurm", LINE.format("COMPLETING", "TimeLimit", "None"), False),
        ("slurm", LINE.format("COMPLETING", "None", "2026-12-01T01:00:00"), False),
        ("slurm", LINE.format("RUNNING", "None", "None"), False),
        ("flux", '1.5 exception type="cancel" severity=0', True),
        ("flux", '1.5 exception type="timeout" severity=0', False),
    ],
)
def test_a_job_that_the_schedulers_own_command_ended_is_not_requeued(
    name, printed, is_cancelled, folder, tmp_path
):
    folder.write_facts({"scheduler": name, "id": "7", "requeue_by": "command"})
    fake(tmp_path, "flux", "f8", state=printed)
    done = requeue(folder.path, tmp_path, {"SLURM_JOB_ID": "7"}, ends=True, state=printed)
    assert done.returncode == (143 if is_cancelled else 75)
    assert ("ended by" in done.stderr) == is_cancelled
    calls = (tmp_path / "calls").read_text()
    assert ("requeue 7" in calls or "batch" in calls) != is_cancelled


def test_attempts_of_many_elements_are_read_once(tmp_path, monkeypatch):
    writer, folder, reads = JobFolder(tmp_path), JobFolder(tmp_path), []
    read = job_folder.json_lines
    monkeypatch.setattr(job_folder, "json_lines", lambda path: reads.append(path) or read(path))
    for element in range(3):
        writer.log_attempt("start", element, 0)
        begun = [each for each in range(3) if folder.attempts(each)]
        assert begun == list(range(element + 1))
    assert len(reads) == 3


def test_attempts_are_read_by_element_past_a_cut_line(tmp_path):
    folder = JobFolder(tmp_path)
    folder.log_attempt("start", 0, 0)
    with (tmp_path / "attempts.jsonl").open("a") as lines:
        lines.write('{"time_s": 1, "ev')
    folder.log_attempt("start", 1, 0)
    folder.log_attempt("end", 0, 0, code=75, saved_steps=[3])
    assert [each.saved_steps for each in folder.attempts(0)] == [(3,)]
    assert [each.ended_s for each in folder.attempts(1)] == [None]
    assert folder.attempts() == []
    lines = (tmp_path / "attempts.jsonl").read_text().splitlines()
    assert list(json.loads(lines[0])) == [
        *("time_s", "event", "element", "restart", "code", "saved_steps")
    ]


def test_two_starts_that_were_stopped_before_the_program_are_enough(tmp_path):
    JobFolder(tmp_path).write_facts({"scheduler": "slurm", "requeue_by": "exit-code"})
    command = [sys.executable, "-m", "keras_candle.cluster.requeue", str(tmp_path), "75"]
    codes = [subprocess.run([*command, "not-begun"], check=False).returncode for _ in range(2)]
    assert codes == [75, 1]
    assert [each.code for each in JobFolder(tmp_path).attempts()] == [75, 75]


@pytest.mark.parametrize(
    ("codes", "code"), [([], 75), ([75], 75), ([143], 143), ([75, 143], 143), ([None], 143)]
)
def test_a_signal_before_candle_run_has_begun(tmp_path, codes, code):
    folder = JobFolder(tmp_path)
    folder.write_facts({"scheduler": "slurm", "requeue_by": "exit-code"})
    for restart, each in enumerate(codes):
        folder.log_attempt("start", None, restart)
        if each is not None:
            folder.log_attempt("end", None, restart, code=each, saved_steps=[restart])
    command = [sys.executable, "-m", "keras_candle.cluster.requeue", str(tmp_path), "143"]
    assert subprocess.run(command, check=False).returncode == code
