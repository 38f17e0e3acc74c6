"""The entry point of each rank: a supervisor process, and under it the user's program.

`python -m keras_candle.launch.rank script.py [args...]` or `... -m package.module [args...]`.

The program runs in a child process because only a parent learns how a killed process ended: out
of memory, by a crash in native code, by hand. mpiexec does not report that: it kills the other
ranks at once, with the same signal, and names any of them.
"""

from __future__ import annotations

import atexit
import builtins
import contextlib
import ctypes
import dataclasses
import faulthandler
import gc
import importlib
import io
import os
import runpy
import signal
import socket
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from types import ModuleType, TracebackType
from typing import BinaryIO, NoReturn

from keras_candle import launcher_messages
from keras_candle.cluster.launchers import rank_facts, refuse_lonely_task
from keras_candle.errors import EXIT_RUN_AGAIN, EXIT_STALLED, EngineError
from keras_candle.keras_private.interpreter import finish_program
from keras_candle.launch.failure import Failure, FirstOnNode
from keras_candle.launch.process import cores_of_this_node, end_with_parent, thread_settings
from keras_candle.launch.rank_states import SharedMemory, left_s, lost_peer
from keras_candle.launch.resumable import may_resume
from keras_candle.launch.streams import assign_stdin, buffer_lines, empty_stdin, emulate_terminal
from keras_candle.launcher_messages import (
    ALL_OUTPUT,
    ENGINE_STARTS,
    HYDRA,
    LAUNCHER,
    RANK,
    TERMINALS,
    message,
    write_through,
)
from keras_candle.when_imported import when_imported

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
# By which a launcher, the system or a user ends ranks.
_OF_THE_JOB = (*_STOP_SIGNALS, signal.SIGKILL)
# Those on which a CandleCallback saves.
_SAVING = (signal.SIGTERM, signal.SIGUSR1)
_STALLED = "the watchdog has ended the job; see its report above"
_PEER_REPORT_S = 2.0
_FIRST_REPORT_S = 1.0
_BAD_START = 2
_TAIL_LINES = 30
_TAIL_BYTES = 8000


def main(arguments: Sequence[str]) -> int:
    """Run the user's program under a supervisor.

    Args:
        arguments: ["script.py", ...] or ["-m", "package.module", ...].

    Returns:
        The rank's exit code; 128 + N when signal N killed the program; 2 when this is a task that
        cannot find the other ranks.
    """
    try:
        refuse_lonely_task(os.environ)
    except EngineError as error:
        print(f"candle: {error}", file=sys.stderr)
        return _BAD_START
    rank = Rank()
    assign_stdin(rank.rank, os.environ)
    # A stop signal goes to every process of a rank: the program acts on it, the supervisor records
    # it and waits. (mpiexec and srun both signal the whole group; nothing is forwarded here, so
    # that no handler runs twice.)
    before = {number: signal.signal(number, rank.record_stop) for number in _STOP_SIGNALS}
    rank.read_program(arguments)
    supervisor = os.getpid()
    # Until the program has its own handlers, the supervisor's would swallow its signal.
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
    pid = os.fork()
    if pid == 0:
        end_with_parent(supervisor)
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP_SIGNALS)
        return rank.run(arguments)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP_SIGNALS)
    empty_stdin()  # the program's unread input is not the supervisor's
    return rank.supervise(pid)


