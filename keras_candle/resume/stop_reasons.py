"""The reasons to save and stop before the end of a training: signals and the walltime."""

from __future__ import annotations

import signal

from keras_candle.engine.base import Engine
from keras_candle.resume.checkpoint_schedule import CheckpointSchedule
from keras_candle.resume.fit_progress import FitProgress
from keras_candle.resume.stop_requests import StopRequest, StopRequests
from keras_candle.resume.stop_signals import StopSignals
from keras_candle.resume.walltime import Walltime

# A reason is encoded as a signal's number, or as this.
_WALLTIME = 1000


class StopReasons:
    """Agrees across ranks on stopping for a signal or the job's time limit.

    Args:
        engine: connects the ranks.
        limit: `walltime` of `CandleCallback`.
        schedule: writes the fit's checkpoints.
        every_s: see `StopRequests`.
    """

    def __init__(
        self,
        engine: Engine,
        limit: float | str | None,
        schedule: CheckpointSchedule,
        every_s: float,
    ) -> None:
        self._engine, self._signals = engine, StopSignals()
        self._requests = StopRequests(engine, every_s)
        self._walltime = Walltime(limit if engine.is_root else None, engine)
        self._schedule = schedule

    def listen(self) -> None:
        """Install the signal handlers."""
        self._signals.listen()

    def stop_listening(self) -> None:
        """Restore the earlier signal handlers."""
        self._signals.stop_listening()

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
