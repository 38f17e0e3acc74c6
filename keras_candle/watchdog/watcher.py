"""The watcher of a rank, which sends the rank's snapshots up and ends the rank when asked.

The watchers of a node report to that of the node's first rank, and the nodes' to the root's.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
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
# The peer has not closed the connection: it cannot be reached any more.
_UNREACHABLE = (errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN)


class Transport:
    """One end of a connection.

    Args:
        connection: a stream socket.
        is_remote: whether the peer is on another node.

    Attributes:
        open: whether messages can be sent and received.
        is_unreachable: whether the connection broke although the peer has not closed it.
        heard_s: when the last message arrived, by `time.monotonic`.
        is_remote: as given.
    """

    def __init__(self, connection: socket.socket, *, is_remote: bool = False) -> None:
        self._connection = connection
        self._held = self._unsent = b""
        self.open = True
        self.is_unreachable = False
        self.is_remote = is_remote
        self.heard_s = time.monotonic()

    def fileno(self) -> int:
        """Return the socket's descriptor, for a selector."""
        return self._connection.fileno()

    def send(self, **message: Any) -> None:
        """Send a message, or as much of it as the peer reads in a moment; the rest follows."""
        self._unsent += json.dumps(message).encode() + b"\n"
        self._flush(_SEND_WITHIN_S)

    def is_behind(self) -> bool:
        """Return whether an earlier message is still to be sent, as while a link is cut."""
        self._flush(0)
        return bool(self._unsent)

    def _flush(self, within_s: float) -> None:
        if not self.open:
            return
        deadline_s = time.monotonic() + within_s
        self._connection.setblocking(False)
        while self._unsent and self.open:
            try:
                self._unsent = self._unsent[self._connection.send(self._unsent) :]
            except BlockingIOError:
                left_s = deadline_s - time.monotonic()
                writable = select.poll()
                writable.register(self._connection, select.POLLOUT)
                if left_s <= 0 or not writable.poll(left_s * 1000):
                    return
            except OSError as error:
                self._fail(error)

    def received(self) -> list[dict[str, Any]]:
        """Return the messages that have arrived since the last call."""
        self._connection.setblocking(False)
        try:
            while data := self._connection.recv(65536):
                self._held += data
                self.heard_s = time.monotonic()
            self.open = False
        except BlockingIOError:
            pass
        except OSError as error:
            self._fail(error)
        *lines, self._held = self._held.split(b"\n")
        if len(self._held) > _LONGEST_LINE_BYTES:
            self.open = False
        messages = []
        for line in lines:
            with contextlib.suppress(ValueError):
                messages.append(json.loads(line))
        return [each for each in messages if isinstance(each, dict)]

    def silent_s(self) -> float:
        """Return the seconds since the last message."""
        return time.monotonic() - self.heard_s

    def close(self) -> None:
        """Close the connection."""
        self.open = False
        self._connection.close()

    def _fail(self, error: OSError) -> None:
        self.is_unreachable |= error.errno in _UNREACHABLE
        self.open = False


_POLL_S = 0.25
# A loop that took longer was suspended itself, with its rank, by a scheduler.
_SUSPENDED_S = 2.0
# A watcher without a connection leaves the report to the root for so long.
_ALONE_LATER_S = 5.0
_RECONNECT_LATER_S = 2.0
_LONGEST_PERIOD_S = 1.0
_END_WITHIN_S = 1.0


