"""Start the ranks of one job through mpiexec, wait for them, and report why a job failed."""

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType

from keras_candle.cluster.nodes import hydra_variables, root_is_here
from keras_candle.errors import LaunchError
from keras_candle.launch.failure import FailureReader, forwarded_signal, job_ending
from keras_candle.launch.process import children_of, end_session, end_with_parent
from keras_candle.launch.rank_states import RankStates, left_s
from keras_candle.launch.streams import Output, inheritable_stdin, stdin_id, write_all
from keras_candle.launcher_messages import ALL_OUTPUT, ENGINE, LAUNCHER, STDIN, TERMINALS

_FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_POLL_S = 0.25
# Output later than this after the last rank's end comes from processes that ranks left running.
_DRAINED_S = 1.0
# mpiexec without any child for this long: what it starts ranks with (srun, ssh) has ended.
_NOTHING_STARTED_S = 3.0


@dataclasses.dataclass(frozen=True)
class Job:
    """A program to run on N ranks, with its hosts, engine and environment.

    Args:
        size: number of ranks.
        program: ("script.py", ...) or ("-m", "package.module", ...).
        hosts: "a:4,b:4", or None for this node alone.
        engine: the engine's name for all ranks; None leaves the choice to the program.
        all_output: show what every rank prints, with its number before each line.
        variables: further environment variables of the ranks.
    """

    size: int
    program: tuple[str, ...]
    hosts: str | None = None
    engine: str | None = None
    all_output: bool = False
    variables: Mapping[str, str] = dataclasses.field(default_factory=dict)


def find_mpiexec() -> Path:
    """Find the mpiexec of the MPI that mpi4py loads.

    The mpich wheel puts it beside the interpreter; elsewhere the first on PATH is the one that
    the site's module loaded together with its MPI.

    Raises:
        LaunchError: no mpiexec is found.
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
    """Build the command line that starts the job's ranks.

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
    """Build the environment of the job's ranks.

    Args:
        job: what to run.
        inherited: the launcher's own environment; values that the user set there win.

    Raises:
        LaunchError: the job's nodes cannot be reached.
    """
    rank_variables = {**inherited, **job.variables, LAUNCHER: "candle"}
    rank_variables.update(hydra_variables(job.hosts, inherited))
    # Each process iterates over a set of strings in a random order. Ranks that build layers or
    # variables while they iterate over a set would build different models.
    rank_variables.setdefault("PYTHONHASHSEED", "0")
    if job.engine is not None:
        rank_variables[ENGINE] = job.engine
    rank_variables.pop(ALL_OUTPUT, None)
    if job.all_output:
        rank_variables[ALL_OUTPUT] = "1"
    names = ("stdout", "stderr")
    rank_variables[TERMINALS] = " ".join(name for name in names if getattr(sys, name).isatty())
    return rank_variables


def write_to_stderr(data: bytes) -> None:
    """Write bytes to stderr unchanged, past Python's buffers."""
    write_all(2, data)


