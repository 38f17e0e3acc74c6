"""One fit made durable: it goes on from a checkpoint, makes new ones, and stops when told to."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from keras_candle.callback.callback_list import DurableCallbackList, listed
from keras_candle.callback.display import Display
from keras_candle.callback.performance_recorder import PerformanceRecorder
from keras_candle.callback.watchdog_hook import WatchdogHook
from keras_candle.errors import EXIT_RUN_AGAIN, CheckpointError
from keras_candle.resume.callback_state import CallbackState, continue_files, values_of
from keras_candle.resume.capture import CheckpointCapture
from keras_candle.resume.checkpoint_options import Checkpoint, Intervals, SaveLimits
from keras_candle.resume.checkpoint_schedule import CheckpointSchedule
from keras_candle.resume.data_state import DataState
from keras_candle.resume.fit_progress import FitProgress
from keras_candle.resume.inexact_resume import weigh_unkept
from keras_candle.resume.keras_callbacks import check_names
from keras_candle.resume.model_description import describe_layers
from keras_candle.resume.restore import Resumption
from keras_candle.resume.run_session import RunSession
from keras_candle.resume.script_changes import identity_of, settings_of
from keras_candle.resume.stop_reasons import StopReasons, name_of
from keras_candle.training.stop_consensus import StopConsensus
from keras_candle.watchdog import heartbeat

# What this process has named already as state that cannot be kept.
_SAID: set[str] = set()
# The fits that are under way, the innermost last: one may be called in another's callback.
_under_way: list[FitSession] = []


class FitSession:
    """One fit.

    Args:
        run: its run directory, open.
        model: what is trained.
        options: when checkpoints are made.
        limits: of its time.
        intervals: how often it does what it does by the clock.
        resumption: of the checkpoint from which it goes on; None where it begins.
        inexact_resume: see `CandleCallback`.

    Attributes:
        start: where it goes on in its data; None where it begins.
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
        self._inexact_resume, self._has_weighed = inexact_resume, False
        self._run, self._model, self._options = run, model, options
        self._intervals = intervals
        self._stop_consensus: StopConsensus | None = None
        self._engine = run.engine
        self._saving = CheckpointSchedule(run, options, model)
        self._stops = StopReasons(run.engine, limits.walltime, self._saving, intervals.consensus_s)
        self._watching = WatchdogHook(run.engine, limits.stall_timeout, run.directory.path)
        self._taking = CheckpointCapture(run, model, options, self._saving, resumption)
        self._at_close: list[Callable[[], None]] = []
        self._progress = FitProgress(None, None)
        self._epochs = 0
        self._resumption = resumption
        self.start = resumption.start if resumption else None

    def arrange(self, given: dict[str, Any], stop: StopConsensus | None) -> None:
        """Put the session's list of callbacks into the arguments of `fit`."""
        adapter, self._stop_consensus = given["x"], stop
        self._epochs, self._tells = given["epochs"], given["verbose"] != 0
        self._progress = FitProgress(adapter, given["steps_per_epoch"], step=self._run.first_step)
        self._progress.epoch = given["initial_epoch"]
        self._measuring = measuring = PerformanceRecorder(
            self._run, self._model, adapter.batch_size, self._intervals.record_s
        )
        self._data = DataState(adapter, self._model)
        identity = {**self._run.identity, **identity_of(self._model, adapter, self._engine)}
        settings = settings_of(self._model, adapter, self._run.config)
        if self._resumption:
            self._resumption.prepare(given, self._progress, identity, settings)
        again = self._resumption is not None and self._resumption.compiles_again
        self._taking.compiled.start(compiled=again)
        self._taking.begin(self._progress, self._data, identity, settings, self._epochs)
        object.__setattr__(self._model, "_candle_is_durable", True)
        steps = given["steps_per_epoch"] or adapter.num_batches
        display = Display(
            given["epochs"],
            steps,
            given["verbose"],
            samples=lambda: self._engine.size * measuring.meter.samples(),
            checkpoint_age_s=self._taking.age_s,
            line_s=self._intervals.line_s,
        )
        self._at_close = [measuring.stop, display.close, self._taking.compiled.stop]
        given["callbacks"] = DurableCallbackList(
            self,
            measuring.meter,
            display,
            listed(given["callbacks"]),
            self._model.steps_per_execution,
            add_history=True,
            verbose=given["verbose"],
            epochs=given["epochs"],
            steps=steps,
            model=self._model,
        )

    def on_begin(self, callbacks: Sequence[Any]) -> None:
        """Before the callbacks' on_train_begin."""
        self._taking.callbacks = callbacks
        self._taking.callback_state = CallbackState(callbacks, self._model, self._data.sources)
        if self._resumption is None:
            self._taking.identity["architecture"] = describe_layers(self._model)
        if self._resumption:
            continue_files(callbacks, self._resumption.state["callbacks"])

    def on_began(self) -> int:
        """After it: take the checkpoint's state."""
        _under_way.append(self)
        self._stops.listen()
        self._watching.start()
        self._run.on_root(self._saving.prepare)
        self._measuring.begin(self._progress.step)
        if self._resumption is None:
            return 0
        self._resumption.put_back(self._taking.callbacks, self._taking.callback_state, self._data)
        self._run.log_event("resume", step=self._progress.step, ranks=self._engine.size)
        return self._progress.left_out

    def on_epoch(self, epoch: int) -> None:
        """Before an epoch. Keras has just reset the metrics."""
        self._progress.epoch = epoch
        self._progress.in_epoch = self._progress.left_out
        if self._progress.left_out and self._resumption:
            self._resumption.put_back_metrics()
            self._progress.left_out = 0
        self._weigh_unkept()
        self._data.begin_epoch(within_pass=self._progress.within_pass)
        self.beat(heartbeat.BETWEEN_STEPS)

    def _weigh_unkept(self) -> None:
        """Before the first step, when the callbacks have made what they make at the beginning."""
        if not self._has_weighed:
            self._has_weighed = True
            of_ranks = self._engine.gather_results(
                lambda: {**self._taking.callback_state.unkept(), **self._data.unkept()},
                CheckpointError,
            )
            weigh_unkept(of_ranks, self._inexact_resume, self._engine, _SAID)

    def beat(self, place: int) -> None:
        """See `Events`."""
        self._watching.beat(self._progress.epoch, self._progress.step, place)
        for each in _under_way:
            if each is not self:
                each.beat_for_callback()

    def beat_for_callback(self) -> None:
        """A fit in one of the callbacks shows progress."""
        self._watching.beat(self._progress.epoch, self._progress.step, heartbeat.IN_CALLBACKS)

    def on_steps(self, done: int) -> None:
        """After a call of the train function."""
        progress = self._progress
        before = progress.step
        progress.advance(done)
        self.beat(heartbeat.BETWEEN_STEPS)
        self._run.notify_observers(before, progress.step)
        if self._options.due_by_steps(before, progress.step):
            self._taking.take(self._progress)
        if self._stops.due(progress.step):
            self._ask(end=bool(self._stop_consensus and self._stop_consensus.requested))
        self._hold_back_stop()

    def _hold_back_stop(self) -> None:
        """Keras looks at `model.stop_training` next; saving may have taken seconds."""
        if self._stop_consensus:
            self._stop_consensus.hold_back()

    def _ask(self, *, end: bool) -> None:
        """Exchange requests; every rank must call it.

        Args:
            end: whether this rank wants the training to end at this step.
        """
        every_s = self._options.every_seconds
        due = every_s is not None and time.monotonic() - self._taking.when_s >= every_s
        wish = self._stops.ask(self._progress, end=end, save=due)
        if wish.failed:
            self._run.on_root(self._saving.check)
        if wish.stop:
            self._stop(wish.stop)
        elif wish.save:
            self._taking.take(self._progress)
        if wish.end and self._stop_consensus:
            self._stop_consensus.apply(stop=True)

    def on_epoch_over(self, epoch: int, logs: dict[str, Any]) -> None:
        """After the callbacks' on_epoch_end."""
        self._progress.end_epoch()
        self.beat(heartbeat.BETWEEN_STEPS)
        stop = self._stop_consensus.agreed if self._stop_consensus else self._model.stop_training
        finished = epoch + 1 == self._epochs or bool(stop)
        values = values_of(self._model.history, logs)
        reached = self._measuring.epoch()
        self._run.log_event(
            "epoch", epoch=epoch + 1, step=self._progress.step, logs=values, performance=reached
        )
        due = self._options.due_by_epochs(epoch + 1)
        improves = bool(self._run.engine.broadcast(self._saving.improves(values)))
        if finished or due or improves:
            self._taking.take(self._progress, finished=finished, logs=values)
        if not finished:
            self._ask(end=False)  # this epoch's checkpoint does not say that it was the last
        self._hold_back_stop()

    def on_end(self) -> None:
        """After the callbacks' on_train_end."""
        self._watching.stop()  # what is left is written, however long that takes
        self._run.on_root(self._saving.wait)
        self._measuring.end(tell=self._tells)
        self._run.log_event("end", step=self._progress.step)
        self._run.end_fit(self._progress.step)
        _under_way.remove(self)
        stop = self._stops.at_end()
        if stop:
            self._exit(stop)

    def close(self) -> None:
        """Give back what the session holds, however the fit ended."""
        if self in _under_way:
            _under_way.remove(self)
        self._stops.stop_listening()
        self._watching.stop()
        for each in self._at_close:
            each()
        object.__setattr__(self._model, "_candle_is_durable", False)
        if self._engine.is_root:
            self._saving.abandon()

    def _stop(self, reason: int) -> None:
        """Save, and end the program with the code for "run me again"."""
        if self._taking.step != self._progress.step:
            self._taking.take(self._progress)
        self._watching.stop()
        self._run.on_root(self._saving.wait)
        self._measuring.write()
        self._exit(reason)

    def _exit(self, reason: int) -> None:
        """End the program, when all is saved."""
        name = name_of(reason)
        self._run.log_event("stop", reason=name, step=self._progress.step)
        self._engine.print_on_root(
            f"{name}: saved at step {self._progress.step} in "
            f"{self._run.folder.path_of(self._progress.step)}; the same command goes on from there"
        )
        self._engine.barrier()
        raise SystemExit(EXIT_RUN_AGAIN)
