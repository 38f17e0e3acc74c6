"""Processes: their cores and threads, and how they end with their parent or their session."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping

_PR_SET_PDEATHSIG = 1
_LEADER_EXIT_S = 5.0


def end_with_parent(parent_pid: int, number: int = signal.SIGKILL) -> None:
    """Ask the system to kill this process when its parent ends, however the parent ends.

    A rank whose supervisor or launcher was killed with SIGKILL would otherwise wait forever in a
    collective. Linux only; elsewhere this does nothing.

    Args:
        parent_pid: the parent as known before the fork: if it has already ended, this process
            exits here.
        number: the signal that this process then gets.
    """
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(number))
    if os.getppid() != parent_pid:
        os._exit(128 + int(number))


def end_session(leader: subprocess.Popen[bytes]) -> None:
    """Kill a process that leads a session of its own, and all processes of the session.

    Args:
        leader: the session's first process. It is killed first: when mpiexec is gone, its proxies
            kill the ranks on every node, and only then may the proxies of this node be killed.
    """
    leader.kill()
    try:
        leader.wait(_LEADER_EXIT_S)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(leader.pid, signal.SIGKILL)


def children_of(pid: int) -> list[int] | None:
    """Return the child processes of a process that it has not waited for yet.

    Args:
        pid: the process.

    Returns:
        Their process IDs; None where the system has no /proc.
    """
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children") as file:
                found += map(int, file.read().split())
    except OSError:
        return None
    return found


def thread_settings(environment: Mapping[str, str], cores: int, local_size: int) -> dict[str, str]:
    """Return thread settings that divide a node's cores among its ranks.

    Without them every rank starts as many threads as the node has cores, and the ranks compete
    for the cores in every step.

    Args:
        environment: the variables that the user set; they are never overridden.
        cores: cores that this node's ranks may use together.
        local_size: ranks on this node.

    Returns:
        The variables to add.

    Example:
        >>> thread_settings({"OMP_NUM_THREADS": "3"}, cores=8, local_size=2)
        {'TF_NUM_INTRAOP_THREADS': '4'}
    """
    if local_size < 2:
        return {}
    threads = str(max(1, cores // local_size))
    names = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")
    return {name: threads for name in names if name not in environment}


def cores_of_this_node() -> int:
    """Return the cores that this process may use; a scheduler may grant fewer than the node has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
