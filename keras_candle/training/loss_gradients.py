"""Gradients of losses with one value a row, in a `train_step` of the user's own.

TensorFlow differentiates the sum of such a loss. The average over ranks weighs gradients by rows,
which makes means over rows the mean over the global batch. A sum over a rank's rows is scaled up
before, so that the average is the sum over the global batch.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras

from keras_candle.training.step_context import StepContext


@contextmanager
def summed_over_ranks(step: StepContext, data: Any) -> Iterator[None]:
    """Scale gradients of losses with one value a row, while a training step is traced.

    Args:
        step: the context of the step; nothing is scaled where each rank has a batch of its own.
        data: this rank's rows.
    """
    if not (step.training and step.is_one_batch):
        yield
        return
    import tensorflow as tf

    plain = tf.GradientTape.gradient
    rows = _leading_size(next(each for each in keras.tree.flatten(data) if each is not None))

    @functools.wraps(plain)
    def gradient(
        tape: Any, target: Any, sources: Any, output_gradients: Any = None, **options: Any
    ) -> Any:
        targets = tf.nest.flatten(target)
        # A gradient penalty differentiates outputs by inputs, row by row.
        by_weights = all(hasattr(each, "assign") for each in tf.nest.flatten(sources))
        if (
            output_gradients is None
            and by_weights
            and any(_has_rows(each, rows) for each in targets)
        ):
            scaled = [_scale(each, step) if _has_rows(each, rows) else tf.ones_like(each)
                      for each in targets]  # fmt: skip
            output_gradients = tf.nest.pack_sequence_as(target, scaled)
        return plain(tape, target, sources, output_gradients, **options)

    tf.GradientTape.gradient = gradient
    try:
        yield
    finally:
        tf.GradientTape.gradient = plain


def _leading_size(tensor: Any) -> int | None:
    return tensor.shape[0] if tensor.shape.rank else None


def _has_rows(target: Any, rows: int | None) -> bool:
    """Whether the first axis of a target may be that of the rows: it has the same static size."""
    return bool(target.shape.rank) and target.shape[0] == rows


def _scale(target: Any, step: StepContext) -> Any:
    import tensorflow as tf

    is_of_rows = tf.equal(tf.shape(target)[0], step.rows)
    factor = tf.math.divide_no_nan(
        tf.cast(step.total, target.dtype), tf.cast(step.rows, target.dtype)
    )
    return tf.fill(tf.shape(target), tf.where(is_of_rows, factor, tf.ones_like(factor)))