class Watched:
    """The rank as its watcher sees it.

    Args:
        given: the arguments from `RankWatch`.

    Attributes:
        rank: its number.
        timeout_s: see `RankWatch`.
        lost_s: see `RankWatch`.
        run_directory: gets the report.
    """

    def __init__(self, given: dict[str, Any]) -> None:
        self.rank: int = given["rank"]
        self.timeout_s: float = given["timeout_s"]
        self.lost_s: float = given["lost_s"]
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
        above: connection to the node's watcher or the root's; None where neither can be reached.
        connect_to_root: opens a connection to the root's watcher, for when the node's has ended;
            None if `above` is to the root's.
    """

    def __init__(
        self,
        watched: Watched,
        above: Transport | None,
        connect_to_root: Callable[[], Transport | None] | None = None,
    ) -> None:
        self._watched = watched
        self._above = above
        self._connect_to_root = connect_to_root
        self._reconnect_at_s = 0.0
        self._period_s = max(_POLL_S, min(_LONGEST_PERIOD_S, watched.timeout_s / 16))
        self._sent_s = 0.0
        self._quiet = QuietTime()
        self._selector = selectors.DefaultSelector()
        self._selector.register(sys.stdin, selectors.EVENT_READ, "of the rank")
        if above is not None:
            self._selector.register(above, selectors.EVENT_READ)

    def run(self) -> None:
        """Watch until the rank ends the watch, or its process ends."""
        polled_s = time.monotonic()
        while not self._watched.is_gone():
            for key, _ in self._selector.select(_POLL_S):
                if key.data != "of the rank":
                    self.receive(key.fileobj)
                elif b"lost_peer" in (line := sys.stdin.buffer.readline()):
                    self.lost_peer()
                else:
                    self.leave(orderly=b"bye" in line)
                    return
            passed_s = time.monotonic() - polled_s
            if passed_s >= _POLL_S:
                polled_s += passed_s
                if passed_s > _SUSPENDED_S:
                    self.exclude(passed_s)
                self.poll()

    def exclude(self, passed_s: float) -> None:
        """Leave out a period in which this process was stopped itself."""
        self._quiet.exclude(passed_s)
        if self._above is not None:
            self._above.heard_s += passed_s

    def leave(self, *, orderly: bool) -> None:
        """End the watch, and report it if the rank ended it itself."""
        if orderly:
            self.send_up(left=[self._watched.rank])

    def lost_peer(self) -> None:
        """Report that the rank's training ends since it cannot reach another."""
        self.send_up(lost_peer=True)

    def receive(self, source: Any) -> None:
        """Handle the requests from above."""
        for asked in source.received():
            if asked.get("ask") == "stacks":
                self.answer()
            if asked.get("ask") == "end":
                self.end()
        if not source.open:
            self._selector.unregister(source)
            source.close()
            if not source.is_unreachable:
                self._above = None
                # When a fit ends, the rank of the node's watcher may be the first to leave.
                self._reconnect_at_s = time.monotonic() + _RECONNECT_LATER_S

    def answer(self) -> None:
        """Send the stacks of the rank."""
        self.send_up(stacks=self._watched.stacks(), rank=self._watched.rank)

    def end(self) -> None:
        """End the rank."""
        self._watched.end()

    def send_up(self, **message: Any) -> None:
        """Send a message to the watcher above, where there is one."""
        if self._above is not None and self._above.open:
            self._above.send(**message)

    def poll(self) -> None:
        """Send a snapshot, or check the rank alone where nothing can be sent."""
        snapshot = self._watched.snapshot()
        self._quiet.update(snapshot.beats)
        above = self._above
        if above is None:
            self._reconnect()
        elif above.is_remote and above.silent_s() >= self._watched.lost_s:
            self._end_without_root(above.silent_s())
        elif time.monotonic() - self._sent_s >= self._period_s and not above.is_behind():
            self._sent_s = time.monotonic()
            self.send_snapshots(snapshot)
        if self._above is None and self._is_stalled_alone():
            snapshot.stacks = self._watched.stacks()
            self._watched.report([snapshot], self._quiet.passed_s(), left=[])
            self.end()

    def send_snapshots(self, own: RankSnapshot) -> None:
        """Send the snapshot of the rank."""
        self.send_up(facts=[asdict(own)])

    def _reconnect(self) -> None:
        if self._connect_to_root is None or time.monotonic() < self._reconnect_at_s:
            return
        connect, self._connect_to_root = self._connect_to_root, None
        self._above = connect()
        if self._above is not None:
            self._selector.register(self._above, selectors.EVENT_READ)

    def _is_stalled_alone(self) -> bool:
        return self._quiet.passed_s() > self._watched.timeout_s + _ALONE_LATER_S

    def _end_without_root(self, silent_s: float) -> None:
        text = (
            f"keras_candle: rank {self._watched.rank}, host {socket.gethostname()}: root is not "
            f"heard: its host or the network to it is down, since {silent_s:.0f} s. "
            "The ranks here are ended.\n"
        )
        write_through(sys.stderr.fileno(), text.encode())
        self.end()
