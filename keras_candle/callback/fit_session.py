"""One fit with a CandleCallback: its parts, and the callback list that passes on Keras's events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from keras_candle.callback.display import Display
from keras_candle.callback.epoch_values import EpochLogs
from keras_candle.callback.fit_hooks import (
    CaptureHook,
    ResumeHook,
    StopHook,
    WatchdogHook,
)
from keras_candle.callback.tracker_hook import JournalHook
from keras_candle.engine.consensus import StopConsensus
from keras_candle.keras_private.callbacks import check_names
from keras_candle.performance.recorder import PerformanceRecorder
from keras_candle.resume.capture import CheckpointCapture
from keras_candle.resume.checkpoint_schedule import (
    Checkpoint,
    CheckpointSchedule,
    Intervals,
    SaveLimits,
)
from keras_candle.resume.data_state import DataState, FitProgress
from keras_candle.resume.restore import Resumption
from keras_candle.resume.run_session import RunSession
from keras_candle.resume.script_changes import identity_of, settings_of
from keras_candle.resume.stopping import StopReasons
from keras_candle.resume.walltime import reserve_of
from keras_candle.training.fit_call import FitCall, listed
from keras_candle.training.fit_chain import FitChain

# These need on_epoch_begin of an epoch that is resumed; a LearningRateScheduler must not get it.
_SHOW_EPOCHS = (keras.callbacks.ProgbarLogger, keras.callbacks.TensorBoard)


class FitSession:
    """Makes the parts of one fit and the call of `fit` that runs them.

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
        self._run, self._model, self._options = run, model, options
        self._limits, self._intervals = limits, intervals
        self._resumption, self._inexact_resume = resumption, inexact_resume
        self._schedule = CheckpointSchedule(run, options, model)
        self._reasons = StopReasons(
            run.engine, limits.walltime, self._reserve_s(), self._schedule, intervals.consensus_s
        )
        self._capture = CheckpointCapture(run, model, options, self._schedule, resumption)
        self._chain = FitChain(())
        self.start = resumption.start if resumption else None

    def _reserve_s(self) -> float:
        given = self._limits.walltime_reserve_s
        if given is not None:
            return given
        engine = self._run.engine
        # Only root has a limit.
        events = self._run.directory.events() if engine.is_root and self._limits.walltime else []
        return reserve_of(engine.size, events)

    def before_fit(self, call: FitCall, stop: StopConsensus | None) -> FitCall:
        """Return the call with the session's list of callbacks; see `ResumableFit`."""
        run, model, adapter = self._run, self._model, call["x"]
        progress = FitProgress(adapter, call["steps_per_epoch"], call["epochs"], run.first_step)
        progress.epoch = call["initial_epoch"]
        timing = PerformanceRecorder(
            run.directory,
            run.engine,
            model,
            adapter.batch_size,
            self._intervals.record_s,
            is_verbose=call["verbose"] != 0,
        )
        data = DataState(adapter, model)
        call = self._prepare(call, progress, data)
        steps = call["steps_per_epoch"] or adapter.num_batches
        display = Display(
            call["epochs"],
            steps,
            call["verbose"],
            samples=lambda: run.engine.size * timing.meter.samples(),
            checkpoint_age_s=self._capture.age_s,
            line_s=self._intervals.line_s,
        )
        resume = ResumeHook(model, run, progress, self._capture, data, self._resumption, stop)
        capture = CaptureHook(
            model,
            run,
            self._options,
            progress,
            self._capture,
            self._schedule,
            data,
            is_resumed=self._resumption is not None,
            inexact_resume=self._inexact_resume,
        )
        stopping = StopHook(
            run,
            progress,
            self._capture,
            self._schedule,
            self._reasons,
            stop,
            lambda: self._chain.call("before_exit"),
        )
        watchdog = WatchdogHook(
            run.engine, self._limits.stall_timeout, run.directory.path, progress
        )
        epoch_logs = EpochLogs()
        journal = JournalHook(run, progress, timing, epoch_logs)
        self._chain = FitChain((resume, timing, watchdog, display, journal, capture, stopping))
        object.__setattr__(model, "_candle_is_durable", True)
        callbacks = DurableCallbackList(
            self._chain,
            progress,
            epoch_logs,
            listed(call["callbacks"]),
            model.steps_per_execution,
            add_history=True,
            verbose=call["verbose"],
            epochs=call["epochs"],
            steps=steps,
            model=model,
        )
        return call.changed(callbacks=callbacks)

    def _prepare(self, call: FitCall, progress: FitProgress, data: DataState) -> FitCall:
        """Return the call that begins at the checkpoint, where there is one."""
        run, model, resumption = self._run, self._model, self._resumption
        identity = {**run.identity, **identity_of(model, progress.adapter, run.engine)}
        settings = settings_of(model, progress.adapter, run.config)
        if resumption:
            call = resumption.prepare(call, progress, identity, settings)
        self._capture.compiled.start(compiled=resumption is not None and resumption.compiles_again)
        self._capture.begin(progress, data, identity, settings)
        return call

    def close(self) -> None:
        """Release the session's resources, however the fit ended."""
        self._chain.call("close")
        object.__setattr__(self._model, "_candle_is_durable", False)


