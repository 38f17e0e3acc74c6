"""`candle run` inside of a job of a real Slurm on two nodes: srun starts the ranks."""

import signal
import sys

import pytest

PROGRAM = """
import os, signal, sys, time
from keras_candle import engine
ranks = engine.start("mpi")
facts = ranks.rank, ranks.size, ranks.local_rank, ranks.local_size
where = os.environ["SLURMD_NODENAME"], os.environ["KERAS_CANDLE_LAUNCHER"]
def saved(number, _):
    time.sleep(1)
    open(f"saved-{ranks.rank}", "w").close()
    sys.exit(75)
"""
WAITS = """
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
    signal.signal(number, saved)
ranks.barrier()
ranks.is_root and open("ready", "w").close()
time.sleep(120)
"""
UNTIL_READY = "for i in $(seq 600); do [ -e ready ] && break; sleep 0.1; done"


@pytest.fixture
def in_job(slurm, tmp_path):
    """Runs lines of shell in a job on two nodes; returns their output."""

    def run(body: str, *lines: str) -> str:
        (tmp_path / "train.py").write_text(PROGRAM + body)
        candle = f"{sys.executable} -m keras_candle"
        head = ("#!/bin/bash", "set -m", "unset OMP_NUM_THREADS", "shopt -s expand_aliases")
        text = [*head, f"alias candle='{candle}'", *lines]
        (tmp_path / "job.sh").write_text("\n".join(text) + "\n")
        job = slurm.submit("-N2", "--ntasks-per-node=2", "-o", "out", "job.sh", cwd=tmp_path)
        slurm.wait(job, "COMPLETED", "FAILED", timeout_s=90)
        return (tmp_path / "out").read_text()

    return run


def test_ranks_on_both_nodes(in_job):
    printed = in_job("print(*facts, *where)", "candle run -np 4 --all-output train.py")
    # On two nodes of one machine MPICH's start may fail, and is tried once more with a remark.
    assert sorted(line for line in printed.splitlines() if line.endswith(" srun")) == [
        "0: 0 4 0 2 n1 srun",
        "1: 1 4 1 2 n1 srun",
        "2: 2 4 0 2 n2 srun",
        "3: 3 4 1 2 n2 srun",
    ]


def test_root_reads_standard_input_and_writes_whole_lines(in_job):
    body = "print(sys.stdin.read() if ranks.is_root else len(sys.stdin.read()))"
    for _ in range(3):
        printed = in_job(body, "echo for root | candle run -np 2 train.py")
        if "tried once more" not in printed:  # the first start may have read it
            break
    assert printed.endswith("for root\n\n")


def test_a_failed_rank_ends_the_job_with_its_own_traceback(in_job):
    body = "ranks.rank == 3 and [][ranks.rank]\nranks.barrier()"
    printed = in_job(body, "candle run -np 4 train.py; echo code $?")
    *_, last, code = printed.splitlines()
    assert (last.startswith("candle: rank 3 (of 4, host"), code) == (True, "code 1"), printed
    assert printed.count("Traceback") == 1
    assert "\x1e" not in printed


def test_long_reports_of_all_ranks_at_once_stay_whole(in_job):
    body = "raise ValueError('x' * 900)"
    printed = in_job(body, "candle run -np 4 train.py; echo code $?")
    assert printed.endswith("code 1\n")
    assert printed.count("Traceback") == 1, printed
    assert "\x1e" not in printed


def test_code_75_waits_for_ranks_that_still_save(in_job):
    body = "ranks.is_root and time.sleep(2) or ranks.is_root and print('saved')\nsys.exit(75)"
    printed = in_job(body, "candle run -np 4 train.py; echo code $?")
    assert "saved" in printed.splitlines()
    assert printed.splitlines()[-1] == "code 75", printed


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_stop_signal_reaches_all_ranks(in_job, tmp_path, number):
    lines = ("candle run -np 4 train.py &", UNTIL_READY, f"kill -{int(number)} $!")
    printed = in_job(WAITS, *lines, "wait $!; echo code $?")
    assert printed.splitlines()[-1] == "code 75", printed
    assert len(list(tmp_path.glob("saved-*"))) == 4


def test_no_rank_outlives_candle_run(in_job):
    lines = ("candle run -np 4 train.py &", UNTIL_READY, "kill -9 $!; sleep 2")
    printed = in_job(WAITS, *lines, "squeue -h -s -j $SLURM_JOB_ID -o %j | grep -c candle-")
    assert printed.splitlines()[-1] == "0"


def test_lonely_tasks_are_refused_before_anything_is_imported(in_job, tmp_path):
    (tmp_path / "alone.py").write_text("import keras_candle\nprint('trains')\n")
    lines = (
        f"srun -n2 --mpi=none {sys.executable} {each}"
        for each in ("alone.py", "-m keras_candle.launch.rank alone.py")
    )
    printed = in_job("", *lines)
    assert printed.count("srun started 2 tasks") == 4
    assert "trains" not in printed
