"""Several hosts on one machine: network namespaces with addresses and names of their own.

A bridge joins them, so a link can be cut, mended and limited in rate. A namespace has no name in
the file system and lives as long as the process that holds it: two test runs do not meet, and one
that is killed leaves no namespace behind.
"""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path

import pytest

from keras_candle.launch.process import end_with_parent

_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
_NEEDED = ("ip", "tc", "nsenter", "unshare", "mount", "hostname")
_UNSHARE = ("unshare", "--net", "--uts", "--mount")
_ENTER = ("nsenter", "--net", "--uts", "--mount", "--target")
# A host: its name, its /etc/hosts, and a server that answers as long as it can be reached.
_HOST = """
import socket, subprocess, sys
name, hosts = sys.argv[1:]
socket.sethostname(name)
subprocess.run(["mount", "--bind", hosts, "/etc/hosts"], check=True)
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
server = socket.create_server(("", 22))
print("up", flush=True)
while True:
    with server.accept()[0] as client:
        client.send(b"SSH-2.0")
"""
# "ssh [options] HOST COMMAND...", by which hydra starts its proxy on another host. As with the real
# one, the command goes on when the client is killed.
_SSH = """#!{python} -S
import socket, subprocess, sys
pids = {pids}
arguments = sys.argv[1:]
while arguments[0].startswith("-"):
    arguments.pop(0)
host, *command = arguments
try:
    socket.create_connection((host, 22), timeout=2).recv(8)
except OSError as error:
    sys.exit(f"ssh: connect to host {{host}} port 22: {{error}}")
enter = [*{enter}, str(pids[host]), "sh", "-c", " ".join(command)]
sys.exit(subprocess.Popen(enter, start_new_session=True).wait())
"""


@cache
def missing() -> str:
    """Return why there can be no network of hosts on this machine, or an empty string."""
    absent = [name for name in _NEEDED if shutil.which(name, path=_PATH) is None]
    if absent:
        return f"no {', '.join(absent)} here: apt-get install iproute2 util-linux"
    tried = _call(*_UNSHARE, "ip", "link", "add", "candle", "type", "veth", check=False)
    return f"network namespaces are not permitted here: {tried.strip()}" if tried else ""


