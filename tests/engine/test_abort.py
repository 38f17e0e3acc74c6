"""Without a supervisor, a rank whose program fails ends the whole job."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from keras_candle.cluster.mpi_library import find_mpiexec

START = """
import atexit, os, sys, threading, time
{before}
from keras_candle import engine
ranks = engine.start("mpi")
{after}
if ranks.rank == 1:
    {body}
ranks.barrier()
os.write(1, b"end ")
"""
AS_ROOT = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
OWN_HOOK = "sys.excepthook = lambda kind, *_: print('own hook:', kind.__name__, file=sys.stderr)"


@pytest.fixture
def job(tmp_path):
    """Runs a program under a plain mpiexec; a job that hangs is a failure."""

    def run(body, before="", after=""):
        program = tmp_path / "train.py"
        program.write_text(START.format(before=before, after=after, body=body))
        return subprocess.run(
            [str(find_mpiexec()), "-n", "2", sys.executable, str(program)],
            env={**os.environ, **AS_ROOT, "PYTHONPATH": os.getcwd()},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        ("raise ValueError('no column')", 1, "ValueError: no column"),
        ("sys.exit(3)", 3, "exited with code 3"),
        ("sys.exit('no data')", 1, "no data"),
        # A thread that sleeps on does not keep the others waiting.
        ("threading.Thread(target=time.sleep, args=(600,)).start(); 1 / 0", 1, "ZeroDivisionError"),
        ("ranks.split(1); raise ValueError('no column')", 1, "ValueError: no column"),
    ],
)
def test_a_failed_rank_ends_the_job(job, body, code, words):
    after = "ranks.rank == 0 and ranks.split(0)" if "split" in body else ""
    done = job(body, after=after)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert re.search(r"candle: rank 1 \(of 2, host \S+\) .*: the job ends", done.stderr)
    assert "end" not in done.stdout.split()


@pytest.mark.parametrize("where", ["before", "after"])
def test_a_hook_of_the_script_prints(job, where):
    done = job("raise ValueError", **{where: OWN_HOOK})
    assert done.returncode == 1
    assert "own hook: ValueError" in done.stderr


@pytest.mark.parametrize(
    "body",
    [
        "try: sys.exit(3)\n    except SystemExit as exit_: assert exit_.code == 3",
        "thread = threading.Thread(target=sys.exit, args=(3,)); thread.start(); thread.join()",
        "os.fork() or os._exit(sys.excepthook(ValueError, ValueError(), None) or 0)",
    ],
)
def test_what_ends_no_rank_ends_no_job(job, body):
    done = job(body)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["end", "end"]


def test_a_rank_that_asks_to_be_run_again_lets_the_others_save(job):
    done = job(
        "sys.exit(75)", after="if ranks.rank == 0:\n    time.sleep(1); print('saved'); sys.exit(75)"
    )
    assert (done.returncode, done.stdout) == (75, "saved\n")
