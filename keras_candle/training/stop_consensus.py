"""Agree across ranks on `model.stop_training`."""

from __future__ import annotations

from typing import Any

from keras_candle.engine.base import Engine


class StopConsensus:
    """Stops a training on all ranks at the same step, when one rank requests it.

    Callbacks set `model.stop_training` at points that all ranks reach. A thread or a signal
    handler sets it anywhere, on one rank, and Keras would leave the loop there while the other
    ranks wait in the next collective. So a request is removed from the model as soon as it is
    seen, and set again, on all ranks, where they agree on it.

    Args:
        model: the trained model.
        engine: connects the ranks.

    Attributes:
        requested: whether this rank has been asked to stop.
        agreed: whether all ranks stop.
    """

    def __init__(self, model: Any, engine: Engine) -> None:
        self._model, self._engine = model, engine
        self.requested = self.agreed = False

    def defer_request(self) -> None:
        """Remove a stop request from the model until the ranks have agreed on it."""
        if self._model.stop_training and not self.agreed:
            self.requested, self._model.stop_training = True, False

    def agree(self) -> None:
        """Stop on all ranks when one rank has a request; every rank must call it."""
        self.defer_request()
        self.apply(stop=bool(self._engine.allreduce(self.requested or self.agreed, "max")))

    def apply(self, *, stop: bool) -> None:
        """Set the stop flag on which the ranks have agreed."""
        self.agreed = stop
        self._model.stop_training = stop
