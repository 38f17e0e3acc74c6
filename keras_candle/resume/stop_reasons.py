"""Why a training stops before its end, and saves."""

from __future__ import annotations

import signal

from keras_candle.engine.base import Engine
from keras_candle.resume.checkpoint_schedule import CheckpointSchedule
from keras_candle.resume.fit_progress import FitProgress
from keras_candle.resume.stop_requests import StopRequest, StopRequests
from keras_candle.resume.stop_signals import StopSignals
from keras_candle.resume.walltime import Walltime

# A reason as the ranks tell each other: a signal's number, or this.
_WALLTIME = 1000


class StopReasons:
    """Signals and the job's limit, on which the ranks agree.

    Args:
        engine: connects the ranks.
        limit: see `CandleCallback`.
        saving: the fit's checkpoints.
        every_s: see `StopRequests`.
    """

    def __init__(
        self, engine: Engine, limit: float | str | None, saving: CheckpointSchedule, every_s: float
    ) -> None:
        self._engine, self._signals = engine, StopSignals()
        self._wishes = StopRequests(engine, every_s)
        self._walltime = Walltime(limit if engine.is_root else None, engine)
        self._saving = saving

    def listen(self) -> None:
        """Begin to take note of signals."""
        self._signals.listen()

    def stop_listening(self) -> None:
        """End that."""
        self._signals.stop_listening()

    def due(self, step: int) -> bool:
        """Whether the ranks ask each other at this step."""
        return self._wishes.due(step)

    def ask(self, progress: FitProgress, *, end: bool, save: bool) -> StopRequest:
        """What some rank wants; every rank must call it.

        Args:
            progress: where the training is.
            end: whether something on this rank has set `model.stop_training`.
            save: whether a checkpoint is due.
        """
        stop = self._signals.received
        if self._walltime.must_stop(progress, self._wishes.between, self._saving):
            stop = _WALLTIME
        failed = self._saving.failed
        return self._wishes.ask(progress.step, stop=stop, end=end, save=save, failed=failed)

    def at_end(self) -> int:
        """The signal that some rank got, 0 for none; every rank must call it at the fit's end."""
        return int(self._engine.allreduce(self._signals.received, "max"))


def name_of(stop: int) -> str:
    """What the user calls a reason to stop."""
    return "walltime" if stop == _WALLTIME else signal.Signals(stop).name
