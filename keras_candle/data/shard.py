"""The shard: one rank's rows of a batch, or of data for code that does not call `fit`."""

from __future__ import annotations

import math
from typing import Any

import keras

from keras_candle import backend
from keras_candle import engine as engines
from keras_candle.errors import DataError
from keras_candle.keras_private.data import is_tf_dataset


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
    engine = engines.current()
    if is_tf_dataset(data):
        return backend.current().every_nth(data, engine)
    lengths = {len(leaf) for leaf in keras.tree.flatten(data)}
    if len(lengths) != 1:
        raise DataError(
            f"shard got arrays of {sorted(lengths)} rows, expected equal numbers of rows."
        )
    return keras.tree.map_structure(lambda leaf: leaf[engine.rank :: engine.size], data)


def known_rows(spec: Any) -> int | None:
    """Return the rows of a batch by its structure of tensor specs; None when unknown."""
    shape = keras.tree.flatten(spec)[0].shape
    if getattr(shape, "rank", 1) is None:  # of a TensorShape
        return None
    dimensions = tuple(shape)
    return dimensions[0] if dimensions else None


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
    ids = [each for each in leaves if _is_id(each.dtype)]
    sizes = [math.prod(d or 1 for d in tuple(each.shape)[1:]) for each in ids or leaves]
    return max(sizes, default=1)


def _is_id(dtype: Any) -> bool:
    return getattr(dtype, "name", str(dtype)).startswith(("int", "uint", "str"))
