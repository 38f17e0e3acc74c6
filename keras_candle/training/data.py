"""Each rank's part of the data: every row once an epoch, in equal numbers of steps."""

from __future__ import annotations

import functools
import math
from typing import Any

import keras
import numpy as np

from keras_candle import engine as engines
from keras_candle.engine.base import Engine
from keras_candle.errors import DataError
from keras_candle.training.keras_names import DataAdapter, convert_to_sliceable
from keras_candle.training.order import order_of_rows
from keras_candle.training.step import Share


def shard(data: Any) -> Any:
    """This rank's part of data, for code that does not go through `fit`.

    Rank r of N gets the rows r, r + N, r + 2N, ...: every row once, in unequal numbers where N
    does not divide them.

    Args:
        data: an array of shape [rows, ...], a structure of such arrays, or a `tf.data.Dataset`,
            of which each rank gets every N-th element. `fit` on a dataset that was sharded here
            leaves it as it is.

    Returns:
        The part, of the kind that came in.

    Raises:
        DataError: when a structure's arrays differ in their number of rows.

    Example:
        >>> shard(np.arange(3)).tolist()  # on one rank
        [0, 1, 2]
    """
    import tensorflow as tf

    engine = engines.current()
    if isinstance(data, tf.data.Dataset):
        options = tf.data.Options()
        options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
        return data.shard(engine.size, engine.rank).with_options(options)
    lengths = {len(leaf) for leaf in keras.tree.flatten(data)}
    if len(lengths) != 1:
        raise DataError(
            f"shard got arrays of {sorted(lengths)} rows, expected one number of rows for all."
        )
    return keras.tree.map_structure(lambda leaf: leaf[engine.rank :: engine.size], data)


