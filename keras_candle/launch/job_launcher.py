"""Start the ranks of one job through a launcher, wait for them, and report why a job failed."""

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from types import FrameType

from keras_candle.cluster.launch_commands import LaunchCommand, Ranks, launch_command
from keras_candle.cluster.mpi_library import loaded_library
from keras_candle.errors import LaunchError
from keras_candle.launch.failure import (
    FailureReader,
    SavedRun,
    first_cause,
    forwarded_signal,
    job_ending,
)
from keras_candle.launch.launcher_process import LauncherProcess, signal_at_death
from keras_candle.launch.process import end_with_parent
from keras_candle.launch.rank_states import RankStates, left_s
from keras_candle.launch.streams import Output, inheritable_stdin, stdin_id, write_all
from keras_candle.launcher_messages import (
    ALL_OUTPUT,
    ENGINE,
    HYDRA,
    LAUNCHER,
    SAME_SIGNAL_S,
    STDIN,
    TERMINALS,
)
from keras_candle.run_directory import RunDirectory

FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
# Of these a second one ends everything at once.
_ENDING = (signal.SIGTERM, signal.SIGINT)
_POLL_S = 0.25
# After a signal: so long may ranks that are just starting take to begin.
_BEGIN_S = 1.0
# Output later than this after the last rank's end comes from processes that ranks left running.
_DRAINED_S = 1.0
# After a rank's failure: for the reports of ranks that fail with it.
_REPORTS_S = 2.0
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


def command_of(job: Job) -> LaunchCommand:
    """Choose the launcher of a job's ranks, and build its command.

    Args:
        job: what to run.

    Raises:
        LaunchError: no launcher can start it.
    """
    ranks = Ranks(job.size, job.hosts, job.all_output, live=sys.stdout.isatty())
    return launch_command(ranks, os.environ, loaded_library())


