"""Batch normalisation with the statistics of all ranks' rows.

Keras's own `synchronized=True` asks tf.distribute for its replicas, finds one, and stays local.
"""

from __future__ import annotations

from typing import Any

import keras

from keras_candle.engine.base import Engine
from keras_candle.keras_private.models import layers_of, moments_of, reduction_axes, replace_moments
from keras_candle.training.step_context import StepContext


def synchronize(model: Any, engine: Engine, step: StepContext, *, every_layer: bool) -> None:
    """Make batch normalisation use the global batch's mean and variance in training.

    Args:
        model: the model, built or not.
        engine: connects the ranks.
        step: the context of the step that is being traced.
        every_layer: False for only the layers with `synchronized=True`.
    """
    for number, layer in enumerate(_batch_normalizations(model)):
        if not (every_layer or layer.synchronized):
            continue
        replace_moments(layer, _Moments(layer, engine, step, f"batch_normalization.{number}"))


def synchronized_variables(model: Any) -> set[int]:
    """Return the ids of the moving statistics that are the same on all ranks at each step."""
    return {
        id(variable)
        for layer in _batch_normalizations(model)
        if isinstance(moments_of(layer), _Moments)
        for variable in layer.non_trainable_variables
    }


def _batch_normalizations(model: Any) -> list[Any]:
    layers = layers_of(model)
    return [each for each in layers if isinstance(each, keras.layers.BatchNormalization)]


class _Moments:
    """Replaces `BatchNormalization._moments`: moments over the rows of all ranks."""

    def __init__(self, layer: Any, engine: Engine, step: StepContext, name: str) -> None:
        self._layer, self._engine, self._step, self._name = layer, engine, step, name

    def __call__(self, inputs: Any, mask: Any) -> tuple[Any, Any]:
        import tensorflow as tf

        x = tf.cast(inputs, tf.float32)
        axes = reduction_axes(self._layer)
        if mask is None:
            weight = tf.ones_like(x)
        else:
            weight = tf.broadcast_to(tf.cast(mask, tf.float32)[..., tf.newaxis], tf.shape(x))
        if self._step.rows is not None:
            # The placeholder row of an empty rank has weight 0.
            weight *= tf.cast(self._step.rows > 0, tf.float32)
        sums = tf.stack(
            [tf.reduce_sum(each, axes) for each in (weight, weight * x, weight * x * x)]
        )
        count, total, squares = tf.unstack(self._sum_over_ranks(sums))
        mean = total / tf.maximum(count, 1.0)
        variance = tf.maximum(squares / tf.maximum(count, 1.0) - mean * mean, 0.0)
        return mean, variance

    def _sum_over_ranks(self, sums: Any) -> Any:
        import tensorflow as tf

        self._step.calls += 1
        name = f"{self._name}.{self._step.calls}"
        rows = self._step.rows_expected if self._step.rows is None else self._step.rows
        own_rows = tf.cast(rows, tf.float32) / self._step.rows_expected

        @tf.custom_gradient  # type: ignore[untyped-decorator]
        def summed(x: Any) -> Any:
            (total,) = self._engine.sum_tensors([x], name=name)

            def gradient(upstream: Any) -> Any:
                # The gradient average weights each rank by its rows, so a gradient from another
                # rank's loss must carry that rank's weight.
                (arrived,) = self._engine.sum_tensors(
                    [upstream * own_rows], name=f"{name}.gradient"
                )
                return tf.math.divide_no_nan(arrived, own_rows)

            return total, gradient

        return summed(sums)
