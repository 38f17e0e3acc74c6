"""When and what the ranks compare in a training, so that nothing goes wrong in silence."""

from __future__ import annotations

from typing import Any

from keras_candle.errors import DataError
from keras_candle.training.accumulation import half_accumulated
from keras_candle.training.gradients import leaf_optimizers, outermost_optimizers
from keras_candle.training.guard import CHANGED_ON_SOME, FIRST_STEPS, NOT_AVERAGED, Guard
from keras_candle.training.replica import Replica
from keras_candle.training.state import compared_variables


class Watch:
    """Looks at one model on all ranks.

    Args:
        replica: the model, its options and its engine.
    """

    def __init__(self, replica: Replica) -> None:
        self._replica, self._guard = replica, Guard(replica.engine)
        self._done = 0

    def check_supply(self) -> None:
        """Refuse to go on when a rank's own data ended before the others'.

        Raises:
            DataError: on every rank, with every rank's number of batches.
        """
        counter = self._replica.step.steps_without_rows
        if counter is None:
            return
        missing = self._replica.engine.allgather(int(counter.numpy()))
        if missing.any():
            listed = "\n".join(
                f"  rank {rank}: {f'ran out of data {each} steps early' if each else 'had enough'}"
                for rank, each in enumerate(missing.tolist())
            )
            raise DataError(
                f"The ranks' own data are not equally long:\n{listed}\nGive each rank as many "
                "batches, or repeat its data: dataset.repeat(), with steps_per_epoch."
            )

    def begin_training(self) -> None:
        """Count steps from here."""
        self._done = 0

    def after_step(self) -> None:
        """Compare what all ranks must hold alike, after the first steps and every so many.

        Counted by training and not by train function: a rank may have to make that anew.

        Raises:
            DivergenceError: naming the first variable that differs.
        """
        guard = self._replica.options.guard
        self._done += 1
        if not guard:
            return
        if self._done <= FIRST_STEPS or (guard is not True and self._done % guard == 0):
            self._check_step(self._done)

    def _check_step(self, number: int) -> None:
        local = {id(each) for each in self._replica.model.non_trainable_weights}
        local |= {id(each) for each in half_accumulated(outermost_optimizers(self._replica.model))}
        variables = [each for each in self._shared() if id(each) not in local]
        self._guard.check(variables, f"after step {number} of this training", NOT_AVERAGED)
        if number <= FIRST_STEPS:
            self._replica.check_local_state()

    def check_epoch(self, epoch: int) -> None:
        """Compare what all ranks must hold alike at the end of an epoch.

        Raises:
            DivergenceError: naming the first variable that differs.
        """
        if not self._replica.options.guard:
            return
        leaves = [leaf_optimizers(each)[0] for each in outermost_optimizers(self._replica.model)]
        steps = max((int(leaf.iterations.numpy()) for leaf in leaves), default=0)
        when = f"at the end of epoch {epoch + 1}, after {steps} steps"
        self._guard.check(self._shared(), when, CHANGED_ON_SOME)

    def _shared(self) -> list[Any]:
        return compared_variables(self._replica.model, outermost_optimizers(self._replica.model))

    def agree_before(self, what: str) -> None:
        """Take the root's state, if the ranks' differ, before they evaluate something together."""
        if not self._replica.has_root_state:
            self._replica.take_root_state()
        if self._replica.has_local_state:
            self._replica.reduce_local_state()
        if self._guard.differing(self._shared()) is not None:
            self._replica.engine.say(
                f"The ranks' weights differed before {what}; all ranks go on with the root's. "
                "If a hand-written loop has trained them, its gradients were not averaged: use "
                "the model's own optimizer, model.optimizer, there."
            )
            self._replica.take_root_state()
