"""The schedule of divergence checks in a training: which variables are compared, and when."""

from __future__ import annotations

from typing import Any

from keras_candle.errors import DataError
from keras_candle.keras_private.models import TensorFlowTrainer
from keras_candle.training.accumulation import half_accumulated
from keras_candle.training.divergence import (
    CHANGED_IN_STEP,
    CHANGED_ON_SOME,
    FIRST_STEPS,
    NOT_AVERAGED,
    DivergenceGuard,
)
from keras_candle.training.gradients import leaf_optimizers, outermost_optimizers
from keras_candle.training.replica import Replica
from keras_candle.training.rounding import repair_rounding
from keras_candle.training.shared_state import compared_variables, is_float

# Steps after which ranks that drift apart by rounding get the root's weights.
_REPAIR_EVERY = 100


class DivergenceChecks:
    """Compares the ranks' copies of one model after steps and epochs.

    Args:
        replica: the model, its options and its engine.
    """

    def __init__(self, replica: Replica) -> None:
        self._replica, self._guard = replica, DivergenceGuard(replica.engine)
        self._done = self._since = 0  # steps, and steps since the last comparison
        self._rounds = False

    def check_supply(self) -> None:
        """Refuse to continue when one rank's own data ended early.

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
                f"The ranks' own data are not equally long:\n{listed}\nGive each rank the same "
                "number of batches, or repeat its data: dataset.repeat(), with steps_per_epoch."
            )

    def begin_training(self) -> None:
        """Start to count the steps of a new training."""
        self._done = 0

    def after_step(self) -> None:
        """Compare the shared variables after the first steps and, as the guard asks, every N steps.

        Steps count by training and not by train function, which one rank may have to make anew.

        Raises:
            DivergenceError: naming the first variable that differs.
        """
        guard = self._replica.options.guard
        self._done += 1
        self._since += int(self._replica.model.steps_per_execution)
        if not guard:
            return
        due = self._done <= FIRST_STEPS or (guard is not True and self._done % guard == 0)
        if due or (self._rounds and self._done % _REPAIR_EVERY == 0):
            self._check_step(self._done)

    def end_steps(self) -> None:
        """Make ranks that drift apart by rounding equal before the callbacks of an epoch's end."""
        if self._may_round and self._replica.options.guard:
            self._check_step(self._done)

    @property
    def _may_round(self) -> bool:
        """Whether the step is not Keras's own and may change weights without averaged gradients."""
        return type(self._replica.model).train_step is not TensorFlowTrainer.train_step

    def _check_step(self, number: int) -> None:
        local = {id(each) for each in self._replica.model.non_trainable_weights}
        local |= {id(each) for each in half_accumulated(outermost_optimizers(self._replica.model))}
        variables = [each for each in self._shared() if id(each) not in local]
        checksums = self._guard.differing(variables)
        if checksums is not None:
            self._judge(variables, checksums, f"after step {number} of this training")
        self._since = 0
        if number <= FIRST_STEPS:
            self._replica.check_local_state()

    def _judge(self, variables: list[Any], checksums: Any, when: str) -> None:
        """Repair a difference that a step has made, or refuse to continue."""
        differing = _differing(variables, checksums)
        if not self._repair(differing):
            averaged = id(differing[0]) in self._replica.step.averaged
            hint = CHANGED_IN_STEP if averaged else NOT_AVERAGED
            self._guard.refuse(variables, checksums, when, hint)

    def check_epoch(self, epoch: int) -> None:
        """Compare the shared variables at the end of an epoch.

        Raises:
            DivergenceError: naming the first variable that differs.
        """
        if not self._replica.options.guard:
            return
        leaves = [leaf_optimizers(each)[0] for each in outermost_optimizers(self._replica.model)]
        steps = max((int(leaf.iterations.numpy()) for leaf in leaves), default=0)
        when = f"at the end of epoch {epoch + 1}, after {steps} steps"
        variables = self._shared()
        checksums = self._guard.differing(variables)
        if checksums is not None:
            self._guard.refuse(variables, checksums, when, CHANGED_ON_SOME)

    def _repair(self, differing: list[Any]) -> bool:
        """Make the ranks equal where they differ by rounding only."""
        if not self._may_round:
            return False
        replica = self._replica
        slots = [
            variable
            for optimizer in outermost_optimizers(replica.model)
            for variable in optimizer.variables
            if is_float(variable) and len(variable.shape)
        ]
        weights = list(replica.step.averaged.values())
        apart = repair_rounding(replica.engine, differing, weights, slots, self._since)
        if apart is None:
            return False
        self._since = 0
        if not self._rounds:
            self._rounds = True
            replica.engine.print_on_root(
                f"The ranks' weights differ by rounding, up to {apart:.2g}: the training step "
                "changes them by each rank's own numbers and back. The ranks take the root's "
                f"weights now, every {_REPAIR_EVERY} steps and at the end of each epoch."
            )
        return True

    def _shared(self) -> list[Any]:
        return compared_variables(self._replica.model, outermost_optimizers(self._replica.model))

    def agree_before(self, what: str) -> None:
        """Take the root's state, if the ranks' differ, before a collective evaluation.

        Args:
            what: the method, "evaluate" or "predict", for the message.
        """
        if not self._replica.has_root_state:
            self._replica.take_root_state()
        if self._replica.has_local_state:
            self._replica.reduce_local_state()
        variables = self._shared()
        checksums = self._guard.differing(variables)
        if checksums is not None and not self._repair(_differing(variables, checksums)):
            self._replica.engine.print_on_root(
                f"The ranks' weights differed before {what}; all ranks continue with the root's. "
                "If a hand-written loop has trained them, its gradients were not averaged: use "
                "the model's own optimizer, model.optimizer, there."
            )
            self._replica.take_root_state()


def _differing(variables: list[Any], checksums: Any) -> list[Any]:
    different = (checksums != checksums[0]).any(axis=0)
    return [variable for variable, differs in zip(variables, different, strict=True) if differs]
