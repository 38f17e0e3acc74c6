"""A private Slurm: real daemons on loopback, N nodes on this machine, all files in one folder.

Debian's build runs several slurmd on one host, so N nodes are real to the scheduler. Its munge key,
socket and ports are its own, so that two of them do not meet.
"""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from keras_candle.launch.process import end_with_parent

# Debian has the daemons where a user's PATH does not lead.
_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
_NEEDED = ("munged", "slurmctld", "slurmd", "srun", "sbatch", "squeue", "scontrol", "scancel")
START_TIMEOUT_S = 30


def missing() -> str:
    """Return why there can be no private Slurm on this machine, or an empty string."""
    absent = [name for name in _NEEDED if shutil.which(name, path=_PATH) is None]
    if absent:
        return f"no {', '.join(absent)} here: apt-get install slurm-wlm munge"
    return ""


class Slurm:
    """A private Slurm, see `started`.

    Attributes:
        folder: with its configuration, state and logs.
        nodes: their names, n1, n2, ...
        environment: the variables for its commands and for what calls them.
    """

    def __init__(self, folder: Path, nodes: int, cpus: int) -> None:
        self.folder = folder
        self.nodes = [f"n{number}" for number in range(1, nodes + 1)]
        configuration = folder / "slurm.conf"
        # Left over from the Slurm job in which the tests may run.
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "SBATCH"))}
        self.environment = {
            **inherited,
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), _PATH]),
            "SLURM_CONF": str(configuration),
        }
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        for name in ("state", "log", "run", "munge"):
            (folder / name).mkdir()
        folder.chmod(0o755)  # munged refuses a socket behind a folder that others cannot enter
        (folder / "munge").chmod(0o700)
        (folder / "munge" / "key").write_bytes(os.urandom(1024))
        (folder / "munge" / "key").chmod(0o400)
        configuration.write_text(_configuration(folder, self.nodes, cpus))

    def call(
        self, *command: str, cwd: Path | None = None, timeout_s: float = 60, check: bool = True
    ) -> str:
        """Run a command beside this Slurm and return what it wrote to stdout and stderr."""
        done = subprocess.run(
            command,
            check=False,
            env=self.environment,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
        )
        assert not check or done.returncode == 0, f"{command} gave {done.returncode}: {done.stdout}"
        return done.stdout

    def submit(self, *arguments: str, cwd: Path) -> str:
        """Submit a job with `sbatch`; returns its id."""
        return self.call("sbatch", "--parsable", *arguments, cwd=cwd).strip()

    def job(self, job: str) -> dict[str, str]:
        """Return what `scontrol show job` knows of a job: JobState, Restarts, ExitCode, ..."""
        pairs = self.call("scontrol", "--oneliner", "show", "job", job).split()
        return dict(pair.split("=", 1) for pair in pairs if "=" in pair)

    def wait(self, job: str, *states: str, timeout_s: float = 60) -> dict[str, str]:
        """Wait until a job is in one of the states; returns what Slurm knows of it."""
        return until(
            lambda: (facts := self.job(job)) and facts["JobState"] in states and facts,
            timeout_s,
            lambda: f"job {job} is not {' or '.join(states)}: {self.job(job)}",
        )

    def start_again(self, job: str, timeout_s: float = 60) -> None:
        """Wait until a job is requeued, and end the two minutes that Slurm lets it wait."""
        self.wait(job, "PENDING", timeout_s=timeout_s)
        # A start in the second in which the last one ended fails: "Job credential revoked".
        time.sleep(1.1)
        self.call("scontrol", "update", f"JobId={job}", "StartTime=now")

    def kill_node(self, node: str) -> None:
        """End the slurmd of a node at once, as if the node had failed. Its job's steps go on."""
        self._daemons[node].kill()
        self._daemons.pop(node).wait()

    def start_node(self, node: str) -> None:
        """Start the slurmd of a node."""
        self._start(node, "slurmd", "-D", "-N", node)

    def start(self) -> None:
        """Start the daemons and wait until all nodes are idle."""
        munge = self.folder / "munge"
        self._start(
            "munged",
            "munged",
            "--foreground",
            f"--key-file={munge / 'key'}",
            f"--socket={self.folder / 'munge.socket'}",
            f"--pid-file={munge / 'munged.pid'}",
            f"--log-file={munge / 'munged.log'}",
            f"--seed-file={munge / 'seed'}",
            "--num-threads=2",
        )
        until((self.folder / "munge.socket").exists, START_TIMEOUT_S, self.logs)
        self._start("slurmctld", "slurmctld", "-D", "-c")
        for node in self.nodes:
            self.start_node(node)
        self.wait_for_nodes()

    def wait_for_nodes(self) -> None:
        """Wait until all nodes are idle."""
        idle = ("sinfo", "--noheader", "--states=idle", "--partition=batch", "--format=%D")
        until(
            lambda: self.call(*idle, check=False).strip() == str(len(self.nodes)),
            START_TIMEOUT_S,
            self.logs,
        )

    def stop(self) -> None:
        """End all jobs, then the daemons, then what is left of either, each by its id."""
        with suppress(AssertionError, subprocess.TimeoutExpired):
            self.call("scancel", "--quiet", f"--user={getpass.getuser()}", timeout_s=10)
            self.call("scancel", "--quiet", "--signal=KILL", f"--user={getpass.getuser()}")
            until(lambda: not self.call("squeue", "--noheader").strip(), 10, self.logs)
        for daemon in reversed(self._daemons.values()):
            daemon.terminate()
        for daemon in self._daemons.values():
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        for pid in self._left():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _start(self, name: str, program: str, *arguments: str) -> None:
        us = os.getpid()
        with open(self.folder / "log" / f"{name}.out", "ab") as log:
            self._daemons[name] = subprocess.Popen(
                [shutil.which(program, path=_PATH), *arguments],
                env=self.environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=lambda: end_with_parent(us),  # noqa: PLW1509 - one thread
            )

    def _left(self) -> list[int]:
        """Processes of this Slurm that outlived it: steps, and what they started."""
        mark = f"SLURM_CONF={self.environment['SLURM_CONF']}".encode()
        left = []
        for each in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if mark in (each / "environ").read_bytes().split(b"\0"):
                    left.append(int(each.name))
        return [pid for pid in left if pid != os.getpid()]

    def logs(self) -> str:
        """Return the ends of the daemons' logs."""
        logs = [*sorted(self.folder.glob("log/*")), self.folder / "munge" / "munged.log"]
        return "\n".join(
            f"{p.name}: {p.read_text(errors='replace')[-1000:]}" for p in logs if p.is_file()
        )


