"""The callback list of a resumable fit: runs the callbacks and notifies the fit session."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import keras

from keras_candle.callback.display import Display
from keras_candle.performance.meter import Meter
from keras_candle.performance.phases import CALLBACKS, CHECKPOINT, INPUT, TRAINING
from keras_candle.training.step_chain import Place, TrainFunction, chain_of
from keras_candle.watchdog import heartbeat

# These need on_epoch_begin of an epoch that is resumed; a LearningRateScheduler must not get it.
_SHOW_EPOCHS = (keras.callbacks.ProgbarLogger, keras.callbacks.TensorBoard)


class Events(Protocol):
    """The receiver of a training's events, around those of the callbacks."""

    def on_begin(self, callbacks: Sequence[Any]) -> None:
        """Called before the callbacks' on_train_begin."""

    def on_began(self) -> int:
        """Called after on_train_begin. Returns how many steps of the first epoch to skip."""

    def on_epoch(self, epoch: int) -> None:
        """Called after the callbacks' on_epoch_begin."""

    def beat(self, place: int) -> None:
        """Called at each place of the training, see `keras_candle.watchdog.heartbeat`."""

    def on_steps(self, done: int) -> None:
        """Called after a call of the train function with the completed steps of the epoch."""

    def on_epoch_over(self, epoch: int, logs: dict[str, Any]) -> None:
        """Called after the callbacks' on_epoch_end."""

    def on_end(self) -> None:
        """Called after the callbacks' on_train_end."""


class DurableCallbackList(keras.callbacks.CallbackList):  # type: ignore[misc]
    """A CallbackList that skips the steps that an earlier attempt took.

    The callbacks get no call for these steps, and the model does not take them.

    Args:
        events: receiver of the training's events.
        meter: measures the time of each phase.
        display: shows the progress.
        callbacks: the callbacks of the fit.
        steps_per_execution: steps of a call of the train function.
        **params: see `keras.callbacks.CallbackList`.
    """

    def __init__(
        self,
        events: Events,
        meter: Meter,
        display: Display,
        callbacks: Sequence[Any],
        steps_per_execution: int,
        **params: Any,
    ) -> None:
        super().__init__(list(callbacks), **params)
        self._events, self._meter, self._display = events, meter, display
        self._steps_at_once = steps_per_execution
        self._steps_to_skip = 0

    def on_train_begin(self, logs: Any = None) -> None:
        """Begin, and resume from a checkpoint after the callbacks' on_train_begin."""
        self._events.on_begin(self.callbacks)
        super().on_train_begin(logs)
        self._steps_to_skip = self._events.on_began()
        if self._steps_to_skip:
            self._skip_steps()

    def _skip_steps(self) -> None:
        chain = chain_of(self.model)
        calls = self._steps_to_skip // self._steps_at_once

        def skip(_: TrainFunction, __: Any) -> dict[str, Any]:
            nonlocal calls
            calls -= 1
            if calls:
                return {}
            chain.remove(Place.RESUME)
            # Where the checkpoint is of an epoch's last step, these are the epoch's logs.
            results: dict[str, Any] = self.model.get_metrics_result()
            return results

        if calls:
            chain.put(Place.RESUME, skip)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Notify the callbacks, unless the epoch is resumed."""
        self._meter.phases.enter(CALLBACKS)
        self._display.begin_epoch(epoch)
        if not self._steps_to_skip:
            super().on_epoch_begin(epoch, logs)
        else:
            for callback in self.callbacks:
                if isinstance(callback, _SHOW_EPOCHS):
                    callback.on_epoch_begin(epoch, logs)
        self._events.on_epoch(epoch)
        self._meter.phases.enter(INPUT)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Notify the callbacks, unless the step is skipped."""
        if batch >= self._steps_to_skip:
            self._events.beat(heartbeat.IN_STEP)
            self._meter.begin_step()
            super().on_train_batch_begin(batch, logs)
            self._meter.phases.enter(TRAINING)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Notify the callbacks, unless the step is skipped."""
        # Keras up to 3.7 passes the first step of a call, later versions the last.
        done = (batch // self._steps_at_once + 1) * self._steps_at_once
        if done > self._steps_to_skip:
            self._events.beat(heartbeat.IN_CALLBACKS)
            self._meter.end_step()
            super().on_train_batch_end(batch, logs)
            self._display.step(done, logs)
            self._meter.phases.enter(CHECKPOINT)
            self._events.on_steps(done)
            self._meter.phases.enter(TRAINING)

    def on_test_begin(self, logs: Any = None) -> None:
        """Notify the callbacks."""
        self._meter.begin_evaluation()
        super().on_test_begin(logs)

    def on_test_end(self, logs: Any = None) -> None:
        """Notify the callbacks."""
        super().on_test_end(logs)
        self._meter.end_evaluation()

    def on_test_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Notify the callbacks."""
        self._events.beat(heartbeat.IN_EVALUATION)
        super().on_test_batch_begin(batch, logs)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Notify the callbacks, then take a checkpoint."""
        self._steps_to_skip = 0
        self._events.beat(heartbeat.AT_EPOCH_END)
        self._meter.end_steps()
        self._meter.phases.enter(CALLBACKS)
        super().on_epoch_end(epoch, logs)
        self._meter.phases.enter(CHECKPOINT)
        self._events.on_epoch_over(epoch, logs or {})
        self._display.end_epoch(logs or {})
        self._meter.phases.enter("")

    def on_train_end(self, logs: Any = None) -> None:
        """Notify the callbacks, then end the session."""
        super().on_train_end(logs)
        self._events.on_end()
