"""A training on two ranks that ends too early: what is said, and the exit code."""

import os
import signal
import subprocess
import time

import pytest

from keras_candle.run_directory import RunDirectory
from tests.launch.conftest import CANDLE

TRAINING = """
import os, sys
import keras, numpy
import keras_candle as candle
class Up(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if batch == 3:
            open(f"up{candle.rank()}", "w").close()
keras.utils.set_random_seed(1)
model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
model.compile("sgd", "mse")
model = candle.scale(model, shard=False)
durable = [candle.CandleCallback("run")] if "durable" in sys.argv else []
def rows():
    for number in range(10**9):
        if number == 24 and f"leaves {candle.rank()}" in sys.argv:
            os._exit(0)
        yield numpy.ones((4, 3)), numpy.ones((4, 1))
model.fit(rows(), steps_per_epoch=9, epochs=10**6, verbose=0, callbacks=[Up(), *durable])
"""


@pytest.fixture
def start(tmp_path):
    jobs = []

    def start_job(engine, *arguments):
        (tmp_path / "train.py").write_text(TRAINING)
        job = subprocess.Popen(
            [*CANDLE, "run", "-np", "2", "--engine", engine, "train.py", *arguments],
            cwd=tmp_path,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        jobs.append(job)
        return job

    yield start_job
    for job in jobs:
        job.kill()  # its ranks end with it


@pytest.mark.parametrize(("engine", "rank"), [("horovod", 0), ("horovod", 1), ("mpi", 1)])
def test_a_rank_that_leaves_in_the_middle_of_a_step_is_named(engine, rank, start):
    job = start(engine, f"leaves {rank}")
    _, told = job.communicate(timeout=100)
    assert job.returncode == 1
    (said,) = [line for line in told.splitlines() if line.startswith("candle: ")]
    assert said.startswith(f"candle: rank {rank} (of 2, host ")
    assert "has left the job: its program ended with code 0 while rank" in said


@pytest.mark.parametrize(
    ("engine", "kind", "number", "code"),
    [
        ("horovod", "durable", signal.SIGTERM, 75),
        ("mpi", "durable", signal.SIGHUP, 75),
        ("mpi", "durable", signal.SIGINT, 130),
        ("horovod", "plain", signal.SIGTERM, 143),
        ("mpi", "plain", signal.SIGHUP, 129),
    ],
)
def test_the_exit_code_and_the_last_line_name_the_cause(
    engine, kind, number, code, start, tmp_path
):
    job = start(engine, kind)
    deadline_s = time.monotonic() + 120
    while not ((tmp_path / "up0").exists() and (tmp_path / "up1").exists()):
        assert job.poll() is None
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    job.send_signal(number)
    _, told = job.communicate(timeout=60)
    assert job.returncode == code
    said = f"candle: stopped by {number.name}"
    if code == 75:
        assert list((tmp_path / "run").glob("checkpoints/*"))
        *_, stop, last = RunDirectory(tmp_path / "run").events()
        assert (stop["event"], last["event"], last["step"]) == ("stop", "exit", stop["step"])
        # On an idle machine it is 0.4 s; the interpreter's own end alone took 9 s under load.
        assert 0 < last["seconds"] < 40
        said += "; saved, to be run again (75)"
    assert [line for line in told.splitlines() if line.startswith("candle: ")] == [said]
