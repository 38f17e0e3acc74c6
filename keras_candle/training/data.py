"""Each rank's part of the data: every row once an epoch, in equal numbers of steps."""

from __future__ import annotations

import functools
import math
import zlib
from collections.abc import Iterator
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
        """Dataset of `Share`s, made once: it holds a copy of the arrays."""
        return self._dataset

    @functools.cached_property
    def _dataset(self) -> Any:
        import tensorflow as tf

        sliceable = convert_to_sliceable(self._inputs, target_backend="tensorflow")
        # As tensors the arrays are shared by reference; as arrays they'd be copied into the graph.
        arrays = keras.tree.map_structure(_dense, keras.tree.lists_to_tuples(sliceable))

        def take(rows: Any, total: Any, indices: Any) -> Share:
            return Share(
                rows, total, keras.tree.map_structure(lambda x: _gather(x, indices), arrays)
            )

        options = tf.data.Options()
        # As Keras does: they take longer than what they save.
        options.experimental_optimization.apply_default_optimizations = False
        own = self._order.flat_map(self._own_rows if self.knows_total else self._own_batches)
        shares = own.map(take, num_parallel_calls=tf.data.AUTOTUNE)
        return shares.prefetch(tf.data.AUTOTUNE).with_options(options)

    def _own_rows(self, order: Any) -> Any:
        """Dataset of (rows, total, row numbers) for an epoch: a part of each batch.

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

    def _part(self, batches: Any) -> tuple[Any, Any, Any]:
        """(rows, total, row numbers) of the rank's columns, each with a first dimension."""
        import tensorflow as tf

        steps, total = batches.shape
        own = batches[:, self._rank :: self._size]
        rows = own.shape[1]
        # A rank without rows stays in step with a row of another one, which does not count.
        own = own if rows else batches[:, :1]
        return tf.fill([steps], rows), tf.fill([steps], total), own

    def _own_batches(self, order: Any) -> Any:
        """The same for whole batches, as many on every rank."""
        import tensorflow as tf

        nothing = tf.constant(0)
        batches = tf.data.Dataset.from_tensor_slices(order).batch(self._whole_batch_size)
        own = batches.shard(self._size, self._rank).map(lambda i: (tf.size(i), nothing, i))
        spare = tf.data.Dataset.from_tensors((nothing, nothing, np.zeros(1, np.int64)))
        return own.concatenate(spare).take(self.num_batches)

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


def fingerprint(inputs: Any) -> list[str]:
    """What each array of a structure is, briefly: shape, dtype and a checksum of some rows.

    Args:
        inputs: structure of arrays of shape [rows, ...].

    Returns:
        A line for each array, equal for equal arrays.

    Example:
        >>> fingerprint(np.zeros((3, 2))) == fingerprint(np.zeros((3, 2)))
        True
        >>> fingerprint(np.zeros((3, 2))) == fingerprint(np.ones((3, 2)))
        False
    """
    return [_fingerprint_of_array(leaf) for leaf in keras.tree.flatten(inputs) if leaf is not None]


def _fingerprint_of_array(array: Any) -> str:
    rows = int(array.shape[0])
    some = np.unique(np.linspace(0, max(rows - 1, 0), num=min(rows, 64)).astype(int))
    checksum = 0
    for content in _contents(array, some):
        checksum = zlib.crc32(content, checksum)
    dtype = getattr(array, "dtype", type(array).__name__)
    return f"shape {tuple(array.shape)}, {dtype}, checksum {checksum:08x}"


def _contents(array: Any, rows: np.ndarray[Any, Any]) -> Iterator[bytes]:
    at = array.iloc if hasattr(array, "iloc") else array
    for row in rows:
        part = at[int(row)]
        part = part.toarray() if hasattr(part, "toarray") else np.asarray(part)
        yield repr(part.tolist()).encode() if part.dtype == object else part.tobytes()
