"""The run directory of a job that waits for its next start is left to it."""

import json

import pytest

from keras_candle.cluster.job_folder import JobFolder
from keras_candle.cluster.run_owner import waiting_owner
from keras_candle.engine.single import SingleEngine
from keras_candle.errors import CheckpointError
from keras_candle.resume.run_session import RunSession


@pytest.fixture
def run(tmp_path, monkeypatch):
    """The run directory of a job that has saved and was requeued; `queue` is squeue's answer."""
    folder = JobFolder(tmp_path / "candle-jobs" / "first")
    folder.path.mkdir(parents=True)
    folder.write_facts({"scheduler": "slurm", "id": "7", "array": None})
    folder.log_attempt("start", None, 0)
    folder.log_attempt("end", None, 0, code=75, saved_steps=[5])

    class Run:
        path = tmp_path / "run"
        file = path / "job.json"
        job = folder

        def queue(self, printed):
            squeue = tmp_path / "bin" / "squeue"
            squeue.parent.mkdir(exist_ok=True)
            squeue.write_text(f"#!/bin/bash\ntouch {tmp_path}/asked\n{printed}\n")
            squeue.chmod(0o755)

        def asked(self):
            return (tmp_path / "asked").exists()

    Run.path.mkdir()
    Run.file.write_text(json.dumps({"folder": str(folder.path), "id": "7", "element": None}))
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    monkeypatch.delenv("KERAS_CANDLE_JOB", raising=False)
    return Run()


def test_another_run_is_refused_with_the_jobs_id(run):
    run.queue("echo '7|PENDING|BeginTime|'")
    with pytest.raises(CheckpointError, match=r"belongs to job 7 \(.*first\), which has saved"):
        RunSession(run.path, SingleEngine()).open()
    run.queue("true")
    session = RunSession(run.path, SingleEngine())
    session.open()
    session.close()


def test_the_job_itself_and_later_ones_go_on(run, monkeypatch):
    run.queue("echo '7|PENDING|BeginTime|'")
    assert waiting_owner(run.file, {"KERAS_CANDLE_JOB": str(run.job.path)}) == ""
    run.job.log_attempt("start", None, 1)
    run.job.log_attempt("end", None, 1, code=0)
    assert waiting_owner(run.file, {}) == ""
    assert waiting_owner(run.path / "none.json", {}) == ""
    run.file.write_text("[]")
    assert waiting_owner(run.file, {}) == ""
    assert not run.asked()


def test_a_scheduler_that_does_not_answer_holds_nobody_up(run):
    run.queue("echo down >&2; exit 1")
    assert waiting_owner(run.file, {}) == ""
    assert run.asked()
