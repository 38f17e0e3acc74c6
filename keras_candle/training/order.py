"""The order in which all ranks go through the rows of arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_candle.engine.base import Engine

# What tf.compat.v1.random.get_seed returns in the place of a global seed that nobody set.
_NO_SEED = 87654321
# Global seeds that the user has not set either.
SEEDS_OF_OURS: set[int] = set()


def order_of_rows(rows: int, batch_size: int, shuffle: bool | str, engine: Engine) -> Any:
    """Dataset of one int64 vector: the numbers of all rows, in the order of an epoch.

    With one seed on all ranks it is the order of Keras, so that they go through the rows as one
    rank with that seed would. Without, the root draws one, anew for each epoch.

    Args:
        rows: how many rows there are.
        batch_size: rows of a batch, within which shuffle="batch" stays.
        shuffle: True, False or "batch", as in `fit`.
        engine: connects the ranks.
    """
    import tensorflow as tf

    if not shuffle:
        return tf.data.Dataset.from_tensors(np.arange(rows))
    seeds = engine.gather_objects(tf.compat.v1.random.get_seed(1)[0])
    if len(set(seeds)) == 1 and seeds[0] not in (_NO_SEED, *SEEDS_OF_OURS):
        return _order_of_keras(rows, batch_size, shuffle)
    seed = int(engine.broadcast(int(np.random.default_rng().integers(2**31))))

    def draw(epoch_seed: Any) -> Any:
        order = tf.numpy_function(
            lambda number: _drawn(rows, batch_size, shuffle, int(number)), [epoch_seed], tf.int64
        )
        return tf.ensure_shape(order, [rows])

    # Each iterator, that is each epoch, draws the next seed.
    epoch_seeds = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True)
    return epoch_seeds.take(1).map(draw)


def _order_of_keras(rows: int, batch_size: int, shuffle: bool | str) -> Any:
    """The order of keras.src.trainers.data_adapters.ArrayDataAdapter.

    A shuffle's seed depends on the operations before it in its function, so they are Keras's.
    Its whole adapter would take 5 ms more for each epoch.
    """
    import tensorflow as tf

    if shuffle != "batch":
        one = tf.data.Dataset.range(1)
        return one.map(lambda _: tf.random.shuffle(tf.range(rows, dtype=tf.int64)))
    batches = tf.data.Dataset.range(rows).batch(batch_size)
    return batches.map(tf.random.shuffle).unbatch().batch(rows)


def _drawn(rows: int, batch_size: int, shuffle: bool | str, seed: int) -> NDArray[np.int64]:
    """An order of rows; with "batch" each row stays in its batch."""
    random = np.random.default_rng(seed)
    if shuffle != "batch":
        return random.permutation(rows)
    batches = np.arange(rows) // batch_size
    return np.lexsort((random.random(rows), batches))
