"""The divergence guard: compares the ranks' copies of a model, and repairs rounding.

A training step may change the weights by a rank's own gradient and back, as sharpness-aware
minimisation does: (w + e) - e is w but for its last bits, and e differs by rank. The gradients that
then update the weights are averaged, so that such ranks drift apart by rounding alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_candle import backend
from keras_candle.engine.base import Engine
from keras_candle.errors import DataError, DivergenceError
from keras_candle.keras_private.models import KerasTrainer
from keras_candle.training.gradients import half_accumulated, leaf_optimizers, outermost_optimizers
from keras_candle.training.replica import Replica
from keras_candle.training.shared_state import compared_variables, is_float

# Checked in every training: a gradient without an allreduce shows as soon as it is applied.
FIRST_STEPS = 2
# Variable lists compared in turn: in steps, between two updates, and at an epoch's end.
_LISTS = 4

NOT_AVERAGED = (
    "Its gradient was not averaged over the ranks. Let the optimizer be an attribute of the "
    "model (compile's, or self.my_optimizer, also in lists and dicts), and change weights in a "
    "training step through an optimizer only."
)
CHANGED_IN_STEP = (
    "Its gradient was averaged, but the training step also changes it by a value that each rank "
    "computes from its own rows. Change weights in a training step through an optimizer only, or "
    "undo the change before the step ends."
)
CHANGED_ON_SOME = (
    "It was changed on some ranks only: by a callback that depends on the rank or on a clock, "
    "by files that only one node has, or by random numbers without a common seed."
)


class DivergenceGuard:
    """Compares the variables of all ranks by checksum.

    Args:
        engine: connects the ranks.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        # By the ids of the variables, which the functions keep alive.
        self._functions: dict[tuple[int, ...], Callable[[], Any]] = {}

    def differing(self, variables: Sequence[Any]) -> NDArray[np.int64] | None:
        """Return the checksums of every rank where they differ, else None.

        Args:
            variables: keras variables, the same on all ranks.

        Returns:
            An array of shape [size, variables], None when all ranks hold the same bits.
        """
        own = self._checksums(variables)
        return self._engine.allgather(own) if self._engine.differ(own).any() else None

    def refuse(
        self, variables: Sequence[Any], checksums: NDArray[np.int64], when: str, hint: str
    ) -> None:
        """Raise an error about variables that differ.

        Raises:
            DivergenceError: on every rank, with the first variable that differs and the groups of
                ranks that hold the same value, largest first.
        """
        different = (checksums != checksums[0]).any(axis=0)
        first = int(np.argmax(different))
        more = int(different.sum()) - 1
        variable = variables[first]
        raise DivergenceError(
            f"The ranks differ {when}, first in {variable.path}"
            f"{f' (and in {more} more of {len(variables)})' if more else ''}: "
            f"{_groups(checksums[:, first])}{self._values(variable)}. {hint}"
        )

    def _values(self, variable: Any) -> str:
        """The largest difference between the ranks; every rank's value for a scalar."""
        if math.prod(variable.shape) > 1_000_000:
            return ""
        value = np.asarray(keras.ops.convert_to_numpy(variable), np.float64)
        everyone = self._engine.allgather(value)
        if value.size == 1:
            return "; the values are " + ", ".join(f"{float(each):g}" for each in everyone.ravel())
        apart = np.nanmax(everyone.max(axis=0) - everyone.min(axis=0))
        return f"; up to {apart:.3g} apart"

    def _checksums(self, variables: Sequence[Any]) -> NDArray[np.int64]:
        of = tuple(map(id, variables))
        function = self._functions.pop(of, None) or backend.current().checksums(list(variables))
        while len(self._functions) >= _LISTS:
            del self._functions[next(iter(self._functions))]
        self._functions[of] = function  # last in the dict: evicted last
        return np.asarray(function(), np.int64)


