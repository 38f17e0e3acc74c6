"""Stop a training on SIGTERM, SIGUSR1 or its walltime: record the request, agree on it, save."""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import dataclass
from types import FrameType
from typing import Any, cast

import numpy as np

from keras_candle.engine.base import Engine
from keras_candle.launcher_messages import SAME_SIGNAL_S, is_supervised, work
from keras_candle.resume.checkpoint_schedule import CheckpointSchedule
from keras_candle.resume.data_state import FitProgress
from keras_candle.resume.walltime import Walltime

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class StopSignals:
    """Records SIGTERM and SIGUSR1 while a training runs; a second SIGTERM ends the process.

    Of nested trainings the outer one records them: all ranks take part in it.

    Args:
        same_within_s: two SIGTERMs within this time count as one.

    Attributes:
        received: number of the first signal, 0 before one arrives.
    """

    def __init__(self, same_within_s: float = SAME_SIGNAL_S) -> None:
        self.received = 0
        self._same_within_s = same_within_s
        self._terminated_s: float | None = None
        self._before: dict[int, Any] = {}
        self._is_outermost = False

    def listen(self) -> None:
        """Install the handlers. Outside of the main thread it does nothing: Python forbids it."""
        taken = any(
            isinstance(getattr(signal.getsignal(each), "__self__", None), StopSignals)
            for each in STOP_SIGNALS
        )
        if taken:
            return
        self._is_outermost = True
        work.begin(can_resume=True)
        if threading.current_thread() is threading.main_thread():
            self._before = {each: signal.signal(each, self._record) for each in STOP_SIGNALS}

    def _record(self, number: int, _: FrameType | None) -> None:
        now_s = time.monotonic()
        if number == signal.SIGTERM and self._terminated_s is None:
            self._terminated_s = now_s
        elif number == signal.SIGTERM and now_s - cast("float", self._terminated_s) >= (
            self._same_within_s
        ):
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.received = self.received or number

    def end_training(self, *, to_run_again: bool = False) -> None:
        """Record that all is saved.

        Args:
            to_run_again: whether the program ends now, since it was asked to stop.
        """
        if self._is_outermost:
            work.end(to_run_again=to_run_again)
        if to_run_again and is_supervised():
            self._before = {}  # until its end, the program ignores the signal's second copy

    def stop_listening(self, *, resend: bool = False) -> None:
        """Restore the earlier handlers.

        Args:
            resend: whether they receive the signal that was recorded meanwhile.
        """
        before, self._before = self._before, {}
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        if before and resend and self.received:
            os.kill(os.getpid(), self.received)


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


# A reason is encoded as a signal's number, or as this.
_WALLTIME = 1000


class StopReasons:
    """Agrees across ranks on stopping for a signal or the job's time limit.

    Args:
        engine: connects the ranks.
        limit: `walltime` of `CandleCallback`.
        reserve_s: time between the last checkpoint and the limit; used on root.
        schedule: writes the fit's checkpoints.
        every_s: see `StopRequests`.
    """

    def __init__(
        self,
        engine: Engine,
        limit: float | str | None,
        reserve_s: float,
        schedule: CheckpointSchedule,
        every_s: float,
    ) -> None:
        self._engine, self._signals = engine, StopSignals()
        self._requests = StopRequests(engine, every_s)
        self._walltime = Walltime(limit if engine.is_root else None, engine, reserve_s)
        self._schedule = schedule

    def listen(self) -> None:
        """Install the signal handlers."""
        self._signals.listen()

    def stop_listening(self, *, resend: bool = False) -> None:
        """Restore the earlier signal handlers, see `StopSignals`."""
        self._signals.stop_listening(resend=resend)

    def end_training(self, *, to_run_again: bool = False) -> None:
        """Record that all is saved, see `StopSignals`."""
        self._signals.end_training(to_run_again=to_run_again)

    def due(self, step: int) -> bool:
        """Whether the ranks exchange requests at this step."""
        return self._requests.due(step)

    def ask(self, progress: FitProgress, *, end: bool, save: bool) -> StopRequest:
        """Exchange this rank's request and return the combined one; every rank must call it.

        Args:
            progress: the fit's position.
            end: whether `model.stop_training` has been set on this rank.
            save: whether a checkpoint is due.
        """
        stop = self._signals.received
        if self._walltime.must_stop(progress, self._requests.between, self._schedule):
            stop = _WALLTIME
        failed = self._schedule.failed
        return self._requests.ask(progress.step, stop=stop, end=end, save=save, failed=failed)

    def at_end(self) -> int:
        """Return a signal that any rank received, 0 for none; all ranks call it at fit's end."""
        return int(self._engine.allreduce(self._signals.received, "max"))


def name_of(stop: int) -> str:
    """Return the name of a reason to stop, such as "SIGTERM" or "walltime"."""
    return "walltime" if stop == _WALLTIME else signal.Signals(stop).name
