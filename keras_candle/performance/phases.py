"""Measure a rank's time by phase, with the program's clock."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

# INPUT is the start of a pass over the data; later waits for data are part of TRAINING.
INPUT, TRAINING = "input", "training"
CALLBACKS, CHECKPOINT, EVALUATION = "callbacks", "checkpoint", "evaluation"
PHASES = (INPUT, TRAINING, CALLBACKS, CHECKPOINT, EVALUATION)
# The number of latest steps whose times are kept.
_MOST_STEPS = 1_000_000


class Phases:
    """Adds up the time spent in each phase; a phase lasts until the next one is entered.

    Args:
        clock: returns seconds since any fixed moment.

    Attributes:
        phase: the current phase.
        seconds: by phase.
        first_step_s: the time of the step's first call, which compiles it; None before.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self.phase = ""
        self._since_s = 0.0
        self._step_s = -1.0
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self.first_step_s: float | None = None
        self._steps = array("d")

    def enter(self, phase: str) -> None:
        """Enter a phase, to which the time belongs from now on; "" for none."""
        now_s = self._clock()
        if self.phase:
            self.seconds[self.phase] += now_s - self._since_s
        self.phase, self._since_s = phase, now_s

    def begin_step(self) -> bool:
        """Record the start of a step, which ends the previous one.

        Returns:
            Whether the previous one was the first. Its time is kept apart: all sums are reset.
        """
        now_s = self._clock()
        was_first = self._end_step(now_s)
        self._step_s = now_s
        return was_first

    def end_steps(self) -> bool:
        """Record the end of the last step before a pause; return the same as `begin_step`."""
        was_first = self._end_step(self._clock())
        self._step_s = -1.0
        return was_first

    def _end_step(self, now_s: float) -> bool:
        if self._step_s < 0:
            return False
        took_s = now_s - self._step_s
        if self.first_step_s is None:
            self.first_step_s = took_s
            self.seconds = dict.fromkeys(PHASES, 0.0)
            self._since_s = now_s
            return True
        if len(self._steps) >= _MOST_STEPS:
            del self._steps[: _MOST_STEPS // 2]
        self._steps.append(took_s)
        return False

    def latest(self, count: int) -> Sequence[float]:
        """Return the seconds of the last `count` steps, without the first step."""
        return self._steps[len(self._steps) - min(count, len(self._steps)) :]


def percentiles_ms(seconds: Sequence[float]) -> dict[str, float]:
    """Return the p50, p90, p99 and mean of step times in milliseconds; empty without steps.

    Example:
        >>> percentiles_ms([0.001, 0.002, 0.003])["p50"]
        2.0
    """
    if not len(seconds):
        return {}
    times_ms: Any = 1000.0 * np.asarray(seconds)
    p50, p90, p99 = np.percentile(times_ms, (50, 90, 99))
    found = {"p50": p50, "p90": p90, "p99": p99, "mean": times_ms.mean()}
    return {name: round(float(value), 4) for name, value in found.items()}
