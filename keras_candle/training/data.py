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
from keras_candle.training.keras_names import ArrayDataAdapter, DataAdapter, convert_to_sliceable
from keras_candle.training.step import Share

# What tf.compat.v1.random.get_seed returns in the place of a global seed that nobody set.
_NO_SEED = 87654321


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

    A step's global batch is the batch that one rank would take with a batch size N times as
    large; this rank takes its rows r, r + N, r + 2N, ... .

    Args:
        inputs: x, (x, y) or (x, y, sample_weight) as Keras packs them.
        batch_size: rows of a global batch.
        shuffle: True, False or "batch", as in `fit`.
        engine: connects the ranks.
        limit: use only the first rows; None for all.
    """

    def __init__(
        self,
        inputs: Any,
        batch_size: int,
        shuffle: bool | str,
        engine: Engine,
        limit: int | None = None,
    ) -> None:
        self._inputs, self._global_batch_size = inputs, batch_size
        self._rank, self._size = engine.rank, engine.size
        rows = int(keras.tree.flatten(inputs)[0].shape[0])
        self.rows = rows if limit is None else min(rows, limit)
        self._order = _order(self.rows, batch_size, shuffle, engine)

    def get_tf_dataset(self) -> Any:
        """Dataset of `Share`s, made once: it holds a copy of the arrays."""
        return self._dataset

    @functools.cached_property
    def _dataset(self) -> Any:
        import tensorflow as tf

        sliceable = convert_to_sliceable(self._inputs, target_backend="tensorflow")
        # As tensors the arrays are shared by reference; as arrays they'd be copied into the graph.
        arrays = keras.tree.map_structure(_dense, keras.tree.lists_to_tuples(sliceable))

        def take(indices: Any) -> Share:
            own = indices[self._rank :: self._size]
            rows = tf.size(own)
            # A rank without rows stays in step with a row of another one, which does not count.
            own = tf.concat([own, indices[: 1 - tf.minimum(rows, 1)]], axis=0)
            return Share(rows, keras.tree.map_structure(lambda x: _gather(x, own), arrays))

        shares = self._order.map(take, num_parallel_calls=tf.data.AUTOTUNE)
        return shares.prefetch(tf.data.AUTOTUNE)

    @property
    def num_batches(self) -> int:
        """Steps of an epoch, the same on all ranks."""
        return math.ceil(self.rows / self._global_batch_size)

    @property
    def batch_size(self) -> int:
        """Rows of this rank in a full step, rounded up."""
        return math.ceil(self._global_batch_size / self._size)

    @property
    def may_be_empty(self) -> bool:
        """Whether a rank has no row in the last step."""
        last = self.rows % self._global_batch_size
        return 0 < last < self._size or self._global_batch_size < self._size

    @property
    def has_partial_batch(self) -> bool:
        """Whether the last step has fewer rows than the others."""
        return self.rows % self._global_batch_size > 0

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


def _order(rows: int, batch_size: int, shuffle: bool | str, engine: Engine) -> Any:
    """Dataset of the row numbers of each global batch, the same on all ranks."""
    import tensorflow as tf

    seeds = engine.gather_objects(tf.compat.v1.random.get_seed(1)[0])
    if not shuffle or (len(set(seeds)) == 1 and seeds[0] != _NO_SEED):
        # Keras's own order: with one seed on all ranks, they go through the rows as one rank
        # with that seed would.
        indices = np.arange(rows)
        return ArrayDataAdapter(indices, batch_size=batch_size, shuffle=shuffle).get_tf_dataset()
    seed = int(engine.broadcast(int(np.random.default_rng().integers(2**31))))
    steps = math.ceil(rows / batch_size)

    def batches(epoch_seed: Any) -> Any:
        draw = tf.random.experimental.stateless_shuffle
        order = tf.range(rows, dtype=tf.int64)
        if shuffle != "batch":
            order = draw(order, [epoch_seed, 0])

        def batch(step: Any) -> Any:
            own = order[step * batch_size : (step + 1) * batch_size]
            return draw(own, [epoch_seed, step + 1]) if shuffle == "batch" else own

        return tf.data.Dataset.range(steps).map(batch)

    # Each iterator, that is each epoch, draws the next seed.
    epoch_seeds = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True)
    return epoch_seeds.take(1).flat_map(batches)


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