class Rank:
    """One rank of a job: its number, its streams, and memory shared by program and supervisor."""

    def __init__(self) -> None:
        facts = rank_facts(os.environ)
        self.rank, self.size, self.local_size = facts.rank, facts.size, facts.local_size
        self._shared = SharedMemory(self.size)
        # Without `candle run` as the launcher, no process would decode a message.
        self._under_candle = LAUNCHER in os.environ
        self._report_pipe = os.dup(2)
        self._is_program = False
        self._first_on_node = FirstOnNode(os.getppid())
        self._captured: BinaryIO | None = None
        if self.rank > 0 and not os.environ.get(ALL_OUTPUT):
            self._captured = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as we live

    def record_stop(self, *_: object) -> None:
        """Handle a stop signal: from now on, a rank that exits does not end the job."""
        self._shared.stop_asked = True

    def read_program(self, arguments: Sequence[str]) -> None:
        """Record whether a stop signal may find the program with nothing to save."""
        self._shared.may_resume = may_resume(arguments)

    def run(self, arguments: Sequence[str]) -> int:
        """Run the user's program in the child, with its streams and threads set up."""
        self._is_program = True
        if self._captured is not None:
            # The descriptors and not sys.stdout: native libraries write past Python.
            os.dup2(self._captured.fileno(), 1)
            os.dup2(self._captured.fileno(), 2)
        elif os.environ.get(ALL_OUTPUT):
            buffer_lines()
        else:
            for name in os.environ.get(TERMINALS, "").split():
                emulate_terminal(name)
        cores = cores_of_this_node()
        os.environ.update(thread_settings(os.environ, cores, self.local_size))
        faulthandler.enable()
        launcher_messages.on_independent = self._record_independent
        launcher_messages.observers.append(self._shared)
        launcher_messages.work.on_change = self._record_work
        if self._shared.may_resume:
            when_imported("mpi4py.MPI", _restore_default_actions)
        # Registered first, so called last: only MPI_Finalize runs after it.
        atexit.register(self._report_finalize)
        program = os.getpid()
        os.register_at_fork(after_in_child=self._close_in_fork)
        ending = run_program(arguments)
        if os.getpid() != program:
            # A fork of the program has reached the same line; it is not a rank.
            sys.stderr.write(ending.traceback)
        elif ending.code != 0:
            self._end_by_failure(ending)
        else:
            self._record_end(0)
        return ending.code

    def _record_end(self, code: int) -> None:
        """Record that the program has ended while the job continues."""
        self._shared.has_ended = True
        self._send(state="ended", code=code)

    def _close_in_fork(self) -> None:
        """Close the pipe in a process that the program forks, which may outlive the rank."""
        if self._report_pipe >= 0:
            os.close(self._report_pipe)
        self._report_pipe, self._under_candle = -1, False

    def _report_finalize(self) -> None:
        if self._shared.has_ended:
            self._send(state="finalizes")

    def _record_work(self) -> None:
        self._shared.is_unsaved = launcher_messages.work.is_unsaved

    def _record_independent(self, independent: bool) -> None:
        self._shared.independent = independent

    def supervise(self, pid: int) -> int:
        """Wait for the program in the parent, and report its state to the launcher."""
        self._send(state="begins")
        if self._under_candle and self.size > 1:
            threading.Thread(target=self._report_waits, daemon=True).start()
        _, status = os.waitpid(pid, 0)
        killed_by = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        code = 128 + killed_by if killed_by else os.WEXITSTATUS(status)
        shared = self._shared
        is_early = killed_by in _SAVING and shared.may_resume and not shared.is_unsaved
        code = EXIT_RUN_AGAIN if is_early else code
        if code != 0 and not shared.reported:
            reason = _STALLED if code == EXIT_STALLED else ""
            self._report_failure(pid, Ending(code, reason), killed_by, is_early=is_early)
            asks_to_run_again = code == EXIT_RUN_AGAIN and not is_early
            if not (shared.stop_asked or shared.independent or asks_to_run_again):
                shared.end_job = True
        if not (shared.has_ended or shared.end_job):
            self._send(state="ended", code=code, suddenly=True, early=is_early)
        left_mpi = shared.left_mpi or ((code == 0 or is_early) and not shared.has_ended)
        if left_mpi and not shared.end_job:
            _finish_for_hydra()
        self._send(state="gone", ends_job=shared.end_job)
        if shared.end_job:
            _end_hydra_job(code)
        elif self._under_candle and os.environ[LAUNCHER] != HYDRA:
            # Any other launcher would kill the ranks that still run; `candle run` knows the code.
            return 0
        return code

    def _report_waits(self) -> None:
        """Report when this rank waits long for a collective, and when it stops waiting."""
        after_s = left_s(os.environ) / 2
        known = 0
        while True:
            time.sleep(min(0.5, after_s / 4))
            now = self._shared.collective()
            if known and (now is None or now.number != known):
                known = 0
                self._send(state="goes on")
            if now is not None and not known and time.monotonic() - now.begun_s > after_s:
                known = now.number
                self._send(state="waits", what=now.what, site=now.call_site, ranks=now.ranks)

    def _send(self, **content: object) -> None:
        if self._under_candle:
            host = socket.gethostname()
            write_through(self._report_pipe, message(RANK, rank=self.rank, host=host, **content))

    def _end_by_failure(self, ending: Ending) -> None:
        self._report_failure(os.getpid(), ending)
        if ending.by_exit and not ending.asks_to_run_again:
            # The supervisor got the signal that our handler got, but may record it a little later.
            time.sleep(0.2)
        if ending.asks_to_run_again and launcher_messages.work.has_saved:
            self._leave(ending.code)
        if ending.asks_to_run_again or (ending.by_exit and self._shared.stop_asked):
            self._record_end(ending.code)
            return
        if lost_peer(ending.traceback):
            # Give the supervisor of the rank that has left time to report it before the job ends.
            time.sleep(_PEER_REPORT_S)
        self._shared.end_job = True
        abort = initialised_mpi_abort()
        if abort is not None and not _under_hydra():
            abort(ending.code)
        # Without atexit functions: MPI_Finalize would wait for ranks that wait for this one.
        os._exit(ending.code)

    def _leave(self, code: int) -> NoReturn:
        """End the program after all is saved, without finalising TensorFlow and MPI.

        That takes seconds, which a job at its limit may not have. The program's threads are waited
        for and its atexit functions called, as at any other end.
        """
        self._shared.left_mpi = initialised_mpi_abort() is not None
        self._shared.has_ended = True
        self._send(state="ended", code=code, suddenly=True)
        atexit.unregister(self._report_finalize)
        try:
            finish_program()
        except BaseException:
            traceback.print_exc()
        _flush_all()
        os._exit(code)

    def _report_failure(
        self, pid: int, ending: Ending, killed_by: int = 0, *, is_early: bool = False
    ) -> None:
        shared = self._shared
        job_continues = shared.stop_asked or shared.independent or ending.code == EXIT_RUN_AGAIN
        is_brief = not (job_continues or self._first_on_node.is_first())
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
            at_start=self._ended_by_mpi(ending, killed_by),
            is_early=is_early,
        )
        failure = failure.brief() if is_brief else failure
        report = failure.frame() if self._under_candle else self._plain_report(failure)
        write_through(self._report_pipe, report)
        shared.reported = True
        if is_brief:
            # The first rank's report is longer, and must arrive before this one ends the job.
            time.sleep(_FIRST_REPORT_S)

    def _ended_by_mpi(self, ending: Ending, killed_by: int) -> bool:
        """Return, to the supervisor, whether MPI ended the program while the engine started."""
        if self._is_program or ending.code == EXIT_STALLED or killed_by in _OF_THE_JOB:
            return False
        collective = self._shared.collective()
        return collective is not None and collective.what.startswith(ENGINE_STARTS)

    def _plain_report(self, failure: Failure) -> bytes:
        """Return the report where no `candle run` above prints one for all ranks."""
        if not failure.asks_to_run_again:
            return failure.text().encode()
        return f"candle: {failure.again()}\n".encode() if self.rank == 0 else b""

    def _tail(self) -> str:
        if self._captured is None:
            return ""
        start = max(0, os.fstat(self._captured.fileno()).st_size - _TAIL_BYTES)
        text = os.pread(self._captured.fileno(), _TAIL_BYTES, start).decode(errors="replace")
        return "\n".join(text.splitlines()[-_TAIL_LINES:])


