"""The ranks' data as `tf.data.Dataset`s: rows of arrays, batches divided or assigned in rounds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_candle.backend.base import Shard
from keras_candle.engine.base import Engine
from keras_candle.errors import DataError
from keras_candle.keras_private.data import ArrayDataAdapter, convert_to_sliceable

# Returned by tf.compat.v1.random.get_seed where no global seed is set.
_NO_SEED = 87654321


def global_seed() -> int | None:
    seed, _ = tf.compat.v1.random.get_seed(1)
    return None if seed == _NO_SEED else int(seed)


def array_datasets(shard: Any, starts: Sequence[int]) -> list[Any]:
    # As tensors, to share by reference: arrays would be copied into the graph.
    sliceable = convert_to_sliceable(shard.inputs, target_backend="tensorflow")
    arrays = keras.tree.map_structure(_dense, keras.tree.lists_to_tuples(sliceable))
    return [_array_dataset(shard, arrays, taken) for taken in starts]


def _dense(array: Any) -> Any:
    if array is None or isinstance(array, tf.RaggedTensor):
        return array
    try:
        return tf.convert_to_tensor(array)
    except (TypeError, ValueError) as cause:
        raise DataError(
            f"Cannot divide a {type(array).__name__} among the ranks. Use dense arrays, or "
            "batch='replica' and a tf.data.Dataset of its batches."
        ) from cause


def _array_dataset(shard: Any, arrays: Any, taken: int) -> Any:
    """Dataset of one pass over a rank's rows, without the first `taken` rows of all ranks."""

    def take(*row_numbers: Any) -> Any:
        *counts, indices = row_numbers
        data = keras.tree.map_structure(
            lambda x: None if x is None else tf.gather(x, indices), arrays
        )
        if not counts:
            return data
        rows, total = counts
        return Shard(rows, total, data)

    options = tf.data.Options()
    # As Keras does: these optimizations take longer than they save.
    options.experimental_optimization.apply_default_optimizations = False
    select = _divided_rows if shard.knows_total else _assigned_rows

    @tf.autograph.experimental.do_not_convert  # type: ignore[untyped-decorator]
    def numbers(order: Any) -> Any:
        return select(shard, order, taken)

    own = orders(shard.order).flat_map(numbers)
    # Without autotuning this means one call for each thread, up to 16.
    shards = own.map(take, num_parallel_calls=tf.data.AUTOTUNE)
    return untuned(shards.prefetch(2).with_options(options))


def _row_numbers(shard: Any, order: Any, taken: int) -> list[Any]:
    """`ArrayShard.row_numbers` of an order's rest, as int64 tensors of static shapes."""
    like = shard.row_numbers(np.broadcast_to(np.int64(0), shard.rows - taken))
    numbers = tf.numpy_function(
        lambda rows: shard.row_numbers(rows[taken:]), [order], [tf.int64] * len(like)
    )
    return [tf.ensure_shape(each, one.shape) for each, one in zip(numbers, like, strict=True)]


def _divided_rows(shard: Any, order: Any, taken: int) -> Any:
    """Dataset of the rank's row numbers in each batch of an epoch; with counts where needed.

    Computed for the whole epoch at once: a step then costs as much as one of Keras's.
    """
    parts = []
    for own, (rows, total) in zip(
        _row_numbers(shard, order, taken), shard.counts(taken), strict=True
    ):
        steps = own.shape[0]
        counted = (tf.fill([steps], rows), tf.fill([steps], total), own)
        parts.append(tf.data.Dataset.from_tensor_slices(own if shard.needs_no_counts else counted))
    whole, *rest = parts
    return whole.concatenate(rest[0]) if rest else whole


def _assigned_rows(shard: Any, order: Any, taken: int) -> Any:
    """Dataset of the rank's whole batches, as row numbers; equally many on every rank."""
    nothing = tf.constant(0)
    (numbers,) = _row_numbers(shard, order, taken)
    own = tf.data.Dataset.from_tensor_slices(numbers).batch(shard.batch_size)
    if shard.needs_no_counts:
        return own
    spare = tf.data.Dataset.from_tensors((nothing, nothing, np.zeros(1, np.int64)))
    return own.map(lambda i: (tf.size(i), nothing, i)).concatenate(spare).take(shard.num_batches)


