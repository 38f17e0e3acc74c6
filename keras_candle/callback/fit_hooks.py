"""The parts of a fit with a CandleCallback: resume, capture, stop and watchdog.

The order in which they get an event is that of `keras_candle.training.fit_chain.ORDER`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

from keras_candle.engine.base import Engine
from keras_candle.engine.consensus import StopConsensus
from keras_candle.errors import EXIT_RUN_AGAIN, CheckpointError
from keras_candle.launcher_messages import LOST_S, CollectiveObserver, notify_stop, seconds_of
from keras_candle.resume.callback_state import CallbackState, resume_csv_loggers
from keras_candle.resume.capture import CheckpointCapture
from keras_candle.resume.checkpoint_schedule import Checkpoint, CheckpointSchedule
from keras_candle.resume.data_state import DataState, FitProgress
from keras_candle.resume.inexact_resume import check_unsavable_state
from keras_candle.resume.restore import Resumption
from keras_candle.resume.run_session import RunSession
from keras_candle.resume.script_changes import describe_layers
from keras_candle.resume.stopping import StopReasons, name_of
from keras_candle.training.fit_chain import FitHook, Place
from keras_candle.training.layer_attributes import constants_of
from keras_candle.training.step_chain import TrainFunction, chain_of
from keras_candle.watchdog import heartbeat
from keras_candle.watchdog.rank_watch import RankWatch

# Longer than the compilation of a first step, or an evaluation's longest batch.
_ON_SEVERAL_RANKS_S = 600.0
_LOST_S = "60"
# Paths of state that cannot be saved and that this process has reported.
_REPORTED: set[str] = set()


class ResumeHook(FitHook):
    """Keeps the position of a fit, and restores a checkpoint.

    Args:
        model: the trained model.
        run: session of the run directory.
        progress: the fit's position.
        capture: has the state of the callbacks.
        data: state of the training data.
        resumption: the checkpoint to resume from; None for a fit from the beginning.
        consensus: the ranks' consensus on `model.stop_training`; None on one rank.
    """

    place = Place.RESUME

    def __init__(
        self,
        model: Any,
        run: RunSession,
        progress: FitProgress,
        capture: CheckpointCapture,
        data: DataState,
        resumption: Resumption | None,
        consensus: StopConsensus | None,
    ) -> None:
        self._model, self._run, self._progress = model, run, progress
        self._capture, self._data, self._resumption = capture, data, resumption
        self._consensus = consensus

    def before_fit(self, callbacks: Sequence[Any]) -> None:
        """Let CSV loggers append, before they open their files."""
        if self._resumption:
            resume_csv_loggers(callbacks, self._resumption.state["callbacks"])

    def begin_fit(self) -> None:
        """Restore the checkpoint's state, after the callbacks have reset theirs."""
        if self._resumption is None:
            return
        self._resumption.restore(self._capture.callbacks, self._capture.callback_state, self._data)
        self._run.log_event("resume", step=self._progress.step, ranks=self._run.engine.size)
        self._skip_steps(self._progress.steps_to_skip // int(self._model.steps_per_execution))

    def _skip_steps(self, calls: int) -> None:
        """Skip calls of the train function: the model does not take their steps."""
        chain = chain_of(self._model)

        def skip(_: TrainFunction, __: Any) -> dict[str, Any]:
            nonlocal calls
            calls -= 1
            if calls:
                return {}
            chain.remove(Place.RESUME)
            # Where the checkpoint is of an epoch's last step, these are the epoch's logs.
            results: dict[str, Any] = self._model.get_metrics_result()
            return results

        if calls:
            chain.put(Place.RESUME, skip)

    def begin_epoch(self, epoch: int) -> None:
        """Begin an epoch; Keras has just reset the metrics."""
        progress = self._progress
        progress.epoch, progress.in_epoch = epoch, progress.steps_to_skip
        if progress.steps_to_skip and self._resumption:
            self._resumption.restore_metrics()

    def after_step(self, done: int, logs: Any) -> None:  # noqa: ARG002
        """Advance the position."""
        self._progress.advance(done)

    def after_epoch(self, *_: Any) -> None:
        """Advance the position to the next epoch."""
        consensus = self._consensus
        stops = consensus.agreed if consensus else self._model.stop_training
        self._progress.end_epoch(stops=bool(stops))

    def close(self) -> None:
        """End the skipping of steps, where the fit has failed within them."""
        chain_of(self._model).remove(Place.RESUME)


class CaptureHook(FitHook):
    """Takes the checkpoints that are due by steps or epochs.

    Args:
        model: the trained model.
        run: session of the run directory.
        options: when checkpoints are taken.
        progress: the fit's position.
        capture: takes them.
        schedule: writes them.
        data: state of the training data.
        is_resumed: whether the fit resumes from a checkpoint.
        inexact_resume: see `CandleCallback`.
    """

    place = Place.CAPTURE

    def __init__(  # noqa: PLR0913 - all are needed for a checkpoint
        self,
        model: Any,
        run: RunSession,
        options: Checkpoint,
        progress: FitProgress,
        capture: CheckpointCapture,
        schedule: CheckpointSchedule,
        data: DataState,
        *,
        is_resumed: bool,
        inexact_resume: str,
    ) -> None:
        self._model, self._run, self._options, self._progress = model, run, options, progress
        self._capture, self._schedule, self._data = capture, schedule, data
        self._is_resumed, self._inexact_resume = is_resumed, inexact_resume
        self._has_checked_state = False

    def before_fit(self, callbacks: Sequence[Any]) -> None:
        """Prepare the callbacks' state, from which changes are known."""
        self._capture.callbacks = callbacks
        self._capture.callback_state = CallbackState(callbacks, self._model, self._data.sources)
        if not self._is_resumed:
            self._capture.identity["architecture"] = describe_layers(self._model)

    def begin_fit(self) -> None:
        """Allocate the memory of the first checkpoint, and keep which constants layers hold."""
        self._run.on_root(self._schedule.prepare)
        self._capture.constants = self._run.on_root(lambda: constants_of(self._model))

    def begin_epoch(self, epoch: int) -> None:  # noqa: ARG002
        """Capture the data's state at the epoch's beginning."""
        self._check_unsavable_state()
        self._data.begin_epoch(within_pass=self._progress.within_pass)

    def _check_unsavable_state(self) -> None:
        """Check once, before the first step, when the callbacks have created their objects."""
        if not self._has_checked_state:
            self._has_checked_state = True
            of_ranks = self._run.engine.gather_results(
                lambda: {**self._capture.callback_state.unsavable(), **self._data.unsavable()},
                CheckpointError,
            )
            check_unsavable_state(of_ranks, self._inexact_resume, self._run.engine, _REPORTED)

    def after_step(self, done: int, logs: Any) -> None:  # noqa: ARG002
        """Take a checkpoint where it is due by steps."""
        before, now = self._progress.step_before, self._progress.step
        self._run.notify_observers(before, now)
        if self._options.due_by_steps(before, now):
            self._capture.take(self._progress)

    def after_epoch(self, epoch: int, logs: dict[str, Any], values: dict[str, Any]) -> None:  # noqa: ARG002
        """Take a checkpoint where it is due by epochs, among the best, or the fit's last."""
        finished = self._progress.finished
        due = self._options.due_by_epochs(epoch + 1)
        improves = bool(self._run.engine.broadcast(self._schedule.improves(values)))
        if finished or due or improves:
            self._capture.take(self._progress, finished=finished, logs=values)

    def before_exit(self) -> None:
        """Wait until all is written."""
        self._run.on_root(self._schedule.wait)

    def after_fit(self) -> None:
        """Wait until all is written."""
        self._run.on_root(self._schedule.wait)

    def close(self) -> None:
        """End the recording of compile, and wait for a write without its error."""
        self._capture.compiled.stop()
        if self._run.engine.is_root:
            self._schedule.abandon()


class StopHook(FitHook):
    """Stops a fit on all ranks: on a signal, for the walltime, or where one rank requests it.

    Args:
        run: session of the run directory.
        progress: the fit's position.
        capture: takes checkpoints.
        schedule: writes them.
        reasons: the ranks' requests.
        consensus: the ranks' consensus on `model.stop_training`; None on one rank.
        before_exit: ends the fit's parts, before the program ends.
    """

    place = Place.STOP

    def __init__(
        self,
        run: RunSession,
        progress: FitProgress,
        capture: CheckpointCapture,
        schedule: CheckpointSchedule,
        reasons: StopReasons,
        consensus: StopConsensus | None,
        before_exit: Callable[[], None],
    ) -> None:
        self._run, self._progress, self._reasons = run, progress, reasons
        self._capture, self._schedule = capture, schedule
        self._consensus, self._before_exit = consensus, before_exit

    def begin_fit(self) -> None:
        """Listen for signals."""
        self._reasons.listen()

    def after_step(self, done: int, logs: Any) -> None:  # noqa: ARG002
        """Exchange requests where root has chosen this step for it."""
        if self._reasons.due(self._progress.step):
            self._exchange(end=bool(self._consensus and self._consensus.requested))
        self._defer_request()

    def after_epoch(self, *_: Any) -> None:
        """Exchange requests, unless the fit has ended."""
        if not self._progress.finished:
            self._exchange(end=False)  # the checkpoint of this epoch is not marked as the last
        self._defer_request()

    def _defer_request(self) -> None:
        """Withdraw a stop that ranks have not agreed on, before Keras reads `stop_training`."""
        if self._consensus:
            self._consensus.defer_request()

    def _exchange(self, *, end: bool) -> None:
        """Exchange requests; every rank must call it.

        Args:
            end: whether this rank requests the end of the training at this step.
        """
        due = self._capture.is_due_by_time()
        request = self._reasons.ask(self._progress, end=end, save=due)
        if request.failed:
            self._run.on_root(self._schedule.check)
        if request.stop:
            if self._capture.step != self._progress.step:
                self._capture.take(self._progress)
            self._before_exit()
            self._exit(request.stop)
        elif request.save:
            self._capture.take(self._progress)
        if request.end and self._consensus:
            self._consensus.apply(stop=True)

    def after_fit(self) -> None:
        """End the program where a signal has arrived."""
        stop = self._reasons.at_end()
        if stop:
            self._exit(stop)
        self._reasons.end_training()
        self._reasons.stop_listening(resend=True)

    def _exit(self, reason: int) -> None:
        """End the program with the exit code for "run again", after all is saved."""
        name, step = name_of(reason), self._progress.step
        self._run.log_event("stop", reason=name, step=step)
        self._run.engine.print_on_root(
            f"{name}: saved at step {step} in {self._run.folder.path_of(step)}; run the same "
            "command to resume"
        )
        self._run.engine.barrier()
        if self._run.engine.is_root:
            notify_stop(str(self._run.directory.path.resolve()), self._run.fit, step)
        self._reasons.end_training(to_run_again=True)
        raise SystemExit(EXIT_RUN_AGAIN)

    def close(self) -> None:
        """Restore the earlier signal handlers."""
        self._reasons.stop_listening()


class WatchdogHook(FitHook):
    """Reports this rank's progress to a watchdog, which it starts and stops.

    Args:
        engine: connects the ranks.
        timeout: `stall_timeout` of `CandleCallback`.
        run_directory: directory of the report.
        progress: the fit's position.
    """

    place = Place.WATCHDOG
    # Those of the active fits, the innermost last: a fit may run within another one's callback.
    _under_way: list[WatchdogHook] = []  # noqa: RUF012 - of all fits

    def __init__(
        self,
        engine: Engine,
        timeout: float | str | None,
        run_directory: Path,
        progress: FitProgress,
    ) -> None:
        self._engine, self._progress = engine, progress
        if isinstance(timeout, str):
            timeout = _ON_SEVERAL_RANKS_S if engine.size > 1 else None
        self._timeout_s = timeout
        self._run_directory = run_directory
        self._watch: RankWatch | None = None

    def begin_fit(self) -> None:
        """Start the watchdog; every rank must call it."""
        self._under_way.append(self)
        if self._timeout_s is None:
            return
        engine = self._engine
        watch: RankWatch | None = None
        problem, address = "", {}
        try:
            watch = RankWatch(
                engine.rank,
                self._timeout_s,
                self._run_directory,
                local_rank=engine.local_rank,
                lost_s=seconds_of(os.environ, LOST_S, _LOST_S),
                on_one_node=engine.local_size == engine.size,
            )
            address = watch.address() if engine.is_root else {}
            problem = "" if address or not engine.is_root else "its watcher process ended at once"
        except Exception as cause:
            problem = f"{type(cause).__name__}: {cause}"
        started = engine.gather_objects((address, problem))
        failed = {rank: each for rank, (_, each) in enumerate(started) if each}
        if failed:
            listed = "; ".join(f"rank {rank}: {each}" for rank, each in failed.items())
            engine.print_on_root(
                f"The watchdog cannot be started, so no rank is watched ({listed})."
            )
            if watch is not None:
                watch.stop()
            return
        watch = cast("RankWatch", watch)
        watch.connect(started[0][0])
        self._watch = watch
        engine.observers = (*engine.observers, watch.board)
        self._before = engine.on_graph_collective  # that of an outer fit
        engine.on_graph_collective = watch.board.add_to_graph

    def begin_epoch(self, epoch: int) -> None:  # noqa: ARG002
        """Report that the epoch's steps begin."""
        self._report(heartbeat.BETWEEN_STEPS)

    def before_step(self) -> None:
        """Report that a step begins."""
        self._report(heartbeat.IN_STEP)

    def end_step(self) -> None:
        """Report that the step's callbacks begin."""
        self._report(heartbeat.IN_CALLBACKS)

    def after_step(self, *_: Any) -> None:
        """Report that a step is over."""
        self._report(heartbeat.BETWEEN_STEPS)

    def before_evaluation_batch(self) -> None:
        """Report that a batch of an evaluation begins."""
        self._report(heartbeat.IN_EVALUATION)

    def end_epoch(self) -> None:
        """Report that the callbacks of an epoch's end begin."""
        self._report(heartbeat.AT_EPOCH_END)

    def after_epoch(self, *_: Any) -> None:
        """Report that an epoch is over."""
        self._report(heartbeat.BETWEEN_STEPS)

    def _report(self, place: int) -> None:
        self._beat(place)
        for each in self._under_way:
            if each is not self:
                each._beat(heartbeat.IN_CALLBACKS)

    def _beat(self, place: int) -> None:
        if self._watch is not None:
            self._watch.board.beat(self._progress.epoch, self._progress.step, place)

    def before_exit(self) -> None:
        """Stop the watchdog."""
        self._stop()

    def after_fit(self) -> None:
        """Stop the watchdog."""
        self._stop()

    def close(self) -> None:
        """Stop the watchdog. It learns of the error with which the fit ends, if any."""
        error = sys.exc_info()[1]
        if self._watch is not None and error is not None:
            self._watch.report_error(error)
        self._stop()

    def _stop(self) -> None:
        if self in self._under_way:
            self._under_way.remove(self)
        if self._watch is not None:
            board: CollectiveObserver = self._watch.board
            observers = self._engine.observers
            self._engine.observers = tuple(each for each in observers if each is not board)
            self._engine.on_graph_collective = self._before
            self._watch.stop()
            self._watch = None
