"""The rank's side of the watchdog: start its watcher, and offer it the stacks of all threads."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import IO, Any, cast

from keras_candle.errors import EXIT_STALLED
from keras_candle.watchdog.heartbeat import HeartbeatBoard

_END_WITHIN_S = 2.0
_VERDICT_WITHIN_S = 5.0
# As Gloo and the system write them.
_LOST_PEER = re.compile(
    "Timed out waiting|Application timeout|Connection (closed|reset) by peer|Connection timed out"
    "|No route to host|Broken pipe|Horovod has been shut down"
)


class RankWatch:
    """The watcher process of this rank, started by the constructor and ended by `stop`.

    Args:
        rank: its number.
        timeout_s: the job is ended after so long without progress.
        run_directory: gets the report.
        local_rank: its number on its node. The watcher of a node's first rank passes on what the
            node's others send to the root's.
        on_one_node: whether all ranks are on this node.
        lost_s: the job is ended when nothing is heard of a node for so long.
    """

    def __init__(
        self,
        rank: int,
        timeout_s: float,
        run_directory: Path,
        *,
        local_rank: int,
        on_one_node: bool,
        lost_s: float,
    ) -> None:
        self.board = HeartbeatBoard()
        self._on_one_node = on_one_node
        self._stacks = enable_stacks()
        end, to_end = os.pipe()
        arguments = {
            "rank": rank,
            "local_rank": local_rank,
            "lost_s": lost_s,
            "pid": os.getpid(),
            "timeout_s": timeout_s,
            "run_directory": str(run_directory),
            "on_one_node": on_one_node,
            "board": self.board.descriptor,
            "stacks": self._stacks,
            "end": to_end,
        }
        self._watcher = subprocess.Popen(
            # -P: a module in the working directory may have the name of one of Python's.
            [sys.executable, "-P", "-m", "keras_candle.watchdog", json.dumps(arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=(self.board.descriptor, self._stacks, to_end),
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        os.close(to_end)
        self._from_watcher, self._to_watcher = (
            cast("IO[bytes]", stream) for stream in (self._watcher.stdout, self._watcher.stdin)
        )
        threading.Thread(target=_end_when_asked, args=(end,), daemon=True).start()

    def address(self) -> dict[str, Any]:
        """Return the address and token of the root's watcher; empty if it has ended."""
        address = json.loads(self._from_watcher.readline() or b"{}")
        return {**address, "token": secrets.token_hex(16)} if address else {}

    def connect(self, address: dict[str, Any]) -> None:
        """Begin to watch.

        Args:
            address: of the root's watcher, the same on all ranks.
        """
        self._send({"address": address})

    def report_error(self, error: BaseException) -> None:
        """Let root's watcher end the job if the cause of an error is a node that is not heard.

        An engine that waits for a lost node gives up before the watchdog does, with an error on a
        rank that is well. Where all nodes are heard, this returns, after a moment.

        Args:
            error: with which the training ends.
        """
        if not self._on_one_node and _LOST_PEER.search(str(error)):
            self._send({"lost_peer": True})
            time.sleep(_VERDICT_WITHIN_S)

    def stop(self) -> None:
        """End the watch, when training ends on this rank."""
        self._send({"bye": True})
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            self._watcher.communicate(timeout=_END_WITHIN_S)
        if self._watcher.poll() is None:
            self._watcher.kill()
            self._watcher.communicate()
        disable_stacks(self._stacks)
        self.board.close()

    def _send(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            self._to_watcher.write(json.dumps(message).encode() + b"\n")
            self._to_watcher.flush()


def _end_when_asked(pipe: int) -> None:
    """End this process when its watcher requests it; return when the watcher ends."""
    if os.read(pipe, 1):
        os._exit(EXIT_STALLED)
    os.close(pipe)


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
