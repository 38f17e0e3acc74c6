"""Every thread's stack of a process that may answer nothing any more.

Python's faulthandler writes them in a signal's handler, in C: neither Python's lock nor a thread
that waits in native code is in its way.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import os
import signal
import tempfile
import time

# One that nobody else uses, where there are such.
_ASK = signal.SIGRTMAX - 3 if hasattr(signal, "SIGRTMAX") else signal.SIGUSR2
# The function of the thread that only the watchdog needs.
OWN_THREAD = "in _end_when_asked"
_ANSWER_WITHIN_S = 1.0
_LOOK_AGAIN_S = 0.05


def offer_stacks() -> int:
    """Let this process be asked. Returns the descriptor of a file where its answer will stand."""
    with tempfile.TemporaryFile() as file:
        descriptor = os.dup(file.fileno())
    faulthandler.register(_ASK, file=descriptor, all_threads=True)
    return descriptor


def stop_offering(descriptor: int) -> None:
    """Undo `offer_stacks`."""
    faulthandler.unregister(_ASK)
    os.close(descriptor)


def state_of(pid: int) -> str:
    """The letter of a process's state in /proc: R, S, T (stopped), D (waits for a disk), Z.

    Empty where the process is gone, or the system has no /proc.
    """
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return ""


def ask_for_stacks(pid: int, descriptor: int) -> str:
    """The stacks of a process that offers them; empty where it does not answer.

    Args:
        pid: the process. Where it is stopped, it goes on: it can answer only then.
        descriptor: what `offer_stacks` returned there.
    """
    begin = size = os.fstat(descriptor).st_size
    with contextlib.suppress(OSError):
        _ask_main_thread(pid)
        os.kill(pid, signal.SIGCONT)
    deadline_s = time.monotonic() + _ANSWER_WITHIN_S
    while time.monotonic() < deadline_s:
        time.sleep(_LOOK_AGAIN_S)
        before, size = size, os.fstat(descriptor).st_size
        if size == before > begin:
            break
    text = os.pread(descriptor, size - begin, begin).decode(errors="replace")
    threads = text.strip().split("\n\n")
    return "\n\n".join(each for each in threads if OWN_THREAD not in each)


def _ask_main_thread(pid: int) -> None:
    """Send the signal to the thread that trains.

    A process that is stopped has no thread that would take it now. When it goes on, whichever comes
    first would, and what the main thread stood at were gone by then.
    """
    of_thread = getattr(ctypes.CDLL(None), "tgkill", None)  # of glibc 2.30 and later
    if of_thread is None or of_thread(pid, pid, int(_ASK)) != 0:
        os.kill(pid, _ASK)
