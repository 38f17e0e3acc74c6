"""Decide when to stop so that the last checkpoint is on the disk before the job's limit."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from keras_candle.cluster.schedulers import seconds_left
from keras_candle.engine.base import Engine
from keras_candle.errors import CandleError
from keras_candle.launcher_messages import STARTED_S
from keras_candle.resume.data_state import FitProgress

# For the ranks to end, and for variation of the measured times: in all, and for each further rank.
_RESERVE_S, _RESERVE_OF_RANK_S = 5.0, 0.01
# The next end may take longer than the last ones did.
_ENDS_KEPT, _FACTOR_OF_END = 3, 2.0
# Before the first checkpoint, nothing is known of the disk.
_SLOW_DISK_BYTES_PER_S = 100e6
_EPOCH_ENDS_KEPT = 3
_IMPORTED_S = time.time()


class Checkpoints(Protocol):
    """The measured times and sizes of checkpoints."""

    @property
    def busy(self) -> bool:
        """Whether a checkpoint is being written."""

    @property
    def longest_s(self) -> float:
        """The longest time that a checkpoint took until it was on the disk; 0 before the first."""

    def size_bytes(self) -> int:
        """Return the approximate size of a checkpoint."""


class Walltime:
    """Measures steps, ends of epochs and checkpoints, and decides when to stop. On root.

    Args:
        limit: seconds from the job's start, "auto" for the scheduler's limit, None for no limit.
        engine: prints an error of the scheduler's query.
        reserve_s: seconds between the last checkpoint and the limit.

    Attributes:
        deadline_s: on the clock of `time.monotonic`; None without a limit.
    """

    def __init__(
        self, limit: float | str | None, engine: Engine, reserve_s: float = _RESERVE_S
    ) -> None:
        self._reserve_s = reserve_s
        self.deadline_s = None if limit is None else _deadline(limit, engine)
        self._asked_s = time.monotonic()
        self._asked = 0
        self._between_s = 0.0
        self._epoch_ends_s: list[float] = []

    def must_stop(
        self, progress: FitProgress, steps_between: int, checkpoints: Checkpoints
    ) -> bool:
        """Whether to stop now, as a checkpoint after the next check would come too late.

        Args:
            progress: the fit's position; at the end of an epoch, in the next one.
            steps_between: number of steps until the next check.
            checkpoints: measured times of the fit's checkpoints.
        """
        now_s = time.monotonic()
        self._measure(now_s, ends_epoch=progress.in_epoch == 0)
        if self.deadline_s is None:
            return False
        save_s = checkpoints.longest_s or checkpoints.size_bytes() / _SLOW_DISK_BYTES_PER_S
        needed_s = self._next_s(progress, steps_between) + save_s * (2 if checkpoints.busy else 1)
        return now_s + needed_s + self._reserve_s >= self.deadline_s

    def _measure(self, now_s: float, *, ends_epoch: bool) -> None:
        passed_s, self._asked_s = now_s - self._asked_s, now_s
        self._asked += 1
        if ends_epoch:
            self._epoch_ends_s = [*self._epoch_ends_s, passed_s][-_EPOCH_ENDS_KEPT:]
        elif self._asked > 1:  # the first step builds the train function
            self._between_s = max(self._between_s, passed_s)

    def _next_s(self, progress: FitProgress, steps_between: int) -> float:
        """Return the longest measured time until the next check."""
        steps = progress.steps_per_epoch or progress.adapter.num_batches
        in_epoch = steps is not None and progress.in_epoch + steps_between < steps
        return self._between_s + (0.0 if in_epoch else max(self._epoch_ends_s, default=0.0))


def reserve_of(ranks: int, events: Iterable[Mapping[str, Any]]) -> float:
    """Return how long before the limit a training must be saved, in seconds.

    Args:
        ranks: number of ranks.
        events: the journal of the run directory, with the times that earlier jobs took to end.

    Example:
        >>> reserve_of(1, [{"event": "exit", "seconds": 9.0}])
        18.0
    """
    measured = [
        each["seconds"]
        for each in events
        if each.get("event") == "exit" and isinstance(each.get("seconds"), int | float)
    ]
    longest_s = max(measured[-_ENDS_KEPT:], default=0.0)
    return max(_RESERVE_S, _FACTOR_OF_END * longest_s) + _RESERVE_OF_RANK_S * (ranks - 1)


def _deadline(limit: float | str, engine: Engine) -> float | None:
    now_s = time.time()
    if not isinstance(limit, str):
        left_s: float | None = _started_s() + limit - now_s
    else:
        try:
            left_s = seconds_left(os.environ, now_s)
        except CandleError as problem:
            engine.print_on_root(str(problem))
            left_s = None
    return None if left_s is None else time.monotonic() + left_s


def _started_s() -> float:
    """Return when the job, or else this process, started: seconds since 1970."""
    job_started_s = os.environ.get(STARTED_S)
    if job_started_s:
        return float(job_started_s)
    try:
        with open("/proc/self/stat") as own, open("/proc/uptime") as uptime:
            # The name before it may hold spaces and brackets.
            ticks = int(own.read().rpartition(")")[2].split()[19])
            age_s = float(uptime.read().split()[0]) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError):  # not on Linux
        return _IMPORTED_S
    return time.time() - age_s
