"""The shard: one rank's rows of a batch, or of data for code that does not call `fit`."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import keras

from keras_candle import engine as engines
from keras_candle.errors import DataError


class Shard(NamedTuple):
    """One rank's shard of a global batch.

    Attributes:
        rows: int32 scalar, how many rows of `data` belong to this rank. 0 when the global batch
            has fewer rows than there are ranks: then `data` only keeps the ranks in step and must
            have weight 0.
        total: int32 scalar, the rows of the global batch where it was divided; 0 where each rank
            has its own batch and does not know the rows of the other ranks.
        data: x, (x, y) or (x, y, sample_weight), as Keras's own data adapters yield them.
    """

    rows: Any
    total: Any
    data: Any


def shard(data: Any) -> Any:
    """Return this rank's shard of data, for code that does not call `fit`.

    Rank r of N gets the rows r, r + N, r + 2N, ...: every row once, in unequal numbers where N
    does not divide them.

    Args:
        data: an array of shape [rows, ...], a structure of such arrays, or a `tf.data.Dataset`,
            of which each rank gets every N-th element. `fit` does not divide a dataset again that
            was sharded here.

    Returns:
        The shard, of the same type as `data`.

    Raises:
        DataError: when a structure's arrays differ in their number of rows.

    Example:
        >>> import numpy as np
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
            f"shard got arrays of {sorted(lengths)} rows, expected equal numbers of rows."
        )
    return keras.tree.map_structure(lambda leaf: leaf[engine.rank :: engine.size], data)


def rows_of(data: Any) -> Any:
    """Return the number of rows of a batch, as an int32 tensor."""
    import tensorflow as tf

    first = next(leaf for leaf in keras.tree.flatten(data) if leaf is not None)
    return tf.shape(first)[0]


def lookups_of_row(spec: Any) -> int:
    """Return the most embedding rows that one row of a batch may look up in one table.

    Args:
        spec: structure of tensor specs, batch dimension first; unknown dimensions count as 1.
            Where there are whole numbers or strings, other tensors look up nothing.

    Example:
        >>> import tensorflow as tf
        >>> lookups_of_row((tf.TensorSpec([None, 200], "int32"), tf.TensorSpec([None, 999])))
        200
    """
    leaves = [each for each in keras.tree.flatten(spec) if getattr(each, "shape", None)]
    ids = [each for each in leaves if each.dtype.is_integer or each.dtype == "string"]
    sizes = [math.prod(d or 1 for d in tuple(each.shape)[1:]) for each in ids or leaves]
    return max(sizes, default=1)
