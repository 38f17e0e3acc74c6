"""Batch normalisation with the statistics of all ranks' rows.

Keras's own `synchronized=True` asks tf.distribute for its replicas, finds one, and stays local.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_candle import backend
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
        x = ops.cast(inputs, "float32")
        axes = reduction_axes(self._layer)
        if mask is None:
            weight = ops.ones_like(x)
        else:
            weight = ops.broadcast_to(ops.cast(mask, "float32")[..., None], ops.shape(x))
        if self._step.rows is not None:
            # The placeholder row of an empty rank has weight 0.
            weight *= ops.cast(self._step.rows > 0, "float32")
        sums = ops.stack([ops.sum(each, axes) for each in (weight, weight * x, weight * x * x)])
        count, total, squares = ops.unstack(self._sum_over_ranks(sums), 3)
        mean = total / ops.maximum(count, 1.0)
        variance = ops.maximum(squares / ops.maximum(count, 1.0) - mean * mean, 0.0)
        return mean, variance

    def _sum_over_ranks(self, sums: Any) -> Any:
        self._step.calls += 1
        name = f"{self._name}.{self._step.calls}"
        rows = self._step.rows_expected if self._step.rows is None else self._step.rows
        own_rows = ops.cast(rows, "float32") / self._step.rows_expected
        return backend.current().sum_differentiably(self._engine, sums, own_rows, name=name)
