"""Keras's own data adapters, made resumable, for data that are not divided."""

from __future__ import annotations

from typing import Any

from keras_candle.data.data_cursor import DataCursor, EpochIterator, untuned
from keras_candle.data.tf_sharding import element_of, empty_shard, known_rows, own_shard
from keras_candle.keras_private.data import ArrayDataAdapter, DataAdapter


class ResumableAdapter(DataAdapter):  # type: ignore[misc]
    """Yields the batches of Keras's own adapter from a data cursor on.

    Args:
        keras_adapter: the adapter.
        start: the data cursor to resume from; None for a new training.
        source: the user's data; None where they are not needed.
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
        """Return the data cursor after some steps, see `ArrayShard.position_after`."""
        before = self._start.taken if passes == self._start.passes else 0
        taken = before + steps
        return DataCursor(passes, min(taken, self.num_batches or taken), begun)

    def steps_left(self, taken: int) -> int | None:
        """Return the remaining steps of a pass after `taken` batches; None when unknown."""
        return None if self.num_batches is None else self.num_batches - taken

    def get_tf_dataset(self) -> EpochIterator:
        """Return an iterable over the adapter's batches of each pass."""
        return self._passes

    @property
    def num_batches(self) -> int | None:
        """Steps of an epoch, from the adapter."""
        number: int | None = self._keras_adapter.num_batches
        return number

    @property
    def batch_size(self) -> int | None:
        """Rows of a batch, from the adapter."""
        rows: int | None = self._keras_adapter.batch_size
        return rows

    @property
    def has_partial_batch(self) -> bool | None:
        """Whether the last batch is not full, from the adapter."""
        partial: bool | None = self._keras_adapter.has_partial_batch
        return partial

    @property
    def partial_batch_size(self) -> int | None:
        """Rows of a last batch that is not full, from the adapter."""
        rows: int | None = self._keras_adapter.partial_batch_size
        return rows

    def on_epoch_begin(self) -> None:
        """Call the adapter's hook."""
        self._keras_adapter.on_epoch_begin()

    def on_epoch_end(self) -> None:
        """Call the adapter's hook."""
        self._keras_adapter.on_epoch_end()


class ResumableDataset(ResumableAdapter):
    """Yields the batches of a rank's own data, whose number is unknown.

    After the last batch come empty shards, so that the other ranks do not wait for this one; the
    end of the epoch reports them as an error.
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
        """None: unknown."""
        return None

    @property
    def batch_size(self) -> int | None:
        """Rows of this rank in a step, None when unknown."""
        return known_rows(self._passes.element_spec.data)

    @property
    def has_partial_batch(self) -> None:
        """None: unknown."""
        return None

    @property
    def partial_batch_size(self) -> None:
        """None: unknown."""
        return None
