"""The root's watcher: collect the snapshots of all ranks and report a stall."""

from __future__ import annotations

import contextlib
import resource
import secrets
import selectors
import socket
import time
from typing import Any

from keras_candle.watchdog.snapshot import RankSnapshot
from keras_candle.watchdog.transport import Transport
from keras_candle.watchdog.watcher import QuietTime, Watched, Watcher

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
        for message in source.received():
            self._take(source, message)
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
