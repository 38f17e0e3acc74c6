"""The watcher process of one rank: python -m keras_candle.watchdog JSON, started by `RankWatch`."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
from typing import Any

from keras_candle.watchdog.collecting_watchers import (
    NodeWatcher,
    RootWatcher,
    connection_to_node,
    server_of_node,
)
from keras_candle.watchdog.watcher import Transport, Watched, Watcher

# These signals are meant for the rank; the watcher ends with it.
_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def main(given: dict[str, Any]) -> None:
    """Watch until the rank ends.

    Args:
        given: the arguments from `RankWatch`.
    """
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    watched = Watched(given)
    rank, first_of_node = given["rank"], 0 in (given["rank"], given["local_rank"])
    if rank == 0:
        host = "127.0.0.1" if given["on_one_node"] else socket.gethostname()
        server = socket.create_server(("127.0.0.1" if given["on_one_node"] else "", 0), backlog=512)
        print(json.dumps({"host": host, "port": server.getsockname()[1]}), flush=True)  # noqa: T201
    address = json.loads(sys.stdin.buffer.readline() or b"{}").get("address")
    if address is None:
        return
    if first_of_node:
        of_node = server_of_node(address["token"])
        servers = [of_node] if of_node is not None else []
    if rank == 0:
        RootWatcher(watched, [server, *servers], address["token"]).run()
    elif first_of_node:
        NodeWatcher(watched, _connected(address, rank), servers, address["token"]).run()
    elif (above := connection_to_node(address["token"], rank)) is not None:
        Watcher(watched, above, lambda: _connected(address, rank)).run()
    else:
        Watcher(watched, _connected(address, rank)).run()


def _connected(address: dict[str, Any], rank: int) -> Transport | None:
    with contextlib.suppress(OSError):
        connection = socket.create_connection((address["host"], address["port"]), timeout=10)
        channel = Transport(connection, is_remote=True)
        channel.send(token=address["token"], rank=rank)
        return channel
    print(  # noqa: T201
        f"keras_candle: rank {rank} cannot reach the root's watcher at {address['host']} "
        f"port {address['port']}: its stalls are found, but not compared with the other ranks'.",
        file=sys.stderr,
    )
    return None


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
    os._exit(0)  # do not wait for threads or buffers
