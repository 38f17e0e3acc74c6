"""`candle run --max-restarts` while a host cannot be reached."""

from __future__ import annotations

import signal

import pytest

from tests.cluster import network as networks

# A "training" of 10 steps with a checkpoint after each; its first start fails when the link is cut.
TRAINING = """
import os, sys, time
from keras_candle.launcher_messages import notify_checkpoint, restarts
from mpi4py import MPI
world = MPI.COMM_WORLD
saved = int(open("saved").read()) if os.path.exists("saved") else 0
for step in range(saved + 1, 11):
    world.barrier()
    if world.rank == 0:
        if restarts() == 0 and step == 4:
            print("trains", flush=True)
            while not os.path.exists("cut"):
                time.sleep(0.01)
            sys.exit(3)
        with open("saved", "w") as file:
            file.write(str(step))
        notify_checkpoint(step)
if world.rank == 0:
    print("steps", step, "restarts", restarts())
"""
UNREACHABLE = "candle: host node2 cannot be reached; tried again in 5 s, and for "


@pytest.fixture(scope="module")
def network():
    with networks.connected(2) as found:
        yield found


@pytest.fixture
def job(network, tmp_path):
    """Starts a job that loses the link to its second host, and restarts."""

    def start(*options):
        (tmp_path / "training.py").write_text(TRAINING)
        hosts = ("--hosts", "node1:1,node2:1")
        command = ("candle", "run", "-np", "2", *hosts, *options, "training.py")
        started = network.start(*command, cwd=tmp_path)
        assert started.stdout.readline() == "trains\n"
        network.cut("node2")
        (tmp_path / "cut").touch()
        return started

    yield start
    network.mend("node2")


def read_until(stream, text):
    lines = []
    for line in stream:
        lines.append(line)
        if text in line:
            return lines
    raise AssertionError(f"{text!r} is not in {lines}")


def test_a_host_that_comes_back(network, job):
    started = job("--max-restarts", "1")
    lines = read_until(started.stderr, UNREACHABLE)
    assert "candle: started again (1 of at most 1) from the checkpoint of step 3\n" in lines
    network.mend("node2")
    told, _ = started.communicate(timeout=60)
    assert (started.returncode, told) == (0, "steps 10 restarts 1\n")


def test_a_host_that_does_not(job):
    started = job("--max-restarts", "3", "--restart-patience", "0.5")
    _, told = started.communicate(timeout=60)
    assert started.returncode == 3
    assert told.endswith(
        "candle: not started again: host node2 could not be reached within 0.5 s "
        "(--restart-patience)\n"
    )


def test_a_signal_in_the_meantime(job):
    started = job("--max-restarts", "3")
    read_until(started.stderr, UNREACHABLE)
    started.send_signal(signal.SIGUSR1)
    _, told = started.communicate(timeout=60)
    assert started.returncode == 75
    assert told.startswith("candle: stopped by SIGUSR1 while no rank ran")
