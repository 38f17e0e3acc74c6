"""A run directory: its file names, its lock and its journal.

job.json          of a submitted job: its folder, id and element
config.json       the run's arguments
journal.jsonl     append-only log of events, one line each
performance.json  throughput, and where the time went
checkpoints/      one folder for each checkpoint, see keras_candle.checkpoints
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from keras_candle.errors import CheckpointError

CHECKPOINTS, JOURNAL, PERFORMANCE = "checkpoints", "journal.jsonl", "performance.json"
# Returns the absolute path of a run directory. `candle verify-resume` redirects it into a copy of
# the user's folder.
resolve: Callable[[Path], Path] = Path.absolute
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


class RunDirectory:
    """The directory of one run, which one process at a time may lock.

    Args:
        path: the directory. It is not created or opened before `acquire`.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = resolve(Path(path))
        self.config = self.path / "config.json"
        self.job = self.path / "job.json"
        self.journal = self.path / JOURNAL
        self.performance = self.path / PERFORMANCE
        self.checkpoints = self.path / CHECKPOINTS
        self._lock: int | None = None

    def acquire(self, warn: Callable[[str], Any], patience_s: float = 0.0) -> None:
        """Create the directory and lock it, so that no second process writes there.

        Args:
            warn: called with a message where the file system has no locks.
            patience_s: how long to wait for another process to release it.

        Raises:
            CheckpointError: when it cannot be written, or another process has locked it.
        """
        lock = self.path / ".lock"
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            _try_to_write(self.checkpoints)
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as cause:
            raise CheckpointError(
                f"The run directory {self.path} cannot be written ({cause}). Use a writable one."
            ) from cause
        try:
            _lock(descriptor, patience_s)
        except OSError as cause:
            if cause.errno in _NO_LOCKS:
                warn(f"{self.path} is on a file system without locks: let one job write there.")
            else:
                owner = os.pread(descriptor, 1000, 0).decode(errors="replace").strip()
                os.close(descriptor)
                raise CheckpointError(
                    f"The run directory {self.path} belongs to a run that has not ended "
                    f"({owner or 'its process is unknown'}). Wait for it, end it, or use another "
                    "directory."
                ) from cause
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"host {socket.gethostname()}, pid {os.getpid()}".encode(), 0)
        self._lock = descriptor

    def release(self) -> None:
        """Release the lock."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def log_event(self, event: str, **facts: Any) -> None:
        """Append a line to the journal.

        Args:
            event: name of the event, one word.
            **facts: JSON values.

        Raises:
            OSError: when it cannot be written.
        """
        line = json.dumps({"time_s": round(time.time(), 3), "event": event, **facts}) + "\n"
        # One write: a line is complete, or its missing end shows to the next reader.
        descriptor = os.open(self.journal, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            size = os.fstat(descriptor).st_size
            is_cut = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
            content = b"\n" * is_cut + line.encode()
            if os.write(descriptor, content) < len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(descriptor)

    def events(self) -> list[dict[str, Any]]:
        """Return the journal's events, without lines that are truncated or not events."""
        return _events(self._lines())

    def events_of_attempts(self) -> list[dict[str, Any]]:
        """Return the events in which fits begin, and the last ones before these and of the end."""
        lines = self._lines()
        ends = [place for place, line in enumerate(lines) if '"event": "begin"' in line]
        # The last line of an attempt may be truncated.
        near = {place - back for place in (*ends, len(lines)) for back in range(3)}
        return _events(line for place, line in enumerate(lines) if place in near)

    def _lines(self) -> list[str]:
        try:
            return self.journal.read_text(errors="replace").splitlines()
        except FileNotFoundError:
            return []


def _events(lines: Iterable[str]) -> list[dict[str, Any]]:
    found = []
    for line in lines:
        with contextlib.suppress(ValueError, RecursionError):
            found.append(json.loads(line))
    return [each for each in found if isinstance(each, dict) and "time_s" in each]


def replace_file(path: Path, content: bytes, *, durable: bool = False) -> None:
    """Write or replace a file atomically: a reader sees the earlier or the new content.

    Args:
        path: the file.
        content: its new content.
        durable: whether to wait until it is on the disk.

    Raises:
        OSError: when it cannot be written; the earlier file stays.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_bytes(content)
        if durable:
            sync(partial)
        os.replace(partial, path)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
    if durable:
        sync(path.parent)


def create_file(path: Path, content: bytes) -> None:
    """Create a file atomically, unless it exists.

    Args:
        path: the file.
        content: its content; a file that exists keeps its own.

    Raises:
        OSError: when it cannot be written.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        partial.write_bytes(content)
        try:
            os.link(partial, path)
        except FileExistsError:
            pass
        except OSError:  # a file system without links
            os.replace(partial, path)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk.

    Raises:
        OSError: when they cannot be written.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, patience_s: float) -> None:
    deadline_s = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline_s:
                raise
            time.sleep(0.05)
        else:
            return


def _try_to_write(folder: Path) -> None:
    probe = folder / f".probe-{os.getpid()}"
    try:
        probe.write_bytes(b"x")
    finally:
        probe.unlink(missing_ok=True)