def _groups(checksums: NDArray[np.int64]) -> str:
    """Groups of ranks with the same checksum, in words.

    Example:
        >>> _groups(np.array([5, 7, 5]))
        'ranks 0, 2 hold one value, rank 1 another'
    """
    values, counts = np.unique(checksums, return_counts=True)
    by_size = values[np.argsort(-counts, kind="stable")]
    groups = []
    for value in by_size:
        ranks = np.flatnonzero(checksums == value)
        one = "rank" if len(ranks) == 1 else "ranks"
        groups.append(f"{one} {', '.join(map(str, ranks[:8]))}{', ...' if len(ranks) > 8 else ''}")
    if len(groups) > 4:
        return "nearly every rank holds another value"
    verb = "holds" if groups[0].startswith("rank ") else "hold"
    return f"{groups[0]} {verb} one value, " + ", ".join(f"{each} another" for each in groups[1:])


# A step's rounding is a few units in the last place, at random, so that it grows with the root of
# the number of steps. A gradient that was not averaged is larger by orders of magnitude.
_UNITS_PER_STEP = 8
_DTYPES = ("float32", "float64")


def repair_rounding(
    engine: Engine,
    differing: Sequence[Any],
    weights: Sequence[Any],
    slots: Sequence[Any],
    steps: int,
) -> float | None:
    """Give all ranks the root's variables, if they differ by no more than rounding.

    Args:
        engine: connects the ranks.
        differing: keras variables that are not the same on all ranks.
        weights: weights of the model that averaged gradients have updated. Any difference in
            another weight means that its gradient was not averaged.
        slots: variables that an optimizer keeps for each weight, such as moving averages.
        steps: training steps since the ranks were equal.

    Returns:
        The largest difference. None, without any change, when it is larger than rounding.
    """
    own = [_array(variable) for variable in differing]
    of_root = engine.broadcast(own if engine.is_root else None)
    largest = float(engine.allreduce(max(map(_largest, map(_array, weights)), default=0.0), "max"))
    of_model, of_optimizer = {id(each) for each in weights}, {id(each) for each in slots}
    units = _UNITS_PER_STEP * math.sqrt(max(steps, 1))
    apart, excess = [], []
    for variable, value, root_value in zip(differing, own, of_root, strict=True):
        dtype, scale = keras.backend.standardize_dtype(variable.dtype), 0.0
        if dtype in _DTYPES and id(variable) in of_model:
            scale = largest
        elif dtype in _DTYPES and id(variable) in of_optimizer:
            scale = _largest(root_value)
        apart.append(_largest(value - root_value) if scale else math.inf)
        excess.append(apart[-1] - (units * float(np.finfo(dtype).eps) * scale if scale else 0.0))
    most = engine.allreduce([max(apart), max(excess)], "max")
    if not most[1] <= 0:
        return None
    for variable, root_value in zip(differing, of_root, strict=True):
        variable.assign(root_value)
    return float(most[0])


def _array(variable: Any) -> NDArray[Any]:
    return np.asarray(keras.ops.convert_to_numpy(variable))


def _largest(array: NDArray[Any]) -> float:
    largest = float(np.abs(array).max(initial=0.0))
    return largest if math.isfinite(largest) else math.inf


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
        return type(self._replica.model).train_step is not KerasTrainer.train_step

    def _check_step(self, number: int) -> None:
        local = {id(each) for each in self._replica.model.non_trainable_weights}
        local |= {id(each) for each in half_accumulated(outermost_optimizers(self._replica.model))}
        variables = [each for each in self._shared() if id(each) not in local]
        checksums = self._guard.differing(variables)
        if checksums is not None:
            self._judge(variables, checksums, f"after step {number} of this training")
        self._since = 0
        self._replica.check_local_state(first=number <= FIRST_STEPS)

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
        counts = [keras.ops.convert_to_numpy(leaf.iterations) for leaf in leaves]
        steps = int(max(counts, default=0))
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
