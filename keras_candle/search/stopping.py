"""Stop a trial whose learning curve predicts that it will not beat the best one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from keras_candle.errors import SearchError
from keras_candle.search.learning_curve import should_stop
from keras_candle.search.options import parts_of


class StopHopeless(keras.callbacks.Callback):  # type: ignore[misc]
    """Stops a training whose objective is unlikely to reach the best so far.

    If the objective is not in an epoch's logs, the training is not stopped.

    Args:
        objective: a `keras_tuner.Objective`.
        best_so_far: returns the value to beat, to be minimised; None before the first.
        epochs: of a full training; None: the `epochs` of `fit`.
    """

    def __init__(
        self,
        objective: Any,
        best_so_far: Callable[[], float | None],
        epochs: int | None = None,
    ) -> None:
        super().__init__()
        self._objective, self._best_so_far, self._epochs = objective, best_so_far, epochs
        self._curve: dict[int, float] = {}

    def on_train_begin(self, logs: Any = None) -> None:  # noqa: ARG002 - Keras's signature
        """Keras's hook: start a new curve."""
        self._curve = {}

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Keras's hook: stop the training if it is unlikely to win."""
        if self._objective.name not in (logs or {}):
            return
        sign = -1.0 if self._objective.direction == "max" else 1.0
        self._curve[epoch + 1] = sign * float(logs[self._objective.name])
        best, most = self._best_so_far(), self._epochs or self.params.get("epochs")
        if best is None or most is None:
            return
        if should_stop(list(self._curve), list(self._curve.values()), most, best):
            self.model.stop_training = True


def check_stoppable(objective: Any) -> None:
    """Refuse `stop_hopeless` with several objectives: one learning curve cannot rank trials.

    Args:
        objective: of a search with `stop_hopeless`.

    Raises:
        SearchError: for several objectives.
    """
    names = [each.name for each in parts_of(objective)]
    if len(names) > 1:
        raise SearchError(
            f"stop_hopeless=True needs a single objective, got {', '.join(names)}: a trial that is "
            "behind in one may lead in another. Leave stop_hopeless out, or name one objective."
        )
