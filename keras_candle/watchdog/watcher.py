"""The watcher of a rank, and the root's, which collects the snapshots of all ranks and reports."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import secrets
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
from keras_candle.watchdog.rank_watch import request_stacks, state_of
from keras_candle.watchdog.stall_report import RankSnapshot, report, suspects

_SEND_WITHIN_S = 1.0
_LONGEST_LINE_BYTES = 4_000_000


class Transport:
    """One end of a connection.

    Args:
        connection: a stream socket.

    Attributes:
        open: whether the peer is still there.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._held = b""
        self.open = True

    def fileno(self) -> int:
        """Return the socket's descriptor, for a selector."""
        return self._connection.fileno()

    def send(self, **message: Any) -> None:
        """Send a message if the peer is still there."""
        self._connection.settimeout(_SEND_WITHIN_S)
        try:
            self._connection.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            self.open = False

    def received(self) -> list[dict[str, Any]]:
        """Return the messages that have arrived since the last call."""
        self._connection.setblocking(False)
        try:
            while data := self._connection.recv(65536):
                self._held += data
            self.open = False
        except BlockingIOError:
            pass
        except OSError:
            self.open = False
        *lines, self._held = self._held.split(b"\n")
        if len(self._held) > _LONGEST_LINE_BYTES:
            self.open = False
        messages = []
        for line in lines:
            with contextlib.suppress(ValueError):
                messages.append(json.loads(line))
        return [each for each in messages if isinstance(each, dict)]

    def close(self) -> None:
        """Close the connection."""
        self.open = False
        self._connection.close()


_POLL_S = 0.25
# A loop that took longer was suspended itself, with its rank, by a scheduler.
_SUSPENDED_S = 2.0
# A watcher without a connection leaves the report to the root for so long.
_ALONE_LATER_S = 5.0
_END_WITHIN_S = 1.0


class Watched:
    """The rank as its watcher sees it.

    Args:
        given: the arguments from `RankWatch`.

    Attributes:
        rank: its number.
        timeout_s: see `RankWatch`.
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

    def snapshot(self) -> RankSnapshot:
        """Take a snapshot of the rank."""
        seen, state = asdict(self._board.read()), state_of(self._pid)
        return RankSnapshot(rank=self.rank, host=self._host, pid=self._pid, state=state, **seen)

    def stacks(self) -> str:
        """Return all threads' stacks. This continues a stopped process: take a snapshot first."""
        return request_stacks(self._pid, self._stacks)

    def is_gone(self) -> bool:
        """Return whether the rank's process has ended."""
        return os.getppid() != self._pid

    def end(self) -> None:
        """End the rank's process, which exits by itself if it still can."""
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
    """Measure how long a rank has shown no progress."""

    def __init__(self) -> None:
        self._beats = -1
        self._since_s = time.monotonic()

    def update(self, beats: int) -> None:
        """Restart the measurement if the rank's heartbeat has changed."""
        if beats != self._beats:
            self._beats, self._since_s = beats, time.monotonic()

    def exclude(self, passed_s: float) -> None:
        """Leave a period out of the measurement."""
        self._since_s += passed_s

    def passed_s(self) -> float:
        """Return the seconds since the last progress."""
        return time.monotonic() - self._since_s


class Watcher:
    """Watch one rank.

    Args:
        watched: the rank.
        to_root: connection to the root's watcher; None where it cannot be reached.
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
        """Watch until the rank ends the watch, or its process ends."""
        polled_s = time.monotonic()
        while not self._watched.is_gone():
            for key, _ in self._selector.select(_POLL_S):
                if key.data == "of the rank":
                    self.leave(orderly=b"bye" in sys.stdin.buffer.readline())
                    return
                self.receive(key.fileobj)
            passed_s = time.monotonic() - polled_s
            if passed_s >= _POLL_S:
                polled_s += passed_s
                if passed_s > _SUSPENDED_S:
                    self.exclude(passed_s)
                self.poll()

    def exclude(self, passed_s: float) -> None:
        """Leave out a period in which this process was stopped itself."""
        self._quiet.exclude(passed_s)

    def leave(self, *, orderly: bool) -> None:
        """End the watch, and report it to the root's watcher if the rank ended it itself."""
        if orderly and self._to_root is not None:
            self._to_root.send(bye=True)

    def receive(self, source: Any) -> None:
        """Handle the requests of the root's watcher."""
        for asked in source.received():
            if asked.get("ask") == "stacks":
                source.send(stacks=self._watched.stacks())
            if asked.get("ask") == "end":
                self._watched.end()
        if not source.open:
            self._selector.unregister(source)
            source.close()
            self._to_root = None

    def poll(self) -> None:
        """Send a snapshot to the root's watcher, or check the rank alone without it."""
        snapshot = self._watched.snapshot()
        self._quiet.update(snapshot.beats)
        if self._to_root is not None:
            self._to_root.send(facts=asdict(snapshot))
        elif self._quiet.passed_s() > self._watched.timeout_s + _ALONE_LATER_S:
            snapshot.stacks = self._watched.stacks()
            self._watched.report([snapshot], self._quiet.passed_s(), left=[])
            self._watched.end()


