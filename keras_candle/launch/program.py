"""Run the user's program in a rank as `python script.py` would, and return how it ended."""

import builtins
import dataclasses
import importlib
import io
import os
import runpy
import sys
import traceback
from collections.abc import Callable, Sequence
from types import ModuleType, TracebackType

from keras_candle.errors import EXIT_RUN_AGAIN
from keras_candle.launch import environment

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
    for module in os.environ.get(environment.PREPARE, "").split():
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


class _Terminal(io.TextIOWrapper):
    """A stream that reports itself as a terminal although it writes to a launcher's pipe."""

    def isatty(self) -> bool:
        return True


def emulate_terminal(name: str) -> None:
    """Make sys.stdout or sys.stderr answer isatty() as the launcher's own stream does.

    Keras's progress bar checks that before it draws a live bar.

    Args:
        name: "stdout" or "stderr".
    """
    stream = getattr(sys, name)
    encoding, errors = stream.encoding, stream.errors
    terminal = _Terminal(stream.detach(), encoding=encoding, errors=errors, line_buffering=True)
    setattr(sys, name, terminal)
    setattr(sys, f"__{name}__", terminal)


def buffer_lines() -> None:
    """Make sys.stdout and sys.stderr line-buffered, for a launcher that labels lines.

    hydra puts the rank's number before every piece that it reads, not before every line.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True, write_through=False)


def initialised_mpi_abort() -> Callable[[int], None] | None:
    """Return MPI_Abort of MPI_COMM_WORLD if this process has initialised MPI, otherwise None."""
    mpi = sys.modules.get("mpi4py.MPI")
    if mpi is None or not mpi.Is_initialized() or mpi.Is_finalized():
        return None
    abort: Callable[[int], None] = mpi.COMM_WORLD.Abort
    return abort
