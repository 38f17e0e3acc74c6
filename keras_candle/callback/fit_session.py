"""One fit with checkpoints: resumes from one, takes new ones, and stops on request."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from keras_candle.callback.callback_list import DurableCallbackList
from keras_candle.callback.display import Display
from keras_candle.callback.performance_recorder import PerformanceRecorder
from keras_candle.callback.watchdog_hook import WatchdogHook
from keras_candle.errors import EXIT_RUN_AGAIN, CheckpointError
from keras_candle.keras_private.callbacks import check_names
from keras_candle.resume.callback_state import CallbackState, resume_csv_loggers, values_of
from keras_candle.resume.capture import CheckpointCapture
from keras_candle.resume.checkpoint_schedule import (
    Checkpoint,
    CheckpointSchedule,
    Intervals,
    SaveLimits,
)
from keras_candle.resume.data_state import DataState, FitProgress
from keras_candle.resume.inexact_resume import check_unsavable_state
from keras_candle.resume.restore import Resumption
from keras_candle.resume.run_session import RunSession
from keras_candle.resume.script_changes import describe_layers, identity_of, settings_of
from keras_candle.resume.stopping import StopReasons, name_of
from keras_candle.training.fit_hooks import FitCall, listed
from keras_candle.training.step_chain import Place, chain_of
from keras_candle.training.stop_consensus import StopConsensus
from keras_candle.watchdog import heartbeat

# Paths of state that cannot be saved and that this process has reported.
_REPORTED: set[str] = set()
# The active fits, the innermost last: a fit may run within a callback of another one.
_under_way: list[FitSession] = []


class FitSession:
    """Runs checkpoints, resume, stop requests, watchdog and performance record of one fit.

    Args:
        run: session of the run directory, open.
        model: the trained model.
        options: when checkpoints are taken.
        limits: time limits.
        intervals: intervals of periodic actions.
        resumption: the checkpoint to resume from; None for a fit from the beginning.
        inexact_resume: see `CandleCallback`.

    Attributes:
        start: the data cursor to resume from; None for a fit from the beginning.
    """

    def __init__(
        self,
        run: RunSession,
        model: Any,
        options: Checkpoint,
        limits: SaveLimits,
        intervals: Intervals,
        resumption: Resumption | None,
        inexact_resume: str,
    ) -> None:
        check_names()
        self._inexact_resume, self._has_checked_state = inexact_resume, False
        self._run, self._model, self._options = run, model, options
        self._intervals = intervals
        self._stop_consensus: StopConsensus | None = None
        self._engine = run.engine
        self._schedule = CheckpointSchedule(run, options, model)
        self._stop_reasons = StopReasons(
            run.engine, limits.walltime, self._schedule, intervals.consensus_s
        )
        self._watchdog = WatchdogHook(run.engine, limits.stall_timeout, run.directory.path)
        self._capture = CheckpointCapture(run, model, options, self._schedule, resumption)
        self._at_close: list[Callable[[], None]] = []
        self._progress = FitProgress(None, None)
        self._epochs = 0
        self._resumption = resumption
        self.start = resumption.start if resumption else None

    def before_fit(self, call: FitCall, stop: StopConsensus | None) -> FitCall:
        """Return the call with the session's list of callbacks; see `ResumableFit`."""
        adapter, self._stop_consensus = call["x"], stop
        self._epochs, self._is_verbose = call["epochs"], call["verbose"] != 0
        self._progress = FitProgress(adapter, call["steps_per_epoch"], step=self._run.first_step)
        self._progress.epoch = call["initial_epoch"]
        self._performance = performance = PerformanceRecorder(
            self._run, self._model, adapter.batch_size, self._intervals.record_s
        )
        self._data = DataState(adapter, self._model)
        identity = {**self._run.identity, **identity_of(self._model, adapter, self._engine)}
        settings = settings_of(self._model, adapter, self._run.config)
        if self._resumption:
            call = self._resumption.prepare(call, self._progress, identity, settings)
        again = self._resumption is not None and self._resumption.compiles_again
        self._capture.compiled.start(compiled=again)
        self._capture.begin(self._progress, self._data, identity, settings, self._epochs)
        object.__setattr__(self._model, "_candle_is_durable", True)
        steps = call["steps_per_epoch"] or adapter.num_batches
        display = Display(
            call["epochs"],
            steps,
            call["verbose"],
            samples=lambda: self._engine.size * performance.meter.samples(),
            checkpoint_age_s=self._capture.age_s,
            line_s=self._intervals.line_s,
        )
        self._at_close = [
            performance.stop,
            display.close,
            self._capture.compiled.stop,
            lambda: chain_of(self._model).remove(Place.RESUME),
        ]
        callbacks = DurableCallbackList(
            self,
            performance.meter,
            display,
            listed(call["callbacks"]),
            self._model.steps_per_execution,
            add_history=True,
            verbose=call["verbose"],
            epochs=call["epochs"],
            steps=steps,
            model=self._model,
        )
        return call.changed(callbacks=callbacks)

    def on_begin(self, callbacks: Sequence[Any]) -> None:
        """Prepare the callbacks' state, before their on_train_begin."""
        self._capture.callbacks = callbacks
        self._capture.callback_state = CallbackState(callbacks, self._model, self._data.sources)
        if self._resumption is None:
            self._capture.identity["architecture"] = describe_layers(self._model)
        if self._resumption:
            resume_csv_loggers(callbacks, self._resumption.state["callbacks"])

    def on_began(self) -> int:
        """Restore the checkpoint's state, after the callbacks' on_train_begin."""
        _under_way.append(self)
        self._stop_reasons.listen()
        self._watchdog.start()
        self._run.on_root(self._schedule.prepare)
        self._performance.begin(self._progress.step)
        if self._resumption is None:
            return 0
        self._resumption.restore(self._capture.callbacks, self._capture.callback_state, self._data)
        self._run.log_event("resume", step=self._progress.step, ranks=self._engine.size)
        return self._progress.steps_to_skip

    def on_epoch(self, epoch: int) -> None:
        """Begin an epoch; Keras has just reset the metrics."""
        self._progress.epoch = epoch
        self._progress.in_epoch = self._progress.steps_to_skip
        if self._progress.steps_to_skip and self._resumption:
            self._resumption.restore_metrics()
            self._progress.steps_to_skip = 0
        self._check_unsavable_state()
        self._data.begin_epoch(within_pass=self._progress.within_pass)
        self.beat(heartbeat.BETWEEN_STEPS)

    def _check_unsavable_state(self) -> None:
        """Check once, before the first step, when the callbacks have created their objects."""
        if not self._has_checked_state:
            self._has_checked_state = True
            of_ranks = self._engine.gather_results(
                lambda: {**self._capture.callback_state.unsavable(), **self._data.unsavable()},
                CheckpointError,
            )
            check_unsavable_state(of_ranks, self._inexact_resume, self._engine, _REPORTED)

    def beat(self, place: int) -> None:
        """Report a position to the watchdogs of this fit and the fits around it."""
        self._watchdog.beat(self._progress.epoch, self._progress.step, place)
        for each in _under_way:
            if each is not self:
                each.beat_for_callback()

    def beat_for_callback(self) -> None:
        """Report progress of a fit within one of the callbacks."""
        self._watchdog.beat(self._progress.epoch, self._progress.step, heartbeat.IN_CALLBACKS)

    def on_steps(self, done: int) -> None:
        """Take checkpoints and exchange requests after a call of the train function."""
        progress = self._progress
        before = progress.step
        progress.advance(done)
        self.beat(heartbeat.BETWEEN_STEPS)
        self._run.notify_observers(before, progress.step)
        if self._options.due_by_steps(before, progress.step):
            self._capture.take(self._progress)
        if self._stop_reasons.due(progress.step):
            self._ask(end=bool(self._stop_consensus and self._stop_consensus.requested))
        self._defer_stop_request()

    def _defer_stop_request(self) -> None:
        """Withdraw a stop that ranks have not agreed on, before Keras reads `stop_training`."""
        if self._stop_consensus:
            self._stop_consensus.defer_request()

    def _ask(self, *, end: bool) -> None:
        """Exchange requests; every rank must call it.

        Args:
            end: whether this rank requests the end of the training at this step.
        """
        every_s = self._options.every_seconds
        due = every_s is not None and time.monotonic() - self._capture.when_s >= every_s
        request = self._stop_reasons.ask(self._progress, end=end, save=due)
        if request.failed:
            self._run.on_root(self._schedule.check)
        if request.stop:
            self._stop(request.stop)
        elif request.save:
            self._capture.take(self._progress)
        if request.end and self._stop_consensus:
            self._stop_consensus.apply(stop=True)

    def on_epoch_over(self, epoch: int, logs: dict[str, Any]) -> None:
        """Log the epoch and take its checkpoint, after the callbacks' on_epoch_end."""
        self._progress.end_epoch()
        self.beat(heartbeat.BETWEEN_STEPS)
        stop = self._stop_consensus.agreed if self._stop_consensus else self._model.stop_training
        finished = epoch + 1 == self._epochs or bool(stop)
        values = values_of(self._model.history, logs)
        reached = self._performance.epoch()
        self._run.log_event(
            "epoch", epoch=epoch + 1, step=self._progress.step, logs=values, performance=reached
        )
        due = self._options.due_by_epochs(epoch + 1)
        improves = bool(self._run.engine.broadcast(self._schedule.improves(values)))
        if finished or due or improves:
            self._capture.take(self._progress, finished=finished, logs=values)
        if not finished:
            self._ask(end=False)  # the checkpoint of this epoch is not marked as the last
        self._defer_stop_request()

    def on_end(self) -> None:
        """Finish all writes after the callbacks' on_train_end; exit where a signal arrived."""
        self._watchdog.stop()  # the last write may take any time
        self._run.on_root(self._schedule.wait)
        self._performance.end(print_summary=self._is_verbose)
        self._run.log_event("end", step=self._progress.step)
        self._run.end_fit(self._progress.step)
        _under_way.remove(self)
        stop = self._stop_reasons.at_end()
        if stop:
            self._exit(stop)

    def close(self) -> None:
        """Release the session's resources, however the fit ended."""
        if self in _under_way:
            _under_way.remove(self)
        self._stop_reasons.stop_listening()
        self._watchdog.stop()
        for each in self._at_close:
            each()
        object.__setattr__(self._model, "_candle_is_durable", False)
        if self._engine.is_root:
            self._schedule.abandon()

    def _stop(self, reason: int) -> None:
        """Save and end the program with the exit code for "run again"."""
        if self._capture.step != self._progress.step:
            self._capture.take(self._progress)
        self._watchdog.stop()
        self._run.on_root(self._schedule.wait)
        self._performance.write()
        self._exit(reason)

    def _exit(self, reason: int) -> None:
        """End the program after all is saved."""
        name = name_of(reason)
        self._run.log_event("stop", reason=name, step=self._progress.step)
        self._engine.print_on_root(
            f"{name}: saved at step {self._progress.step} in "
            f"{self._run.folder.path_of(self._progress.step)}; run the same command to resume"
        )
        self._engine.barrier()
        raise SystemExit(EXIT_RUN_AGAIN)
