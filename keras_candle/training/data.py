"""Each rank's part of the data, for code that does not go through `fit`."""

from __future__ import annotations

from typing import Any

import keras

from keras_candle import engine as engines
from keras_candle.errors import DataError


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
            f"shard got arrays of {sorted(lengths)} rows, expected one number of rows for all."
        )
    return keras.tree.map_structure(lambda leaf: leaf[engine.rank :: engine.size], data)
