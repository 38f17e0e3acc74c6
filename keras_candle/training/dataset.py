"""Each rank's part of a `tf.data.Dataset`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import keras

from keras_candle.engine.base import Engine
from keras_candle.errors import DataError
from keras_candle.training.keras_names import DataAdapter, TFDatasetAdapter, dataset_inputs
from keras_candle.training.step import Share, rows_of


class DatasetShard(DataAdapter):  # type: ignore[misc]
    """A rank's batches of a dataset that every rank has as a whole.

    Args:
        dataset: yields batches.
        batch: "replica": the dataset's batches are dealt to the ranks in turn; a rank that gets
            none in the last round repeats another's batch, which does not count. "global": each
            batch is divided, and this rank takes its rows r, r + N, r + 2N, ... . "uneven": as
            "global", where N need not divide the rows.
        engine: connects the ranks.
        class_weight: dict from class index to weight, or None.
        limit: take only so many batches, before they are dealt; None for all.
    """

    def __init__(
        self,
        dataset: Any,
        batch: str,
        engine: Engine,
        class_weight: dict[int, float] | None = None,
        limit: int | None = None,
    ) -> None:
        dataset = TFDatasetAdapter(dataset, class_weight=class_weight).get_tf_dataset()
        if limit is not None:
            dataset = dataset.take(limit)
        first = keras.tree.flatten(dataset.element_spec)[0]
        rows = first.shape[0] if first.shape.rank else None
        self._batch_size = rows
        if batch == "replica":
            self._dataset = _deal(dataset, engine)
        else:
            if batch == "global":
                _check_divisible(rows, engine.size)
            self._batch_size = rows and math.ceil(rows / engine.size)
            self._dataset = dataset.map(lambda *e: _divide(_element(dataset, e), engine))
        self._dataset = self._dataset.prefetch(2)
        # Batches of unknown size may be ragged anywhere, and a round may end in the middle.
        self.may_be_empty = batch == "replica" or rows is None or rows < engine.size

    def get_tf_dataset(self) -> Any:
        """Dataset of `Share`s."""
        return self._dataset

    @property
    def num_batches(self) -> int | None:
        """Steps of an epoch, None when the dataset does not know."""
        cardinality = int(self._dataset.cardinality())
        return cardinality if cardinality >= 0 else None

    @property
    def batch_size(self) -> int | None:
        """Rows of this rank in a step, None when unknown."""
        return self._batch_size

    @property
    def has_partial_batch(self) -> bool | None:
        """Not known."""
        return None

    @property
    def partial_batch_size(self) -> int | None:
        """Not known."""
        return None


def is_sharded_by_user(dataset: Any) -> bool:
    """Whether the dataset says, by AutoShardPolicy.OFF, that it is already one rank's part."""
    import tensorflow as tf

    policy = dataset.options().experimental_distribute.auto_shard_policy
    return bool(policy == tf.data.experimental.AutoShardPolicy.OFF)


def describe_dataset(dataset: Any) -> list[str]:
    """What must be the same on all ranks for a dataset's batches to be dealt to them.

    Raises:
        DataError: when a `shuffle` of the dataset has no seed: its order would differ on each
            rank, and some rows would go to two ranks and others to none.
    """
    seeds = [_seeds_of(each) for each in _ancestors(dataset) if "Shuffle" in type(each).__name__]
    if any(seed == (0, 0) for seed in seeds):
        raise DataError(
            "The tf.data.Dataset is shuffled without a seed, so its order differs on each rank "
            "and rows would be lost. Call keras.utils.set_random_seed(...) before the dataset is "
            "made, or give its shuffle(...) a seed."
        )
    batches = int(dataset.cardinality())
    return [f"{batches} batches of {dataset.element_spec}", f"seeds of shuffles {seeds}"]


def _ancestors(dataset: Any) -> Iterator[Any]:
    yield dataset
    for each in dataset_inputs(dataset):
        yield from _ancestors(each)


def _seeds_of(shuffled: Any) -> tuple[int, int]:
    return int(getattr(shuffled, "_seed", 0)), int(getattr(shuffled, "_seed2", 0))


def _check_divisible(rows: int | None, size: int) -> None:
    if rows is not None and rows % size:
        raise DataError(
            f"batch='global' divides each batch among the ranks, but {rows} rows cannot be "
            f"divided by {size} ranks. Use a batch size that is a multiple of {size}, "
            "or batch='replica'."
        )


def _element(dataset: Any, arguments: tuple[Any, ...]) -> Any:
    """The element that `map` has spread over its function's arguments."""
    return arguments if isinstance(dataset.element_spec, tuple) else arguments[0]


def _divide(element: Any, engine: Engine) -> Share:
    import tensorflow as tf

    total = rows_of(element)
    # With fewer rows than ranks, a rank without one takes the first, which does not count.
    rows = tf.maximum((total - engine.rank + engine.size - 1) // engine.size, 0)
    start = tf.where(rows > 0, engine.rank, 0)
    end = tf.where(rows > 0, total, 1)
    return Share(rows, keras.tree.map_structure(lambda x: x[start : end : engine.size], element))


def _deal(dataset: Any, engine: Engine) -> Any:
    """Batch r, r + N, r + 2N, ... for rank r, and as many batches on every rank."""
    import tensorflow as tf

    def real(*arguments: Any) -> Share:
        element = _element(dataset, arguments)
        return Share(rows_of(element), element)

    def spare(*arguments: Any) -> Share:
        return Share(tf.constant(0), _element(dataset, arguments))

    def pick(*windows: Any) -> Any:
        batches = tf.data.Dataset.zip(_element(dataset, windows))
        mine = batches.skip(engine.rank).take(1).map(real)
        return mine.concatenate(batches.take(1).map(spare)).take(1)

    cardinality = int(dataset.cardinality())
    own = dataset.shard(engine.size, engine.rank).map(real)
    if cardinality == tf.data.INFINITE_CARDINALITY:
        return own
    if cardinality >= 0 and all(map(_has_fixed_rows, keras.tree.flatten(dataset.element_spec))):
        steps = math.ceil(cardinality / engine.size)
        zeros = keras.tree.map_structure(_one_row, dataset.element_spec)
        # Not a batch of the dataset: a second iterator would advance the seeds of its shuffle on
        # the ranks that need one, and so change their order for the epochs to come.
        last = tf.data.Dataset.from_tensors(Share(tf.constant(0), zeros))
        return own.concatenate(last).take(steps)
    # How the last round ends shows only when it comes. This takes about 0.2 ms more a step.
    dealt = dataset.window(engine.size).flat_map(pick)
    if cardinality >= 0:
        steps = math.ceil(cardinality / engine.size)
        dealt = dealt.apply(tf.data.experimental.assert_cardinality(steps))
    return dealt


def _has_fixed_rows(spec: Any) -> bool:
    import tensorflow as tf

    known = isinstance(spec, tf.TensorSpec) and spec.shape.rank
    return bool(known and spec.shape[1:].is_fully_defined())


def _one_row(spec: Any) -> Any:
    import tensorflow as tf

    return tf.zeros([spec.shape[0] or 1, *spec.shape[1:]], spec.dtype)
