"""Each rank's shard of a `tf.data.Dataset`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from keras_candle.data.batch_assignment import BatchAssignment
from keras_candle.data.data_cursor import DataCursor, EpochIterator
from keras_candle.data.shared_randomness import SharedRandomness
from keras_candle.data.tf_sharding import (
    assign_rounds,
    divide,
    element_of,
    known_rows,
    shared_part,
)
from keras_candle.engine.base import Engine
from keras_candle.errors import DataError
from keras_candle.keras_private.data import (
    DataAdapter,
    TFDatasetAdapter,
    dataset_inputs,
    dataset_seeds,
)


class DatasetShard(DataAdapter):  # type: ignore[misc]
    """A rank's batches of a dataset that every rank has as a whole.

    Args:
        dataset: yields batches.
        batch: "replica": the dataset's batches are assigned to the ranks in turn; a rank that gets
            none in the last round repeats another's batch, with weight 0. "global": each batch is
            divided, and this rank takes its rows r, r + N, r + 2N, ... , one fewer than other ranks
            or none where N does not divide the rows.
        engine: connects the ranks.
        class_weight: dict from class index to weight, or None.
        steps: batches of the whole dataset in an epoch, None for all.
        start: the data cursor to resume from; None for a new training.
    """

    # The shared generators, where Python code reads the data.
    randomness: SharedRandomness | None = None

    def __init__(
        self,
        dataset: Any,
        batch: str,
        engine: Engine,
        class_weight: dict[int, float] | None = None,
        steps: int | None = None,
        start: DataCursor | None = None,
    ) -> None:
        self.source = dataset
        dataset = TFDatasetAdapter(dataset, class_weight=class_weight).get_tf_dataset()
        rows = known_rows(dataset.element_spec)
        self._batch_size = rows
        # Batches of unknown size may be ragged anywhere, and a round may end in the middle.
        self.knows_total = batch != "replica"
        self.may_be_empty = batch == "replica" or rows is None or rows < engine.size
        self._start = start or DataCursor()
        ranks = (engine.rank, engine.size) if batch == "replica" else (0, 1)
        if batch != "replica":
            self._batch_size = shared_part(rows, engine.size)

        def assigned(taken: int) -> tuple[BatchAssignment, Any]:
            left = dataset.skip(taken) if taken else dataset
            if batch != "replica":
                part = left.map(lambda *e: divide(element_of(dataset, e), engine))
                return BatchAssignment(*ranks, None, steps), part.prefetch(2)
            cardinality = int(left.cardinality())
            assignment = BatchAssignment(*ranks, cardinality if cardinality >= 0 else None, steps)
            return assignment, assign_rounds(left, assignment).prefetch(2)

        self.assignment, self._dataset = assigned(0)
        self._left = self._dataset
        taken = self.assignment.whole_epochs(self._start.taken)
        self._start = replace(self._start, taken=taken)
        if taken:
            _, self._left = assigned(taken)
        rest = self._left if taken else None
        self._passes = EpochIterator(self._dataset, rest, self._start.begun)

    def position_after(self, passes: int, steps: int, begun: int) -> DataCursor:
        """Return the data cursor after some steps, see `ArrayShard.position_after`."""
        before = self._start.taken if passes == self._start.passes else 0
        taken = before + self.assignment.taken_in(steps)
        return DataCursor(passes, min(taken, self.assignment.batches or taken), begun)

    def steps_left(self, taken: int) -> int | None:
        """Return the remaining steps of a pass after `taken` batches; None when unknown."""
        if taken != self._start.taken:
            batches = self.assignment.batches
            return (
                None
                if batches is None
                else replace(self.assignment, batches=batches - taken).rounds()
            )
        cardinality = int(self._left.cardinality())
        return cardinality if cardinality >= 0 else None

    def get_tf_dataset(self) -> EpochIterator:
        """Return an iterable over the `Shard`s of each pass."""
        return self._passes

    @property
    def num_batches(self) -> int | None:
        """Steps of an epoch, None when the dataset's cardinality is unknown."""
        cardinality = int(self._dataset.cardinality())
        return cardinality if cardinality >= 0 else None

    @property
    def batch_size(self) -> int | None:
        """Rows of this rank in a step, None when unknown."""
        return self._batch_size

    @property
    def has_partial_batch(self) -> bool | None:
        """None: unknown."""
        return None

    @property
    def partial_batch_size(self) -> int | None:
        """None: unknown."""
        return None


def is_sharded_by_user(dataset: Any) -> bool:
    """Whether the dataset is marked, by AutoShardPolicy.OFF, as one rank's shard already."""
    import tensorflow as tf

    policy = dataset.options().experimental_distribute.auto_shard_policy
    return bool(policy == tf.data.experimental.AutoShardPolicy.OFF)


def describe_dataset(dataset: Any) -> list[str]:
    """Describe the properties of a dataset that must be the same on all ranks.

    Raises:
        DataError: when there is no batch, or a `shuffle` of the dataset has no seed: its order
            would differ on each rank, and some rows would go to two ranks and others to none.
    """
    if int(dataset.cardinality()) == 0:
        raise DataError("The tf.data.Dataset has no batch, expected at least one.")
    shuffles = [each for each in ancestors(dataset) if "Shuffle" in type(each).__name__]
    if any(is_unseeded(each) for each in shuffles):
        raise DataError(
            "The tf.data.Dataset is shuffled without a seed, so its order differs on each rank "
            "and rows would be lost. Call keras.utils.set_random_seed(...) before the dataset is "
            "made, or give its shuffle(...) a seed."
        )
    seeds, batches = [dataset_seeds(each) for each in shuffles], int(dataset.cardinality())
    return [f"{batches} batches of {dataset.element_spec}", f"seeds of shuffles {seeds}"]


def ancestors(dataset: Any) -> Iterator[Any]:
    """Yield a dataset and all datasets that it was made from."""
    yield dataset
    for each in dataset_inputs(dataset):
        yield from ancestors(each)


def is_unseeded(dataset: Any) -> bool:
    """Whether a dataset draws at random itself without a seed."""
    return dataset_seeds(dataset) == (0, 0)
