"""Jobs that stand still: found, reported once, and ended with everything that belongs to them."""

from __future__ import annotations

import os
import subprocess
import sys
import time

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
from keras_candle.watchdog import heartbeat
from keras_candle.watchdog.rank_watch import RankWatch
how, rank, run = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
world = MPI.COMM_WORLD
watch = RankWatch(
    world.rank, 1.5, run, local_rank=world.rank, on_one_node=True, lost_s=60.0
)
watch.connect(world.bcast(watch.address() if world.rank == 0 else None))
if how == "leaves" and world.rank == rank:
    watch.stop()
    time.sleep(60)
for step in range(1000):
    watch.board.beat(0, step, heartbeat.IN_STEP)
    watch.board.begin_collective(f"barrier {step}", ())
    world.barrier()
    watch.board.end_collective()
    watch.board.beat(0, step, heartbeat.IN_CALLBACKS)
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


def left_over(folder, within_s=10.0):
    """Processes of a job that are still there when they have had time to end.

    A killed process is there until the system has freed its memory, and a rank's watcher ends when
    it notices that its rank is gone.
    """
    deadline_s = time.monotonic() + within_s
    while (found := processes_of(folder)) and time.monotonic() < deadline_s:
        time.sleep(0.1)
    return found


def processes_of(folder):
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
def test_the_stalled_rank_is_named(how, rank, tmp_path):
    code, told = candle_run(tmp_path, 3, RANKS, how, str(rank))
    assert code == 124
    assert told.count("no progress for") == 1
    assert f"The others wait for rank {rank}: in the callbacks after step 21" in told
    assert "last collective: barrier 21" in told
    stacks = told[told.index(f"--- stacks of rank {rank}") :]
    assert stacks.index("in stand_still") < stacks.index("--- stacks of rank", 5)
    *_, reported, last = told.splitlines()
    verdict = f"rank {rank} made no progress in the callbacks after step 21 of the run"
    assert reported.startswith(f"keras_candle: {verdict}")
    assert last.startswith(f"candle: the watchdog ended the job: {verdict}")
    assert "at job.py, line " in last
    assert "in stand_still" in last
    (report,) = (tmp_path / "run").glob("stall-*.txt")
    assert report.read_text() in told
    assert (
        f'"event": "stall", "report": "{report.name}"'
        in (tmp_path / "run/journal.jsonl").read_text()
    )
    assert left_over(tmp_path) == []


@pytest.mark.parametrize("how", ["slow", "ends"])
def test_a_job_with_progress_is_left_alone(how, tmp_path):
    script = RANKS.replace("range(1000)", "range(40)")
    assert candle_run(tmp_path, 2, script, how, "1") == (0, "")
    assert list((tmp_path / "run").iterdir()) == []


def test_a_rank_that_has_left_is_not_a_stalled_one(tmp_path):
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


LOADER = (
    STAND_STILL
    + """
import keras, numpy
import keras_candle as candle
how, rank, run = sys.argv[1], int(sys.argv[2]), sys.argv[3]
lock = threading.Lock()
lock.acquire()
def rows():
    for number in range(10**6):
        if number == 24 and candle.rank() == rank and how == "loader":
            lock.acquire()  # of the loader
        yield numpy.ones((4, 3)), numpy.ones((4, 1))
class My(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if batch == 6 and candle.rank() == rank and how == "callback":
            lock.acquire()  # of the callback
keras.utils.set_random_seed(1)
model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
model.compile("sgd", "mse")
model = candle.scale(model, shard=False)
durable = candle.CandleCallback(run, stall_timeout=4.0)
model.fit(rows(), steps_per_epoch=99, epochs=9, verbose=0, callbacks=[My(), durable])
"""
)


@pytest.mark.parametrize(
    ("engine", "how", "rank"),
    [
        ("horovod", "loader", 1),
        ("horovod", "loader", 2),
        ("mpi", "loader", 1),
        ("horovod", "callback", 2),
        ("mpi", "callback", 0),
    ],
)
def test_the_last_line_names_the_stalled_rank_and_its_place(engine, how, rank, tmp_path):
    code, told = candle_run(tmp_path, 3, LOADER, how, str(rank), engine=engine)
    assert code == 124
    lines = LOADER.splitlines()
    line = next(i for i, each in enumerate(lines, 1) if each.endswith(f"# of the {how}"))
    name = {"loader": "rows", "callback": "on_train_batch_end"}[how]
    *_, reported, last = told.splitlines()
    for each in (reported, last):
        assert f" rank {rank} made no progress in " in each
        assert f", at job.py, line {line}, in {name} (host" in each