_STACKS_WITHIN_S = 1.2


class RootWatcher(Watcher):
    """Watch the root itself, and all ranks through their watchers.

    Args:
        watched: the root.
        server: the socket that the watchers connect to.
        token: the secret that they send first.
    """

    def __init__(self, watched: Watched, server: socket.socket, token: str) -> None:
        super().__init__(watched, None)
        self._server, self._token = server, token
        self._snapshots: dict[int, RankSnapshot] = {}
        self._quiets: dict[int, QuietTime] = {}
        self._left: list[int] = []
        self._is_reporting = False
        self._channels: dict[Transport, int | None] = {}
        server.setblocking(False)
        self._selector.register(server, selectors.EVENT_READ)
        with contextlib.suppress(OSError, ValueError):  # a connection for each rank
            most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

    def exclude(self, passed_s: float) -> None:
        """See `Watcher`."""
        for quiet in self._quiets.values():
            quiet.exclude(passed_s)

    def receive(self, source: Any) -> None:
        """Accept a new connection, or handle the messages of one."""
        if source is self._server:
            with contextlib.suppress(BlockingIOError):
                channel = Transport(self._server.accept()[0])
                self._channels[channel] = None
                self._selector.register(channel, selectors.EVENT_READ)
            return
        for sent in source.received():
            self._take(source, sent)
        if not source.open:
            self._end_channel(source)

    def _take(self, channel: Transport, message: dict[str, Any]) -> None:
        rank = self._channels[channel]
        if rank is None:
            if secrets.compare_digest(str(message.get("token")), self._token):
                self._channels[channel] = int(message["rank"])
            else:
                channel.open = False
        elif "bye" in message:
            self._left.append(rank)
            self._snapshots.pop(rank, None)
        elif "stacks" in message and rank in self._snapshots:
            self._snapshots[rank].stacks = message["stacks"] or "(it does not answer)"
        elif "facts" in message and not self._is_reporting and rank not in self._left:
            self._record(RankSnapshot(**message["facts"]))

    def _end_channel(self, channel: Transport) -> None:
        rank = self._channels.pop(channel)
        self._selector.unregister(channel)
        channel.close()
        if rank in self._snapshots:
            self._snapshots[rank].answers = False

    def _record(self, snapshot: RankSnapshot) -> None:
        self._snapshots[snapshot.rank] = snapshot
        self._quiets.setdefault(snapshot.rank, QuietTime()).update(snapshot.beats)

    def poll(self) -> None:
        """Check all ranks, and report a stall when one has made no progress for too long."""
        self._record(self._watched.snapshot())
        quiet_s = max(self._quiets[rank].passed_s() for rank in self._snapshots)
        if quiet_s > self._watched.timeout_s:
            self._is_reporting = True  # asking can wake a rank: its earlier state counts
            self._request_stacks()
            ranks = [self._snapshots[rank] for rank in sorted(self._snapshots)]
            self._watched.report(ranks, quiet_s, left=self._left)
            for channel in list(self._channels):
                channel.send(ask="end")
            self._watched.end()

    def _request_stacks(self) -> None:
        deadline_s = time.monotonic() + _STACKS_WITHIN_S
        for channel in self._channels:
            channel.send(ask="stacks")
        self._snapshots[self._watched.rank].stacks = self._watched.stacks()
        while time.monotonic() < deadline_s and self._some_are_missing():
            for key, _ in self._selector.select(0.05):
                if isinstance(key.fileobj, Transport):
                    self.receive(key.fileobj)

    def _some_are_missing(self) -> bool:
        return any(each.answers and not each.stacks for each in self._snapshots.values())
