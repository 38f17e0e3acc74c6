"""End the whole MPI job when the program of one rank fails and no supervisor watches it.

A rank that fails waits in MPI_Finalize for the others, and these wait for it in a collective, for
ever. `candle run` and `keras_candle.launch.rank` have a supervisor for each rank; a plain `mpiexec
python train.py` has none.
"""

from __future__ import annotations

import atexit
import os
import socket
import sys
import threading
from types import TracebackType
from typing import Any, NoReturn

from keras_candle.errors import EXIT_RUN_AGAIN
from keras_candle.launcher_messages import write_through

_INTERRUPTED = 130


def abort_job_on_failure(mpi: Any) -> None:
    """Call MPI_Abort when this program ends by an exception or by sys.exit with an error code.

    An exception that a thread does not handle ends that thread alone, as everywhere in Python. A
    `sys.excepthook` of the script's own stays and prints.

    Args:
        mpi: the module `mpi4py.MPI`.
    """
    if _installed or hasattr(sys, "ps1") or sys.flags.interactive:
        return  # where a person types, an error does not end the program
    job = _Job(mpi)
    _installed.append(job)
    _ends_by_exception(job)
    _ends_by_exit(job)


class _Job:
    """The MPI job of this process."""

    def __init__(self, mpi: Any) -> None:
        self._mpi = mpi
        self._pid = os.getpid()

    def abort(self, code: int, why: str) -> None:
        """End all ranks; in a process that this rank has forked, do nothing."""
        mpi = self._mpi
        if os.getpid() != self._pid or not mpi.Is_initialized() or mpi.Is_finalized():
            return
        world = mpi.COMM_WORLD
        for stream in (sys.stdout, sys.stderr):
            if stream is not None and not stream.closed:
                stream.flush()
        who = f"rank {world.rank} (of {world.size}, host {socket.gethostname()})"
        write_through(2, f"candle: {who} {why}: the job ends\n".encode())
        world.Abort(code)
        os._exit(code)


_installed: list[_Job] = []


def _ends_by_exception(job: _Job) -> None:
    previous = sys.excepthook

    def hook(
        kind: type[BaseException], error: BaseException, traceback: TracebackType | None
    ) -> None:
        try:
            previous(kind, error, traceback)
        finally:
            code = _INTERRUPTED if issubclass(kind, KeyboardInterrupt) else 1
            job.abort(code, f"failed by {kind.__name__}")

    def at_exit() -> None:
        # The script has replaced the hook since; Python itself sets last_value.
        error = getattr(sys, "last_value", None)
        if sys.excepthook is not hook and error is not None:
            job.abort(1, f"failed by {type(error).__name__}")

    sys.excepthook = hook
    # Called last, after the script's own.
    atexit.register(at_exit)


def _ends_by_exit(job: _Job) -> None:
    class Exit(SystemExit):
        """A SystemExit that notices when nothing has caught it."""

        @property
        def code(self) -> Any:  # type: ignore[override]
            code = SystemExit.__dict__["code"].__get__(self)
            in_program = threading.current_thread() is threading.main_thread()
            # The interpreter reads the code after the last frame of the program has ended.
            if sys._getframe().f_back is None and in_program:
                _exited(job, code)
            return code

    def exit_(status: Any = None, /) -> NoReturn:
        raise Exit(status)

    sys.exit = exit_


def _exited(job: _Job, code: Any) -> None:
    if code is None or (isinstance(code, int) and code & 0xFF in (0, EXIT_RUN_AGAIN)):
        return
    if isinstance(code, int):
        job.abort(code & 0xFF, f"exited with code {code & 0xFF}")
    else:
        print(code, file=sys.stderr)  # noqa: T201 - as Python prints it
        job.abort(1, "exited with code 1")
