"""Leases: atomic claims of trials on a shared file system, without a lock.

Creating a directory or a file that must not exist yet is atomic on every file system that clusters
share, NFS and Lustre included. A claim of a started trial is never removed; a dead process's trial
is claimed again under the next attempt number.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

ALIVE, POINTS = "alive", "points"


def owner() -> dict[str, Any]:
    """Return this process's identity, by which all processes can check whether it is alive."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "began": _began(os.getpid())}


def has_exited(of: dict[str, Any]) -> bool:
    """Return whether an owner on this node has exited; False for an owner on another node."""
    if of.get("host") != socket.gethostname() or _began(os.getpid()) is None:
        return False
    began = _began(int(of["pid"]))
    return began is None or (of.get("began") is not None and began != of["began"])


def _began(pid: int) -> int | None:
    """A process's start time in clock ticks, to detect a reused pid."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[19])


class Leases:
    """The claims of one search.

    Args:
        folder: the search's, with a folder for each trial, as Keras Tuner creates them.
        lease_s: a running trial without a heartbeat for this long is considered lost.
    """

    def __init__(self, folder: Path, lease_s: float) -> None:
        self._folder, self.lease_s = folder, lease_s

    def claim_trial(self, trial_id: str) -> bool:
        """Claim a new trial; return False if it exists."""
        return _make(self._trial(trial_id))

    def claim_attempt(self, trial_id: str, number: int) -> bool:
        """Claim a further attempt of a trial; return False if another process has it."""
        return _make(self._trial(trial_id) / f"start-{number}")

    def claim_point(self, key: bytes, trial_id: str, values: dict[str, Any]) -> bool:
        """Claim a point for a trial; return False if another trial has it."""
        points = self._folder / POINTS
        points.mkdir(exist_ok=True)
        made = points / f".{trial_id}-{os.getpid()}"
        made.write_text(json.dumps({"trial": trial_id, "values": values}))
        try:
            os.link(made, points / hashlib.blake2b(key, digest_size=16).hexdigest())
        except FileExistsError:
            return False
        finally:
            made.unlink()
        return True

    def claimed_points(self) -> list[dict[str, Any]]:
        """Return every claimed point: {"trial": its trial, "values": its values}."""
        found = []
        with contextlib.suppress(FileNotFoundError):
            for entry in os.scandir(self._folder / POINTS):
                if not entry.name.startswith("."):
                    found.append(json.loads(Path(entry.path).read_text()))
        return found

    def last_attempt(self, trial_id: str) -> int:
        """Return the highest attempt number that was claimed; 1 for a trial claimed once."""
        numbers = [1]
        with contextlib.suppress(FileNotFoundError):
            for entry in os.scandir(self._trial(trial_id)):
                if entry.name.startswith("start-"):
                    numbers.append(int(entry.name.removeprefix("start-")))
        return max(numbers)

    def has_expired(self, trial_id: str) -> bool:
        """Return whether a trial's lease has expired: no claim or heartbeat for `lease_s`."""
        folder = self._trial(trial_id)
        last_s = 0.0
        for path in (folder, folder / ALIVE):  # a claim of an attempt changes the folder's time
            with contextlib.suppress(FileNotFoundError):
                last_s = max(last_s, path.stat().st_mtime)
        # The file server's clock decides: the nodes' clocks may differ.
        return time.time() - last_s > self.lease_s and self._now_s() - last_s > self.lease_s

    def unstarted(self, known: set[str]) -> list[str]:
        """Return trials that were claimed and not started yet.

        Args:
            known: trials that were started.
        """
        names = (entry.name for entry in os.scandir(self._folder))
        found = (name.removeprefix("trial_") for name in names if name.startswith("trial_"))
        # A trial with results is another tuner's: one of Keras Tuner's may use this folder.
        return sorted(each for each in found if each not in known and not self._has_results(each))

    def _has_results(self, trial_id: str) -> bool:
        return (self._trial(trial_id) / "trial.json").exists()

    def release(self, trial_id: str) -> None:
        """Remove the claims of a trial that was not started."""
        with contextlib.suppress(OSError):
            for entry in list(os.scandir(self._trial(trial_id))):
                Path(entry.path).rmdir()
            self._trial(trial_id).rmdir()

    def _now_s(self) -> float:
        probe = self._folder / f".now-{socket.gethostname()}-{os.getpid()}"
        probe.touch()
        now_s = probe.stat().st_mtime
        probe.unlink(missing_ok=True)
        return now_s

    def _trial(self, trial_id: str) -> Path:
        return self._folder / f"trial_{trial_id}"


class LeaseHeartbeat:
    """Touches a file of each running trial of this process, to keep its lease.

    A stopped or dead process touches nothing. One thread serves all trials and ends when there are
    none: a thread for each would cost more than a short trial.

    Args:
        every_s: seconds between two heartbeats.
    """

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._files: set[Path] = set()
        self._lock = threading.Lock()
        self._running = False

    def begin(self, folder: Path) -> None:
        """Add a trial; its claim counts as the first heartbeat."""
        with self._lock:
            self._files.add(folder / ALIVE)
            if not self._running:
                self._running = True
                threading.Thread(target=self._touch_files, daemon=True, name="candle-alive").start()

    def end(self, folder: Path) -> None:
        """Remove a trial."""
        with self._lock:
            self._files.discard(folder / ALIVE)

    def _touch_files(self) -> None:
        while True:
            time.sleep(self._every_s)
            with self._lock:
                files = list(self._files)
                self._running = bool(files)
            if not files:
                return
            for file in files:
                with contextlib.suppress(OSError):
                    file.touch()


def _make(folder: Path) -> bool:
    try:
        folder.mkdir()
    except FileExistsError:
        return False
    return True
