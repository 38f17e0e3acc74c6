"""Each rank's part of a `tf.data.Dataset`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from keras_candle.engine.base import Engine
from keras_candle.errors import DataError
from keras_candle.training.deal import Deal
from keras_candle.training.keras_names import DataAdapter, TFDatasetAdapter, dataset_inputs
from keras_candle.training.rounds import (
    deal_rounds,
    divide,
    element_of,
    empty_share,
    known_rows,
    own_share,
    shared_part,
)


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
        steps: batches of the whole dataset in an epoch, None for all.
    """

    def __init__(
        self,
        dataset: Any,
        batch: str,
        engine: Engine,
        class_weight: dict[int, float] | None = None,
        steps: int | None = None,
    ) -> None:
        dataset = TFDatasetAdapter(dataset, class_weight=class_weight).get_tf_dataset()
        rows = known_rows(dataset.element_spec)
        self._batch_size = rows
        # Batches of unknown size may be ragged anywhere, and a round may end in the middle.
        self.knows_total = batch != "replica"
        self.may_be_empty = batch == "replica" or rows is None or rows < engine.size
        if batch == "replica":
            cardinality = int(dataset.cardinality())
            batches = cardinality if cardinality >= 0 else None
            self.deal = Deal(engine.rank, engine.size, batches, steps)
            self._dataset = deal_rounds(dataset, self.deal)
        else:
            if batch == "global":
                _check_divisible(rows, engine.size)
            self.deal = Deal(0, 1, None, steps)
            self._batch_size = shared_part(rows, engine.size)
            self._dataset = dataset.map(lambda *e: divide(element_of(dataset, e), engine))
        self._dataset = self._dataset.prefetch(2)

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


class OwnDataset(DataAdapter):  # type: ignore[misc]
    """Batches that are this rank's already, of which nobody knows how many they are.

    After the last one come shares that count nothing, so that the other ranks need not wait in
    vain; that they came is an error at the epoch's end.

    Args:
        stock: Keras's own adapter of the data.
    """

    may_be_empty = True

    def __init__(self, stock: Any) -> None:
        import tensorflow as tf

        self._stock = stock
        dataset = stock.get_tf_dataset()
        own = dataset.map(lambda *e: own_share(element_of(dataset, e)))
        nothing = tf.data.Dataset.from_tensors(empty_share(dataset.element_spec))
        self._dataset = own.concatenate(nothing.repeat()).prefetch(2)

    def get_tf_dataset(self) -> Any:
        """Dataset of `Share`s, without an end."""
        return self._dataset

    @property
    def num_batches(self) -> None:
        """Not known."""
        return None

    @property
    def batch_size(self) -> int | None:
        """Rows of this rank in a step, None when unknown."""
        return known_rows(self._dataset.element_spec.data)

    def on_epoch_begin(self) -> None:
        """Keras's hook."""
        self._stock.on_epoch_begin()

    def on_epoch_end(self) -> None:
        """Keras's hook."""
        self._stock.on_epoch_end()


def is_sharded_by_user(dataset: Any) -> bool:
    """Whether the dataset says, by AutoShardPolicy.OFF, that it is already one rank's part."""
    import tensorflow as tf

    policy = dataset.options().experimental_distribute.auto_shard_policy
    return bool(policy == tf.data.experimental.AutoShardPolicy.OFF)


def describe_dataset(dataset: Any) -> list[str]:
    """What must be the same on all ranks for a dataset's batches to be dealt to them.

    Raises:
        DataError: when there is no batch, or a `shuffle` of the dataset has no seed: its order
            would differ on each rank, and some rows would go to two ranks and others to none.
    """
    if int(dataset.cardinality()) == 0:
        raise DataError("The tf.data.Dataset has no batch; expected at least one.")
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
