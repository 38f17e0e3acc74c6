"""What each rank of a job runs: a supervisor, and under it the user's program.

`python -m keras_candle.launch.rank script.py [args...]` or `... -m package.module [args...]`.

The program runs in a child process because only a parent learns how a process ended that was
killed: by the system for want of memory, by a crash in native code, by hand. mpiexec cannot tell
that: it kills the other ranks at once, with the same signal, and names any of them.
"""

import faulthandler
import mmap
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import BinaryIO

from keras_candle import launcher_messages
from keras_candle.errors import EXIT_RUN_AGAIN, EXIT_STALLED
from keras_candle.launch import environment
from keras_candle.launch.failure import Failure
from keras_candle.launch.process import end_with_parent
from keras_candle.launch.program import (
    Ending,
    initialised_mpi_abort,
    run_program,
    speak_in_lines,
    speak_to_terminal,
)
from keras_candle.launcher_messages import write_through

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_STALLED = "the watchdog has ended the job; its report stands above"
_TAIL_LINES = 30
_TAIL_BYTES = 8000
# One byte each of the memory that supervisor and program share.
_STOP_ASKED, _TOLD, _END_JOB, _INDEPENDENT = range(4)


def main(arguments: Sequence[str]) -> int:
    """Runs the user's program under a supervisor.

    Args:
        arguments: ["script.py", ...] or ["-m", "package.module", ...].

    Returns:
        The rank's exit code; 128 + N when signal N killed the program.
    """
    rank = Rank()
    # A stop signal goes to every process of a rank: the program acts on it, the supervisor takes
    # note and waits. (mpiexec and srun both signal the whole group; nothing is passed on here, so
    # that no handler runs twice.)
    before = {number: signal.signal(number, rank.note_stop) for number in _STOP_SIGNALS}
    supervisor = os.getpid()
    pid = os.fork()
    if pid == 0:
        end_with_parent(supervisor)
        for number, handler in before.items():
            signal.signal(number, handler)
        return rank.run(arguments)
    return rank.supervise(pid)


class Rank:
    """One rank's place in the job, its streams, and what its two processes tell each other."""

    def __init__(self) -> None:
        self.rank, self.size, self.local_size = environment.launcher_facts(os.environ)
        self._flags = mmap.mmap(-1, 4)
        self._speech = os.dup(2)
        self._captured: BinaryIO | None = None
        if self.rank > 0 and not os.environ.get(environment.ALL_OUTPUT):
            self._captured = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as we live

    def note_stop(self, *_: object) -> None:
        """Signal handler: from now on, ranks that exit leave the others time to finish."""
        self._flags[_STOP_ASKED] = 1

    def run(self, arguments: Sequence[str]) -> int:
        """The child's part: the user's program, with its streams and threads in place."""
        if self._captured is not None:
            # The descriptors and not sys.stdout: native libraries write past Python.
            os.dup2(self._captured.fileno(), 1)
            os.dup2(self._captured.fileno(), 2)
        elif os.environ.get(environment.ALL_OUTPUT):
            speak_in_lines()
        else:
            for name in os.environ.get(environment.TERMINALS, "").split():
                speak_to_terminal(name)
        cores = environment.cores_of_this_node()
        os.environ.update(environment.share_of_threads(os.environ, cores, self.local_size))
        faulthandler.enable()
        launcher_messages.on_independent = self._note_independent
        ending = run_program(arguments)
        if ending.code != 0:
            self._end_badly(ending)
        return ending.code

    def _note_independent(self, independent: bool) -> None:
        self._flags[_INDEPENDENT] = independent

    def supervise(self, pid: int) -> int:
        """The parent's part: waits for the program, and tells the job when it ended badly."""
        _, status = os.waitpid(pid, 0)
        killed_by = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        code = 128 + killed_by if killed_by else os.WEXITSTATUS(status)
        if code != 0 and not self._flags[_TOLD]:
            reason = _STALLED if code == EXIT_STALLED else ""
            self._tell(pid, Ending(code, reason), killed_by)
            if not (
                self._flags[_STOP_ASKED] or self._flags[_INDEPENDENT] or code == EXIT_RUN_AGAIN
            ):
                self._flags[_END_JOB] = 1
        if self._flags[_END_JOB]:
            _end_hydra_job(code)
        return code

    def _end_badly(self, ending: Ending) -> None:
        self._tell(os.getpid(), ending)
        if ending.by_exit and not ending.asks_to_run_again:
            # The supervisor got the signal that our handler got, but may note it a little later.
            time.sleep(0.2)
        if ending.asks_to_run_again or (ending.by_exit and self._flags[_STOP_ASKED]):
            return
        self._flags[_END_JOB] = 1
        abort = initialised_mpi_abort()
        if abort is not None and not _under_hydra():
            abort(ending.code)
        # Not by way of atexit: MPI_Finalize would wait there for ranks that wait for this one.
        os._exit(ending.code)

    def _tell(self, pid: int, ending: Ending, killed_by: int = 0) -> None:
        failure = Failure(
            rank=self.rank,
            size=self.size,
            host=socket.gethostname(),
            pid=pid,
            time_s=time.time(),
            code=ending.code,
            reason=ending.reason,
            signal=killed_by,
            traceback=ending.traceback,
            output=self._tail(),
        )
        # Without `candle run` at the other end nobody would decode a frame.
        under_candle = environment.LAUNCHER in os.environ
        told = failure.frame() if under_candle else failure.text().encode()
        write_through(self._speech, told)
        self._flags[_TOLD] = 1

    def _tail(self) -> str:
        if self._captured is None:
            return ""
        start = max(0, os.fstat(self._captured.fileno()).st_size - _TAIL_BYTES)
        text = os.pread(self._captured.fileno(), _TAIL_BYTES, start).decode(errors="replace")
        return "\n".join(text.splitlines()[-_TAIL_LINES:])


def _under_hydra() -> bool:
    # PMI_FD alone is not enough: under srun it speaks another version of the protocol. And hydra
    # sets its own variable on the first node only.
    marks = {"HYDI_CONTROL_FD", environment.LAUNCHER}
    return "PMI_FD" in os.environ and not marks.isdisjoint(os.environ)


def _end_hydra_job(code: int) -> None:
    """What MPI_Abort tells hydra, said by a process that need not have begun MPI.

    hydra takes no notice of a rank that exits with an error before MPI_Init: the others would
    wait for it in MPI_Init for ever.
    """
    if _under_hydra():
        message = f"cmd=abort exitcode={code} message=candle\n"
        os.write(int(os.environ["PMI_FD"]), message.encode())
        # hydra kills this process now; where it does not, the exit code says the same.
        time.sleep(2)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
