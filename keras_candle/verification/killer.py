"""A separate process that kills the rank with SIGKILL at any moment.

A thread of the rank itself would wait for Python's lock, and kill between two steps only.
"""

from __future__ import annotations

import os
import signal
import struct
import time
from collections.abc import Callable

_DELAY = struct.Struct("d")


class Killer:
    """Forks a process that kills this one on request; make it before this process has threads.

    Args:
        before_kill: called in the forked process, right before the kill.
    """

    def __init__(self, before_kill: Callable[[], object]) -> None:
        rank = os.getpid()
        reading, writing = os.pipe()
        if os.fork() == 0:
            os.close(writing)
            _wait_and_kill(rank, reading, before_kill)
        os.close(reading)
        self._pipe = writing

    def kill_in(self, delay_s: float) -> None:
        """Kill this process with SIGKILL after a delay in seconds."""
        os.write(self._pipe, _DELAY.pack(delay_s))


def _wait_and_kill(rank: int, pipe: int, before_kill: Callable[[], object]) -> None:
    request = os.read(pipe, _DELAY.size)  # empty when the rank has ended
    if request:
        time.sleep(_DELAY.unpack(request)[0])
        if os.getppid() == rank:
            before_kill()
            os.kill(rank, signal.SIGKILL)
    os._exit(0)
