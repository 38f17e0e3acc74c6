"""Starts of runs in one process: python -m tests.trackers.mlflow_starts kill|race DIRECTORY..."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from keras_candle.trackers.base import TrackedRun, make
from tests.trackers.cases import ROWS, run_in, track


def start(run):
    """A start in a child: its process id."""
    if child := os.fork():
        return child
    track(make("mlflow"), run, ROWS)
    os._exit(0)


def kill(directory, times=20):
    """Starts that are killed one after the other, each later than the one before."""
    for number in range(times):
        child = start(run_in(Path(directory)))
        time.sleep(0.6 * number / times)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), "it had ended before it was killed"


def race(*directories):
    """The trials of a search, at the same time; all must come to their end."""
    trials = [Path(each) for each in directories]
    children = [start(TrackedRun(t.name, t.name, t, t.parent, group="search")) for t in trials]
    assert [os.waitpid(each, 0)[1] for each in children] == [0] * len(children)


if __name__ == "__main__":
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401 - the children need it at once

    {"kill": kill, "race": race}[sys.argv[1]](*sys.argv[2:])
