"""Read the stacks of all threads of a process that may hang.

Python's faulthandler writes them in a signal handler in C, which works although a thread holds
Python's lock or waits in native code.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import os
import signal
import tempfile
import time

# A real-time signal that programs rarely use, where the system has them.
_SIGNAL = signal.SIGRTMAX - 3 if hasattr(signal, "SIGRTMAX") else signal.SIGUSR2
# The watchdog's own thread, by its function's name; left out of the stacks.
OWN_THREAD = "in _end_when_asked"
_ANSWER_WITHIN_S = 1.0
_POLL_S = 0.05


def enable_stacks() -> int:
    """Register the signal handler. Return the descriptor of the file that it writes to."""
    with tempfile.TemporaryFile() as file:
        descriptor = os.dup(file.fileno())
    faulthandler.register(_SIGNAL, file=descriptor, all_threads=True)
    return descriptor


def disable_stacks(descriptor: int) -> None:
    """Unregister the handler of `enable_stacks`."""
    faulthandler.unregister(_SIGNAL)
    os.close(descriptor)


def state_of(pid: int) -> str:
    """Return a process's state letter in /proc: R, S, T (stopped), D (waits for a disk), Z.

    Empty where the process has ended, or the system has no /proc.
    """
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return ""


def request_stacks(pid: int, descriptor: int) -> str:
    """Return the stacks of a process that offers them; empty where it does not answer.

    Args:
        pid: the process. A stopped one is continued: only then can it answer.
        descriptor: the file of its `enable_stacks`.
    """
    begin = size = os.fstat(descriptor).st_size
    with contextlib.suppress(OSError):
        _signal_main_thread(pid)
        os.kill(pid, signal.SIGCONT)
    deadline_s = time.monotonic() + _ANSWER_WITHIN_S
    while time.monotonic() < deadline_s:
        time.sleep(_POLL_S)
        before, size = size, os.fstat(descriptor).st_size
        if size == before > begin:
            break
    text = os.pread(descriptor, size - begin, begin).decode(errors="replace")
    threads = text.strip().split("\n\n")
    return "\n\n".join(each for each in threads if OWN_THREAD not in each)


def _signal_main_thread(pid: int) -> None:
    """Send the signal to the thread that trains.

    A stopped process takes no signal. When it continues, whichever thread runs first would take
    it, and the main thread would have moved on by then.
    """
    of_thread = getattr(ctypes.CDLL(None), "tgkill", None)  # of glibc 2.30 and later
    if of_thread is None or of_thread(pid, pid, int(_SIGNAL)) != 0:
        os.kill(pid, _SIGNAL)
