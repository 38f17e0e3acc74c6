"""Starts the ranks of one job through mpiexec, waits for them, and says why a job failed."""

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
from keras_candle.launch import environment
from keras_candle.launch.failure import FailureReader
from keras_candle.launch.job_ending import arrives_as, job_ending
from keras_candle.launch.output import Output, write_all
from keras_candle.launch.process import children_of, end_session, end_with_parent
from keras_candle.launch.rank_states import RankStates
from keras_candle.launch.standard_input import handed_on, named
from keras_candle.launcher_messages import LAUNCHER

_PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_LOOK_AGAIN_S = 0.25
# What comes so long after the last rank's end comes from what the ranks have left running.
_DRAINED_S = 1.0
# mpiexec without a process on any node: what it started them with (srun, ssh) has ended.
_NOTHING_STARTED_S = 3.0


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

    Raises:
        LaunchError: the job's nodes cannot be reached.
    """
    ours = {**inherited, **job.variables, LAUNCHER: "candle"}
    ours.update(hydra_variables(job.hosts, inherited))
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
    write_all(2, data)


class JobLauncher:
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
        self._reader = FailureReader(labelled=job.all_output)
        waited_s = environment.left_s({**os.environ, **job.variables}) / 2
        self._states = RankStates(job.size, waited_s)
        self._left = ""
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
        ours = variables(self._job, os.environ)
        us = os.getpid()
        with handed_on() as stdin, Output() as output:
            root_reads = root_is_here(self._job.hosts, os.environ)
            if root_reads:
                ours[environment.STDIN] = named(stdin)
            mpiexec = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL if root_reads else stdin,
                stdout=output.stdout,
                stderr=output.stderr,
                pass_fds=(stdin,) if root_reads else (),
                env=ours,
                # A session of its own: Ctrl-C then reaches mpiexec once, from here, and not twice.
                start_new_session=True,
                preexec_fn=lambda: end_with_parent(us),  # noqa: PLW1509 - this process has one thread
            )
            output.begin(lambda data: write_all(1 if stdout is None else stdout, data), self._hear)
            before = {
                number: signal.signal(number, self._pass_on(mpiexec))
                for number in _PASSED_ON
                if signal.getsignal(number) is not signal.SIG_IGN
            }
            try:
                exit_code = self._carry(mpiexec, output, timeout_s)
                return self._print_ending(exit_code)
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
            mpiexec.send_signal(arrives_as(number))

        return handle

    def _hear(self, data: bytes) -> None:
        shown = self._reader.feed(data)
        if shown:
            self._show(shown)
        while self._reader.states:
            self._states.hear(self._reader.states.pop(0))

    def _carry(
        self, mpiexec: subprocess.Popen[bytes], output: Output, timeout_s: float | None
    ) -> int:
        """Until all ranks have ended. Returns mpiexec's exit code."""
        begun_s = running_s = time.monotonic()
        while output.carry(_LOOK_AGAIN_S):
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
                mpiexec.kill()  # it waits for what the ranks have left running
                mpiexec.wait()
                return 0  # where a rank ended otherwise, its own message says so
            if is_quiet and mpiexec.poll() is not None:
                break
            if children_of(mpiexec.pid) != []:
                running_s = now_s
            elif now_s - running_s > _NOTHING_STARTED_S and mpiexec.poll() is None:
                end_session(mpiexec)
                raise LaunchError(
                    "mpiexec has no process left on any node: what it starts the ranks with (srun "
                    "inside of a Slurm job, otherwise ssh) has ended, and its own message, if any, "
                    "stands above. For N ranks on this node alone say --hosts localhost:N"
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
