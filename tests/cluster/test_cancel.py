"""`candle cancel` where the scheduler refuses: the job is left as it was."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from keras_candle.cluster.job_folder import JOBS, JobFolder
from keras_candle.errors import LaunchError
from keras_candle.launch.cancel import cancel
from keras_candle.launch.logs import find_job


@pytest.mark.parametrize("now", [False, True])
@pytest.mark.parametrize("word", ["RUNNING", "PENDING"])
def test_a_job_that_may_not_be_ended_keeps_its_requeue(tmp_path: Path, monkeypatch, now, word):
    folder = JobFolder(tmp_path / JOBS / "train")
    folder.path.mkdir(parents=True)
    folder.script.touch()
    folder.write_facts({"scheduler": "slurm", "id": "7", "submitted_s": 1.0, "array": None})
    for name, body in (
        ("squeue", f"echo '7|{word}|None|n1'"),
        ("scancel", "echo Access/permission denied >&2; exit 1"),
    ):
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("KERAS_CANDLE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LaunchError, match="permission denied"):
        cancel(find_job("train"), now=now, within_s=60)
    assert not folder.is_cancelled()
