"""Restart a job that has failed, and wait for a host that cannot be reached."""

from __future__ import annotations

import dataclasses
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from keras_candle import launcher_messages
from keras_candle.errors import EXIT_RUN_AGAIN, LaunchError
from keras_candle.launch.failure import forwarded_signal, signal_name
from keras_candle.launch.job_launcher import Job, JobLauncher, write_to_stderr

_FIRST_DELAY_S = 5.0
_LONGEST_DELAY_S = 120.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_POLL_S = 0.25


class Restarts:
    """Run a job and restart it when it fails, as long as it makes progress.

    Args:
        job: what to run.
        most: the largest number of restarts.
        patience_s: how long a restart is tried again while not all of its ranks can begin.
    """

    def __init__(self, job: Job, most: int, patience_s: float) -> None:
        self._job, self._most, self._patience_s = job, most, patience_s
        self._number = 0
        # Of the last start in which all ranks began.
        self._hosts: dict[int, str] = {}
        self._received: list[int] = []

    def run(self, saved_steps: list[int]) -> int:
        """Run the job, and restart it.

        Args:
            saved_steps: gets the steps of the checkpoints that all runs have reported.

        Returns:
            The exit code of the last run. EXIT_RUN_AGAIN is not restarted: the scheduler's limit
            or signal is its cause.
        """
        launcher, code = self._start()
        saved_steps += launcher.saved_steps
        with _stop_signals(self._received):
            while not self._is_over(launcher, code):
                self._number += 1
                _print(
                    f"started again ({self._number} of at most {self._most}) "
                    f"{_resume_point(launcher)}"
                )
                again = self._start_with_patience(code)
                if isinstance(again, int):
                    return again
                launcher, code = again
                saved_steps += launcher.saved_steps
        return code

    def _is_over(self, launcher: JobLauncher, code: int) -> bool:
        if code in (0, EXIT_RUN_AGAIN) or launcher.stopped_by:
            return True
        reason = self._stop_reason(launcher)
        if reason:
            _print(f"not started again: {reason}")
        return bool(reason)

    def _start(self) -> tuple[JobLauncher, int]:
        variables = {
            **self._job.variables,
            launcher_messages.NOTIFY_CHECKPOINTS: "1",
            launcher_messages.RESTARTS: str(self._number),
        }
        launcher = JobLauncher(dataclasses.replace(self._job, variables=variables))
        try:
            code = launcher.run()
        except LaunchError as error:
            if not self._missing(launcher):
                raise
            _print(str(error))
            code = 1
        if len(launcher.hosts) == self._job.size:
            self._hosts = launcher.hosts
        return launcher, code

    def _missing(self, launcher: JobLauncher) -> list[str]:
        """Return the hosts on which no rank has begun, although one had in an earlier start."""
        missing = [host for rank, host in self._hosts.items() if rank not in launcher.hosts]
        return list(dict.fromkeys(missing)) if not launcher.has_failures else []

    def _start_with_patience(self, code: int) -> tuple[JobLauncher, int] | int:
        """Start the job until all ranks begin; returns an exit code where they never do.

        Args:
            code: of the last run in which ranks began, which remains that of the job.
        """
        delay_s, begun_s = _FIRST_DELAY_S, time.monotonic()
        while not self._received:
            launcher, new_code = self._start()
            missing = self._missing(launcher)
            if new_code == 0 or launcher.stopped_by or not missing:
                return launcher, new_code
            left_s = self._patience_s - (time.monotonic() - begun_s)
            name = _names(missing)
            if left_s <= 0:
                _print(
                    f"not started again: {name} could not be reached within "
                    f"{self._patience_s:g} s (--restart-patience)"
                )
                return code
            delay_s = min(delay_s, left_s)
            _print(
                f"{name} cannot be reached; tried again in {delay_s:.0f} s, and for "
                f"{left_s:.0f} s at most (--restart-patience)"
            )
            self._wait(delay_s)
            delay_s = min(2 * delay_s, _LONGEST_DELAY_S)
        return _stopped(self._received[0])

    def _wait(self, seconds: float) -> None:
        deadline_s = time.monotonic() + seconds
        while not self._received and (left_s := deadline_s - time.monotonic()) > 0:
            time.sleep(min(left_s, _POLL_S))

    def _stop_reason(self, launcher: JobLauncher) -> str:
        if self._number == self._most:
            times = f", {self._most} times" if self._most > 1 else ""
            return f"it was{times} (--max-restarts)"
        # The first failure may have been a node that was about to fail anyway.
        if self._number and not launcher.saved_steps:
            return "it failed again before it had saved anything new"
        return ""


def _resume_point(launcher: JobLauncher) -> str:
    if launcher.saved_steps:
        return f"from the checkpoint of step {launcher.saved_steps[-1]}"
    return "as it was: no checkpoint was made (candle.CandleCallback makes them)"


def _names(hosts: Sequence[str]) -> str:
    more = f" and {len(hosts) - 8} more" if len(hosts) > 8 else ""
    return f"{'hosts' if len(hosts) > 1 else 'host'} {', '.join(hosts[:8])}{more}"


@contextmanager
def _stop_signals(received: list[int]) -> Iterator[None]:
    """Record the stop signals that arrive while no rank runs."""

    def record(number: int, _: FrameType | None) -> None:
        received.append(number)

    before = {
        number: signal.signal(number, record)
        for number in _SIGNALS
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stopped(number: int) -> int:
    name = signal_name(number)
    if forwarded_signal(number) == signal.SIGINT:
        _print(f"stopped by {name}")
        return 128 + number
    _print(f"stopped by {name} while no rank ran; to be run again (code {EXIT_RUN_AGAIN})")
    return EXIT_RUN_AGAIN


def _print(sentence: str) -> None:
    write_to_stderr(f"candle: {sentence}\n".encode())
