"""A run's place on disk: its names, its lock, its journal.

config.json       what the run was asked to do
journal.jsonl     what happened, one line each, only ever appended to
performance.json  what the training reached, and where its time went
checkpoints/      one folder for each checkpoint, see keras_candle.checkpoints
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from keras_candle.errors import CheckpointError

CHECKPOINTS, JOURNAL, PERFORMANCE = "checkpoints", "journal.jsonl", "performance.json"
# Where a run directory lies that a program names. `candle verify-resume` leads it into a copy of
# the user's folder.
resolve: Callable[[Path], Path] = Path.absolute
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


class RunDirectory:
    """The directory of one run, of which one process at a time is the owner.

    Args:
        path: the directory. Nothing is made or opened before `own`.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = resolve(Path(path))
        self.config = self.path / "config.json"
        self.journal = self.path / JOURNAL
        self.performance = self.path / PERFORMANCE
        self.checkpoints = self.path / CHECKPOINTS
        self._lock: int | None = None

    def own(self, tell: Callable[[str], Any], patience_s: float = 0.0) -> None:
        """Make the directory, and be the only process that writes there.

        Args:
            tell: gets a sentence where the file system knows no locks.
            patience_s: so long to wait for another process that owns it.

        Raises:
            CheckpointError: when it cannot be written, or another process owns it.
        """
        lock = self.path / ".lock"
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            _try_to_write(self.checkpoints)
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as cause:
            raise CheckpointError(
                f"The run directory {self.path} cannot be written ({cause}). Name one that can."
            ) from cause
        try:
            _lock(descriptor, patience_s)
        except OSError as cause:
            if cause.errno in _NO_LOCKS:
                tell(f"{self.path} lies on a file system without locks: let one job write there.")
            else:
                owner = os.pread(descriptor, 1000, 0).decode(errors="replace").strip()
                os.close(descriptor)
                raise CheckpointError(
                    f"The run directory {self.path} belongs to a run that has not ended "
                    f"({owner or 'its process is unknown'}). Wait for it, end it, or name another "
                    "directory."
                ) from cause
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"host {socket.gethostname()}, pid {os.getpid()}".encode(), 0)
        self._lock = descriptor

    def give_up(self) -> None:
        """Let another process own it."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def log_event(self, event: str, **facts: Any) -> None:
        """Append a line to the journal.

        Args:
            event: what happened, in one word.
            **facts: JSON values.

        Raises:
            OSError: when it cannot be written.
        """
        line = json.dumps({"time_s": round(time.time(), 3), "event": event, **facts}) + "\n"
        # One write: a line is there as a whole, or its end is missing and the next reader sees it.
        descriptor = os.open(self.journal, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            size = os.fstat(descriptor).st_size
            is_cut = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
            os.write(descriptor, b"\n" * is_cut + line.encode())
        finally:
            os.close(descriptor)

    def events(self) -> list[dict[str, Any]]:
        """The journal's lines; one that was cut by a crash, or is no event, is left out."""
        try:
            lines = self.journal.read_text(errors="replace").splitlines()
        except FileNotFoundError:
            return []
        found = []
        for line in lines:
            with contextlib.suppress(ValueError, RecursionError):
                found.append(json.loads(line))
        return [each for each in found if isinstance(each, dict) and "time_s" in each]


def replace_file(path: Path, content: bytes) -> None:
    """Put a file in its place as a whole; it may come to the disk later.

    Raises:
        OSError: when it cannot be written; what was there before stays.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


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
