"""Check in seconds whether a server is reachable, where packages try for minutes."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

_PORTS = {"http": 80, "https": 443}
_WITHIN_S = 2.0


class UnreachableError(OSError):
    """A server cannot be reached; an immediate retry is useless."""


def reach(url: str, within_s: float = _WITHIN_S) -> None:
    """Open a connection to a server, or to the proxy in front of it, and close it again.

    Args:
        url: URL of the server.
        within_s: timeout of the connection.

    Raises:
        UnreachableError: when the connection fails.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    proxy = getproxies().get(parts.scheme)
    if proxy and not proxy_bypass(host):
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        host = parts.hostname or ""
    port = parts.port or _PORTS.get(parts.scheme, 443)
    try:
        socket.create_connection((host, port), timeout=within_s).close()
    except OSError as cause:
        raise UnreachableError(f"{host} port {port} cannot be reached ({cause})") from cause
