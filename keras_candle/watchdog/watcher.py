"""The watcher of a rank: looks at it, and does to it what the root's watcher says."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from keras_candle.launcher_messages import LAUNCHER, STALL, message, write_through
from keras_candle.run_directory import RunDirectory
from keras_candle.watchdog.heartbeat import HeartbeatBoard
from keras_candle.watchdog.report import report
from keras_candle.watchdog.snapshot import RankSnapshot
from keras_candle.watchdog.stacks import ask_for_stacks, state_of
from keras_candle.watchdog.transport import Transport
from keras_candle.watchdog.verdict import suspects

_LOOK_EVERY_S = 0.25
# A loop that took longer was stopped itself, with its rank: by a scheduler that suspends a job.
_SUSPENDED_S = 2.0
# Whom nobody listens to leaves the report to the root for so long.
_ALONE_LATER_S = 5.0
_END_WITHIN_S = 1.0


class Watched:
    """The rank as its watcher sees it.

    Args:
        given: what `Watch` says.

    Attributes:
        rank: its number.
        timeout_s: see `Watch`.
        run_directory: gets the report.
    """

    def __init__(self, given: dict[str, Any]) -> None:
        self.rank: int = given["rank"]
        self.timeout_s: float = given["timeout_s"]
        self.run_directory = Path(given["run_directory"])
        self._pid: int = given["pid"]
        self._board = HeartbeatBoard(given["board"])
        self._stacks: int = given["stacks"]
        self._end: int = given["end"]
        self._host = socket.gethostname()

    def facts(self) -> RankSnapshot:
        """What can be seen of it."""
        seen = asdict(self._board.read())
        return RankSnapshot(self.rank, self._host, self._pid, state_of(self._pid), **seen)

    def stacks(self) -> str:
        """Every thread's. A process that is stopped goes on: look at its facts before."""
        return ask_for_stacks(self._pid, self._stacks)

    def is_gone(self) -> bool:
        """Whether its process has ended."""
        return os.getppid() != self._pid

    def end(self) -> None:
        """End its process, by itself if it still can."""
        with contextlib.suppress(OSError):
            os.write(self._end, b"E")
        deadline_s = time.monotonic() + _END_WITHIN_S
        while time.monotonic() < deadline_s and not self.is_gone():
            time.sleep(0.02)
        if not self.is_gone():
            os.kill(self._pid, signal.SIGKILL)

    def report(self, ranks: Sequence[RankSnapshot], quiet_s: float, left: Sequence[int]) -> None:
        """Print a report, and keep it in the run directory. See `report`."""
        found = suspects(ranks)
        text = report(ranks, found, quiet_s, left)
        write_through(sys.stderr.fileno(), text.encode())
        if self.rank == 0 and LAUNCHER in os.environ:  # `candle run` reads what root writes
            verdict = message(STALL, text=found.sentence(len(ranks)))
            write_through(sys.stderr.fileno(), verdict)
        if self.run_directory.is_dir():
            name = time.strftime("stall-%Y%m%d-%H%M%S.txt")
            with contextlib.suppress(OSError):
                (self.run_directory / name).write_text(text)
                RunDirectory(self.run_directory).log_event("stall", report=name)


class QuietTime:
    """For how long a rank has shown no progress."""

    def __init__(self) -> None:
        self._beats = -1
        self._since_s = time.monotonic()

    def update(self, beats: int) -> None:
        """Take note of what it shows."""
        if beats != self._beats:
            self._beats, self._since_s = beats, time.monotonic()

    def forget(self, passed_s: float) -> None:
        """Leave a time out of account."""
        self._since_s += passed_s

    def passed_s(self) -> float:
        """Seconds since it last showed progress."""
        return time.monotonic() - self._since_s


class Watcher:
    """Watches a rank that is not the root.

    Args:
        watched: the rank.
        to_root: to the root's watcher; None where it cannot be reached.
    """

    def __init__(self, watched: Watched, to_root: Transport | None) -> None:
        self._watched = watched
        self._to_root = to_root
        self._quiet = QuietTime()
        self._selector = selectors.DefaultSelector()
        self._selector.register(sys.stdin, selectors.EVENT_READ, "of the rank")
        if to_root is not None:
            self._selector.register(to_root, selectors.EVENT_READ)

    def run(self) -> None:
        """Until the rank says that it has ended, or has."""
        looked_s = time.monotonic()
        while not self._watched.is_gone():
            for key, _ in self._selector.select(_LOOK_EVERY_S):
                if key.data == "of the rank":
                    self.leave(said_bye=b"bye" in sys.stdin.buffer.readline())
                    return
                self.hear(key.fileobj)
            passed_s = time.monotonic() - looked_s
            if passed_s >= _LOOK_EVERY_S:
                looked_s += passed_s
                if passed_s > _SUSPENDED_S:
                    self.forget(passed_s)
                self.look()

    def forget(self, passed_s: float) -> None:
        """Leave a time out of account in which this process was stopped itself."""
        self._quiet.forget(passed_s)

    def leave(self, *, said_bye: bool) -> None:
        """The rank needs no watch any more, or is gone."""
        if said_bye and self._to_root is not None:
            self._to_root.send(bye=True)

    def hear(self, source: Any) -> None:
        """Do what the root's watcher says."""
        for asked in source.received():
            if asked.get("ask") == "stacks":
                source.send(stacks=self._watched.stacks())
            if asked.get("ask") == "end":
                self._watched.end()
        if not source.open:
            self._selector.unregister(source)
            source.close()
            self._to_root = None

    def look(self) -> None:
        """Tell the root's watcher how the rank is, or judge it alone."""
        facts = self._watched.facts()
        self._quiet.update(facts.beats)
        if self._to_root is not None:
            self._to_root.send(facts=asdict(facts))
        elif self._quiet.passed_s() > self._watched.timeout_s + _ALONE_LATER_S:
            facts.stacks = self._watched.stacks()
            self._watched.report([facts], self._quiet.passed_s(), left=[])
            self._watched.end()
