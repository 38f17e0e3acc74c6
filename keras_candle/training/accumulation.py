"""Gradient accumulation that communicates once for each update of the weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from keras_candle.engine.base import Engine
from keras_candle.keras_private.optimizers import (
    accumulated_gradients,
    iterations_of,
    replace_clipping,
)
from keras_candle.training.gradients import Transform, leaf_optimizers, send_dense
from keras_candle.training.step_context import StepContext


def average_accumulated(
    optimizer: Any,
    average: Transform,
    engine: Engine,
    name: str,
    step: StepContext,
    compression: str | None,
) -> Transform:
    """The transform for an optimizer that may accumulate gradients over several steps.

    Where a rank knows its part of each global batch, it adds up its own parts, and the ranks
    meet when the sum is used. Where it does not, only the ranks together know how a batch's rows
    weigh, and they meet in every step.

    Args:
        optimizer: an outermost keras optimizer; a second call replaces what the first one hooked.
        average: the transform that meets in every step.
        engine: connects the ranks.
        name: unique among the model's optimizers, and the same on all ranks.
        step: this rank's share of the step that is being traced.
        compression: None or "fp16", the dtype in which gradients travel.

    Returns:
        `average` itself where nothing is accumulated.
    """
    leaves = leaf_optimizers(optimizer)
    if len(leaves) != 1 or not leaves[0].gradient_accumulation_steps:
        return average
    later = _Later(engine, name, compression)
    later.hook(optimizer, leaves[0])

    def transform(gradients: list[Any], variables: Sequence[Any]) -> list[Any]:
        later.meets = step.knows_total and step.rows is not None
        if not later.meets:
            return average(gradients, variables)
        step.record_averaged(gradients, variables)
        return [_own_part(each, step, engine.size) for each in gradients]

    return transform


def half_accumulated(optimizers: Sequence[Any]) -> list[Any]:
    """The sums of gradients that are still waiting for their update.

    Each rank has added up its own; the update takes their mean, and so it may as well be taken
    before.
    """
    return [
        variable
        for optimizer in optimizers
        for leaf in leaf_optimizers(optimizer)
        if leaf.gradient_accumulation_steps and leaf.built
        if int(iterations_of(leaf).numpy()) % leaf.gradient_accumulation_steps
        for variable in accumulated_gradients(leaf)
    ]


class _Later:
    """Averages what a leaf optimizer has accumulated, right before it is clipped."""

    def __init__(self, engine: Engine, name: str, compression: str | None) -> None:
        self._engine, self._name, self._compression = engine, name, compression
        self.meets = False

    def hook(self, optimizer: Any, leaf: Any) -> None:
        replace_clipping(leaf, lambda grads: self._average(list(grads)) if self.meets else grads)
        if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
            plain_check = type(optimizer).check_finite
            optimizer.check_finite = lambda grads: self._on_all(plain_check(optimizer, grads))

    def _average(self, gradients: list[Any]) -> list[Any]:
        summed = send_dense(self._engine, gradients, self._name, self._compression)
        return [each / self._engine.size for each in summed]

    def _on_all(self, finite: Any) -> Any:
        """Whether the gradients are finite on every rank: all have to skip the same steps."""
        import tensorflow as tf

        if not self.meets:
            return finite
        infinite = 1.0 - tf.cast(finite, tf.float32)
        (ranks,) = self._engine.sum_tensors([infinite], name=f"{self._name}.finite")
        return tf.equal(ranks, 0.0)


def _own_part(gradient: Any, step: StepContext, size: int) -> Any:
    """What the mean over the ranks turns into the gradient of the global batch."""
    import tensorflow as tf

    if gradient is None:
        return None
    dense = tf.convert_to_tensor(gradient)
    part = size * tf.cast(step.rows, tf.float32) / tf.cast(step.total, tf.float32)
    multiply = tf.math.multiply_no_nan if step.may_be_empty else tf.multiply
    return multiply(dense, tf.cast(part, dense.dtype))
