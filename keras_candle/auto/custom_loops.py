"""Average the gradients of custom training loops: `optimizer.apply` outside of a model's `fit`."""

from __future__ import annotations

import functools
import itertools
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from keras_candle import engine as engines
from keras_candle.auto.models import defining_class, notice
from keras_candle.keras_private.optimizers import (
    optimized_variables,
    rate_methods,
    replace_rate_methods,
)
from keras_candle.training.gradients import Transform, average_over_ranks, leaf_optimizers
from keras_candle.training.step_context import StepContext

_numbers = itertools.count()
_inside = threading.local()
_trainers: weakref.WeakSet[Any] = weakref.WeakSet()


def register_trainer(trainer: Any) -> None:
    """Register a scaled model, whose own steps average their gradients themselves."""
    _trainers.add(trainer)


def average_custom_loops(keras: ModuleType) -> None:
    """Average the gradients that a script applies by itself, eagerly or in a tf.function.

    Each rank works on all of the loop's data, as one process would; so the learning rate is not
    scaled, and the average differs from a rank's own gradient only where the ranks draw different
    random numbers, or the script shards the data with `candle.shard`.
    """
    optimizers = keras.optimizers
    kinds = [optimizers.Optimizer, optimizers.LossScaleOptimizer]
    kinds += [getattr(optimizers, "MultiOptimizer", optimizers.Optimizer)]
    for kind in {defining_class(kind, "apply") for kind in kinds}:
        kind.apply = _averaging(kind.apply)  # type: ignore[attr-defined]


def _averaging(plain: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(plain)
    def apply(self: Any, grads: Any, trainable_variables: Any = None) -> Any:
        step = _traced_step()
        averaged = hasattr(self.apply, "candle_plain")
        if getattr(_inside, "an_optimizer", False) or (averaged and step):
            return plain(self, grads, trainable_variables)
        gradients, variables = list(grads), _variables(self, trainable_variables)
        if not averaged:
            gradients = _averaging_transform(self, step)(gradients, variables)
        if step:  # of a model whose fit has given all ranks the root's weights
            with _inner_optimizers():
                return plain(self, gradients, trainable_variables)
        _broadcast_weights(self, variables)
        with _inner_optimizers(), _plain_learning_rates(self):
            return plain(self, gradients, trainable_variables)

    return apply


def _traced_step() -> StepContext | None:
    """Return the step context of the scaled model whose own step is being traced."""
    steps = (trainer.replica.step for trainer in _trainers)
    return next((step for step in steps if step.rows is not None), None)


def _variables(optimizer: Any, given: Sequence[Any] | None) -> list[Any]:
    if given is not None:
        return list(given)
    return [each for leaf in leaf_optimizers(optimizer) for each in optimized_variables(leaf)]


def _averaging_transform(optimizer: Any, step: StepContext | None) -> Transform:
    if not hasattr(optimizer, "_candle_number"):
        object.__setattr__(optimizer, "_candle_number", next(_numbers))
        if step is None:
            notice(
                "optimizers of custom training loops",
                "a custom training loop applies gradients: they are averaged, but each rank works "
                "on all of its data. Shard them with candle.shard(data) to gain speed",
            )
    name = f"custom_loop.{optimizer._candle_number}"
    return average_over_ranks(engines.current(), name, step or StepContext(), adds_up_rows=False)


def _broadcast_weights(optimizer: Any, variables: Sequence[Any]) -> None:
    """Broadcast the root's weights before the optimizer's first update."""
    import keras
    import tensorflow as tf

    if hasattr(optimizer, "_candle_has_root_state"):
        return
    with tf.init_scope():  # out of the tf.function that is being traced
        own = [keras.ops.convert_to_numpy(variable) for variable in variables]
        if any(
            value.shape != tuple(variable.shape)
            for value, variable in zip(own, variables, strict=True)
        ):
            return  # made by this trace, and without a value until the next one
        for variable, value in zip(variables, engines.current().broadcast(own), strict=True):
            variable.assign(value)
    object.__setattr__(optimizer, "_candle_has_root_state", True)


@contextmanager
def _inner_optimizers() -> Iterator[None]:
    _inside.an_optimizer = True
    try:
        yield
    finally:
        _inside.an_optimizer = False


@contextmanager
def _plain_learning_rates(optimizer: Any) -> Iterator[None]:
    """Suspend the learning rate scaling of a compiled optimizer: the global batch has not grown."""
    leaves = [each for each in leaf_optimizers(optimizer) if hasattr(each, "_candle_plain_rate")]
    scaled = [rate_methods(each) for each in leaves]
    for leaf in leaves:
        replace_rate_methods(leaf, leaf._candle_plain_rate)
    try:
        yield
    finally:
        for leaf, methods in zip(leaves, scaled, strict=True):
            replace_rate_methods(leaf, methods)
