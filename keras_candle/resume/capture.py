"""Capture a checkpoint: gather per-rank state, write shared state on root."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from keras_candle.checkpoints.reading import FORMAT
from keras_candle.errors import CheckpointError
from keras_candle.random_state import global_state
from keras_candle.resume.callback_state import CallbackState, shared_states
from keras_candle.resume.checkpoint_schedule import Checkpoint, CheckpointSchedule
from keras_candle.resume.data_state import DataState, FitProgress
from keras_candle.resume.model_state import built_optimizers, rank_state
from keras_candle.resume.recompile import CompileRecorder
from keras_candle.resume.restore import Resumption, iterations_of, schedule_position
from keras_candle.resume.run_session import RunSession


class CheckpointCapture:
    """Takes the checkpoints of one fit.

    Args:
        run: the run directory's session.
        model: the trained model.
        options: the checkpoint options, with the monitored metric.
        schedule: writes the checkpoints.
        resumption: the checkpoint that the fit resumes; None for a fit from the beginning.

    Attributes:
        callbacks: the callbacks of the fit.
        identity: facts that must be equal to resume one of its checkpoints.
        compiled: records whether the model is compiled again.
        callback_state: the state of `callbacks`.
        constants: of layers, see `constants_of`.
        step: step of the newest checkpoint, or at which the fit began.
    """

    def __init__(
        self,
        run: RunSession,
        model: Any,
        options: Checkpoint,
        schedule: CheckpointSchedule,
        resumption: Resumption | None,
    ) -> None:
        self._run, self._model, self._options, self._schedule = run, model, options, schedule
        self._engine = run.engine
        self.callbacks: Sequence[Any] = ()
        self.callback_state = CallbackState((), model)
        self.constants: dict[str, list[str]] = {}
        self.identity: dict[str, Any] = {}
        self.compiled = CompileRecorder(model)
        self._took_one = False
        self.step, self._when_s = -1, time.monotonic()
        for value, step in resumption.state["best"] if resumption else ():
            schedule.record_best(value, step)
        self._chain = list(resumption.state["chain"]) if resumption else []

    def begin(
        self,
        progress: FitProgress,
        data: DataState,
        identity: dict[str, Any],
        settings: dict[str, Any],
    ) -> None:
        """Begin a fit.

        Args:
            progress: the fit's position.
            data: state of the training data.
            identity: facts that must be equal to resume one of its checkpoints.
            settings: facts that may change on a resume.
        """
        self._data, self._settings = data, settings
        self.identity = identity
        self.step = progress.step
        self._chain.append({"step": progress.step, "ranks": self._engine.size})

    def age_s(self) -> float | None:
        """Return the seconds since this fit's newest checkpoint; None before the first one."""
        return time.monotonic() - self._when_s if self._took_one else None

    def is_due_by_time(self) -> bool:
        """Whether a checkpoint is due by this rank's clock."""
        every_s = self._options.every_seconds
        return every_s is not None and time.monotonic() - self._when_s >= every_s

    def take(
        self, progress: FitProgress, *, finished: bool = False, logs: dict[str, Any] | None = None
    ) -> None:
        """Take a checkpoint; every rank must call it.

        Args:
            progress: the fit's position.
            finished: whether the fit is complete.
            logs: the logs of the epoch that has just ended.
        """
        of_model = rank_state(self._model, self._engine)
        # A callback's get_state() may raise, on one rank.
        of_ranks = self._engine.gather_results_to_root(
            lambda: {
                "model": of_model,
                "callbacks": self.callback_state.take(),
                "random": global_state(),
                "data": self._data.take(within_pass=progress.within_pass),
            },
            CheckpointError,
        )
        self.step, self._when_s, self._took_one = progress.step, time.monotonic(), True
        position = progress.position().to_json()
        self._run.on_root(
            lambda: self._write(progress, of_ranks or [], position, finished, logs or {})
        )

    def _write(
        self,
        progress: FitProgress,
        of_ranks: list[dict[str, Any]],
        position: dict[str, Any],
        finished: bool,
        logs: dict[str, Any],
    ) -> None:
        monitored = self._schedule.monitored(logs)
        if monitored is not None:
            self._schedule.record_best(monitored, progress.step)
        state = {
            "format": FORMAT,
            "fit": self._run.fit,
            "step": progress.step,
            "epoch": progress.epoch,
            "in_epoch": progress.in_epoch,
            "epochs": progress.epochs,
            "finished": finished,
            "ends": [*self._run.ends, progress.step],
            "position": position,
            "can_go_on": progress.can_resume_within_pass,
            "before_epoch": progress.before_epoch,
            "schedule_position": schedule_position(self._model),
            "schedule_iterations": iterations_of(self._model),
            "optimizers": built_optimizers(self._model),
            "compiled": self.compiled.state(),
            "ranks": self._engine.size,
            "chain": self._chain,
            "identity": self.identity,
            "settings": self._settings,
            "best": self._schedule.best,
            "monitor": {} if monitored is None else {self._options.monitor: monitored},
            "callbacks": shared_states(self.callbacks),
            "constants": self.constants,
            "trackers": self._run.trackers,
            "privacy": None,
        }
        self._schedule.save(progress.step, state, of_ranks, self._run.ends)
