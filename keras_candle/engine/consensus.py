"""Let ranks agree: on facts that must be equal, on success, on a request to stop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras_candle.engine.base import Engine
from keras_candle.errors import DataError


def together(describe: Callable[[], list[str]], engine: Engine, what: str) -> None:
    """Compare the ranks' descriptions; raise on all ranks if they differ or one rank fails.

    Args:
        describe: returns the facts that must be the same on all ranks. It may raise any exception
            of reading the data.
        engine: connects the ranks.
        what: the name of the described data, for the message.

    Raises:
        CandleError: on every rank, with every rank's description or problem.
    """
    facts = engine.gather_results(describe, DataError)
    if len(set(map(repr, facts))) > 1:
        listed = "\n".join(f"  rank {rank}: {each}" for rank, each in enumerate(facts))
        raise DataError(f"The ranks differ in {what}:\n{listed}")


def succeed_on_all(work: Callable[[], Any], engine: Engine) -> Any:
    """Return the result of `work` on this rank if it has raised on none.

    Raises:
        CandleError: on every rank, with every rank's problem.
    """
    result = None

    def run() -> None:
        nonlocal result
        result = work()

    engine.gather_results(run, DataError)
    return result


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
