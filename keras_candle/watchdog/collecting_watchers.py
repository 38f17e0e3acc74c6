"""The watchers that collect snapshots: one on each node, and the root's, which reports stalls."""

from __future__ import annotations

import contextlib
import hashlib
import resource
import secrets
import selectors
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from keras_candle.watchdog.stall_report import RankSnapshot
from keras_candle.watchdog.watcher import QuietTime, Transport, Watched, Watcher

_LEAVE_WITHIN_S = 1.0
_CONNECT_WITHIN_S = 10.0


def server_of_node(token: str) -> socket.socket | None:
    """Return the socket that the watchers of this node connect to, None where there can be none.

    Args:
        token: the job's secret.
    """
    server = socket.socket(socket.AF_UNIX)
    try:
        server.bind(_name(token))
        server.listen(512)
    except OSError:  # taken by another "node" of this machine, or not Linux
        server.close()
        return None
    return server


def connection_to_node(token: str, rank: int) -> Transport | None:
    """Return a connection to the watcher of this node's first rank, None where there is none.

    Args:
        token: the job's secret.
        rank: that of the watcher that connects.
    """
    deadline_s = time.monotonic() + _CONNECT_WITHIN_S
    while sys.platform == "linux" and time.monotonic() < deadline_s:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(_name(token))
        except OSError:  # it may not have begun yet
            connection.close()
            time.sleep(0.05)
            continue
        channel = Transport(connection)
        channel.send(token=token, rank=rank)
        return channel
    return None


def _name(token: str) -> str:
    # Every user of the node can see the name, so it does not show the token.
    return f"\0keras_candle-watch-{hashlib.sha256(token.encode()).hexdigest()}"


class NodeWatcher(Watcher):
    """Watch the first rank of a node, and pass on the messages of all watchers of the node.

    Args:
        watched: the rank.
        above: connection to the root's watcher; None where it cannot be reached.
        servers: sockets that the node's watchers connect to.
        token: the secret that they send first.
    """

    def __init__(
        self,
        watched: Watched,
        above: Transport | None,
        servers: Sequence[socket.socket],
        token: str,
    ) -> None:
        super().__init__(watched, above)
        self._token = token
        self._channels: dict[Transport, int | None] = {}
        self._snapshots: dict[int, RankSnapshot] = {}
        for server in servers:
            server.setblocking(False)
            self._selector.register(server, selectors.EVENT_READ)
        with contextlib.suppress(OSError, ValueError):  # a connection for each node or rank
            most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

    def leave(self, *, orderly: bool) -> None:
        """See `Watcher`. The node's remaining ranks are about to leave too."""
        super().leave(orderly=orderly)
        deadline_s = time.monotonic() + _LEAVE_WITHIN_S
        while orderly and self._channels and time.monotonic() < deadline_s:
            for key, _ in self._selector.select(0.05):
                if key.data != "of the rank":
                    self.receive(key.fileobj)
            self._send_collected()

    def receive(self, source: Any) -> None:
        """Accept a new connection, or handle the messages of one."""
        if isinstance(source, socket.socket):
            with contextlib.suppress(BlockingIOError):
                is_remote = source.family != socket.AF_UNIX
                channel = Transport(source.accept()[0], is_remote=is_remote)
                self._channels[channel] = None
                self._selector.register(channel, selectors.EVENT_READ)
            return
        if source is self._above:
            super().receive(source)
            return
        for sent in source.received():
            if self._channels[source] is None:
                self._admit(source, sent)
            else:
                self.take(source, sent)
        if not source.open:
            self._selector.unregister(source)
            del self._channels[source]
            source.close()
            self.channel_ended(source)

    def _admit(self, channel: Transport, message: dict[str, Any]) -> None:
        if secrets.compare_digest(str(message.get("token")), self._token):
            self._channels[channel] = int(message["rank"])
        else:
            channel.open = False

    def take(self, channel: Transport, message: dict[str, Any]) -> None:  # noqa: ARG002
        """Pass a message on; snapshots wait until all are sent together."""
        if "facts" in message:
            for each in message["facts"]:
                self._snapshots[each["rank"]] = RankSnapshot(**each)
            return
        for rank in message.get("left", ()):
            self._snapshots.pop(rank, None)
        self.send_up(**message)

    def channel_ended(self, channel: Transport) -> None:
        """Do nothing: the rank is not heard any more, or connects to root."""

    def answer(self) -> None:
        """See `Watcher`."""
        self._ask("stacks")
        super().answer()

    def end(self) -> None:
        """See `Watcher`."""
        self._ask("end")
        super().end()

    def _ask(self, what: str) -> None:
        for channel in list(self._channels):
            channel.send(ask=what)

    def send_snapshots(self, own: RankSnapshot) -> None:
        """Send the snapshots of the node's ranks that have arrived since the last time."""
        self._snapshots[own.rank] = own
        self._send_collected()

    def _send_collected(self) -> None:
        if self._snapshots:
            self.send_up(facts=[asdict(each) for each in self._snapshots.values()])
            self._snapshots.clear()


