"""Agree across ranks on when to stop or checkpoint."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from keras_candle.engine.base import Engine


@dataclass(frozen=True)
class StopRequest:
    """A request of any rank.

    Attributes:
        stop: the reason to save and end the program, 0 for none; the largest of all ranks'.
        end: whether to end the training at this step: `model.stop_training`.
        save: whether root's checkpoint is due.
        failed: whether an asynchronous write failed on root.
    """

    stop: int
    end: bool
    save: bool
    failed: bool


class StopRequests:
    """Combines the ranks' requests at common steps; root chooses the steps between.

    Args:
        engine: connects the ranks.
        every_s: approximate interval by root's clock. An allreduce costs more than a small step.

    Attributes:
        between: number of steps until the next exchange.
    """

    def __init__(self, engine: Engine, every_s: float) -> None:
        self._engine, self._every_s = engine, every_s
        self._next_step = self._asked_step = 0
        self._asked_s = time.monotonic()
        self.between = 1

    def due(self, step: int) -> bool:
        """Whether the ranks exchange requests at this step."""
        return step >= self._next_step

    def ask(self, step: int, *, stop: int, end: bool, save: bool, failed: bool) -> StopRequest:
        """Exchange this rank's request and return the combined one; every rank must call it."""
        engine = self._engine
        if engine.size == 1:
            return StopRequest(stop, end, save, failed)
        of_root = [save, failed, self._steps_between(step)] if engine.is_root else [0, 0, 0]
        stop, end, save, failed, self.between = engine.allreduce(
            np.array([stop, end, *of_root], np.int64), "max"
        ).tolist()
        self._next_step = step + self.between
        return StopRequest(stop, bool(end), bool(save), bool(failed))

    def _steps_between(self, step: int) -> int:
        steps, now_s = step - self._asked_step, time.monotonic()
        rate = steps / max(now_s - self._asked_s, 1e-6)
        self._asked_step, self._asked_s = step, now_s
        # Increase slowly: the first steps are not typical.
        return max(1, min(int(rate * self._every_s), 2 * steps))
