"""Keras's own data adapters: made resumable, for data that are not divided, or read in sequence."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from keras_candle import backend
from keras_candle.data.data_cursor import DataCursor, EpochIterator, PassAdapter
from keras_candle.data.input_data import InputData
from keras_candle.data.shard import known_rows
from keras_candle.data.shared_randomness import SharedRandomness
from keras_candle.keras_private.data import limit_passes


class ResumableAdapter(PassAdapter):
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
        self.passes = EpochIterator(dataset, None, self._start.begun, self._start.taken)

    def _make_dataset(self) -> Any:
        return backend.current().batches_of(self._keras_adapter)

    def position_after(self, passes: int, steps: int, begun: int) -> DataCursor:
        """Return the data cursor after some steps, see `ArrayShard.position_after`."""
        before = self._start.taken if passes == self._start.passes else 0
        taken = before + steps
        return DataCursor(passes, min(taken, self.num_batches or taken), begun)

    def steps_left(self, taken: int) -> int | None:
        """Return the remaining steps of a pass after `taken` batches; None when unknown."""
        return None if self.num_batches is None else self.num_batches - taken

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
        return backend.current().endless_shards(super()._make_dataset())

    @property
    def num_batches(self) -> None:
        """None: unknown."""
        return None

    @property
    def batch_size(self) -> int | None:
        """Rows of this rank in a step, None when unknown."""
        return known_rows(self.passes.element_spec.data)

    @property
    def has_partial_batch(self) -> None:
        """None: unknown."""
        return None

    @property
    def partial_batch_size(self) -> None:
        """None: unknown."""
        return None


def read_in_order(source: InputData, randomness: SharedRandomness) -> Any:
    """Return Keras's dataset of batches that can only be read in sequence.

    Every rank reads all batches and keeps its own. An evaluation of some steps reads just
    these: Keras's adapter reads ahead, another number of batches on each rank, which would be lost.
    """
    adapter = source.keras_adapter
    read = adapter.get_numpy_iterator
    if source.steps and not source.for_training:
        limit_passes(adapter, source.steps)

    def read_in_one_order() -> Iterator[Any]:
        # A torch DataLoader draws its order when the first batch is asked for.
        with randomness.torch_only():
            batches = iter(read())
            first = next(batches, None)
        if first is not None:
            yield first
            yield from batches

    adapter.get_numpy_iterator = read_in_one_order
    return backend.current().dataset_of_length(adapter)