def orders(order: Any) -> Any:
    """Return a dataset of one int64 vector: the numbers of all rows, in a `RowOrder`'s order."""
    if order.seed_of_keras is None:
        if not order.shuffle:
            return tf.data.Dataset.from_tensors(np.arange(order.rows))

        def draw(_: Any) -> Any:
            # Drawn when the first row is read: Keras begins passes that it does not read.
            return tf.ensure_shape(tf.numpy_function(order.draw, [], tf.int64), [order.rows])

        return tf.data.Dataset.range(1).map(draw)
    own, _ = tf.compat.v1.random.get_seed(1)
    if own == order.seed_of_keras:
        return _orders_of_keras(order)
    tf.random.set_seed(order.seed_of_keras)
    try:
        return _orders_of_keras(order)
    finally:
        tf.random.set_seed(own)


def _orders_of_keras(order: Any) -> Any:
    """Dataset of the orders in which Keras's own adapter of arrays reads the rows.

    A shuffle's seed depends on the operations before it in its function, so they are the same as
    Keras's. Keras's whole adapter would take 5 ms more for each epoch.
    """
    rows = order.rows
    if order.shuffle != "batch":
        one = tf.data.Dataset.range(1)
        return one.map(lambda _: tf.random.shuffle(tf.range(rows, dtype=tf.int64)))
    batches = tf.data.Dataset.range(rows).batch(order.batch_size)
    return batches.map(tf.random.shuffle).unbatch().batch(rows)


def untuned(dataset: Any) -> Any:
    """Return the dataset without autotuning, so that a pass never waits for the one before.

    The thread with which tf.data tunes a pass is woken before the pass counts as cancelled (both
    in TensorFlow's Model::OptimizeLoop), and may sleep on: for about as long as the pass has
    lasted, up to a minute. Dropping the pass's iterator, as the next pass does, waits for it.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


def batches_of(adapter: Any) -> Any:
    dataset = adapter.get_tf_dataset()
    return untuned(dataset) if isinstance(adapter, ArrayDataAdapter) else dataset


def dataset_of_length(adapter: Any) -> Any:
    dataset = adapter.get_tf_dataset()
    if adapter.num_batches is not None:
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(adapter.num_batches))
    return dataset


def endless_shards(dataset: Any) -> Any:
    own = dataset.map(lambda *e: own_shard(_element_of(dataset, e)))
    nothing = tf.data.Dataset.from_tensors(_empty_shard(dataset.element_spec))
    return own.concatenate(nothing.repeat()).prefetch(2)


def divided_batches(dataset: Any, engine: Engine) -> Any:
    return dataset.map(lambda *e: divide(_element_of(dataset, e), engine)).prefetch(2)


def generated_shards(
    batches: Callable[[], Iterator[tuple[bool, Any]]], spec: Any, dividing: Engine | None
) -> Any:
    signature = (tf.TensorSpec((), tf.bool), spec)
    generated = tf.data.Dataset.from_generator(batches, output_signature=signature)
    options = tf.data.Options()
    # As Keras does: the threads and processes that load batches are the PyDataset's own.
    options.autotune.enabled = False
    if dividing:
        shards = generated.map(lambda _, batch: divide(batch, dividing))
    else:
        shards = generated.map(_shard_if_counted)
    return shards.prefetch(2).with_options(options)


def _shard_if_counted(counts: Any, batch: Any) -> Shard:
    return Shard(tf.where(counts, rows_of(batch), 0), tf.constant(0), batch)


def every_nth(dataset: Any, engine: Engine) -> Any:
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return dataset.shard(engine.size, engine.rank).with_options(options)


def rows_of(batch: Any) -> Any:
    first = next(leaf for leaf in keras.tree.flatten(batch) if leaf is not None)
    return tf.shape(first)[0]


def _element_of(dataset: Any, arguments: tuple[Any, ...]) -> Any:
    """Return the element that `map` has spread over its function's arguments."""
    return arguments if isinstance(dataset.element_spec, tuple) else arguments[0]