class DurableCallbackList(keras.callbacks.CallbackList):  # type: ignore[misc]
    """A CallbackList that also calls the parts of a fit, and skips steps of an earlier attempt.

    The callbacks get no call for these steps, and the model does not take them.

    Args:
        chain: the parts of the fit.
        progress: the fit's position.
        epoch_logs: becomes the last callback.
        callbacks: the callbacks of the fit.
        steps_per_execution: steps of a call of the train function.
        **params: see `keras.callbacks.CallbackList`.
    """

    def __init__(
        self,
        chain: FitChain,
        progress: FitProgress,
        epoch_logs: EpochLogs,
        callbacks: Sequence[Any],
        steps_per_execution: int,
        **params: Any,
    ) -> None:
        super().__init__(list(callbacks), **params)
        epoch_logs.set_model(self.model)
        self.callbacks.append(epoch_logs)
        self._chain, self._progress, self._epoch_logs = chain, progress, epoch_logs
        self._steps_at_once = steps_per_execution

    def on_train_begin(self, logs: Any = None) -> None:
        """Begin the callbacks, then the parts."""
        self._chain.call("before_fit", self.callbacks)
        super().on_train_begin(logs)
        self._chain.call("begin_fit")

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Notify the callbacks, unless the epoch is resumed."""
        self._chain.call("before_epoch", epoch)
        self._epoch_logs.begin_epoch()
        if not self._progress.steps_to_skip:
            super().on_epoch_begin(epoch, logs)
        else:
            for callback in self.callbacks:
                if isinstance(callback, _SHOW_EPOCHS):
                    callback.on_epoch_begin(epoch, logs)
        self._chain.call("begin_epoch", epoch)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Notify the callbacks, unless the step is skipped."""
        if batch >= self._progress.steps_to_skip:
            self._chain.call("before_step")
            super().on_train_batch_begin(batch, logs)
            self._chain.call("begin_step")

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Notify the callbacks, unless the step is skipped."""
        # Keras up to 3.7 passes the first step of a call, later versions the last.
        done = (batch // self._steps_at_once + 1) * self._steps_at_once
        if done > self._progress.steps_to_skip:
            self._chain.call("end_step")
            super().on_train_batch_end(batch, logs)
            self._chain.call("after_step", done, logs)
            self._chain.call("leave_step")

    def on_test_begin(self, logs: Any = None) -> None:
        """Notify the callbacks."""
        self._chain.call("before_evaluation")
        super().on_test_begin(logs)

    def on_test_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Notify the callbacks."""
        self._chain.call("before_evaluation_batch")
        super().on_test_batch_begin(batch, logs)

    def on_test_end(self, logs: Any = None) -> None:
        """Notify the callbacks."""
        super().on_test_end(logs)
        self._chain.call("after_evaluation")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Notify the callbacks, then take a checkpoint."""
        self._chain.call("end_epoch")
        super().on_epoch_end(epoch, logs)
        self._chain.call("after_epoch", epoch, self._epoch_logs.logs, self._epoch_logs.values)
        self._chain.call("leave_epoch")

    def on_train_end(self, logs: Any = None) -> None:
        """Notify the callbacks, then end the parts."""
        super().on_train_end(logs)
        self._chain.call("after_fit")