class Network:
    """Hosts that are joined by a bridge, see `connected`.

    Attributes:
        hosts: their names, node1, node2, ...
        environment: the variables for what runs on them: mpiexec reaches the other hosts by an ssh
            of this network, and MPI uses no shared memory, which passes by every cut.
    """

    def __init__(self, folder: Path, hosts: int) -> None:
        self.hosts = [f"node{number}" for number in range(1, hosts + 1)]
        inherited = {
            k: v
            for k, v in os.environ.items()
            if not k.startswith(("SLURM", "HYDRA_", "PMI_", "PBS_"))
        }
        self.environment = {
            **inherited,
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), _PATH]),
            "HYDRA_LAUNCHER": "ssh",
            "HYDRA_LAUNCHER_EXEC": str(folder / "ssh"),
            "UCX_TLS": "tcp,self",
            "OMP_NUM_THREADS": "1",
            "TF_NUM_INTRAOP_THREADS": "1",
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }
        self._folder = folder
        self._held: dict[str, subprocess.Popen[str]] = {}
        self._started: list[subprocess.Popen[str]] = []

    def up(self) -> None:
        """Make the bridge and the hosts, and connect them."""
        addresses = {name: f"10.88.0.{i}" for i, name in enumerate(self.hosts, 1)}
        lines = ["127.0.0.1 localhost", *(f"{at} {name}" for name, at in addresses.items())]
        (self._folder / "hosts").write_text("\n".join([*lines, ""]))
        self._hold("switch")
        self._on("switch", "ip", "link", "add", "bridge", "type", "bridge")
        self._on("switch", "ip", "link", "set", "bridge", "up")
        for name, address in addresses.items():
            peer = ("peer", "name", "eth0", "netns", str(self._hold(name)))
            self._on("switch", "ip", "link", "add", name, "type", "veth", *peer)
            self._on("switch", "ip", "link", "set", name, "master", "bridge", "up")
            self._on(name, "ip", "address", "add", f"{address}/24", "dev", "eth0")
            self._on(name, "ip", "link", "set", "eth0", "up")
        ssh = self._folder / "ssh"
        pids = {name: self._held[name].pid for name in self.hosts}
        ssh.write_text(_SSH.format(python=sys.executable, pids=pids, enter=_ENTER))
        ssh.chmod(ssh.stat().st_mode | stat.S_IXUSR)

    def down(self) -> None:
        """End all processes on the hosts, and with the last of each its network."""
        networks = {os.readlink(f"/proc/{each.pid}/ns/net") for each in self._held.values()}
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if os.readlink(entry / "ns/net") in networks:
                    os.kill(int(entry.name), signal.SIGKILL)
        for each in [*self._held.values(), *self._started]:
            each.wait()
            for stream in (each.stdout, each.stderr):
                if stream is not None:
                    stream.close()

    def cut(self, host: str) -> None:
        """Cut the link of a host: nothing passes any more, and no connection is closed."""
        self._on("switch", "ip", "link", "set", host, "down")

    def mend(self, host: str) -> None:
        """Mend the link of a host."""
        self._on("switch", "ip", "link", "set", host, "up")

    def rate(self, rate: str | None) -> None:
        """Limit the rate of each link in both directions.

        Args:
            rate: as tc writes it, for example "200mbit"; None for no limit.
        """
        for name in self.hosts:
            for at, device in (("switch", name), (name, "eth0")):
                queue = ("tc", "qdisc", "replace", "dev", device, "root")
                if rate is None:
                    self._on(at, *queue, "noqueue")
                else:
                    # The burst is what one timer tick lets through at some Gbit/s.
                    limit = ("tbf", "rate", rate, "burst", "512k", "latency", "100ms")
                    self._on(at, *queue, *limit)

    def processes(self, host: str) -> list[int]:
        """Return the processes on a host, without the one that is the host."""
        network = os.readlink(f"/proc/{self._held[host].pid}/ns/net")
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if os.readlink(entry / "ns/net") == network:
                    found.append(int(entry.name))
        return [pid for pid in found if pid != self._held[host].pid]

    def start(
        self, *command: str, cwd: Path, host: str = "node1", **variables: str
    ) -> subprocess.Popen[str]:
        """Start a command on a host; its stdout and stderr are pipes of text."""
        us = os.getpid()
        started = subprocess.Popen(
            self._command(host, cwd, command),
            env={**self.environment, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=lambda: end_with_parent(us),  # noqa: PLW1509 - one thread
        )
        self._started.append(started)
        return started

    def run(
        self,
        *command: str,
        cwd: Path,
        host: str = "node1",
        timeout_s: float = 60,
        **variables: str,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on a host and return its exit code and its output as text."""
        return subprocess.run(
            self._command(host, cwd, command),
            env={**self.environment, **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def _command(self, host: str, cwd: Path, command: tuple[str, ...]) -> list[str]:
        # The working directory is lost with the mount namespace.
        into = ("sh", "-c", 'cd "$0" && exec "$@"', str(cwd))
        return [*_ENTER, str(self._held[host].pid), *into, *command]

    def _hold(self, name: str) -> int:
        us = os.getpid()
        program = (sys.executable, "-S", "-c", _HOST)
        held = subprocess.Popen(
            [*_UNSHARE, *program, name, str(self._folder / "hosts")],
            env={**os.environ, "PATH": _PATH},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=lambda: end_with_parent(us),  # noqa: PLW1509 - one thread
        )
        self._held[name] = held
        assert held.stdout is not None
        assert held.stdout.readline() == "up\n", f"{name} did not start"
        return held.pid

    def _on(self, name: str, *command: str) -> None:
        _call(*_ENTER, str(self._held[name].pid), *command)


def _call(*command: str, check: bool = True) -> str:
    """Return what a command wrote, and fail where it failed; without `check`, return that alone."""
    done = subprocess.run(
        command,
        env={**os.environ, "PATH": _PATH},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=20,
        check=False,
    )
    assert not check or done.returncode == 0, f"{command} gave {done.returncode}: {done.stdout}"
    return done.stdout if done.returncode else ""


@contextmanager
def connected(hosts: int = 2) -> Iterator[Network]:
    """Hosts that are joined by links without limit while the context is open.

    The test is skipped where this machine permits no network namespaces.

    Args:
        hosts: their number.
    """
    if missing():
        pytest.skip(missing())
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="network-"))
        network = Network(Path(folder), hosts)
        stack.callback(network.down)
        network.up()
        yield network
