"""Each rank's shard of a `keras.utils.PyDataset`: a rank loads its own batches only."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import keras

from keras_candle.data.batch_assignment import BatchAssignment
from keras_candle.data.data_cursor import DataCursor, EpochIterator
from keras_candle.data.epoch_hooks import EpochHooks, LoadingGate
from keras_candle.data.input_data import InputData
from keras_candle.data.shared_randomness import SharedRandomness
from keras_candle.data.tf_sharding import divide, placeholder_batch, shared_part
from keras_candle.engine.base import Engine
from keras_candle.engine.consensus import succeed_on_all
from keras_candle.keras_private.data import DataAdapter, PyDatasetAdapter, pydataset_batches


class PyDatasetShard(DataAdapter):  # type: ignore[misc]
    """A rank's batches of a PyDataset that every rank has as a whole.

    Workers, multiprocessing and the PyDataset's own `on_epoch_begin` and `on_epoch_end` are
    Keras's. The two hooks draw the same random numbers on all ranks. Loading a batch draws a
    rank's own numbers where the ranks load different batches.

    Args:
        source: input data whose x is the user's PyDataset.
        batch: "replica": the batches are assigned to the ranks in turn. Otherwise every rank loads
            each batch and takes its rows.
        engine: connects the ranks.
        randomness: the generators for the hooks and for the order of the batches.
    """

    may_be_empty = True
    # Set where reading a batch changes the PyDataset, such as a generator of its own: then a
    # resumed training reads the batches before its first one again, and skips them.
    reads_again = False

    def __init__(
        self, source: InputData, batch: str, engine: Engine, randomness: SharedRandomness
    ) -> None:
        self.source, self._class_weight = source.x, source.class_weight
        self._shuffle = bool(source.shuffle)
        self._divided = self.knows_total = batch != "replica"
        self._engine = engine
        ranks = (0, 1) if self._divided else (engine.rank, engine.size)
        self.assignment = BatchAssignment(*ranks, source.x.num_batches, source.steps)
        self._start = source.start or DataCursor()
        self._taken = self.assignment.whole_epochs(self._start.taken)
        self.randomness = randomness
        self._hooks = EpochHooks(source.x, randomness, engine)
        adapter = PyDatasetAdapter(source.x, class_weight=self._class_weight)
        with self.randomness:
            whole = succeed_on_all(adapter.get_tf_dataset, engine)
        if source.for_training and not self._divided:
            self.randomness.draw_apart()
        self._spec = whole.element_spec
        rows = keras.tree.flatten(self._spec)[0].shape[0]
        self._batch_size = shared_part(rows, engine.size) if self._divided else rows
        self._dataset = self._make_dataset()
        self._passes = EpochIterator(self._dataset)

    def position_after(self, passes: int, steps: int, begun: int) -> DataCursor:
        """Return the data cursor after some steps, see `ArrayShard.position_after`."""
        before = self._start.taken if passes == self._start.passes else 0
        taken = before + self.assignment.taken_in(steps)
        return DataCursor(passes, min(taken, self.assignment.batches or taken), begun)

    def steps_left(self, taken: int) -> int | None:
        """Return the remaining steps of a pass after `taken` batches; None when unknown."""
        return self._assignment_after(taken).rounds()

    def _assignment_after(self, taken: int) -> BatchAssignment:
        batches = self.assignment.batches
        return replace(self.assignment, batches=None if batches is None else batches - taken)

    def _make_dataset(self) -> Any:
        import tensorflow as tf

        signature = (tf.TensorSpec((), tf.bool), self._spec)
        batches = tf.data.Dataset.from_generator(self._batches, output_signature=signature)
        if self._divided:
            shards = batches.map(lambda _, batch: divide(batch, self._engine))
        else:
            shards = batches.map(placeholder_batch)
        options = tf.data.Options()
        # As Keras does: the threads and processes that load batches are the PyDataset's own.
        options.autotune.enabled = False
        return shards.prefetch(2).with_options(options)

    def _batches(self) -> Iterator[tuple[bool, Any]]:
        """One pass over the rank's batches; draws their order when it begins."""
        taken, self._taken = self._taken, 0
        again = 0
        if self.reads_again and taken:
            again, taken = taken // self.assignment.size, 0
            self.reads_again = False
        total = self.source.num_batches
        order: Sequence[int] = range(taken, sys.maxsize)
        if total is not None:
            order = list(range(total))
            if self._shuffle:
                self.randomness.shuffle(order)
            order = order[taken:]
        assignment = self._assignment_after(taken)
        if total is not None and assignment.batches is not None:  # the length may have changed
            assignment = replace(assignment, batches=min(assignment.batches, len(order)))
        rounds = assignment.rounds()
        numbers = itertools.count() if rounds is None else range(rounds)
        part = _Part(self.source, assignment, order, self._hooks.gate)
        adapter = PyDatasetAdapter(part, class_weight=self._class_weight)
        try:
            for number, batch in zip(numbers, pydataset_batches(adapter), strict=False):
                if number >= again:
                    yield assignment.at(number)[1], batch
        finally:
            if adapter.enqueuer:
                adapter.enqueuer.stop()

    def get_tf_dataset(self) -> EpochIterator:
        """Return an iterable over the `Shard`s of each pass."""
        return self._passes

    @property
    def num_batches(self) -> int | None:
        """Steps of an epoch, None for an infinite PyDataset."""
        return self.assignment.rounds()

    @property
    def batch_size(self) -> int | None:
        """Rows of this rank in a step, None when unknown."""
        return self._batch_size

    def on_epoch_begin(self) -> None:
        """Call the PyDataset's hook on all ranks."""
        self._hooks.call("on_epoch_begin")

    def on_epoch_end(self) -> None:
        """Call the PyDataset's hook on all ranks; it often draws the next order here."""
        self._hooks.call("on_epoch_end")


class _Part(keras.utils.PyDataset):  # type: ignore[misc]
    """A rank's batches as a PyDataset, for Keras's workers to load."""

    def __init__(
        self, source: Any, assignment: BatchAssignment, order: Sequence[int], gate: LoadingGate
    ) -> None:
        super().__init__(source.workers, source.use_multiprocessing, source.max_queue_size)
        self._source, self._assignment, self._order, self._gate = source, assignment, order, gate

    @property
    def num_batches(self) -> int | None:
        return self._assignment.rounds()

    def __getitem__(self, number: int) -> Any:
        index, _ = self._assignment.at(number)
        with self._gate.loading():
            return self._source[self._order[index]]
