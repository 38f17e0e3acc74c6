"""The Horovod engine: a step's tensors are exchanged by Horovod's own operations.

Horovod's Gloo is bootstrapped over MPI, so any launcher of MPI jobs can start this engine: no ssh,
no horovodrun. Collectives of the program's own thread (metrics, initial weights) use MPI as well:
Horovod ignores an operation's name outside of a graph, so that two different collectives would be
summed without an error.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Sequence

from keras_candle.engine.base import Engine
from keras_candle.engine.mpi import MpiEngine
from keras_candle.errors import EngineError
from keras_candle.optional import load


class HorovodEngine(MpiEngine):
    """The ranks of the MPI job, with Horovod between the graphs of their steps.

    Attributes:
        library: Horovod's module for the framework; a backend calls its operations.
    """

    name = "horovod"

    def __init__(self) -> None:
        # Horovod has a library for each framework. Ours is built for TensorFlow.
        self.library = load("horovod.tensorflow", "engine='horovod'", EngineError)
        super().__init__()
        self._start_horovod()
        if (self.library.rank(), self.library.size()) != (self.rank, self.size):
            raise EngineError(
                f"This is rank {self.library.rank()} of {self.library.size()} in Horovod, and rank "
                f"{self.rank} of {self.size} in MPI. Unset the HOROVOD_* variables of another "
                "launcher."
            )

    def split(self, color: int, key: int | None = None) -> Engine:  # noqa: ARG002
        raise EngineError(
            "The horovod engine does not split into groups. Start the job with "
            "`candle run --engine mpi`, or call candle.engine.start('mpi')."
        )

    def stop(self) -> None:
        self.library.shutdown()
        for name in self._variables:
            # Otherwise the next start would take them for a launcher's.
            os.environ.pop(name, None)
        super().stop()

    def _start_horovod(self) -> None:
        hosts = self._host.allgather((socket.gethostname(), self.local_rank, self.local_size))
        address, interface = "127.0.0.1", "lo"
        if self.local_size < self.size:
            address = self._host.bcast(_route_to(_another_host(hosts)) if self.is_root else None)
            interface = _interface_of(_route_to(address))
        server = _Rendezvous(address, hosts) if self.is_root else None
        port = self._host.bcast(server.port if server else None)
        node_of = _nodes(hosts)
        same_local_rank = [r for r, (_, local, _) in enumerate(hosts) if local == self.local_rank]
        self._variables = {
            "HOROVOD_RANK": str(self.rank),
            "HOROVOD_SIZE": str(self.size),
            "HOROVOD_LOCAL_RANK": str(self.local_rank),
            "HOROVOD_LOCAL_SIZE": str(self.local_size),
            "HOROVOD_CROSS_RANK": str(same_local_rank.index(self.rank)),
            "HOROVOD_CROSS_SIZE": str(len(same_local_rank)),
            "HOROVOD_HOSTNAME": node_of[self.rank],
            "HOROVOD_CONTROLLER": "gloo",
            "HOROVOD_CPU_OPERATIONS": "gloo",
            "HOROVOD_GLOO_RENDEZVOUS_ADDR": address,
            "HOROVOD_GLOO_RENDEZVOUS_PORT": str(port),
        }
        if "HOROVOD_GLOO_IFACE" not in os.environ:
            self._variables["HOROVOD_GLOO_IFACE"] = interface
        os.environ.update(self._variables)
        self.library.init()
        self._host.Barrier()
        if server:
            server.stop()


class _Rendezvous:
    """Horovod's key-value server, on one address and only until every rank has joined.

    It has no authentication, hence no further address and no longer lifetime.
    """

    def __init__(self, address: str, hosts: Sequence[tuple[str, int, int]]) -> None:
        from horovod.runner.common.util.hosts import HostInfo, get_host_assignments
        from horovod.runner.http.http_server import RendezvousHandler, RendezvousHTTPServer

        self._server = RendezvousHTTPServer((address, 0), RendezvousHandler, 0)
        self.port = self._server.server_port
        nodes = [
            HostInfo(node, size)
            for node, (_, local, size) in zip(_nodes(hosts), hosts, strict=True)
            if local == 0
        ]
        self._server.init(get_host_assignments(nodes, len(hosts), len(hosts)))
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _nodes(hosts: Sequence[tuple[str, int, int]]) -> list[str]:
    """A unique name of each rank's node: several nodes can have one host name (containers)."""
    names: list[str] = []
    open_nodes: dict[tuple[str, int], list[str]] = {}
    counts: dict[str, int] = {}
    for host, local_rank, _ in hosts:
        waiting = open_nodes.setdefault((host, local_rank), [])
        if local_rank == 0:
            node = f"{host}-{counts.get(host, 0)}"
            counts[host] = counts.get(host, 0) + 1
        else:
            node = waiting.pop(0)
        open_nodes.setdefault((host, local_rank + 1), []).append(node)
        names.append(node)
    return names


def _another_host(hosts: Sequence[tuple[str, int, int]]) -> str:
    return next((host for host, _, _ in hosts if host != hosts[0][0]), hosts[0][0])


def _route_to(host: str) -> str:
    """The local address from which `host` is reached; no packet is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, 9))
        return str(probe.getsockname()[0])


def _interface_of(address: str) -> str:
    import psutil  # Horovod depends on it

    for interface, addresses in psutil.net_if_addrs().items():
        if any(each.address == address for each in addresses):
            return str(interface)
    raise EngineError(
        f"No network interface has the address {address}. "
        "Set the interface that reaches the other nodes: export HOROVOD_GLOO_IFACE=..."
    )
