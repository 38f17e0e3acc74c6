"""Gather the rows of a step over the ranks, to compute on the global batch.

The gradient of each rank flows back to its own rows only. The gradient average weights a rank by
its rows, so a rank's gradient carries the inverse of that weight, and the average is the gradient
of the global batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras

from keras_candle.engine.base import Engine
from keras_candle.errors import CandleError
from keras_candle.keras_private.models import get_keras_mask, set_keras_mask
from keras_candle.training.step_context import StepContext

# The step that is being traced, innermost last.
_TRACED: list[tuple[Engine, StepContext]] = []


@contextmanager
def traced_step(engine: Engine, step: StepContext) -> Iterator[None]:
    """Context of a traced step, in which `gather_rows` gathers over the ranks."""
    _TRACED.append((engine, step))
    try:
        yield
    finally:
        _TRACED.pop()


def gather_rows(tensor: Any) -> Any:
    """Gather the rows of a tensor over all ranks, in a training step.

    For losses and state that depend on several rows of a batch: contrastive losses, batch-wise
    statistics, queues of features. With `batch="global"` the rows are in the order of the batch
    that `fit` was given; otherwise they are in the order of the ranks. A loss of gathered rows has
    the same gradient as on one rank with all rows.

    Args:
        tensor: shape (rows, ...), computed from this rank's rows in `train_step`, `compute_loss`
            or a layer's `call`. This is a collective: every rank must call it.

    Returns:
        Tensor of shape (rows of all ranks, ...). The tensor itself on one rank, in `evaluate` and
        `predict`, and outside of a step.

    Raises:
        CandleError: inside a step that XLA compiles.

    Example:
        >>> class SimCLR(keras.Model):
        ...     def compute_loss(self, x, y, y_pred, sample_weight=None, training=True):
        ...         rows = gather_rows(y_pred)
        ...         similarity = keras.ops.matmul(rows, keras.ops.transpose(rows))
        ...         return -keras.ops.mean(keras.ops.log_softmax(similarity))
    """
    if not _TRACED:
        return tensor
    engine, step = _TRACED[-1]
    if engine.size == 1 or not step.training:
        return tensor
    return gather_all([tensor], engine, step)[0]


def gather_all(tensors: Sequence[Any], engine: Engine, step: StepContext) -> list[Any]:
    """Gather several tensors, each of them once in a step, with one collective."""
    new = [each for each in tensors if id(each) not in step.gathered]
    if new:
        for own, whole in zip(new, _gather(new, engine, step), strict=True):
            # Keeps the tensor alive, so that no other tensor gets its id.
            step.gathered[id(own)] = (own, whole)
    return [step.gathered[id(each)][1] for each in tensors]


def gather_structure(structure: Any, engine: Engine, step: StepContext) -> Any:
    """Gather nested tensors, masks included; leave tensors without rows as they are."""
    leaves = [each for each in keras.tree.flatten(structure) if _has_rows(each)]
    masks = {id(each): get_keras_mask(each) for each in leaves}
    masked = [mask for mask in masks.values() if mask is not None]
    gather_all([*leaves, *masked], engine, step)

    def whole(leaf: Any) -> Any:
        if not _has_rows(leaf):
            return leaf
        gathered, mask = step.gathered[id(leaf)][1], masks[id(leaf)]
        if mask is not None:
            set_keras_mask(gathered, step.gathered[id(mask)][1])
        return gathered

    return keras.tree.map_structure(whole, structure)


def _has_rows(leaf: Any) -> bool:
    return bool(len(getattr(leaf, "shape", ())))


def _gather(tensors: Sequence[Any], engine: Engine, step: StepContext) -> list[Any]:
    import tensorflow as tf

    if step.in_xla:
        raise CandleError(
            "A loss depends on the rows of all ranks, which needs a collective in the forward "
            "pass, and jit_compile has no collectives there. Use jit_compile=False, or let the "
            "loss return one number for each row."
        )
    tensors = [tf.convert_to_tensor(each) for each in tensors]
    rows = tf.shape(tensors[0])[0] if step.rows is None else step.rows
    # Without the placeholder row of an empty rank.
    owns = [each[:rows] for each in tensors]
    step.calls += 1
    *wholes, by_rank = engine.concat_tensors(
        [*(tf.stop_gradient(each) for each in owns), tf.reshape(rows, [1])],
        name=f"rows.{step.calls}",
    )
    total = tf.reduce_sum(by_rank)
    if step.is_one_batch:
        order, places = _interleaved(total, rows, engine)
        wholes = [tf.gather(each, order) for each in wholes]
    else:
        places = tf.reduce_sum(by_rank[: engine.rank]) + tf.range(rows)
    weight = tf.cast(total, tf.float32) / tf.cast(tf.maximum(rows, 1), tf.float32)
    return [
        _with_gradient(own, whole, places, weight) if own.dtype.is_floating else whole
        for own, whole in zip(owns, wholes, strict=True)
    ]


def _interleaved(total: Any, rows: Any, engine: Engine) -> tuple[Any, Any]:
    """Indices of the batch's rows in the concatenation by rank, and of the own rows in the batch.

    Rank r has the rows r, r + N, r + 2N, ... of the batch.
    """
    import tensorflow as tf

    row = tf.range(total)
    rank = row % engine.size
    begin = rank * (total // engine.size) + tf.minimum(rank, total % engine.size)
    return begin + row // engine.size, engine.rank + engine.size * tf.range(rows)


def _with_gradient(own: Any, whole: Any, places: Any, weight: Any) -> Any:
    import tensorflow as tf

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def joined(_: Any) -> Any:
        def gradient(upstream: Any) -> Any:
            return tf.gather(upstream, places) * tf.cast(weight, upstream.dtype)

        return tf.identity(whole), gradient

    return joined(own)