def divide(batch: Any, engine: Engine) -> Shard:
    total = rows_of(batch)
    # With fewer rows than ranks, a rank without one takes the first, with weight 0.
    rows = tf.maximum((total - engine.rank + engine.size - 1) // engine.size, 0)
    start = tf.where(rows > 0, engine.rank, 0)
    end = tf.where(rows > 0, total, 1)
    indices = tf.range(start, end, engine.size)
    return Shard(rows, total, keras.tree.map_structure(lambda x: _take_rows(x, indices), batch))


def _take_rows(batch: Any, indices: Any) -> Any:
    if batch is None or isinstance(batch, tf.experimental.Optional):
        return batch  # Optional is Keras's word for None in a dataset
    if isinstance(batch, tf.SparseTensor):
        raise DataError(
            "Cannot divide a batch of sparse tensors by rows. Use batch='replica', or "
            "tf.sparse.to_dense in the dataset."
        )
    return tf.gather(batch, indices)


def assigned_batches(dataset: Any, assignment: Any) -> Any:
    return _rounds(dataset, assignment).prefetch(2)


def _rounds(dataset: Any, assignment: Any) -> Any:
    own = dataset.shard(assignment.size, assignment.rank).map(
        lambda *e: own_shard(_element_of(dataset, e))
    )
    ends_in_a_round = assignment.steps is not None and assignment.steps % assignment.size
    if not ends_in_a_round:
        if int(dataset.cardinality()) == tf.data.INFINITE_CARDINALITY:
            return own
        if assignment.batches is not None and _has_fixed_rows(dataset.element_spec):
            # Zeros, not a batch of the dataset: a second iterator would advance the seeds of its
            # shuffle on the ranks that need one, and so change their order in later epochs.
            last = tf.data.Dataset.from_tensors(_empty_shard(dataset.element_spec))
            return own.concatenate(last).take(assignment.rounds())
    # The length of the last round is unknown until it comes. This takes about 0.2 ms more a step.
    shards = dataset.map(lambda *e: own_shard(_element_of(dataset, e)))
    if ends_in_a_round:
        shards = _end_epochs_with_a_round(shards, assignment)
    own = shards.window(assignment.size).flat_map(lambda windows: _pick(windows, assignment.rank))
    if assignment.batches is not None:
        own = own.apply(tf.data.experimental.assert_cardinality(assignment.rounds()))
    return own


def own_shard(batch: Any) -> Shard:
    return Shard(rows_of(batch), tf.constant(0), batch)


def _pick(windows: Shard, rank: int) -> Any:
    """One shard of a round: the rank's, or the first one where it has none."""
    shards = tf.data.Dataset.zip(windows)
    spare = shards.take(1).map(lambda shard: shard._replace(rows=tf.constant(0)))
    return shards.skip(rank).take(1).concatenate(spare).take(1)


def _end_epochs_with_a_round(shards: Any, assignment: Any) -> Any:
    """Repeat the last batch of each epoch, not counted, until every rank has one."""
    steps = assignment.steps or 1
    missing = -steps % assignment.size

    def fill(number: Any, shard: Shard) -> Any:
        copies = tf.where(number % steps == steps - 1, tf.constant(1 + missing, tf.int64), 1)
        same = tf.data.Dataset.from_tensors(shard).repeat(copies)

        def count_first(copy: Any, each: Shard) -> Shard:
            return each._replace(rows=tf.where(copy == 0, each.rows, 0))

        return same.enumerate().map(count_first)

    return shards.enumerate().flat_map(fill)


def _has_fixed_rows(element_spec: Any) -> bool:
    """Whether one row of each tensor has a shape that is known beforehand."""
    return all(
        isinstance(spec, tf.TensorSpec) and spec.shape.rank and spec.shape[1:].is_fully_defined()
        for spec in keras.tree.flatten(element_spec)
    )


def _empty_shard(element_spec: Any) -> Shard:
    """Return a shard without rows that count, made of zeros."""

    def zeros(spec: Any) -> Any:
        return tf.zeros([size or 1 for size in spec.shape], spec.dtype)

    nothing = tf.constant(0)
    return Shard(nothing, nothing, keras.tree.map_structure(zeros, element_spec))
