"""The network of hosts that the tests use: real addresses, real cuts, real rates."""

from __future__ import annotations

import sys
import time

import pytest

from tests.cluster import network as networks

SERVER = """
import socket
with socket.create_server(("", 7000)) as server:
    print("up", flush=True)
    while True:
        with server.accept()[0] as client:
            while client.recv(1 << 16):
                pass
"""
CLIENT = """
import socket, sys, time
begun_s = time.monotonic()
with socket.create_connection(("node2", 7000), timeout=2) as server:
    server.sendall(b"x" * int(sys.argv[1]))
    server.shutdown(socket.SHUT_WR)
    server.recv(1)
print(socket.gethostname(), time.monotonic() - begun_s)
"""


@pytest.fixture
def network():
    with networks.connected(2) as found:
        yield found


def test_links_are_cut_mended_and_limited(network, tmp_path):
    server = network.start(sys.executable, "-c", SERVER, cwd=tmp_path, host="node2")
    assert server.stdout.readline() == "up\n"

    def send(size_bytes):
        command = (sys.executable, "-c", CLIENT, str(size_bytes))
        return network.run(*command, cwd=tmp_path)

    assert send(10).stdout.startswith("node1 ")
    network.cut("node2")
    assert send(10).returncode == 1
    network.mend("node2")
    network.rate("8mbit")
    assert float(send(1_100_000).stdout.split()[1]) > 0.4
    network.rate(None)
    assert send(1_100_000).returncode == 0
    assert len(network.processes("node2")) == 1
    assert network.processes("node1") == []


def test_ranks_start_on_each_host(network, tmp_path):
    (tmp_path / "ranks.py").write_text(
        "import socket; from mpi4py import MPI; world = MPI.COMM_WORLD\n"
        "names = world.gather(socket.gethostname())\n"
        "if world.rank == 0: print(names)\n"
    )
    command = ("candle", "run", "-np", "4", "--hosts", "node1:2,node2:2", "ranks.py")
    done = network.run(*command, cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("['node1', 'node1', 'node2', 'node2']\n", "")


def test_nothing_is_left(tmp_path):
    with networks.connected(1) as network:
        sleeping = network.start("sleep", "1000", cwd=tmp_path)
        while not network.processes("node1"):
            time.sleep(0.01)
    assert sleeping.returncode == -9
