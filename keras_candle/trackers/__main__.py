"""The tracker process, started by `TrackerProcess`; JSON lines on its input and output."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import os
import select
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from keras_candle.trackers.base import FAILED, TrackedRun, make
from keras_candle.trackers.reconciler import Reconciler

_LOOK_EVERY_S = 0.2
# Time to finish after root has stopped waiting.
_LINGER_S = 60.0
# Importing packages takes seconds of processor time; the training has priority.
_NICE = 5
# Processor time that counts as progress.
_WORKS_S = 0.1
_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


class ProgressReporter:
    """Sends messages to root; without effect when root has ended."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._lock, self._last_s = descriptor, threading.Lock(), 0.0

    def send(self, **message: Any) -> None:
        """Send a message."""
        with self._lock, contextlib.suppress(OSError):
            os.write(self._descriptor, json.dumps(message).encode() + b"\n")

    def progress(self) -> None:
        """Report progress, at most once a second."""
        if time.monotonic() - self._last_s > 1:
            self._last_s = time.monotonic()
            self.send()


class RunLock:
    """A lock on a run's trackers, which an earlier tracker process may still hold."""

    def __init__(self, path: Path, progress: Callable[[], object]) -> None:
        self._path, self._lock, self._progress = path, threading.Lock(), progress
        self._descriptor: int | None = None

    def wait(self) -> None:
        """Wait until the lock is acquired."""
        with self._lock:
            while self._descriptor is None:
                descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    os.close(descriptor)
                    self._progress()
                    time.sleep(_LOOK_EVERY_S)
                    continue
                except OSError:  # a file system without locks
                    pass
                self._descriptor = descriptor

    def release(self) -> None:
        """Release the lock."""
        if self._descriptor is not None:
            os.close(self._descriptor)


class TrackedAttempt:
    """The trackers of one attempt of a run, from `open` to `close`."""

    def __init__(self, message: dict[str, Any], reporter: ProgressReporter) -> None:
        self._reporter = reporter
        directory = Path(message["open"]["directory"])
        self._lock = RunLock(directory / ".trackers.lock", reporter.progress)
        self._reconcilers = [
            Reconciler(
                make(name),
                name,
                TrackedRun.from_json(message["open"], functools.partial(self._report, name)),
                Path(message["journal"]),
                every_s=_LOOK_EVERY_S,
                ready=self._lock.wait,
                progress=reporter.progress,
            )
            for name in message["names"]
        ]

    def end(self, status: str) -> bool:
        """End all trackers; return whether they ended in time."""
        for each in self._reconcilers:
            each.end(status)
        deadline_s = time.monotonic() + _LINGER_S
        waiting = list(self._reconcilers)
        worked_s = time.process_time()
        while waiting and time.monotonic() < deadline_s:
            for each in list(waiting):
                if each.has_ended(0.02):
                    waiting.remove(each)
                    self._reporter.send(closed=each.name)
            # Importing a package or creating a database is progress; waiting for a server is not.
            if time.process_time() - worked_s > _WORKS_S:
                worked_s = time.process_time()
                self._reporter.progress()
        if not waiting:
            self._lock.release()
        return not waiting

    def _report(self, name: str, text: str) -> None:
        self._reporter.send(name=name, tell=text)


def main() -> int:
    """Track runs one at a time until root closes the pipe; return the exit code."""
    os.nice(_NICE)
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    # Packages must neither print to root nor read from it.
    commands, reporter = os.dup(0), ProgressReporter(os.dup(1))
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)
    current: TrackedAttempt | None = None
    for message in _received(commands):
        if "open" in message:
            os.environ.clear()
            os.environ.update(message["environment"], TMPDIR=tempfile.gettempdir())
            current = TrackedAttempt(message, reporter)
        elif current is not None:
            if not current.end(message["close"]):
                return 1
            current = None
    return 0 if current is None or current.end(FAILED) else 1


def _received(commands: int) -> Iterator[dict[str, Any]]:
    """Yield root's messages until root closes the pipe or ends: a child may hold the pipe open."""
    root, held = os.getppid(), b""
    while os.getppid() == root:
        if not select.select([commands], [], [], 1.0)[0]:
            continue
        data = os.read(commands, 65536)
        if not data:
            return
        *lines, held = (held + data).split(b"\n")
        yield from map(json.loads, lines)


if __name__ == "__main__":
    # For temporary files of the packages; removed with this process.
    tempfile.tempdir = folder = tempfile.mkdtemp(prefix="keras_candle-trackers-")
    code = main()
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(code)  # without waiting for threads of the packages
