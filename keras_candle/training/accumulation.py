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
    """Return the gradient transform for an optimizer that may accumulate over several steps.

    Where a rank knows its fraction of each global batch, it accumulates its own gradients, and the
    allreduce runs when the sum is used. Where it does not, the weight of a batch's rows is known
    only after a collective, and the allreduce runs in every step.

    Args:
        optimizer: an outermost keras optimizer; a second call replaces the hooks of the first.
        average: the transform that averages in every step.
        engine: connects the ranks.
        name: unique among the model's optimizers, and the same on all ranks.
        step: the context of the step that is being traced.
        compression: None or "fp16", the dtype in which gradients travel.

    Returns:
        `average` itself where nothing is accumulated.
    """
    leaves = leaf_optimizers(optimizer)
    if len(leaves) != 1 or not leaves[0].gradient_accumulation_steps:
        return average
    late = _LateAverage(engine, name, compression)
    late.hook(optimizer, leaves[0])

    def transform(gradients: list[Any], variables: Sequence[Any]) -> list[Any]:
        late.is_active = step.knows_total and step.rows is not None
        if not late.is_active:
            return average(gradients, variables)
        step.record_averaged(gradients, variables)
        return [_weighted(each, step, engine.size) for each in gradients]

    return transform


def half_accumulated(optimizers: Sequence[Any]) -> list[Any]:
    """Return the accumulated gradients of updates that are still to come.

    Each rank has accumulated its own. The update uses their mean, so averaging them earlier gives
    the same update.
    """
    return [
        variable
        for optimizer in optimizers
        for leaf in leaf_optimizers(optimizer)
        if leaf.gradient_accumulation_steps and leaf.built
        if int(iterations_of(leaf).numpy()) % leaf.gradient_accumulation_steps
        for variable in accumulated_gradients(leaf)
    ]


class _LateAverage:
    """Averages a leaf optimizer's accumulated gradients, right before they are clipped."""

    def __init__(self, engine: Engine, name: str, compression: str | None) -> None:
        self._engine, self._name, self._compression = engine, name, compression
        self.is_active = False

    def hook(self, optimizer: Any, leaf: Any) -> None:
        replace_clipping(
            leaf, lambda grads: self._average(list(grads)) if self.is_active else grads
        )
        if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
            plain_check = type(optimizer).check_finite
            optimizer.check_finite = lambda grads: self._on_all(plain_check(optimizer, grads))

    def _average(self, gradients: list[Any]) -> list[Any]:
        summed = send_dense(self._engine, gradients, self._name, self._compression)
        return [each / self._engine.size for each in summed]

    def _on_all(self, finite: Any) -> Any:
        """Whether the gradients are finite on every rank: all ranks must skip the same steps."""
        import tensorflow as tf

        if not self.is_active:
            return finite
        infinite = 1.0 - tf.cast(finite, tf.float32)
        (ranks,) = self._engine.sum_tensors([infinite], name=f"{self._name}.finite")
        return tf.equal(ranks, 0.0)


def _weighted(gradient: Any, step: StepContext, size: int) -> Any:
    """The gradient times `size * rows / total`: its mean over ranks is the global gradient."""
    import tensorflow as tf

    if gradient is None:
        return None
    dense = tf.convert_to_tensor(gradient)
    part = size * tf.cast(step.rows, tf.float32) / tf.cast(step.total, tf.float32)
    multiply = tf.math.multiply_no_nan if step.may_be_empty else tf.multiply
    return multiply(dense, tf.cast(part, dense.dtype))
