"""`model.stop_training` as all ranks agree on it."""

from __future__ import annotations

from typing import Any

from keras_candle.engine.base import Engine


class StopConsensus:
    """Keeps a rank from leaving a training alone, whoever asks it to stop, and when.

    Callbacks set `model.stop_training` at places that all ranks come to. A thread or a signal
    handler sets it anywhere, on one rank, and Keras would leave the loop there while the others
    wait in the next collective. So a request is taken out of the model as soon as it is seen and
    put back, on all ranks, where they agree on it.

    Args:
        model: what is trained.
        engine: connects the ranks.

    Attributes:
        requested: whether this rank has been asked to stop.
        agreed: whether all ranks stop.
    """

    def __init__(self, model: Any, engine: Engine) -> None:
        self._model, self._engine = model, engine
        self.requested = self.agreed = False

    def hold_back(self) -> None:
        """Take a request out of the model until the ranks have agreed on it."""
        if self._model.stop_training and not self.agreed:
            self.requested, self._model.stop_training = True, False

    def settle(self) -> None:
        """Stop on all ranks when one is asked to; every rank must call it."""
        self.hold_back()
        self.apply(stop=bool(self._engine.allreduce(self.requested or self.agreed, "max")))

    def apply(self, *, stop: bool) -> None:
        """Take what the ranks have agreed on."""
        self.agreed = stop
        self._model.stop_training = stop
