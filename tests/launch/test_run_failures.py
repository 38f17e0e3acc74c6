"""However a rank fails, the job ends with its code and says once, at the end, what happened."""

import re
import subprocess
import sys

import pytest

from keras_candle.cluster.mpi_library import find_mpiexec

MPI = "from mpi4py import MPI; world = MPI.COMM_WORLD; world.barrier()\n"
BEFORE_MPI = "if rank == 1: FAIL\nfrom mpi4py import MPI; MPI.COMM_WORLD.barrier()\n"
IN_COLLECTIVE = MPI + "if rank == 1: FAIL\nworld.barrier()\n"
WITHOUT_MPI = "if rank == 1: FAIL\ntime.sleep(60)\n"
WHERE = {"before": BEFORE_MPI, "collective": IN_COLLECTIVE, "without": WITHOUT_MPI}
HOW = {
    "raise ValueError('no column x')": (1, r"rank 1 \(of 2, host \S+\) failed: ValueError: no"),
    "sys.exit(3)": (3, r"rank 1 \(of 2, host \S+\) exited with code 3"),
    "sys.exit('no data')": (1, r"rank 1 \(of 2, host \S+\) failed: no data"),
    "os._exit(4)": (4, r"rank 1 \(of 2, host \S+\) exited with code 4"),
    "os.kill(os.getpid(), 9)": (137, r"rank 1 \(of 2, host \S+, pid \d+\) was killed by SIGKILL"),
    "os.abort()": (134, r"rank 1 \(of 2, host \S+, pid \d+\) was killed by SIGABRT"),
}


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("how", HOW)
def test_a_failed_rank_ends_the_job_and_is_named_last(candle, script, where, how):
    code, sentence = HOW[how]
    done = candle("run", "-np", "2", script(WHERE[where].replace("FAIL", how)))
    assert done.returncode == code
    assert re.search(sentence, done.stderr.splitlines()[-1])
    assert "BAD TERMINATION" not in done.stdout + done.stderr


@pytest.mark.parametrize("rank", [0, 1])
def test_the_traceback_is_printed_once_without_the_bootstrap(candle, script, rank):
    done = candle("run", "-np", "2", script(f"def f(): return 1 / 0\nif rank == {rank}: f()\n"))
    assert done.stderr.count("Traceback (most recent call last)") == 1
    assert done.stderr.count("ZeroDivisionError: division by zero") == 2  # traceback and sentence
    assert "runpy" not in done.stderr
    assert "keras_candle" not in done.stderr
    assert 'program.py", line 3, in f' in done.stderr


def test_equal_failures_of_all_ranks_are_reported_once(candle, script):
    done = candle("run", "-np", "3", script("raise RuntimeError('everywhere')\n"))
    assert done.stderr.count("Traceback") == 1
    assert done.stderr.count("candle: ") == 1


def test_one_traceback_of_each_node_travels(script, tmp_path):
    program = script(MPI + "raise RuntimeError('everywhere')\n")
    hosts = ("-hosts", "localhost:4,127.0.0.1:4")
    done = subprocess.run(
        [
            find_mpiexec(),
            "-n",
            "8",
            *hosts,
            sys.executable,
            "-m",
            "keras_candle.launch.rank",
            program,
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert 1 <= done.stderr.count("Traceback") <= 2
    assert "failed: RuntimeError: everywhere" in done.stderr


def test_the_earliest_failure_is_the_cause(candle, script):
    later = "signal.signal(signal.SIGTERM, lambda *_: None)\ntime.sleep(0.4 * (2 - rank))\n"
    done = candle("run", "-np", "3", script(later + "raise ValueError(rank)\n"))
    assert "rank 2 (of 3" in done.stderr.splitlines()[-1]


def test_the_last_output_of_a_silent_rank_is_shown(candle, script):
    body = "print('reading shard', rank, flush=True)\nif rank == 1: os.kill(os.getpid(), 11)\n"
    done = candle("run", "-np", "2", script(body + "time.sleep(60)\n"))
    assert "reading shard 1" in done.stderr
    assert "Segmentation fault" in done.stderr  # and where in Python


def test_an_error_in_syntax_is_shown_as_python_shows_it(candle, script):
    done = candle("run", "-np", "2", script("x = = 3\n"))
    assert "    x = = 3\n" in done.stderr
    assert done.stderr.splitlines()[-1].endswith("SyntaxError: invalid syntax")


def test_a_second_node_is_no_different(candle, script):
    program = script(IN_COLLECTIVE.replace("FAIL", "os.kill(os.getpid(), 9)"))
    done = candle("run", "-np", "2", "--hosts", "localhost:1,127.0.0.1:1", program)
    assert done.returncode == 137
    assert "rank 1 (of 2" in done.stderr.splitlines()[-1]


def test_a_rank_that_ends_well_first_ends_no_other(candle, script):
    body = MPI + "if rank == 0:\n    time.sleep(0.5)\n    print('finished')\n"
    done = candle("run", "-np", "3", script(body))
    assert (done.returncode, done.stdout, done.stderr) == (0, "finished\n", "")


@pytest.mark.parametrize("where", WHERE)
def test_the_bootstrap_alone_under_a_bare_mpiexec(script, tmp_path, where):
    program = script(WHERE[where].replace("FAIL", "raise ValueError('no column x')"))
    done = subprocess.run(
        [find_mpiexec(), "-n", "2", sys.executable, "-m", "keras_candle.launch.rank", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.count("Traceback") == 1
    assert "rank 1 (of 2" in done.stderr.splitlines()[-1]


STARTS = """
from keras_candle import launcher_messages
launcher_messages.observers[0].begin_collective("start of the mpi engine", ())
open(f"start-{rank}", "a").write("x")
time.sleep(0.2)
rank == 1 and FAIL
rank == 1 and open("met", "w").close()
while not os.path.exists("met"):
    time.sleep(0.02)
launcher_messages.observers[0].end_collective()
rank == 0 and print("trained")
"""


@pytest.mark.parametrize("how", ["os.abort()", "os._exit(15)"])
def test_a_start_that_mpi_ends_is_tried_once_more(candle, script, tmp_path, how):
    fails_once = f"os.path.getsize('start-1') == 1 and {how}"
    done = candle("run", "-np", "2", script(STARTS.replace("FAIL", fails_once)))
    assert (done.returncode, done.stdout) == (0, "trained\n"), done.stderr
    assert done.stderr.rstrip().endswith("while MPI started: the start is tried once more")


def test_a_start_is_not_tried_a_third_time(candle, script, tmp_path):
    done = candle("run", "-np", "2", script(STARTS.replace("FAIL", "os._exit(15)")))
    assert done.returncode == 15
    assert done.stderr.count("tried once more") == 1
    assert (tmp_path / "start-1").read_text() == "xx"


def test_what_the_program_does_at_the_start_is_not_repeated(candle, script, tmp_path):
    for how in ("[][0]", "sys.exit(3)", "os.kill(os.getpid(), 9)"):
        done = candle("run", "-np", "2", script(STARTS.replace("FAIL", how)))
        assert done.returncode
        assert "tried" not in done.stderr
