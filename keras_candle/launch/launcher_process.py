"""The process of a launcher (mpiexec, srun): how to signal its ranks, and how to end them."""

import contextlib
import signal
import subprocess
import time
from collections.abc import Mapping

from keras_candle.cluster.launch_commands import LaunchCommand
from keras_candle.cluster.schedulers import answer_of
from keras_candle.errors import LaunchError
from keras_candle.launch.process import children_of, end_session
from keras_candle.launcher_messages import HYDRA

# srun passes these on to the ranks; at SIGTERM it kills them, at SIGINT it asks for a second one.
_SRUN_FORWARDS = (signal.SIGUSR1, signal.SIGUSR2)
_STEP_BEGINS_S, _STEP_ENDS_S = 5.0, 10.0


class LauncherProcess:
    """A launcher that runs.

    Args:
        launcher: its command.
        process: the process, the leader of a session of its own.
        environment: its variables.
    """

    def __init__(
        self,
        launcher: LaunchCommand,
        process: subprocess.Popen[bytes],
        environment: Mapping[str, str],
    ) -> None:
        self._launcher, self._process = launcher, process
        self._job = environment.get("SLURM_JOB_ID", "")

    def signal_ranks(self, number: int) -> None:
        """Send a signal to all ranks.

        Args:
            number: the signal.
        """
        if not self._launcher.step or number in _SRUN_FORWARDS:
            self._process.send_signal(number)
            return
        try:
            name = signal.Signals(number).name.removeprefix("SIG")
            answer_of(["scancel", f"--signal={name}", self._step()])
        except LaunchError:
            # No answer from Slurm, or no step yet: srun's own way, which gives no time to save.
            self._process.send_signal(number)

    def _step(self) -> str:
        """Return the number of the step, which Slurm may be about to make."""
        listing = ["squeue", "--noheader", "--steps", "-o", "%i %j", "-j", self._job]
        deadline_s = time.monotonic() + _STEP_BEGINS_S
        while self._process.poll() is None and time.monotonic() < deadline_s:
            for line in answer_of(listing).splitlines():
                number, _, name = line.strip().partition(" ")
                if name == self._launcher.step:
                    return number
            time.sleep(0.2)
        raise LaunchError(f"job {self._job} has no step {self._launcher.step}")

    def end(self) -> None:
        """End all ranks at once, and this process."""
        if self._launcher.step:
            # srun's death alone would leave the ranks to Slurm, which notices it late.
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_STEP_ENDS_S)
        end_session(self._process)

    def kill(self) -> None:
        """End this process; hydra's proxies, and srun, end the ranks that are left."""
        if self._launcher.step:
            self._process.terminate()
        else:
            self._process.kill()

    def poll(self) -> int | None:
        """Return the exit code, None while the process runs."""
        return self._process.poll()

    def wait(self) -> int:
        """Wait for the end of the process and return its exit code."""
        return self._process.wait()

    def has_children(self) -> bool:
        """Return whether hydra still has processes that started ranks; True where unknown."""
        return self._launcher.name != HYDRA or children_of(self._process.pid) != []


def signal_at_death(launcher: LaunchCommand) -> int:
    """Return the signal that a launcher gets when `candle run` itself is killed.

    Args:
        launcher: its command.
    """
    return int(signal.SIGTERM if launcher.step else signal.SIGKILL)