class ArrayShard(DataAdapter):  # type: ignore[misc]
    """A rank's rows of arrays that every rank holds as a whole.

    Args:
        inputs: x, (x, y) or (x, y, sample_weight) as Keras packs them.
        batch_size: rows of a batch.
        shuffle: True, False or "batch", as in `fit`.
        engine: connects the ranks.
        limit: use only the first rows; None for all.
        divided: True: the ranks take a batch together, this one its rows r, r + N, r + 2N, ... .
            False: they take whole batches in turn.
    """

    def __init__(
        self,
        inputs: Any,
        batch_size: int,
        shuffle: bool | str,
        engine: Engine,
        limit: int | None = None,
        *,
        divided: bool = True,
    ) -> None:
        self._inputs, self._whole_batch_size, self.knows_total = inputs, batch_size, divided
        self._rank, self._size = engine.rank, engine.size
        rows = int(keras.tree.flatten(inputs)[0].shape[0])
        self.rows = rows if limit is None else min(rows, limit)
        self._order = order_of_rows(self.rows, batch_size, shuffle, engine)

    def get_tf_dataset(self) -> Any:
        """Dataset of the rank's part of each batch, made once: it holds a copy of the arrays.

        A part is a `Share`, or plain data where the number of their rows says all that a `Share`
        would: two tensors more cost 4 % of a small batch's time.
        """
        return self._dataset

    @functools.cached_property
    def _dataset(self) -> Any:
        import tensorflow as tf

        sliceable = convert_to_sliceable(self._inputs, target_backend="tensorflow")
        # As tensors the arrays are shared by reference; as arrays they'd be copied into the graph.
        arrays = keras.tree.map_structure(_dense, keras.tree.lists_to_tuples(sliceable))

        def take(*share: Any) -> Any:
            *counts, indices = share
            data = keras.tree.map_structure(lambda x: _gather(x, indices), arrays)
            if not counts:
                return data
            rows, total = counts
            return Share(rows, total, data)

        options = tf.data.Options()
        # As Keras does: they take longer than what they save.
        options.experimental_optimization.apply_default_optimizations = False
        own = self._order.flat_map(self._own_rows if self.knows_total else self._own_batches)
        shares = own.map(take, num_parallel_calls=tf.data.AUTOTUNE)
        return shares.prefetch(tf.data.AUTOTUNE).with_options(options)

    def _own_rows(self, order: Any) -> Any:
        """Dataset of the parts of an epoch's batches, as row numbers; with counts where needed.

        Cut out for the whole epoch at once: a step then costs what one of Keras's costs.
        """
        import tensorflow as tf

        whole, rest = divmod(self.rows, self._whole_batch_size)
        parts = tf.data.Dataset.from_tensor_slices(
            self._part(tf.reshape(order[: self.rows - rest], [whole, self._whole_batch_size]))
        )
        if rest:
            last = self._part(tf.reshape(order[self.rows - rest :], [1, rest]))
            parts = parts.concatenate(tf.data.Dataset.from_tensor_slices(last))
        return parts

    def _part(self, batches: Any) -> Any:
        """Row numbers of the rank's columns, or (rows, total, row numbers) of each batch."""
        import tensorflow as tf

        steps, total = batches.shape
        own = batches[:, self._rank :: self._size]
        if self._needs_no_counts:
            return own
        rows = own.shape[1]
        # A rank without rows stays in step with a row of another one, which does not count.
        own = own if rows else batches[:, :1]
        return tf.fill([steps], rows), tf.fill([steps], total), own

    def _own_batches(self, order: Any) -> Any:
        """The same for whole batches, as many on every rank."""
        import tensorflow as tf

        nothing = tf.constant(0)
        batches = tf.data.Dataset.from_tensor_slices(order).batch(self._whole_batch_size)
        own = batches.shard(self._size, self._rank)
        if self._needs_no_counts:
            return own
        spare = tf.data.Dataset.from_tensors((nothing, nothing, np.zeros(1, np.int64)))
        return own.map(lambda i: (tf.size(i), nothing, i)).concatenate(spare).take(self.num_batches)

    @property
    def _needs_no_counts(self) -> bool:
        """Whether the rows of every part tell how many rows its global batch has."""
        if self.may_be_empty:
            return False
        rest = self.rows % self._whole_batch_size
        return not (self.knows_total and rest) or self._whole_batch_size - rest >= self._size

    @property
    def totals(self) -> dict[int, int]:
        """The rows of a global batch by those of this rank's part, where these tell; or empty."""
        if not (self.knows_total and self._needs_no_counts):
            return {}
        totals = {self._whole_batch_size} if self.rows >= self._whole_batch_size else set()
        totals |= {self.rows % self._whole_batch_size} - {0}
        return {len(range(self._rank, total, self._size)): total for total in totals}

    @property
    def num_batches(self) -> int:
        """Steps of an epoch, the same on all ranks."""
        batches = math.ceil(self.rows / self._whole_batch_size)
        return batches if self.knows_total else math.ceil(batches / self._size)

    @property
    def batch_size(self) -> int:
        """Rows of this rank in a full step, rounded up."""
        return math.ceil(self._whole_batch_size / (self._size if self.knows_total else 1))

    @property
    def may_be_empty(self) -> bool:
        """Whether a rank has no row in the last step."""
        if not self.knows_total:
            return math.ceil(self.rows / self._whole_batch_size) % self._size > 0
        last = self.rows % self._whole_batch_size
        return 0 < last < self._size or self._whole_batch_size < self._size

    @property
    def has_partial_batch(self) -> bool:
        """Whether the last step has fewer rows than the others."""
        return self.rows % self._whole_batch_size > 0

    @property
    def partial_batch_size(self) -> int | None:
        """Not known: it differs by rank."""
        return None


def _dense(array: Any) -> Any:
    import tensorflow as tf

    if array is None or isinstance(array, tf.RaggedTensor):
        return array
    try:
        return tf.convert_to_tensor(array)
    except (TypeError, ValueError) as cause:
        raise DataError(
            f"{type(array).__name__} cannot be divided among the ranks. Use dense arrays, or a "
            "tf.data.Dataset."
        ) from cause


def _gather(array: Any, rows: Any) -> Any:
    import tensorflow as tf

    return None if array is None else tf.gather(array, rows)
