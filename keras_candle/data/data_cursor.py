"""The data cursor: how far a training is in its data, so that another process can resume there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any

from keras_candle.keras_private.data import DataAdapter


@dataclass(frozen=True)
class DataCursor:
    """A position in the training data, the same for any number of ranks.

    Attributes:
        passes: completed passes over the data.
        taken: rows of arrays, else batches of all ranks, taken in the current pass.
        begun: how often the dataset was iterated: a `tf.data` shuffle draws anew each time.
        order: how the rows are ordered, see `RowOrder.state`; empty for data that order themselves.
    """

    passes: int = 0
    taken: int = 0
    begun: int = 0
    order: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the cursor as JSON values."""
        return asdict(self)


class EpochIterator:
    """Replaces the dataset that Keras iterates once for each pass.

    Args:
        dataset: the data of a pass.
        rest: the data of the first pass of a resumed training; None for all of `dataset`.
        begun: how often the dataset was iterated before.
        read: batches of the first pass to read and skip.

    Attributes:
        begun: how often the dataset was iterated.
        while_reading: context manager, entered while the skipped batches are read.
    """

    def __init__(self, dataset: Any, rest: Any = None, begun: int = 0, read: int = 0) -> None:
        self._dataset, self._rest, self._before, self._read = dataset, rest, begun, read
        self.begun = 0
        self.while_reading: AbstractContextManager[Any] = nullcontext()
        self.element_spec = dataset.element_spec

    def cardinality(self) -> Any:
        """Return the cardinality of a whole pass."""
        return self._dataset.cardinality()

    def __iter__(self) -> Iterator[Any]:
        rest, self._rest = self._rest, None
        read, self._read = self._read, 0
        resumes = rest is not None or read > 0
        self._begin_until(self._before - resumes)
        self.begun += 1
        iterator: Iterator[Any] = iter(self._dataset if rest is None else rest)
        if read:
            with self.while_reading:
                for _ in range(read):
                    next(iterator)
        return iterator

    def skip_all(self) -> None:
        """Begin the dataset as often as before, where nothing of it is left to read.

        A later fit may read the same dataset, whose shuffles continue from there.
        """
        self._begin_until(self._before)

    def _begin_until(self, number: int) -> None:
        while self.begun < number:
            iter(self._dataset)
            self.begun += 1


class PassAdapter(DataAdapter):  # type: ignore[misc]
    """A data adapter of Keras's whose passes can be resumed, whichever backend reads them.

    Attributes:
        passes: what Keras iterates once for each pass.
    """

    passes: EpochIterator

    def get_tf_dataset(self) -> EpochIterator:
        """Return `passes`."""
        return self.passes

    get_numpy_iterator = get_jax_iterator = get_torch_dataloader = get_tf_dataset

    @property
    def has_partial_batch(self) -> bool | None:
        """None: unknown."""
        return None

    @property
    def partial_batch_size(self) -> int | None:
        """None: unknown."""
        return None
