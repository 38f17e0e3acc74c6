"""A process beside the rank that kills it: at any moment, whatever the rank is doing then.

A thread of the rank's own would wait for Python's lock, and kill between two of its steps only.
"""

from __future__ import annotations

import os
import signal
import struct
import time
from collections.abc import Callable

_DELAY = struct.Struct("d")


class Killer:
    """Started before the rank has threads; does nothing until it is told to.

    Args:
        tell: called in the process beside, right before the kill.
    """

    def __init__(self, tell: Callable[[], object]) -> None:
        rank = os.getpid()
        ours, theirs = os.pipe()
        if os.fork() == 0:
            os.close(theirs)
            _wait_and_kill(rank, ours, tell)
        os.close(ours)
        self._pipe = theirs

    def kill_in(self, delay_s: float) -> None:
        """Let this process be killed with SIGKILL after so many seconds."""
        os.write(self._pipe, _DELAY.pack(delay_s))


def _wait_and_kill(rank: int, pipe: int, tell: Callable[[], object]) -> None:
    told = os.read(pipe, _DELAY.size)  # nothing, when the rank has ended
    if told:
        time.sleep(_DELAY.unpack(told)[0])
        if os.getppid() == rank:
            tell()
            os.kill(rank, signal.SIGKILL)
    os._exit(0)
