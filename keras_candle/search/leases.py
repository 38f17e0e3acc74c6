"""Who runs which trial: claims that only one of many processes can make, without a lock.

Making a directory or a file that must not exist yet is atomic on every file system that clusters
share, NFS and Lustre included. A claim of a started trial is never taken back; what a
dead process had claimed is claimed again under the next number.
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
    """This process, as others can find out whether it still lives."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "began": _began(os.getpid())}


def is_gone(of: dict[str, Any]) -> bool:
    """Whether an owner on this node has ended; nothing can be said of other nodes'."""
    if of.get("host") != socket.gethostname() or _began(os.getpid()) is None:
        return False
    began = _began(int(of["pid"]))
    return began is None or (of.get("began") is not None and began != of["began"])


def _began(pid: int) -> int | None:
    """When a process began, in the system's own ticks: numbers of processes are used again."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[19])


class Leases:
    """The claims of one search.

    Args:
        folder: the search's, with a folder for each trial as Keras Tuner makes them.
        lease_s: a running trial whose process has given no sign for so long is taken for lost.
    """

    def __init__(self, folder: Path, lease_s: float) -> None:
        self._folder, self.lease_s = folder, lease_s

    def trial(self, trial_id: str) -> bool:
        """Claim a new trial; False where it exists."""
        return _make(self._trial(trial_id))

    def start(self, trial_id: str, number: int) -> bool:
        """Claim a further start of a trial; False where another process has it."""
        return _make(self._trial(trial_id) / f"start-{number}")

    def point(self, key: bytes, trial_id: str, values: dict[str, Any]) -> bool:
        """Claim a point for a trial; False where another trial has it."""
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

    def points(self) -> list[dict[str, Any]]:
        """Every claimed point: {"trial": its trial, "values": its values}."""
        found = []
        with contextlib.suppress(FileNotFoundError):
            for entry in os.scandir(self._folder / POINTS):
                if not entry.name.startswith("."):
                    found.append(json.loads(Path(entry.path).read_text()))
        return found

    def last_start(self, trial_id: str) -> int:
        """The highest number of a start that was claimed; 1 for a trial that was claimed once."""
        numbers = [1]
        with contextlib.suppress(FileNotFoundError):
            for entry in os.scandir(self._trial(trial_id)):
                if entry.name.startswith("start-"):
                    numbers.append(int(entry.name.removeprefix("start-")))
        return max(numbers)

    def is_silent(self, trial_id: str) -> bool:
        """Whether nobody who has to do with a trial has given a sign for longer than the lease."""
        folder = self._trial(trial_id)
        last_s = 0.0
        for path in (folder, folder / ALIVE):  # a claim of a start changes the folder
            with contextlib.suppress(FileNotFoundError):
                last_s = max(last_s, path.stat().st_mtime)
        # The clock of the file server decides: the nodes' own may differ.
        return time.time() - last_s > self.lease_s and self._now_s() - last_s > self.lease_s

    def unstarted(self, known: set[str]) -> list[str]:
        """Trials that were claimed and not started yet.

        Args:
            known: trials that were started.
        """
        names = (entry.name for entry in os.scandir(self._folder))
        found = (name.removeprefix("trial_") for name in names if name.startswith("trial_"))
        # What has results is another tuner's: a stock one may go on in this folder.
        return sorted(each for each in found if each not in known and not self._has_results(each))

    def _has_results(self, trial_id: str) -> bool:
        return (self._trial(trial_id) / "trial.json").exists()

    def release(self, trial_id: str) -> None:
        """Take the claims of a trial back, of which nothing is known yet."""
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
    """Touches a file of each trial that runs here, so that others know that its process lives.

    A process that is stopped or dead touches nothing. One thread serves all trials, and ends where
    it finds none: a thread for each would cost more than a short trial.

    Args:
        every_s: seconds between two signs.
    """

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._files: set[Path] = set()
        self._lock = threading.Lock()
        self._gives = False

    def begin(self, folder: Path) -> None:
        """A trial has begun; the claim itself is its first sign."""
        with self._lock:
            self._files.add(folder / ALIVE)
            if not self._gives:
                self._gives = True
                threading.Thread(target=self._give, daemon=True, name="candle-alive").start()

    def end(self, folder: Path) -> None:
        """The trial has ended."""
        with self._lock:
            self._files.discard(folder / ALIVE)

    def _give(self) -> None:
        while True:
            time.sleep(self._every_s)
            with self._lock:
                files = list(self._files)
                self._gives = bool(files)
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
