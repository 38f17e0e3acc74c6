"""The data cursor: how far a training is in its data, so that another process can resume there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any


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
    """Replaces the `tf.data.Dataset` that Keras iterates once for each pass.

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


def untuned(dataset: Any) -> Any:
    """Return the dataset without autotuning, so that a pass never waits for the one before.

    The thread with which tf.data tunes a pass is woken before the pass counts as cancelled (both
    in TensorFlow's Model::OptimizeLoop), and may sleep on: for about as long as the pass has
    lasted, up to a minute. Dropping the pass's iterator, as the next pass does, waits for it.
    """
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)
