"""Each rank's shard of arrays: every row once an epoch, in equal numbers of steps."""

from __future__ import annotations

import functools
import math
from typing import Any

import keras
import numpy as np

from keras_candle.data.data_cursor import DataCursor, EpochIterator, untuned
from keras_candle.data.fingerprint import fingerprint
from keras_candle.data.shard import Shard
from keras_candle.data.shuffling import RowOrder
from keras_candle.engine.base import Engine
from keras_candle.errors import DataError
from keras_candle.keras_private.data import DataAdapter, convert_to_sliceable


class ArrayShard(DataAdapter):  # type: ignore[misc]
    """A rank's rows of arrays that every rank holds as a whole.

    Args:
        inputs: x, (x, y) or (x, y, sample_weight) as Keras packs them.
        batch_size: rows of a batch.
        shuffle: True, False or "batch", as in `fit`.
        engine: connects the ranks.
        limit: use only the first rows; None for all.
        start: the data cursor to resume from; None for a new training.
        divided: True: the ranks divide each batch, this rank takes its rows r, r + N, r + 2N, ... .
            False: the ranks take whole batches in turn.
    """

    def __init__(
        self,
        inputs: Any,
        batch_size: int,
        shuffle: bool | str,
        engine: Engine,
        limit: int | None = None,
        start: DataCursor | None = None,
        *,
        divided: bool = True,
    ) -> None:
        self._inputs, self._whole_batch_size, self.knows_total = inputs, batch_size, divided
        self._rank, self._size = engine.rank, engine.size
        rows = int(keras.tree.flatten(inputs)[0].shape[0])
        self.rows = rows if limit is None else min(rows, limit)
        self._start = start or DataCursor()
        self.order = RowOrder(self.rows, batch_size, shuffle, engine, self._start.order)
        self.order.begin(self._start.passes)

    @functools.cached_property
    def fingerprint(self) -> list[str]:
        """A line for each array: shape, dtype and checksum."""
        return fingerprint(self._inputs)

    def position_after(self, passes: int, steps: int, begun: int) -> DataCursor:
        """Return the data cursor after whole passes and some steps of the next one.

        Args:
            passes: whole passes, counted from the beginning of the data.
            steps: steps of the next pass; counted from `start` where it lies in that pass.
            begun: how often the dataset was iterated.
        """
        before = self._start.taken if passes == self._start.passes else 0
        taken = min(before + steps * self._whole_batch_size, self.rows)
        return DataCursor(passes, taken, begun, self.order.state)

    def steps_left(self, taken: int) -> int:
        """Return the remaining steps of a pass after `taken` rows."""
        return math.ceil((self.rows - taken) / self._whole_batch_size)

    def get_tf_dataset(self) -> EpochIterator:
        """Return the rank's shard of each batch, made once: the dataset holds a copy of the arrays.

        It yields `Shard`s, or plain data where the row counts of a `Shard` follow from the shapes:
        two tensors more cost 4 % of a small batch's time.
        """
        return self._passes

    @functools.cached_property
    def _passes(self) -> EpochIterator:
        taken = self._start.taken
        rest = self._dataset(taken) if 0 < taken < self.rows else None
        return EpochIterator(self._dataset(), rest)

    def _dataset(self, taken: int = 0) -> Any:
        """Dataset of one pass without its first `taken` rows."""
        import tensorflow as tf

        arrays = self._tensors

        def take(*row_numbers: Any) -> Any:
            *counts, indices = row_numbers
            data = keras.tree.map_structure(lambda x: _gather(x, indices), arrays)
            if not counts:
                return data
            rows, total = counts
            return Shard(rows, total, data)

        options = tf.data.Options()
        # As Keras does: these optimizations take longer than they save.
        options.experimental_optimization.apply_default_optimizations = False
        select = self._own_rows if self.knows_total else self._own_batches
        own = self.order.dataset().flat_map(
            lambda order: select(tf.ensure_shape(order, [self.rows])[taken:])
        )
        # Without autotuning this means one call for each thread, up to 16.
        shards = own.map(take, num_parallel_calls=tf.data.AUTOTUNE)
        return untuned(shards.prefetch(2).with_options(options))

    @functools.cached_property
    def _tensors(self) -> Any:
        """The arrays as tensors, to share by reference: arrays would be copied into the graph."""
        sliceable = convert_to_sliceable(self._inputs, target_backend="tensorflow")
        return keras.tree.map_structure(_dense, keras.tree.lists_to_tuples(sliceable))

    def _own_rows(self, order: Any) -> Any:
        """Dataset of the rank's row numbers in each batch of an epoch; with counts where needed.

        Computed for the whole epoch at once: a step then costs as much as one of Keras's.
        """
        import tensorflow as tf

        rows = int(order.shape[0])
        whole, rest = divmod(rows, self._whole_batch_size)
        parts = tf.data.Dataset.from_tensor_slices(
            self._part(tf.reshape(order[: rows - rest], [whole, self._whole_batch_size]))
        )
        if rest:
            last = self._part(tf.reshape(order[rows - rest :], [1, rest]))
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
        # A rank without rows repeats a row of another rank, with weight 0, to stay in step.
        own = own if rows else batches[:, :1]
        return tf.fill([steps], rows), tf.fill([steps], total), own

    def _own_batches(self, order: Any) -> Any:
        """Dataset of the rank's whole batches, as row numbers; equally many on every rank."""
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
        """Whether the rows of each global batch follow from the rows of the rank's shard."""
        if self.may_be_empty:
            return False
        if not self.knows_total:
            return True
        return all(self._whole_batch_size - rest >= self._size for rest in self._rests)

    @property
    def _rests(self) -> set[int]:
        """Rows of the last batch of a pass, where it is not full."""
        left = {self.rows, self.rows - self._start.taken}
        return {rows % self._whole_batch_size for rows in left} - {0}

    @property
    def totals(self) -> dict[int, int]:
        """Rows of a global batch by rows of the rank's shard; empty where these are ambiguous."""
        if not (self.knows_total and self._needs_no_counts):
            return {}
        totals = {self._whole_batch_size} if self.rows >= self._whole_batch_size else set()
        totals |= self._rests
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
        return min(self._rests | {self._whole_batch_size}) < self._size

    @property
    def has_partial_batch(self) -> bool:
        """Whether the last step has fewer rows than a full one."""
        return self.rows % self._whole_batch_size > 0

    @property
    def partial_batch_size(self) -> int | None:
        """None: unknown, it differs by rank."""
        return None


def _dense(array: Any) -> Any:
    import tensorflow as tf

    if array is None or isinstance(array, tf.RaggedTensor):
        return array
    try:
        return tf.convert_to_tensor(array)
    except (TypeError, ValueError) as cause:
        raise DataError(
            f"Cannot divide a {type(array).__name__} among the ranks. Use dense arrays, or "
            "batch='replica' and a tf.data.Dataset of its batches."
        ) from cause


def _gather(array: Any, rows: Any) -> Any:
    import tensorflow as tf

    return None if array is None else tf.gather(array, rows)