class JobLauncher:
    """Start one job, forward its output and signals, and return its exit code.

    Args:
        job: what to run.
        show: gets what the ranks write to stderr.

    Attributes:
        stopped_by: the signal by which it was asked to stop, or 0.
    """

    def __init__(self, job: Job, show: Callable[[bytes], None] = write_to_stderr) -> None:
        self._job = job
        self._show = show
        self._reader = FailureReader(labelled=job.all_output)
        waited_s = left_s({**os.environ, **job.variables}) / 2
        self._states = RankStates(job.size, waited_s)
        self._left = ""
        self.stopped_by = 0

    @property
    def saved_steps(self) -> list[int]:
        """Steps of the checkpoints that the job has reported, see `NOTIFY_CHECKPOINTS`."""
        return self._reader.saved_steps

    @property
    def hosts(self) -> dict[int, str]:
        """The hosts of the ranks that have begun, by rank."""
        return self._states.hosts

    @property
    def has_failures(self) -> bool:
        """Whether a rank has reported a failure."""
        return bool(self._reader.failures or self._reader.stall)

    def run(self, stdout: int | None = None, timeout_s: float | None = None) -> int:
        """Start the ranks and wait for all of them.

        Args:
            stdout: a file descriptor for the ranks' stdout; this process's own by default.
            timeout_s: when to give up and end the job.

        Returns:
            0 when every rank succeeded, else the exit code of the rank that failed first.

        Raises:
            LaunchError: there is no mpiexec, or the timeout passed.
        """
        arguments = command(self._job, find_mpiexec())
        rank_variables = variables(self._job, os.environ)
        launcher_pid = os.getpid()
        with inheritable_stdin() as stdin, Output() as output:
            root_reads = root_is_here(self._job.hosts, os.environ)
            if root_reads:
                rank_variables[STDIN] = stdin_id(stdin)
            mpiexec = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL if root_reads else stdin,
                stdout=output.stdout,
                stderr=output.stderr,
                pass_fds=(stdin,) if root_reads else (),
                env=rank_variables,
                # A session of its own: Ctrl-C then reaches mpiexec once, from here, and not twice.
                start_new_session=True,
                preexec_fn=lambda: end_with_parent(launcher_pid),  # noqa: PLW1509 - one thread
            )
            output.start(
                lambda data: write_all(1 if stdout is None else stdout, data), self._receive
            )
            before = {
                number: signal.signal(number, self._forwarding_handler(mpiexec))
                for number in _FORWARDED
                if signal.getsignal(number) is not signal.SIG_IGN
            }
            try:
                exit_code = self._forward_output(mpiexec, output, timeout_s)
                return self._print_ending(exit_code)
            finally:
                if mpiexec.poll() is None:
                    end_session(mpiexec)
                for number, handler in before.items():
                    signal.signal(number, handler)

    def _forwarding_handler(
        self, mpiexec: subprocess.Popen[bytes]
    ) -> Callable[[int, FrameType | None], None]:
        def handle(number: int, _: FrameType | None) -> None:
            if self.stopped_by and number in (signal.SIGTERM, signal.SIGINT):
                # A second signal: the user does not want to wait for the ranks' own handlers.
                mpiexec.kill()
                return
            self.stopped_by = number
            mpiexec.send_signal(forwarded_signal(number))

        return handle

    def _receive(self, data: bytes) -> None:
        shown = self._reader.feed(data)
        if shown:
            self._show(shown)
        while self._reader.states:
            self._states.update(self._reader.states.pop(0))

    def _forward_output(
        self, mpiexec: subprocess.Popen[bytes], output: Output, timeout_s: float | None
    ) -> int:
        """Forward output until all ranks have ended. Return mpiexec's exit code."""
        begun_s = running_s = time.monotonic()
        while output.forward(_POLL_S):
            now_s = time.monotonic()
            if timeout_s is not None and now_s - begun_s > timeout_s:
                end_session(mpiexec)
                raise LaunchError(
                    f"{' '.join(self._job.program)} on {self._job.size} ranks did not end "
                    f"within {timeout_s:g} s and was stopped"
                )
            self._left = self._states.abandoned()
            if self._left:
                end_session(mpiexec)
                break
            is_quiet = output.quiet_s() > _DRAINED_S
            if is_quiet and (self._states.all_gone or self._states.only_mpi_is_left):
                mpiexec.kill()  # it waits for processes that the ranks left running
                mpiexec.wait()
                return 0  # a rank that failed has sent its own message
            if is_quiet and mpiexec.poll() is not None:
                break
            if children_of(mpiexec.pid) != []:
                running_s = now_s
            elif now_s - running_s > _NOTHING_STARTED_S and mpiexec.poll() is None:
                end_session(mpiexec)
                raise LaunchError(
                    "mpiexec has no process left on any node: what it starts the ranks with (srun "
                    "inside of a Slurm job, otherwise ssh) has ended; see its own message above, "
                    "if any. For N ranks on this node alone pass --hosts localhost:N"
                )
        held = self._reader.close()
        if held:
            self._show(held)
        return mpiexec.wait()

    def _print_ending(self, exit_code: int) -> int:
        if self._left:
            text, code = f"candle: {self._left}\n", 1
        else:
            text, code = job_ending(self._reader, self._states, self.stopped_by, exit_code)
        if text:
            self._show(text.encode())
        return code
