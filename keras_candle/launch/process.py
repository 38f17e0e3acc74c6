"""How processes end: together with their parent, or as a whole session."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys

_PR_SET_PDEATHSIG = 1
_LAST_BREATH_S = 5.0


def end_with_parent(parent_pid: int) -> None:
    """Asks the system to kill this process when its parent ends, however the parent ends.

    A rank whose supervisor or launcher was killed with SIGKILL would otherwise go on for ever,
    in a collective that nobody else takes part in. Linux only; elsewhere this does nothing.

    Args:
        parent_pid: the parent as known before the fork: when it is gone already, this process
            ends here.
    """
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != parent_pid:
        os._exit(128 + int(signal.SIGKILL))


def end_session(leader: subprocess.Popen[bytes]) -> None:
    """Ends a process that we started in a session of its own, and all that it started there.

    Args:
        leader: the session's first process. It goes first: when mpiexec is gone, its proxies
            kill the ranks on every node, and only then may the proxies of this node go too.
    """
    leader.kill()
    try:
        leader.wait(_LAST_BREATH_S)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(leader.pid, signal.SIGKILL)


def children_of(pid: int) -> list[int] | None:
    """The processes that a process has started and that it has not waited for yet.

    Args:
        pid: the process.

    Returns:
        Their numbers; None where the system does not say.
    """
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children") as file:
                found += map(int, file.read().split())
    except OSError:
        return None
    return found
