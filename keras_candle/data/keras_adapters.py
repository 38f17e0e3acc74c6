"""Keras's own adapters of data that need no dividing, made to go on where a training was left."""

from __future__ import annotations

from typing import Any

from keras_candle.data.data_cursor import DataCursor, EpochIterator, untuned
from keras_candle.data.tf_sharding import element_of, empty_shard, known_rows, own_shard
from keras_candle.keras_private.data import ArrayDataAdapter, DataAdapter


class ResumableAdapter(DataAdapter):  # type: ignore[misc]
    """The batches of Keras's own adapter.

    Args:
        keras_adapter: the adapter.
        start: where a training goes on; None for one that begins.
        source: the user's data, None where nobody needs them.
    """

    def __init__(
        self, keras_adapter: Any, start: DataCursor | None = None, source: Any = None
    ) -> None:
        self._keras_adapter, self._start, self.source = keras_adapter, start or DataCursor(), source
        dataset = self._make_dataset()
        self._passes = EpochIterator(dataset, None, self._start.begun, self._start.taken)

    def _make_dataset(self) -> Any:
        dataset = self._keras_adapter.get_tf_dataset()
        return untuned(dataset) if isinstance(self._keras_adapter, ArrayDataAdapter) else dataset

    def position_after(self, passes: int, steps: int, begun: int) -> DataCursor:
        """See `ArrayShard.position_after`."""
        before = self._start.taken if passes == self._start.passes else 0
        taken = before + steps
        return DataCursor(passes, min(taken, self.num_batches or taken), begun)

    def steps_left(self, taken: int) -> int | None:
        """Steps of a pass of which so many batches are taken; None when unknown."""
        return None if self.num_batches is None else self.num_batches - taken

    def get_tf_dataset(self) -> EpochIterator:
        """The adapter's batches of each pass."""
        return self._passes

    @property
    def num_batches(self) -> int | None:
        """As the adapter says."""
        number: int | None = self._keras_adapter.num_batches
        return number

    @property
    def batch_size(self) -> int | None:
        """As the adapter says."""
        rows: int | None = self._keras_adapter.batch_size
        return rows

    @property
    def has_partial_batch(self) -> bool | None:
        """As the adapter says."""
        partial: bool | None = self._keras_adapter.has_partial_batch
        return partial

    @property
    def partial_batch_size(self) -> int | None:
        """As the adapter says."""
        rows: int | None = self._keras_adapter.partial_batch_size
        return rows

    def on_epoch_begin(self) -> None:
        """Keras's hook."""
        self._keras_adapter.on_epoch_begin()

    def on_epoch_end(self) -> None:
        """Keras's hook."""
        self._keras_adapter.on_epoch_end()


class ResumableDataset(ResumableAdapter):
    """Batches that are this rank's already, of which nobody knows how many they are.

    After the last one come shares that count nothing, so that the other ranks need not wait in
    vain; that they came is an error at the epoch's end.
    """

    may_be_empty = True

    def _make_dataset(self) -> Any:
        import tensorflow as tf

        dataset = super()._make_dataset()
        own = dataset.map(lambda *e: own_shard(element_of(dataset, e)))
        nothing = tf.data.Dataset.from_tensors(empty_shard(dataset.element_spec))
        return own.concatenate(nothing.repeat()).prefetch(2)

    @property
    def num_batches(self) -> None:
        """Not known."""
        return None

    @property
    def batch_size(self) -> int | None:
        """Rows of this rank in a step, None when unknown."""
        return known_rows(self._passes.element_spec.data)

    @property
    def has_partial_batch(self) -> None:
        """Not known."""
        return None

    @property
    def partial_batch_size(self) -> None:
        """Not known."""
        return None