def variables(
    job: Job, inherited: Mapping[str, str], launcher: LaunchCommand | None = None
) -> dict[str, str]:
    """Build the environment of the job's ranks.

    Args:
        job: what to run.
        inherited: the launcher's own environment; values that the user set there win.
        launcher: of the ranks; mpiexec on this node by default.
    """
    launcher = launcher or LaunchCommand(HYDRA, ())
    rank_variables = {**launcher.variables, **inherited, **job.variables, LAUNCHER: launcher.name}
    for name in launcher.removed:
        rank_variables.pop(name, None)
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
        same_within_s: two of the same stop signal within this time count as one.

    Attributes:
        stopped_by: the signal by which it was asked to stop, or 0.
    """

    def __init__(
        self,
        job: Job,
        show: Callable[[bytes], None] = write_to_stderr,
        same_within_s: float = SAME_SIGNAL_S,
    ) -> None:
        self._job = job
        self._show = show
        self._launcher = LaunchCommand(HYDRA, ())
        self._process: LauncherProcess | None = None
        self.stopped_by = 0
        self._same_within_s = same_within_s
        self._received_s: dict[int, float] = {}
        self._signalled_early_s: float | None = None
        self._ended_early = False
        self._forget()

    def _forget(self) -> None:
        self._reader = FailureReader(labelled=self._job.all_output)
        waited_s = left_s({**os.environ, **self._job.variables}) / 2
        self._states = RankStates(self._job.size, waited_s)
        self._left = ""

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
        # First of all: a signal that comes before the ranks is passed on when they have started.
        before = {
            number: signal.signal(number, self._forward_signal)
            for number in FORWARDED
            if signal.getsignal(number) is not signal.SIG_IGN
        }
        signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)  # `candle run` holds them back
        try:
            exit_code = self._run_once(stdout, timeout_s)
            if problem := self._problem_of_start():
                self._show(f"candle: {problem}: the start is tried once more\n".encode())
                self._forget()
                exit_code = self._run_once(stdout, timeout_s)
            return self._print_ending(exit_code)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _run_once(self, stdout: int | None, timeout_s: float | None) -> int:
        launcher = self._launcher = command_of(self._job)
        bootstrap = (sys.executable, "-m", "keras_candle.launch.rank")
        arguments = [*launcher.arguments, *bootstrap, *self._job.program]
        rank_variables = variables(self._job, os.environ, launcher)
        if launcher.remark:
            self._show(f"candle: {launcher.remark}\n".encode())
        launcher_pid = os.getpid()
        with inheritable_stdin() as stdin, Output() as output:
            if launcher.inherits:
                rank_variables[STDIN] = stdin_id(stdin)
            process = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL if launcher.inherits else stdin,
                stdout=output.stdout,
                stderr=output.stderr,
                pass_fds=(stdin,) if launcher.inherits else (),
                env=rank_variables,
                # A session of its own: Ctrl-C then reaches mpiexec once, from here, and not twice.
                start_new_session=True,
                preexec_fn=lambda: end_with_parent(  # noqa: PLW1509 - one thread
                    launcher_pid, signal_at_death(launcher)
                ),
            )
            mpiexec = self._process = LauncherProcess(launcher, process, os.environ)
            output.start(
                lambda data: write_all(1 if stdout is None else stdout, data), self._receive
            )
            try:
                return self._forward_output(mpiexec, output, timeout_s)
            finally:
                self._process = None
                if mpiexec.poll() is None:
                    mpiexec.end()

    def _problem_of_start(self) -> str:
        """Return how MPI failed to start, "" where it started or the program failed."""
        if self.stopped_by or self._left or self._reader.stall or not self._reader.failures:
            return ""
        cause = first_cause(self._reader.failures)
        return f"{cause.sentence()} while MPI started" if cause.at_start else ""

    def _forward_signal(self, number: int, _: FrameType | None) -> None:
        now_s, forwarded = time.monotonic(), forwarded_signal(number)
        before_s = self._received_s.get(forwarded)
        is_same = before_s is not None and now_s - before_s < self._same_within_s
        if is_same and forwarded != signal.SIGINT:  # a person presses Ctrl-C twice
            return
        is_second = number in _ENDING and not self._received_s.keys().isdisjoint(_ENDING)
        self._received_s.setdefault(forwarded, now_s)
        self.stopped_by = self.stopped_by or number
        if self._process is not None and is_second:
            # The user does not want to wait for the ranks' own handlers.
            self._process.kill()
        elif self._process is None or not self._all_have_begun():
            self._signalled_early_s = now_s
        else:
            self._process.signal_ranks(forwarded)

    def _all_have_begun(self) -> bool:
        return len(self._states.hosts) == self._job.size

    def _signal_late(self, mpiexec: LauncherProcess, now_s: float) -> bool:
        """Pass on a signal that came before the ranks, to which launchers and ranks may be deaf.

        Returns:
            Whether the start was ended: not all ranks have begun in time, so that nothing was.
        """
        if self._signalled_early_s is None:
            return False
        if self._all_have_begun():
            self._signalled_early_s = None
            mpiexec.signal_ranks(forwarded_signal(self.stopped_by))
        elif now_s - self._signalled_early_s > _BEGIN_S:
            self._ended_early = True
            mpiexec.end()
        return self._ended_early

    def _receive(self, data: bytes) -> None:
        shown = self._reader.feed(data)
        if shown:
            self._show(shown)
        while self._reader.states:
            self._states.update(self._reader.states.pop(0))

    def _forward_output(
        self, mpiexec: LauncherProcess, output: Output, timeout_s: float | None
    ) -> int:
        """Forward output until all ranks have ended. Return mpiexec's exit code."""
        begun_s = running_s = time.monotonic()
        while output.forward(_POLL_S):
            now_s = time.monotonic()
            if timeout_s is not None and now_s - begun_s > timeout_s:
                mpiexec.end()
                raise LaunchError(
                    f"{' '.join(self._job.program)} on {self._job.size} ranks did not end "
                    f"within {timeout_s:g} s and was stopped"
                )
            if self._signal_late(mpiexec, now_s):
                break
            self._left = self._states.abandoned()
            if self._left and self._states.stopped_early:
                # Its own report is the job's ending.
                self._left = ""
                mpiexec.end()
                break
            if self._left:
                mpiexec.end()
                break
            if self._launcher.name != HYDRA and self._states.has_failed(_REPORTS_S):
                mpiexec.end()  # Slurm would give the ranks that are left its KillWait, 30 s
                break
            is_quiet = output.quiet_s() > _DRAINED_S
            if is_quiet and (self._states.all_gone or self._states.only_mpi_is_left):
                mpiexec.kill()  # it waits for processes that the ranks left running
                mpiexec.wait()
                return 0  # a rank that failed has sent its own message
            if is_quiet and mpiexec.poll() is not None:
                break
            if mpiexec.has_children():
                running_s = now_s
            elif now_s - running_s > _NOTHING_STARTED_S and mpiexec.poll() is None:
                mpiexec.end()
                raise LaunchError(
                    "mpiexec has no process left on any node: what it starts the ranks with (srun "
                    "inside of a Slurm job, otherwise ssh) has ended; see its own message above, "
                    "if any. For N ranks on this node alone pass --hosts localhost:N"
                )
        held = self._reader.close()
        if held:
            self._show(held)
        code = mpiexec.wait()
        for saved in self._reader.saved:
            _log_exit(saved)
        return code

    def _print_ending(self, exit_code: int) -> int:
        if self._left:
            text, code = f"candle: {self._left}\n", 1
        else:
            exit_code = -signal.SIGTERM if self._ended_early else exit_code
            text, code = job_ending(self._reader, self._states, self.stopped_by, exit_code)
        if text:
            self._show(text.encode())
        return code


def _log_exit(saved: SavedRun) -> None:
    """Write into a run's journal how long the job needed to end, for the next start's reserve."""
    seconds = round(time.monotonic() - saved.at_s, 3)
    # It may be on another node's disk: then the next start has the default.
    with contextlib.suppress(OSError):
        if os.path.isdir(saved.run_directory):
            directory = RunDirectory(saved.run_directory)
            directory.log_event("exit", fit=saved.fit, step=saved.step, seconds=seconds)
