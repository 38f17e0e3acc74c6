"""Each rank's shard of arrays: every row once an epoch, in equal numbers of steps and one order."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_candle import backend
from keras_candle.data.batch_assignment import assigned_rows, divided_rows
from keras_candle.data.data_cursor import DataCursor, EpochIterator, PassAdapter
from keras_candle.data.fingerprint import fingerprint
from keras_candle.engine.base import Engine
from keras_candle.seeding import SEEDS_OF_OURS


class RowOrder:
    """Draws the order of the rows for each pass.

    With one seed on all ranks the orders are Keras's, so that the ranks read the rows as one rank
    with that seed would. Without, each pass draws anew from a seed of the root's.

    Args:
        rows: how many rows there are.
        batch_size: rows of a batch, within which shuffle="batch" stays.
        shuffle: True, False or "batch", as in `fit`.
        engine: connects the ranks.
        state: the state to resume from; None for a new training.

    Attributes:
        state: JSON values that reproduce the orders in another process; empty without a shuffle.
    """

    def __init__(
        self,
        rows: int,
        batch_size: int,
        shuffle: bool | str,
        engine: Engine,
        state: Mapping[str, Any] | None = None,
    ) -> None:
        self.rows, self.batch_size, self.shuffle = rows, batch_size, shuffle
        self._next_pass = 0
        self.state: dict[str, Any] = {}
        if shuffle:
            self.state = dict(state) if state else _choose_seed(engine)

    def begin(self, passes: int) -> None:
        """Draw the order of pass number `passes` next."""
        self._next_pass = passes

    @property
    def seed_of_keras(self) -> int | None:
        """The global seed by which Keras orders the rows; None where it does not order them."""
        return self.state["seed"] if self.state.get("of_keras") else None

    def draw(self) -> NDArray[np.int64]:
        """Return the order of the next pass, where Keras does not order the rows."""
        number, self._next_pass = self._next_pass, self._next_pass + 1
        if not self.shuffle:
            return np.arange(self.rows)
        return drawn_order(self.rows, self.batch_size, self.shuffle, [self.state["seed"], number])


def _choose_seed(engine: Engine) -> dict[str, Any]:
    seeds = engine.gather_objects(backend.current().global_seed())
    if len(set(seeds)) == 1 and seeds[0] not in (None, *SEEDS_OF_OURS):
        return {"of_keras": True, "seed": seeds[0]}
    seed = int(engine.broadcast(int(np.random.default_rng().integers(2**31))))
    return {"of_keras": False, "seed": seed}


def drawn_order(
    rows: int, batch_size: int, shuffle: bool | str, seed: list[int]
) -> NDArray[np.int64]:
    """Draw an order of rows; with shuffle="batch" each row stays in its batch.

    Args:
        rows: how many rows there are.
        batch_size: rows of a batch.
        shuffle: True or "batch".
        seed: of NumPy's default generator.

    Returns:
        A permutation of range(rows), int64 of shape [rows].

    Example:
        >>> sorted(drawn_order(5, 2, "batch", [7, 0])[:2].tolist())
        [0, 1]
    """
    random = np.random.default_rng(seed)
    if shuffle != "batch":
        return random.permutation(rows)
    batches = np.arange(rows) // batch_size
    return np.lexsort((random.random(rows), batches))


class ArrayShard(PassAdapter):
    """A rank's rows of arrays that every rank holds as a whole.

    Args:
        inputs: x, (x, y) or (x, y, sample_weight) as Keras packs them.
        batch_size: rows of a batch.
        shuffle: True, False or "batch", as in `fit`.
        engine: connects the ranks.
        limit: use only the first rows; None for all.
        start: the data cursor to resume from; None for a new training.
        divided: True: the ranks divide each batch, this rank takes its rows r, r + N, r + 2N, ... .
            False: the ranks take whole batches in turn.
    """

    def __init__(
        self,
        inputs: Any,
        batch_size: int,
        shuffle: bool | str,
        engine: Engine,
        limit: int | None = None,
        start: DataCursor | None = None,
        *,
        divided: bool = True,
    ) -> None:
        self.inputs, self._whole_batch_size, self.knows_total = inputs, batch_size, divided
        self._rank, self._size = engine.rank, engine.size
        rows = int(keras.tree.flatten(inputs)[0].shape[0])
        self.rows = rows if limit is None else min(rows, limit)
        self._start = start or DataCursor()
        self.order = RowOrder(self.rows, batch_size, shuffle, engine, self._start.order)
        self.order.begin(self._start.passes)

    @functools.cached_property
    def fingerprint(self) -> list[str]:
        """A line for each array: shape, dtype and checksum."""
        return fingerprint(self.inputs)

    def position_after(self, passes: int, steps: int, begun: int) -> DataCursor:
        """Return the data cursor after whole passes and some steps of the next one.

        Args:
            passes: whole passes, counted from the beginning of the data.
            steps: steps of the next pass; counted from `start` where it lies in that pass.
            begun: how often the dataset was iterated.
        """
        before = self._start.taken if passes == self._start.passes else 0
        taken = min(before + steps * self._whole_batch_size, self.rows)
        return DataCursor(passes, taken, begun, self.order.state)

    def steps_left(self, taken: int) -> int:
        """Return the remaining steps of a pass after `taken` rows."""
        return math.ceil((self.rows - taken) / self._whole_batch_size)

    @functools.cached_property
    def passes(self) -> EpochIterator:  # type: ignore[override]
        """The rank's shard of each batch, made once: the dataset holds a copy of the arrays.

        They are `Shard`s, or plain data where the row counts of a `Shard` follow from the shapes:
        two tensors more cost 4 % of a small batch's time.
        """
        starts = [0, *([self._start.taken] if 0 < self._start.taken < self.rows else [])]
        return EpochIterator(*backend.current().array_datasets(self, starts))

    def row_numbers(self, order: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Return the numbers of the rank's rows in a pass.

        Args:
            order: the numbers of all ranks' rows, in the order in which they are read.

        Returns:
            Where the ranks divide each batch, an array of shape [steps, rows of a step] of the full
            batches, and one of the last batch if it is not full. Else one array of shape [rows],
            of whole batches one after the other.
        """
        of_rank = (self._whole_batch_size, self._rank, self._size)
        if self.knows_total:
            return divided_rows(order, *of_rank)
        return [assigned_rows(order, *of_rank)]

    def counts(self, taken: int = 0) -> list[tuple[int, int]]:
        """Return (the rank's rows, all ranks' rows) of a step, for each divided `row_numbers`.

        A rank without rows has one in `row_numbers`, to stay in step: its weight is 0.

        Args:
            taken: the rows of all ranks that precede the order.
        """
        rest = (self.rows - taken) % self._whole_batch_size
        totals = [self._whole_batch_size, *([rest] if rest else [])]
        return [(len(range(self._rank, total, self._size)), total) for total in totals]

    @property
    def needs_no_counts(self) -> bool:
        """Whether the rows of each global batch follow from the rows of the rank's shard."""
        if self.may_be_empty:
            return False
        if not self.knows_total:
            return True
        return all(self._whole_batch_size - rest >= self._size for rest in self._rests)

    @property
    def _rests(self) -> set[int]:
        """Rows of the last batch of a pass, where it is not full."""
        left = {self.rows, self.rows - self._start.taken}
        return {rows % self._whole_batch_size for rows in left} - {0}

    @property
    def totals(self) -> dict[int, int]:
        """Rows of a global batch by rows of the rank's shard; empty where these are ambiguous."""
        if not (self.knows_total and self.needs_no_counts):
            return {}
        totals = {self._whole_batch_size} if self.rows >= self._whole_batch_size else set()
        totals |= self._rests
        return {len(range(self._rank, total, self._size)): total for total in totals}

    @property
    def num_batches(self) -> int:
        """Steps of an epoch, the same on all ranks."""
        batches = math.ceil(self.rows / self._whole_batch_size)
        return batches if self.knows_total else math.ceil(batches / self._size)

    @property
    def batch_size(self) -> int:
        """Rows of this rank in a full step, rounded up."""
        return math.ceil(self._whole_batch_size / (self._size if self.knows_total else 1))

    @property
    def may_be_empty(self) -> bool:
        """Whether a rank has no row in the last step."""
        if not self.knows_total:
            return math.ceil(self.rows / self._whole_batch_size) % self._size > 0
        return min(self._rests | {self._whole_batch_size}) < self._size

    @property
    def has_partial_batch(self) -> bool:
        """Whether the last step has fewer rows than a full one."""
        return self.rows % self._whole_batch_size > 0