def _restore_default_actions(_: ModuleType) -> None:
    """Let a stop signal end the program again: MPICH's MPI_Init makes SIGUSR1 do nothing."""
    if threading.current_thread() is threading.main_thread():
        for number in _SAVING:
            if signal.getsignal(number) == signal.SIG_DFL:  # as far as Python knows
                signal.signal(number, signal.SIG_DFL)


def _under_hydra() -> bool:
    # PMI_FD alone is not enough: under srun it speaks another version of the protocol. And hydra
    # sets its own variable on the first node only.
    is_hydra = "HYDI_CONTROL_FD" in os.environ or os.environ.get(LAUNCHER) == HYDRA
    return is_hydra and "PMI_FD" in os.environ


def _finish_for_hydra() -> None:
    """Send hydra the message of MPI_Finalize for a program that ended by os._exit(0).

    Without it hydra would kill the other ranks, whether they wait for this one or not.
    """
    if _under_hydra():
        pipe = int(os.environ["PMI_FD"])
        os.write(pipe, b"cmd=finalize\n")
        os.read(pipe, 1024)


def _end_hydra_job(code: int) -> None:
    """Send hydra the message of MPI_Abort from a process that may not have initialised MPI.

    hydra ignores a rank that exits with an error before MPI_Init: the other ranks would wait for
    it in MPI_Init forever.
    """
    if _under_hydra():
        message = f"cmd=abort exitcode={code} message=candle\n"
        os.write(int(os.environ["PMI_FD"]), message.encode())
        # hydra kills this process now; where it does not, the exit code is the same.
        time.sleep(2)


