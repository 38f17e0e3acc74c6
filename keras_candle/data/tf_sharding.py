"""Batches of a `tf.data.Dataset` dealt to the ranks in rounds, or divided by rows."""

from __future__ import annotations

import math
from typing import Any

import keras

from keras_candle.data.batch_assignment import BatchAssignment
from keras_candle.data.shard import Shard, rows_of
from keras_candle.engine.base import Engine
from keras_candle.errors import DataError


def known_rows(element_spec: Any) -> int | None:
    first = keras.tree.flatten(element_spec)[0]
    return first.shape[0] if first.shape.rank else None


def shared_part(rows: int | None, size: int) -> int | None:
    """The rows of a rank where a batch is divided, rounded up."""
    return rows and math.ceil(rows / size)


def element_of(dataset: Any, arguments: tuple[Any, ...]) -> Any:
    """The element that `map` has spread over its function's arguments."""
    return arguments if isinstance(dataset.element_spec, tuple) else arguments[0]


def divide(element: Any, engine: Engine) -> Shard:
    """The rank's rows r, r + N, r + 2N, ... of a batch."""
    import tensorflow as tf

    total = rows_of(element)
    # With fewer rows than ranks, a rank without one takes the first, which does not count.
    rows = tf.maximum((total - engine.rank + engine.size - 1) // engine.size, 0)
    start = tf.where(rows > 0, engine.rank, 0)
    end = tf.where(rows > 0, total, 1)
    indices = tf.range(start, end, engine.size)
    return Shard(rows, total, keras.tree.map_structure(lambda x: _take_rows(x, indices), element))


def _take_rows(batch: Any, indices: Any) -> Any:
    import tensorflow as tf

    if batch is None or isinstance(batch, tf.experimental.Optional):
        return batch  # Optional is Keras's word for None in a dataset
    if isinstance(batch, tf.SparseTensor):
        raise DataError(
            "A batch of sparse tensors cannot be divided by rows. Use batch='replica', or "
            "tf.sparse.to_dense in the dataset."
        )
    return tf.gather(batch, indices)


def placeholder_batch(is_own: Any, batch: Any) -> Shard:
    """A batch that counts only if it is the rank's own."""
    import tensorflow as tf

    return Shard(tf.where(is_own, rows_of(batch), 0), tf.constant(0), batch)


def assign_rounds(dataset: Any, assignment: BatchAssignment) -> Any:
    """The rank's batches of a dataset, and as many of them on every rank."""
    import tensorflow as tf

    own = dataset.shard(assignment.size, assignment.rank).map(
        lambda *e: own_shard(element_of(dataset, e))
    )
    ends_in_a_round = assignment.steps is not None and assignment.steps % assignment.size
    if not ends_in_a_round:
        if int(dataset.cardinality()) == tf.data.INFINITE_CARDINALITY:
            return own
        if assignment.batches is not None and has_fixed_rows(dataset.element_spec):
            # Not a batch of the dataset: a second iterator would advance the seeds of its shuffle
            # on the ranks that need one, and so change their order for the epochs to come.
            last = tf.data.Dataset.from_tensors(empty_shard(dataset.element_spec))
            return own.concatenate(last).take(assignment.rounds())
    # How the last round ends shows only when it comes. This takes about 0.2 ms more a step.
    shares = dataset.map(lambda *e: own_shard(element_of(dataset, e)))
    if ends_in_a_round:
        shares = _end_epochs_with_a_round(shares, assignment)
    dealt = shares.window(assignment.size).flat_map(lambda windows: _pick(windows, assignment.rank))
    if assignment.batches is not None:
        dealt = dealt.apply(tf.data.experimental.assert_cardinality(assignment.rounds()))
    return dealt


def own_shard(element: Any) -> Shard:
    import tensorflow as tf

    return Shard(rows_of(element), tf.constant(0), element)


def _pick(windows: Shard, rank: int) -> Any:
    """One share of a round: the rank's, or the first one where it has none."""
    import tensorflow as tf

    shares = tf.data.Dataset.zip(windows)
    spare = shares.take(1).map(lambda share: share._replace(rows=tf.constant(0)))
    return shares.skip(rank).take(1).concatenate(spare).take(1)


def _end_epochs_with_a_round(shares: Any, assignment: BatchAssignment) -> Any:
    """Repeat the last batch of each epoch, not counted, until every rank has one."""
    import tensorflow as tf

    steps = assignment.steps or 1
    missing = -steps % assignment.size

    def fill(number: Any, share: Shard) -> Any:
        copies = tf.where(number % steps == steps - 1, tf.constant(1 + missing, tf.int64), 1)
        same = tf.data.Dataset.from_tensors(share).repeat(copies)

        def count_first(copy: Any, each: Shard) -> Shard:
            return each._replace(rows=tf.where(copy == 0, each.rows, 0))

        return same.enumerate().map(count_first)

    return shares.enumerate().flat_map(fill)


def has_fixed_rows(element_spec: Any) -> bool:
    """Whether one row of each tensor has a shape that is known beforehand."""
    import tensorflow as tf

    return all(
        isinstance(spec, tf.TensorSpec) and spec.shape.rank and spec.shape[1:].is_fully_defined()
        for spec in keras.tree.flatten(element_spec)
    )


def empty_shard(element_spec: Any) -> Shard:
    """A share that counts nothing, made of zeros."""
    import tensorflow as tf

    def zeros(spec: Any) -> Any:
        return tf.zeros([size or 1 for size in spec.shape], spec.dtype)

    nothing = tf.constant(0)
    return Shard(nothing, nothing, keras.tree.map_structure(zeros, element_spec))
