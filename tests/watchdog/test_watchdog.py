"""Jobs that stand still: found, reported once, and ended with everything that belongs to them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

STAND_STILL = """
import ctypes, os, signal, sys, threading, time
def stand_still(how):
    if how == "stopped":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif how == "in Python":
        threading.Event().wait()
    else:
        ctypes.PyDLL(None).sleep(100)
"""
TRAINING = (
    STAND_STILL
    + """
import keras, numpy
import keras_candle as candle
how, rank, run = sys.argv[1], int(sys.argv[2]), sys.argv[3]
class My(keras.callbacks.Callback):
    batches = 0
    def on_train_batch_end(self, batch, logs=None):
        self.batches += 1
        if self.batches == 6 and candle.rank() == rank:
            stand_still(how)
keras.utils.set_random_seed(1)
model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
model.compile("sgd", "mse")
model = candle.scale(model)
x, y = numpy.ones((32, 3)), numpy.ones((32, 1))
durable = candle.CandleCallback(run, stall_timeout=2.0)
model.fit(x, y, batch_size=4, epochs=999, verbose=0, callbacks=[My(), durable])
"""
)
# The ranks of a job as the watchdog sees them, without the time that TensorFlow takes.
RANKS = (
    STAND_STILL
    + """
from pathlib import Path
from mpi4py import MPI
from keras_candle.watchdog import board
from keras_candle.watchdog.watch import Watch
how, rank, run = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
world = MPI.COMM_WORLD
watch = Watch(world.rank, 1.5, run, on_one_node=True)
watch.connect(world.bcast(watch.address() if world.rank == 0 else None))
if how == "leaves" and world.rank == rank:
    watch.stop()
    time.sleep(60)
for step in range(1000):
    watch.board.beat(0, step, board.IN_STEP)
    watch.board.begin_collective(f"barrier {step}")
    world.barrier()
    watch.board.beat(0, step, board.IN_CALLBACKS)
    time.sleep(0.01)
    if how == "ends" and step == 30:
        break
    if step == 20 and world.rank == rank and how not in ("slow", "ends"):
        stand_still(how)
    if step == 20 and how == "slow":
        time.sleep(1.0)
watch.stop()
"""
)


def candle_run(folder, size, script, *arguments, engine="mpi"):
    """The job's exit code and stderr."""
    (folder / "job.py").write_text(script)
    run = folder / "run"
    run.mkdir()
    command = [sys.executable, "-m", "keras_candle.launch.cli", "run", "-np", str(size)]
    command += ["--engine", engine, "job.py", *arguments, str(run)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "2"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=100,
        check=False,
    )  # fmt: skip
    return done.returncode, done.stderr


def left_over(folder):
    """Processes that have something to do with a job."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline") as file:
                found += [pid] if str(folder) in file.read() else []
        except OSError:  # it has just ended
            pass
    return found


@pytest.mark.parametrize("how", ["stopped", "in Python", "holds the lock"])
@pytest.mark.parametrize("rank", [0, 2])
def test_the_rank_that_stands_still_is_named(how, rank, tmp_path):
    code, told = candle_run(tmp_path, 3, RANKS, how, str(rank))
    assert code == 124
    assert told.count("no progress for") == 1
    assert f"The others wait for rank {rank}: in the callbacks after step 21" in told
    assert "last collective: barrier 21" in told
    stacks = told[told.index(f"--- stacks of rank {rank}") :]
    assert stacks.index("in stand_still") < stacks.index("--- stacks of rank", 5)
    assert "has ended the job; its report stands above" in told.splitlines()[-1]
    (report,) = (tmp_path / "run").glob("stall-*.txt")
    assert report.read_text() in told
    assert (
        f'"event": "stall", "report": "{report.name}"'
        in (tmp_path / "run/journal.jsonl").read_text()
    )
    assert left_over(tmp_path) == []


@pytest.mark.parametrize("how", ["slow", "ends"])
def test_a_job_that_goes_on_is_left_alone(how, tmp_path):
    script = RANKS.replace("range(1000)", "range(40)")
    assert candle_run(tmp_path, 2, script, how, "1") == (0, "")
    assert list((tmp_path / "run").iterdir()) == []


def test_a_rank_that_has_left_is_not_taken_for_one_that_stands_still(tmp_path):
    code, told = candle_run(tmp_path, 3, RANKS, "leaves", "1")
    assert code == 124
    assert "rank 1: out of the training" in told
    assert "ranks 0, 2: in step 1 of the run" in told


@pytest.mark.parametrize(
    ("engine", "size", "how", "rank"),
    [("mpi", 2, "stopped", 1), ("horovod", 2, "holds the lock", 0), ("single", 1, "in Python", 0)],
)
def test_a_training(engine, size, how, rank, tmp_path):
    engine = "auto" if engine == "single" else engine
    code, told = candle_run(tmp_path, size, TRAINING, how, str(rank), engine=engine)
    assert code == 124
    who = "The others wait for" if size > 1 else "It is"
    assert f"{who} rank {rank}: in the callbacks after step 6 of the run" in told
    assert "in stand_still" in told
    assert left_over(tmp_path) == []