_BOOTSTRAP_FILES = (__file__, "<frozen runpy>", "<frozen importlib._bootstrap>")


@dataclasses.dataclass(frozen=True)
class Ending:
    """How the user's program ended.

    Args:
        code: its exit code.
        reason: one line, empty when the program chose its exit code by number.
        traceback: as Python prints it.
        by_exit: the program called sys.exit, or reached its last line.
    """

    code: int
    reason: str = ""
    traceback: str = ""
    by_exit: bool = True

    @property
    def asks_to_run_again(self) -> bool:
        """Whether the program saved its state and asks to be requeued.

        Other ranks may still be saving theirs.
        """
        return self.by_exit and self.code == EXIT_RUN_AGAIN


def run_program(arguments: Sequence[str]) -> Ending:
    """Run a script, or a module after "-m", as __main__ in this process.

    Args:
        arguments: ["script.py", ...] or ["-m", "package.module", ...].

    Returns:
        How it ended; no exception leaves this function.
    """
    try:
        _prepare()
        if arguments[0] == "-m":
            sys.argv[:] = list(arguments[1:])
            sys.path[0] = os.getcwd()
            runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv[:] = list(arguments)
            sys.path[0] = os.path.dirname(os.path.realpath(arguments[0]))
            _run_script(arguments[0])
        _flush()
    except SystemExit as exit_:
        return _flushed(_ending_of_exit(exit_))
    except BaseException as error:  # whatever it is, the job must learn of it
        return _flushed(_ending_of_error(error))
    return Ending(0)


def _prepare() -> None:
    """Call prepare() of the modules in PREPARE before the user's program begins.

    They may import packages that keras_candle.launch may not.
    """
    for module in os.environ.get(launcher_messages.PREPARE, "").split():
        importlib.import_module(module).prepare()


def _run_script(path: str) -> None:
    if os.path.isdir(path) or path.endswith((".zip", ".pyz")):
        runpy.run_path(path, run_name="__main__")
        return
    # Not by runpy: it would put an absolute path into sys.argv[0] or a relative one into __file__,
    # and it removes __main__ before the atexit functions run.
    absolute = os.path.abspath(path)
    main = ModuleType("__main__")
    main.__dict__.update(__file__=absolute, __cached__=None, __builtins__=builtins)
    sys.modules["__main__"] = main
    with open(absolute, "rb") as source:
        code = compile(source.read(), absolute, "exec")
    exec(code, main.__dict__)  # noqa: S102 - this is the user's own program


def _ending_of_exit(exit_: SystemExit) -> Ending:
    if exit_.code is None:
        return Ending(0)
    if isinstance(exit_.code, int):
        # As the shell sees it: 256 is 0 there too.
        return Ending(exit_.code & 0xFF)
    return Ending(1, reason=str(exit_.code))


def _ending_of_error(error: BaseException) -> Ending:
    frames = _without_bootstrap(error.__traceback__)
    report = traceback.TracebackException(type(error), error, frames, compact=True)
    lines = list(report.format())
    summary = "".join(report.format_exception_only()).strip().splitlines()
    reason = summary[-1] if isinstance(error, SyntaxError) else summary[0]
    code = 130 if isinstance(error, KeyboardInterrupt) else 1
    return Ending(code, reason=reason, traceback="".join(lines), by_exit=False)


def _without_bootstrap(frames: TracebackType | None) -> TracebackType | None:
    while frames is not None and frames.tb_frame.f_code.co_filename in _BOOTSTRAP_FILES:
        frames = frames.tb_next
    return frames


def _flushed(ending: Ending) -> Ending:
    try:
        _flush()
    except (OSError, ValueError):
        # The program closed its own streams, or their reader is gone: report its ending anyway.
        return ending
    return ending


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and not stream.closed:
            stream.flush()


def _flush_all() -> None:
    """Write what open files hold back; the interpreter's own end does that otherwise."""
    for each in gc.get_objects():
        if type(each) in (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom):
            with contextlib.suppress(OSError, ValueError):
                each.flush()
    # Of native libraries.
    ctypes.CDLL(None).fflush(None)


def initialised_mpi_abort() -> Callable[[int], None] | None:
    """Return MPI_Abort of MPI_COMM_WORLD if this process has initialised MPI, otherwise None."""
    mpi = sys.modules.get("mpi4py.MPI")
    if mpi is None or not mpi.Is_initialized() or mpi.Is_finalized():
        return None
    abort: Callable[[int], None] = mpi.COMM_WORLD.Abort
    return abort


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
