"""Starts the ranks of one job through mpiexec, waits for them, and says why a job failed."""

import dataclasses
import os
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType

from keras_candle.errors import LaunchError
from keras_candle.launch import environment
from keras_candle.launch.failure import FailureReader, first_cause, signal_name
from keras_candle.launch.process import end_session, end_with_parent

_PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_LOOK_AGAIN_S = 1.0


@dataclasses.dataclass(frozen=True)
class Job:
    """What to run, on how many ranks, and where.

    Args:
        size: number of ranks.
        program: ("script.py", ...) or ("-m", "package.module", ...).
        hosts: "a:4,b:4", or None for this node alone.
        engine: the engine's name for all ranks; None leaves the choice to the program.
        all_output: show what every rank prints, with its number before each line.
        variables: environment variables of the ranks, beside those of this process.
    """

    size: int
    program: tuple[str, ...]
    hosts: str | None = None
    engine: str | None = None
    all_output: bool = False
    variables: Mapping[str, str] = dataclasses.field(default_factory=dict)


def find_mpiexec() -> Path:
    """The mpiexec that belongs to the MPI that mpi4py loads.

    The mpich wheel puts it beside the interpreter; elsewhere the first on PATH is the one that
    the site's module loaded together with its MPI.

    Raises:
        LaunchError: there is none.
    """
    beside = Path(sys.prefix) / "bin" / "mpiexec"
    if os.access(beside, os.X_OK):
        return beside
    found = shutil.which("mpiexec")
    if found is None:
        raise LaunchError(
            f"No mpiexec beside {sys.executable} and none on PATH, but ranks are started by it. "
            "Install MPI: pip install mpich, or load your cluster's MPI module"
        )
    return Path(found)


def command(job: Job, mpiexec: Path) -> list[str]:
    """The command line that starts the job's ranks.

    Args:
        job: what to run.
        mpiexec: hydra's mpiexec.

    Returns:
        The arguments, the program first.
    """
    options = ["-n", str(job.size)]
    if job.hosts is not None:
        options += ["-hosts", job.hosts]
    if job.all_output:
        options.append("-prepend-rank")
    bootstrap = [sys.executable, "-m", "keras_candle.launch.rank"]
    return [str(mpiexec), *options, *bootstrap, *job.program]


def variables(job: Job, inherited: Mapping[str, str]) -> dict[str, str]:
    """The environment of the job's ranks.

    Args:
        job: what to run.
        inherited: the launcher's own environment; what the user set there wins.

    Returns:
        The whole environment.
    """
    ours = {**inherited, **job.variables, environment.LAUNCHER: "candle"}
    # Sets of strings iterate in an order that each process draws by lot. Ranks that build
    # layers or variables while they iterate over a set would build different models.
    ours.setdefault("PYTHONHASHSEED", "0")
    if job.engine is not None:
        ours[environment.ENGINE] = job.engine
    ours.pop(environment.ALL_OUTPUT, None)
    if job.all_output:
        ours[environment.ALL_OUTPUT] = "1"
    names = ("stdout", "stderr")
    ours[environment.TERMINALS] = " ".join(name for name in names if getattr(sys, name).isatty())
    return ours


def write_to_stderr(data: bytes) -> None:
    """Passes bytes on as they are, past Python's buffers."""
    while data:
        data = data[os.write(2, data) :]


class Launcher:
    """One job from its start to its exit code.

    Args:
        job: what to run.
        show: gets what the ranks write to stderr.

    Attributes:
        stopped_by: the signal by which it was asked to stop, 0 where it was not.
    """

    def __init__(self, job: Job, show: Callable[[bytes], None] = write_to_stderr) -> None:
        self._job = job
        self._show = show
        self._reader = FailureReader()
        self.stopped_by = 0

    @property
    def saved_steps(self) -> list[int]:
        """Steps of the checkpoints that the job has made, where it was asked to tell."""
        return self._reader.saved_steps

    def run(self, stdout: int | None = None, timeout_s: float | None = None) -> int:
        """Starts the ranks and waits for all of them.

        Args:
            stdout: a file descriptor for what the ranks print; this process's own by default.
            timeout_s: when to give up and end the job.

        Returns:
            0 when every rank succeeded, else the exit code of the rank that failed first.

        Raises:
            LaunchError: there is no mpiexec, or the timeout passed.
        """
        arguments = command(self._job, find_mpiexec())
        us = os.getpid()
        ours, theirs = os.pipe()
        mpiexec = subprocess.Popen(
            arguments,
            stdout=stdout,
            stderr=theirs,
            env=variables(self._job, os.environ),
            # A session of its own: Ctrl-C then reaches mpiexec once, from here, and not twice.
            start_new_session=True,
            preexec_fn=lambda: end_with_parent(us),  # noqa: PLW1509 - this process has one thread
        )
        os.close(theirs)
        before = {
            number: signal.signal(number, self._pass_on(mpiexec))
            for number in _PASSED_ON
            if signal.getsignal(number) is not signal.SIG_IGN
        }
        try:
            self._carry(mpiexec, ours, timeout_s)
            return self._tell(mpiexec.wait())
        finally:
            if mpiexec.poll() is None:
                end_session(mpiexec)
            for number, handler in before.items():
                signal.signal(number, handler)

    def _pass_on(self, mpiexec: subprocess.Popen[bytes]) -> Callable[[int, FrameType | None], None]:
        def handle(number: int, _: FrameType | None) -> None:
            if self.stopped_by and number in (signal.SIGTERM, signal.SIGINT):
                # Asked twice: the user does not want to wait for the ranks' own handlers.
                mpiexec.kill()
                return
            self.stopped_by = number
            # mpiexec dies of SIGHUP where SIGTERM gives the ranks time to save.
            mpiexec.send_signal(signal.SIGTERM if number == signal.SIGHUP else number)

        return handle

    def _carry(
        self, mpiexec: subprocess.Popen[bytes], stderr: int, timeout_s: float | None
    ) -> None:
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        with open(stderr, "rb", buffering=0) as stream, selectors.DefaultSelector() as selector:
            selector.register(stream, selectors.EVENT_READ)
            while True:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    end_session(mpiexec)
                    raise LaunchError(
                        f"{' '.join(self._job.program)} on {self._job.size} ranks did not end "
                        f"within {timeout_s:g} s and was stopped"
                    )
                if not selector.select(_LOOK_AGAIN_S if left is None else min(left, _LOOK_AGAIN_S)):
                    if mpiexec.poll() is not None:
                        break  # something that the ranks started still holds the pipe
                    continue
                data = os.read(stream.fileno(), 65536)
                if not data:
                    break
                self._show(self._reader.feed(data))
        self._show(self._reader.close())

    def _tell(self, exit_code: int) -> int:
        stopped_by = self.stopped_by
        if self._reader.failures:
            cause = first_cause(self._reader.failures)
            by_request = cause.signal and cause.signal == stopped_by
            text = f"candle: stopped by {signal_name(cause.signal)}\n"
            self._show((text if by_request else cause.text()).encode())
            return cause.code
        if exit_code < 0:
            number = stopped_by or -exit_code
            self._show(f"candle: stopped by {signal_name(number)}\n".encode())
            return 128 + number
        if exit_code:
            self._show(
                f"candle: mpiexec ended with code {exit_code} and no rank said why; its own "
                "message, if any, stands above\n".encode()
            )
        return exit_code