# A rank that was not heard for so long is reported as such; others have so long to answer.
_UNHEARD_S = 3.0


class RootWatcher(NodeWatcher):
    """Watch the root itself, its node's ranks, and each remote node through its watcher.

    Args:
        watched: the root.
        servers: sockets that the watchers connect to.
        token: the secret that they send first.
    """

    def __init__(self, watched: Watched, servers: Sequence[socket.socket], token: str) -> None:
        super().__init__(watched, None, servers, token)
        self._quiets: dict[int, QuietTime] = {}
        self._heard_s: dict[int, float] = {}
        self._channel_of: dict[int, Transport] = {}
        self._left: list[int] = []
        self._is_reporting = False

    def exclude(self, passed_s: float) -> None:
        """See `Watcher`."""
        for quiet in self._quiets.values():
            quiet.exclude(passed_s)
        for rank in self._heard_s:
            self._heard_s[rank] += passed_s
        for channel in {*self._channels, *self._channel_of.values()}:
            channel.heard_s += passed_s

    def leave(self, *, orderly: bool) -> None:
        """See `Watcher`; no watcher is above the root's."""

    def take(self, channel: Transport, message: dict[str, Any]) -> None:
        """Record the state of ranks."""
        for rank in message.get("left", ()):
            self._left.append(rank)
            self._snapshots.pop(rank, None)
        for each in message.get("facts", ()):
            rank = each["rank"]
            if rank not in self._left:
                self._channel_of[rank] = channel
                self._record(RankSnapshot(**each))
        if "lost_peer" in message:
            self.lost_peer()
        rank = message.get("rank")
        if "stacks" in message and rank in self._snapshots:
            self._heard_s[rank] = time.monotonic()
            self._snapshots[rank].stacks = message["stacks"] or "(it does not answer)"

    def channel_ended(self, channel: Transport) -> None:
        """Record that watchers have ended; those that cannot be reached have not."""
        if not channel.is_unreachable:
            for rank, snapshot in self._snapshots.items():
                snapshot.answers &= self._channel_of.get(rank) is not channel

    def _record(self, snapshot: RankSnapshot) -> None:
        self._heard_s[snapshot.rank] = time.monotonic()
        if not self._is_reporting:  # asking can wake a rank: its earlier state counts
            self._snapshots[snapshot.rank] = snapshot
            self._quiets.setdefault(snapshot.rank, QuietTime()).update(snapshot.beats)

    def poll(self) -> None:
        """Check all ranks, and report a stall when one has made no progress for too long.

        A node that cannot be reached ends the job too: its ranks may never come back.
        """
        self._record(self._watched.snapshot())
        if time.monotonic() - self._sent_s >= self._period_s:
            self._sent_s = time.monotonic()
            for channel in list(self._channels):
                if channel.is_remote:
                    channel.send(root_is_here=True)
        if self._quiet_s() > self._watched.timeout_s or self._misses_a_node(self._watched.lost_s):
            self._report()

    def lost_peer(self) -> None:
        """Report a node that is not heard: its loss is the cause of a rank's error."""
        if self._misses_a_node(_UNHEARD_S) and not self._is_reporting:
            self._report()

    def _report(self) -> None:
        quiet_s = self._quiet_s()
        self._is_reporting = True
        self._request_stacks()
        self._record_silence()
        ranks = [self._snapshots[rank] for rank in sorted(self._snapshots)]
        self._watched.report(ranks, quiet_s, left=self._left)
        self.end()

    def _quiet_s(self) -> float:
        return max(self._quiets[rank].passed_s() for rank in self._snapshots)

    def _misses_a_node(self, silent_s: float) -> bool:
        channels = {
            self._channel_of[rank]
            for rank, snapshot in self._snapshots.items()
            if snapshot.answers and rank in self._channel_of
        }
        return any(each.is_remote and each.silent_s() >= silent_s for each in channels)

    def _request_stacks(self) -> None:
        deadline_s = time.monotonic() + _UNHEARD_S
        self._ask("stacks")
        self._snapshots[self._watched.rank].stacks = self._watched.stacks()
        while time.monotonic() < deadline_s and self._some_are_missing():
            for key, _ in self._selector.select(0.05):
                if isinstance(key.fileobj, Transport):
                    self.receive(key.fileobj)

    def _some_are_missing(self) -> bool:
        return any(
            each.answers and not each.stacks and self._silent_s(rank) < _UNHEARD_S
            for rank, each in self._snapshots.items()
        )

    def _silent_s(self, rank: int) -> float:
        return time.monotonic() - self._heard_s[rank]

    def _record_silence(self) -> None:
        for rank, snapshot in self._snapshots.items():
            silent_s = self._silent_s(rank)
            if rank == self._watched.rank or not snapshot.answers or silent_s < _UNHEARD_S:
                continue
            channel = self._channel_of[rank]
            if channel.is_remote and channel.silent_s() >= _UNHEARD_S:
                snapshot.unheard_s = silent_s
            else:  # its node's watcher is heard
                snapshot.answers = False
