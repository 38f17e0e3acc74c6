"""How far a training has come in its data, so that another process can go on from there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class DataCursor:
    """A place in the training data, the same for any number of ranks.

    Attributes:
        passes: how often the data have been gone through as a whole.
        taken: rows of arrays, else batches of the whole data, that were taken since.
        begun: how often their reading was begun: a `tf.data` shuffle draws anew each time.
        order: how the rows are ordered, see `RowOrder.state`; empty for data that order themselves.
    """

    passes: int = 0
    taken: int = 0
    begun: int = 0
    order: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """The position as JSON values."""
        return asdict(self)


class EpochIterator:
    """Stands where Keras expects a `tf.data.Dataset`, and is gone through once for each pass.

    Args:
        dataset: what a pass reads.
        rest: what the first one reads where a training goes on; None for the whole.
        begun: how often the dataset was begun before.
        read: batches of the first one that are to be read and left out.

    Attributes:
        begun: how often the dataset was begun.
        while_reading: entered while those batches are read.
    """

    def __init__(self, dataset: Any, rest: Any = None, begun: int = 0, read: int = 0) -> None:
        self._dataset, self._rest, self._before, self._read = dataset, rest, begun, read
        self.begun = 0
        self.while_reading: AbstractContextManager[Any] = nullcontext()
        self.element_spec = dataset.element_spec

    def cardinality(self) -> Any:
        """Of a whole pass."""
        return self._dataset.cardinality()

    def __iter__(self) -> Iterator[Any]:
        rest, self._rest = self._rest, None
        read, self._read = self._read, 0
        goes_on = rest is not None or read > 0
        self._begin_until(self._before - goes_on)
        self.begun += 1
        iterator: Iterator[Any] = iter(self._dataset if rest is None else rest)
        if read:
            with self.while_reading:
                for _ in range(read):
                    next(iterator)
        return iterator

    def leave_out(self) -> None:
        """Begin the dataset as often as before, where nothing of it is left to be read.

        A later fit may read the same dataset, whose shuffles go on from there.
        """
        self._begin_until(self._before)

    def _begin_until(self, number: int) -> None:
        while self.begun < number:
            iter(self._dataset)
            self.begun += 1


def untuned(dataset: Any) -> Any:
    """A dataset of which a pass never waits for the end of the one before.

    The thread with which tf.data tunes a pass is woken before the pass counts as cancelled (both
    in TensorFlow's Model::OptimizeLoop), and may sleep on: for about as long as the pass has
    lasted, up to a minute. Whoever drops its iterator, as the next pass does, waits for it.
    """
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)
