"""Each rank's shard of a `keras.utils.PyDataset`: a rank loads its own batches only.

Its epoch hooks run on all ranks, which must leave the same order of rows there.
"""

from __future__ import annotations

import itertools
import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import keras
import numpy as np

from keras_candle import backend
from keras_candle.data.batch_assignment import BatchAssignment, shared_part
from keras_candle.data.data_cursor import DataCursor, EpochIterator, PassAdapter
from keras_candle.data.fingerprint import fingerprint
from keras_candle.data.input_data import InputData
from keras_candle.data.shared_randomness import SharedRandomness
from keras_candle.engine.base import Engine
from keras_candle.engine.consensus import succeed_on_all
from keras_candle.errors import DataError
from keras_candle.keras_private.data import PyDatasetAdapter, pydataset_batches


class PyDatasetShard(PassAdapter):
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
            whole = succeed_on_all(lambda: backend.current().batches_of(adapter), engine)
        if source.for_training and not self._divided:
            self.randomness.draw_apart()
        self._spec = whole.element_spec
        rows = keras.tree.flatten(self._spec)[0].shape[0]
        self._batch_size = shared_part(rows, engine.size) if self._divided else rows
        self._dataset = self._make_dataset()
        self.passes = EpochIterator(self._dataset)

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
        dividing = self._engine if self._divided else None
        return backend.current().generated_shards(self._batches, self._spec, dividing)

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


_ORDER = "an order of rows"


class LoadingGate:
    """Lock that lets threads load batches, except while a hook runs: loading draws numbers, too."""

    def __init__(self) -> None:
        self._changed, self._loading, self._closed = threading.Condition(), 0, False
        self._process = os.getpid()

    def __reduce__(self) -> tuple[Any, ...]:
        return LoadingGate, ()

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Hold while loading a batch; waits until no hook runs."""
        if os.getpid() != self._process:  # a worker, which has its own copy of the data
            yield
            return
        with self._changed:
            self._changed.wait_for(lambda: not self._closed)
            self._loading += 1
        try:
            yield
        finally:
            with self._changed:
                self._loading -= 1
                self._changed.notify_all()

    @contextmanager
    def closed(self) -> Iterator[None]:
        """Hold while a hook runs: waits until no batch is being loaded, and blocks new loads."""
        with self._changed:
            self._closed = True
            self._changed.wait_for(lambda: not self._loading)
        try:
            yield
        finally:
            with self._changed:
                self._closed = False
                self._changed.notify_all()


class EpochHooks:
    """Calls the hooks of a PyDataset on all ranks, and compares the attributes that they leave.

    Args:
        source: the user's PyDataset.
        randomness: the generators from which the hooks draw.
        engine: connects the ranks.

    Attributes:
        gate: to be held by code that loads batches.
    """

    def __init__(self, source: Any, randomness: SharedRandomness, engine: Engine) -> None:
        self._source, self._randomness, self._engine = source, randomness, engine
        self.gate = LoadingGate()

    def call(self, name: str) -> None:
        """Call a hook on every rank.

        Args:
            name: "on_epoch_begin" or "on_epoch_end".

        Raises:
            DataError: on every rank, when the hook raised on some, or when it left an attribute
                different on each rank.
        """
        hook = getattr(self._source, name)
        is_of_keras = getattr(hook, "__func__", None) is getattr(keras.utils.PyDataset, name)

        def call() -> tuple[dict[str, str], dict[str, str]]:
            before = self._attributes()
            if is_of_keras:
                return before, before
            hook()
            return before, self._attributes()

        with nullcontext() if is_of_keras else self._synchronized():
            found = self._engine.gather_results(call, DataError)
        self._check(name, [each for each, _ in found], [each for _, each in found])

    @contextmanager
    def _synchronized(self) -> Iterator[None]:
        with self.gate.closed(), self._randomness:
            yield

    def _attributes(self) -> dict[str, str]:
        """The attributes that may determine the order of the rows, each as a short text."""
        texts = {name: _text(value) for name, value in vars(self._source).items()}
        texts["num_batches"] = repr(self._source.num_batches)
        return {name: text for name, text in texts.items() if text}

    def _check(
        self, hook: str, before: Sequence[Mapping[str, str]], after: Sequence[Mapping[str, str]]
    ) -> None:
        for name in after[0]:
            values = [each.get(name) for each in after]
            if len(set(values)) == 1:
                continue
            # An attribute that differed before may belong to the rank, such as the batches loaded.
            became_different = len({each.get(name) for each in before}) == 1
            became_different |= name == "num_batches"
            is_order = all(each and each.startswith(_ORDER) for each in values)
            same_rows = len({each.partition(",")[0] for each in values if each}) == 1
            if became_different or (is_order and same_rows):
                listed = "\n".join(f"  rank {rank}: {each}" for rank, each in enumerate(values))
                kind = type(self._source).__name__
                raise DataError(
                    f"After {kind}.{hook}, {kind}.{name} differs on the ranks, so rows would be "
                    f"lost and others doubled:\n{listed}\nDraw there from np.random, random, or a "
                    "generator that the dataset keeps, self.rng = np.random.default_rng(seed): "
                    "all ranks draw the same from these in on_epoch_begin and on_epoch_end."
                )


def _text(value: Any) -> str | None:
    if isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype.kind in "iu":
        # The content whatever its order, then a checksum of the order.
        rows = value.astype(np.uint64)
        content = f"{len(rows)} rows with sum {rows.sum()} and {(rows * rows).sum()}"
        return f"{_ORDER}: {content}, {fingerprint(value)[0]}" if len(rows) else None
    if hasattr(value, "shape") and len(value.shape):
        return fingerprint(value)[0]
    if isinstance(value, bool | int | np.integer):
        return repr(value)
    if isinstance(value, list | tuple) and len(value) > 1:
        some = [value[int(i)] for i in np.unique(np.linspace(0, len(value) - 1, 64).astype(int))]
        plain = all(isinstance(each, int | str | bytes | np.integer | tuple) for each in some)
        return f"{len(value)} items, among them {repr(some)[:200]}" if plain else None
    return None
