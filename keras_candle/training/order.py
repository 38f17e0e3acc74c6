"""The order in which all ranks go through the rows of arrays."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from keras_candle.engine.base import Engine
from keras_candle.training.keras_names import ArrayDataAdapter

# What tf.compat.v1.random.get_seed returns in the place of a global seed that nobody set.
_NO_SEED = 87654321


def order_of_batches(rows: int, batch_size: int, shuffle: bool | str, engine: Engine) -> Any:
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
