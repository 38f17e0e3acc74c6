"""`candle run` with the MPI of this Python. `make mpis`: with Open MPI and Intel MPI too."""

import subprocess
import sys

import pytest

from keras_candle.cluster.mpi_library import find_mpiexec, loaded_library

PROGRAM = """
import os, sys, time
from keras_candle import engine
ranks = engine.start("mpi")
total = float(ranks.allreduce(1.0))
"""


@pytest.fixture
def ranks_run(tmp_path, candle):
    """Runs a program on 3 ranks, more than there may be cores."""

    def run(body, *options, **variables):
        (tmp_path / "train.py").write_text(PROGRAM + body)
        root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
        return candle("run", "-np", "3", *options, "train.py", **root, **variables)

    return run


def test_the_ranks_meet(ranks_run):
    done = ranks_run("print(ranks.size, total, ranks.local_size)", "--all-output")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("3 3.0 3") == 3


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        ("ranks.rank == 1 and [][0]\nranks.barrier()", 1, "failed: IndexError"),
        ("ranks.rank == 1 and sys.exit(3)\nranks.barrier()", 3, "exited with code 3"),
        ("ranks.rank == 1 and os.kill(os.getpid(), 9)\nranks.barrier()", 137, "by SIGKILL"),
    ],
)
def test_a_failed_rank_ends_the_job(ranks_run, body, code, words):
    done = ranks_run(body)
    assert done.returncode == code, done.stderr
    assert words in done.stderr.splitlines()[-1]
    assert "rank 1 (of 3" in done.stderr.splitlines()[-1]


def test_code_75_waits_for_ranks_that_still_save(ranks_run):
    done = ranks_run("if ranks.is_root:\n    time.sleep(2)\n    print('saved')\nsys.exit(75)")
    assert (done.returncode, done.stdout) == (75, "saved\n"), done.stderr


def test_hosts_that_are_this_node(ranks_run):
    done = ranks_run("ranks.is_root and print(total)", "--hosts", "localhost:3")
    assert (done.returncode, done.stdout) == (0, "3.0\n"), done.stderr


def test_the_mpiexec_is_that_of_the_library():
    found = subprocess.run(
        [find_mpiexec(), "--version"], capture_output=True, text=True, check=False
    )
    words = {"MPICH": "HYDRA", "Open MPI": "Open MPI", "Intel MPI": "Intel"}
    assert words[loaded_library().family] in found.stdout
    assert str(find_mpiexec()).startswith(sys.prefix)
