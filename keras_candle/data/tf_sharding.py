"""Assign the batches of a `tf.data.Dataset` to ranks in rounds, or divide them by rows."""

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
    """Return the rows of a rank where a batch is divided, rounded up."""
    return rows and math.ceil(rows / size)


def element_of(dataset: Any, arguments: tuple[Any, ...]) -> Any:
    """Return the element that `map` has spread over its function's arguments."""
    return arguments if isinstance(dataset.element_spec, tuple) else arguments[0]


def divide(element: Any, engine: Engine) -> Shard:
    """Return the rank's rows r, r + N, r + 2N, ... of a batch."""
    import tensorflow as tf

    total = rows_of(element)
    # With fewer rows than ranks, a rank without one takes the first, with weight 0.
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
            "Cannot divide a batch of sparse tensors by rows. Use batch='replica', or "
            "tf.sparse.to_dense in the dataset."
        )
    return tf.gather(batch, indices)


def placeholder_batch(is_own: Any, batch: Any) -> Shard:
    """Return a batch as a shard that counts only if it is the rank's own."""
    import tensorflow as tf

    return Shard(tf.where(is_own, rows_of(batch), 0), tf.constant(0), batch)


def assign_rounds(dataset: Any, assignment: BatchAssignment) -> Any:
    """Return the rank's batches of a dataset, equally many on every rank."""
    import tensorflow as tf

    own = dataset.shard(assignment.size, assignment.rank).map(
        lambda *e: own_shard(element_of(dataset, e))
    )
    ends_in_a_round = assignment.steps is not None and assignment.steps % assignment.size
    if not ends_in_a_round:
        if int(dataset.cardinality()) == tf.data.INFINITE_CARDINALITY:
            return own
        if assignment.batches is not None and has_fixed_rows(dataset.element_spec):
            # Zeros, not a batch of the dataset: a second iterator would advance the seeds of its
            # shuffle on the ranks that need one, and so change their order in later epochs.
            last = tf.data.Dataset.from_tensors(empty_shard(dataset.element_spec))
            return own.concatenate(last).take(assignment.rounds())
    # The length of the last round is unknown until it comes. This takes about 0.2 ms more a step.
    shards = dataset.map(lambda *e: own_shard(element_of(dataset, e)))
    if ends_in_a_round:
        shards = _end_epochs_with_a_round(shards, assignment)
    own = shards.window(assignment.size).flat_map(lambda windows: _pick(windows, assignment.rank))
    if assignment.batches is not None:
        own = own.apply(tf.data.experimental.assert_cardinality(assignment.rounds()))
    return own


def own_shard(element: Any) -> Shard:
    import tensorflow as tf

    return Shard(rows_of(element), tf.constant(0), element)


def _pick(windows: Shard, rank: int) -> Any:
    """One shard of a round: the rank's, or the first one where it has none."""
    import tensorflow as tf

    shards = tf.data.Dataset.zip(windows)
    spare = shards.take(1).map(lambda shard: shard._replace(rows=tf.constant(0)))
    return shards.skip(rank).take(1).concatenate(spare).take(1)


def _end_epochs_with_a_round(shards: Any, assignment: BatchAssignment) -> Any:
    """Repeat the last batch of each epoch, not counted, until every rank has one."""
    import tensorflow as tf

    steps = assignment.steps or 1
    missing = -steps % assignment.size

    def fill(number: Any, shard: Shard) -> Any:
        copies = tf.where(number % steps == steps - 1, tf.constant(1 + missing, tf.int64), 1)
        same = tf.data.Dataset.from_tensors(shard).repeat(copies)

        def count_first(copy: Any, each: Shard) -> Shard:
            return each._replace(rows=tf.where(copy == 0, each.rows, 0))

        return same.enumerate().map(count_first)

    return shards.enumerate().flat_map(fill)


def has_fixed_rows(element_spec: Any) -> bool:
    """Whether one row of each tensor has a shape that is known beforehand."""
    import tensorflow as tf

    return all(
        isinstance(spec, tf.TensorSpec) and spec.shape.rank and spec.shape[1:].is_fully_defined()
        for spec in keras.tree.flatten(element_spec)
    )


def empty_shard(element_spec: Any) -> Shard:
    """Return a shard without rows that count, made of zeros."""
    import tensorflow as tf

    def zeros(spec: Any) -> Any:
        return tf.zeros([size or 1 for size in spec.shape], spec.dtype)

    nothing = tf.constant(0)
    return Shard(nothing, nothing, keras.tree.map_structure(zeros, element_spec))
