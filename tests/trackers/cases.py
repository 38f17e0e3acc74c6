"""Runs without a training: a journal, and trackers that do what a test needs."""

from __future__ import annotations

import resource
import socket
import time
from contextlib import contextmanager

from keras_candle.run_directory import RunDirectory
from keras_candle.trackers.base import TrackedRun, Tracker
from keras_candle.trackers.reconciler import Reconciler

# What 32 bits hold exactly: TensorBoard has no more.
ROWS = {4: {"epoch": 1, "loss": 0.5}, 8: {"epoch": 2, "loss": 0.1875, "val_loss": 2.0**-20}}
MORE = {12: {"epoch": 3, "loss": 2.0**-30, "val_loss": -3.0}}


def run_in(directory, said=None, **facts):
    tell = (lambda text: None) if said is None else said.append
    return TrackedRun("0123456789abcdef", directory.name, directory, directory, tell=tell, **facts)


def note(directory, rows, fit=0):
    for step, values in rows.items():
        logs = {name: value for name, value in values.items() if name != "epoch"}
        RunDirectory(directory).log_event(
            "epoch", fit=fit, epoch=values["epoch"], step=step, logs=logs
        )


def track(tracker, run, rows, status="finished"):
    """A start of a run, from its first line to its last. Returns what the tracker held before."""
    held = tracker.start(run)
    tracker.log_config(run.config)
    for step, values in rows.items():
        tracker.log(values, step)
    tracker.close(status)
    return held


def reconcile(directory, tracker, said, within_s=10.0):
    """A tracker fed from the journal to its end. Returns whether it came there in time."""
    run = run_in(directory, said)
    own = Reconciler(tracker, type(tracker).__name__, run, directory / "journal.jsonl")
    own.end("finished")
    return own.has_ended(within_s)


class Recorder(Tracker):
    """Keeps all in memory."""

    def __init__(self):
        self.rows, self.config, self.files, self.status = [], {}, [], None

    def log(self, values, step):
        self.rows.append((step, dict(values)))

    def log_config(self, config):
        self.config = config

    def log_file(self, path):
        self.files.append(path.name)

    def close(self, status):
        self.status = status


class Failing(Recorder):
    """Raises so many times."""

    def __init__(self, times):
        super().__init__()
        self.left = times

    def log(self, values, step):
        self.left -= 1
        if self.left >= 0:
            raise ValueError("no room")
        super().log(values, step)


class Hanging(Recorder):
    def log(self, values, step):
        time.sleep(3600)


@contextmanager
def room_for(size):
    """No file of this process may be larger: a write goes as far as it can, and fails."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@contextmanager
def black_hole():
    """A port that answers nothing, not even that a connection is there."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        held = [socket.socket() for _ in range(4)]
        for each in held:
            each.setblocking(False)
            each.connect_ex(server.getsockname())
        yield server.getsockname()[1]
        for each in held:
            each.close()


@contextmanager
def mute_server():
    """A port where a connection is there at once, and then nothing comes."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield server.getsockname()[1]


@contextmanager
def nobody():
    """A port where nobody is."""
    yield refused()


def refused():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]