@contextmanager
def started(nodes: int = 2, cpus: int = 4) -> Iterator[Slurm]:
    """A private Slurm that runs while the context is open.

    Partition `batch` is the default one; a job of partition `urgent` preempts its jobs, which are
    requeued after at most 60 seconds in which it may save.

    Args:
        nodes: number of nodes, all on this machine.
        cpus: CPUs that each pretends to have.
    """
    for is_last in (False, True):
        with ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="slurm-"))
            slurm = Slurm(Path(folder), nodes, cpus)
            stack.callback(slurm.stop)
            try:
                slurm.start()
            except AssertionError:
                if is_last:
                    raise
                continue  # another program has taken one of the ports meanwhile
            yield slurm
            return


def until(
    condition: Callable[[], Any], timeout_s: float, failure: Callable[[], str], poll_s: float = 0.05
) -> Any:
    """Wait until a condition is true and return its value; fails with a message after a time."""
    deadline_s = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline_s, failure()
        time.sleep(poll_s)
    return value


def _configuration(folder: Path, nodes: Sequence[str], cpus: int) -> str:
    host = socket.gethostname().split(".")[0]
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(len(nodes) + 1)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        control, *ports = [each.getsockname()[1] for each in sockets]
    settings: Mapping[str, object] = {
        "ClusterName": "candle",
        "SlurmctldHost": f"{host}(127.0.0.1)",
        "SlurmctldPort": control,
        "SlurmUser": getpass.getuser(),
        "SlurmdUser": getpass.getuser(),
        "CommunicationParameters": "NoCtldInAddrAny,NoInAddrAny",
        "AuthType": "auth/munge",
        "AuthInfo": f"socket={folder / 'munge.socket'}",
        "CredType": "cred/munge",
        "StateSaveLocation": folder / "state",
        "SlurmctldPidFile": folder / "run" / "slurmctld.pid",
        "SlurmdPidFile": folder / "run" / "slurmd-%n.pid",
        "SlurmdSpoolDir": folder / "run" / "spool-%n",
        "SlurmctldLogFile": folder / "log" / "slurmctld.log",
        "SlurmdLogFile": folder / "log" / "slurmd-%n.log",
        "ProctrackType": "proctrack/linuxproc",
        "TaskPlugin": "task/none",
        "JobAcctGatherType": "jobacct_gather/none",
        "AccountingStorageType": "accounting_storage/none",
        "MpiDefault": "none",
        "SwitchType": "switch/none",
        "SelectType": "select/cons_tres",
        "SelectTypeParameters": "CR_Core",
        "SchedulerType": "sched/backfill",
        "SchedulerParameters": "batch_sched_delay=0,sched_interval=2,bf_interval=2",
        "ReturnToService": 2,
        "KillWait": 5,
        "MinJobAge": 300,
        "PropagateResourceLimits": "NONE",
        "PreemptType": "preempt/partition_prio",
        "PreemptMode": "REQUEUE",
        "JobRequeue": 1,
        "SlurmctldTimeout": 10,
        "SlurmdTimeout": 10,
        "SlurmdParameters": "config_overrides",
    }
    return "\n".join(
        [
            *(f"{name}={value}" for name, value in settings.items()),
            *(
                f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={cpus} "
                "RealMemory=1000 State=UNKNOWN"
                for node, port in zip(nodes, ports, strict=True)
            ),
            "PartitionName=batch Nodes=ALL Default=YES MaxTime=60 State=UP PriorityTier=1 "
            "PreemptMode=REQUEUE GraceTime=60",
            "PartitionName=urgent Nodes=ALL MaxTime=60 State=UP PriorityTier=10 PreemptMode=OFF",
            "",
        ]
    )
