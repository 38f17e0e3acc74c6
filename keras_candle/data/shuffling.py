"""The order of the rows of arrays in each pass, the same on all ranks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_candle.engine.base import Engine

# Returned by tf.compat.v1.random.get_seed where no global seed is set.
_NO_SEED = 87654321
# Global seeds that keras_candle has set, not the user.
SEEDS_OF_OURS: set[int] = set()


class RowOrder:
    """Draws the order of the rows for each pass.

    With one seed on all ranks the orders are Keras's, so that the ranks read the rows as one rank
    with that seed would. Without, each pass draws anew from a seed of the root's.

    Args:
        rows: how many rows there are.
        batch_size: rows of a batch, within which shuffle="batch" stays.
        shuffle: True, False or "batch", as in `fit`.
        engine: connects the ranks.
        state: the state to resume from; None for a new training.

    Attributes:
        state: JSON values that reproduce the orders in another process; empty without a shuffle.
    """

    def __init__(
        self,
        rows: int,
        batch_size: int,
        shuffle: bool | str,
        engine: Engine,
        state: Mapping[str, Any] | None = None,
    ) -> None:
        self._rows, self._batch_size, self._shuffle = rows, batch_size, shuffle
        self._next_pass = 0
        self.state: dict[str, Any] = {}
        if shuffle:
            self.state = dict(state) if state else _choose_seed(engine)

    def begin(self, passes: int) -> None:
        """Draw the order of pass number `passes` next."""
        self._next_pass = passes

    def dataset(self) -> Any:
        """Return a dataset of one int64 vector: the numbers of all rows, in the order of a pass."""
        import tensorflow as tf

        if not self._shuffle:
            return tf.data.Dataset.from_tensors(np.arange(self._rows))
        if not self.state["of_keras"]:
            return tf.data.Dataset.range(1).map(self._draw)
        own, _ = tf.compat.v1.random.get_seed(1)
        if own == self.state["seed"]:
            return _order_of_keras(self._rows, self._batch_size, self._shuffle)
        tf.random.set_seed(self.state["seed"])
        try:
            return _order_of_keras(self._rows, self._batch_size, self._shuffle)
        finally:
            tf.random.set_seed(own)

    def _draw(self, _: Any) -> Any:
        import tensorflow as tf

        # Drawn when the first row is read: Keras begins passes that it does not read.
        order = tf.numpy_function(self._draw_next, [], tf.int64)
        return tf.ensure_shape(order, [self._rows])

    def _draw_next(self) -> NDArray[np.int64]:
        number, self._next_pass = self._next_pass, self._next_pass + 1
        return drawn_order(
            self._rows, self._batch_size, self._shuffle, [self.state["seed"], number]
        )


def _choose_seed(engine: Engine) -> dict[str, Any]:
    import tensorflow as tf

    seeds = engine.gather_objects(tf.compat.v1.random.get_seed(1)[0])
    if len(set(seeds)) == 1 and seeds[0] not in (_NO_SEED, *SEEDS_OF_OURS):
        return {"of_keras": True, "seed": int(seeds[0])}
    seed = int(engine.broadcast(int(np.random.default_rng().integers(2**31))))
    return {"of_keras": False, "seed": seed}


def _order_of_keras(rows: int, batch_size: int, shuffle: bool | str) -> Any:
    """Return the order in which Keras's own adapter of arrays reads the rows.

    A shuffle's seed depends on the operations before it in its function, so they are the same as
    Keras's. Keras's whole adapter would take 5 ms more for each epoch.
    """
    import tensorflow as tf

    if shuffle != "batch":
        one = tf.data.Dataset.range(1)
        return one.map(lambda _: tf.random.shuffle(tf.range(rows, dtype=tf.int64)))
    batches = tf.data.Dataset.range(rows).batch(batch_size)
    return batches.map(tf.random.shuffle).unbatch().batch(rows)


def drawn_order(
    rows: int, batch_size: int, shuffle: bool | str, seed: list[int]
) -> NDArray[np.int64]:
    """Draw an order of rows; with shuffle="batch" each row stays in its batch.

    Args:
        rows: how many rows there are.
        batch_size: rows of a batch.
        shuffle: True or "batch".
        seed: of NumPy's default generator.

    Returns:
        A permutation of range(rows), int64 of shape [rows].

    Example:
        >>> sorted(drawn_order(5, 2, "batch", [7, 0])[:2].tolist())
        [0, 1]
    """
    random = np.random.default_rng(seed)
    if shuffle != "batch":
        return random.permutation(rows)
    batches = np.arange(rows) // batch_size
    return np.lexsort((random.random(rows), batches))
