"""A connection between two watchers that carries JSON lines."""

from __future__ import annotations

import contextlib
import json
import socket
from typing import Any

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
