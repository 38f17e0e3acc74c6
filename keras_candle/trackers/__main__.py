"""The courier: python -m keras_candle.trackers, started by `Courier`; JSON lines in and out."""

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

from keras_candle.trackers.base import FAILED, TrackedRun
from keras_candle.trackers.names import make
from keras_candle.trackers.reconciler import Reconciler

_LOOK_EVERY_S = 0.2
# When nobody waits any more.
_LINGER_S = 60.0
# Importing packages takes seconds of a processor's time, which the training has first.
_NICE = 5
# So much of a processor's time is a sign of life.
_WORKS_S = 0.1
_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


class ProgressReporter:
    """Sends messages to root; where root is gone, nowhere."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._lock, self._last_s = descriptor, threading.Lock(), 0.0

    def send(self, **message: Any) -> None:
        """Send one."""
        with self._lock, contextlib.suppress(OSError):
            os.write(self._descriptor, json.dumps(message).encode() + b"\n")

    def progress(self) -> None:
        """Something went forward; one in a second says enough."""
        if time.monotonic() - self._last_s > 1:
            self._last_s = time.monotonic()
            self.send()


class RunLock:
    """The right to bring one run's numbers: another courier of it may still be on its way."""

    def __init__(self, path: Path, progress: Callable[[], object]) -> None:
        self._path, self._lock, self._progress = path, threading.Lock(), progress
        self._descriptor: int | None = None

    def wait(self) -> None:
        """Wait for it."""
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

    def give_up(self) -> None:
        """Let another one have it."""
        if self._descriptor is not None:
            os.close(self._descriptor)


class TrackedAttempt:
    """One run's trackers, from `open` to `close`."""

    def __init__(self, message: dict[str, Any], told: ProgressReporter) -> None:
        self._told = told
        directory = Path(message["open"]["directory"])
        self._claim = RunLock(directory / ".trackers.lock", told.progress)
        self._mirrors = [
            Reconciler(
                make(name),
                name,
                TrackedRun.from_json(message["open"], functools.partial(self._report, name)),
                Path(message["journal"]),
                every_s=_LOOK_EVERY_S,
                ready=self._claim.wait,
                progress=told.progress,
            )
            for name in message["names"]
        ]

    def end(self, status: str) -> bool:
        """End all of them; returns whether they did."""
        for each in self._mirrors:
            each.end(status)
        deadline_s = time.monotonic() + _LINGER_S
        waiting = list(self._mirrors)
        worked_s = time.process_time()
        while waiting and time.monotonic() < deadline_s:
            for each in list(waiting):
                if each.has_ended(0.02):
                    waiting.remove(each)
                    self._told.send(closed=each.name)
            # Who imports a package or makes a database works; who waits for a server does not.
            if time.process_time() - worked_s > _WORKS_S:
                worked_s = time.process_time()
                self._told.progress()
        if not waiting:
            self._claim.give_up()
        return not waiting

    def _report(self, name: str, text: str) -> None:
        self._told.send(name=name, tell=text)


def main() -> int:
    """Bring one run after the other, until root closes its end. Returns the exit code."""
    os.nice(_NICE)
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    # What a package prints or asks is not for root.
    commands, told = os.dup(0), ProgressReporter(os.dup(1))
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)
    current: TrackedAttempt | None = None
    for message in _received(commands):
        if "open" in message:
            os.environ.clear()
            os.environ.update(message["environment"], TMPDIR=tempfile.gettempdir())
            current = TrackedAttempt(message, told)
        elif current is not None:
            if not current.end(message["close"]):
                return 1
            current = None
    return 0 if current is None or current.end(FAILED) else 1


def _received(commands: int) -> Iterator[dict[str, Any]]:
    """Root's messages, until it closes its end or is gone: a process of its may hold the pipe."""
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
    # Where packages put what they need for a while; it goes with this process.
    tempfile.tempdir = folder = tempfile.mkdtemp(prefix="keras_candle-trackers-")
    code = main()
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(code)  # nothing here is worth waiting for
