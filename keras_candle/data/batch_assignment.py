"""Assignment of rows and batches to ranks: pure arithmetic, the same on all ranks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Division(NamedTuple):
    """How the ranks divide data and batches.

    Attributes:
        batch: "replica" when a batch is one rank's, "global" when it is all ranks' together.
        shard: False when each rank passes its own data.
    """

    batch: str = "replica"
    shard: bool = True

    def batch_growth(self, size: int) -> int:
        """Return how many times as large the global batch is on `size` ranks as on one."""
        return size if self.batch == "replica" else 1


def divided_rows(
    order: NDArray[np.int64], batch_size: int, rank: int, size: int
) -> list[NDArray[np.int64]]:
    """Return the rows of a rank where the ranks divide each batch: r, r + N, r + 2N, ... of it.

    Args:
        order: the numbers of all rows, in the order in which they are read.
        batch_size: rows of a batch.
        rank: the rank that takes the rows.
        size: the number of ranks.

    Returns:
        An array of shape [full batches, rows], and one of shape [1, rows] of the last batch if it
        is not full. A rank without rows gets the batch's first, to stay in step.

    Example:
        >>> [each.tolist() for each in divided_rows(np.arange(7), 4, rank=1, size=2)]
        [[[1, 3]], [[5]]]
    """
    rest = len(order) % batch_size
    full = order[: len(order) - rest].reshape(-1, batch_size)
    batches = [full, order[len(order) - rest :].reshape(1, -1)] if rest else [full]
    return [each[:, rank::size] if rank < each.shape[1] else each[:, :1] for each in batches]


def assigned_rows(
    order: NDArray[np.int64], batch_size: int, rank: int, size: int
) -> NDArray[np.int64]:
    """Return the rows of a rank where the ranks take whole batches in turn.

    Args:
        order: the numbers of all rows, in the order in which they are read.
        batch_size: rows of a batch.
        rank: the rank that takes the batches.
        size: the number of ranks.

    Example:
        >>> assigned_rows(np.arange(7), 2, rank=1, size=2).tolist()
        [2, 3, 6]
    """
    starts = range(rank * batch_size, len(order), size * batch_size)
    return np.concatenate([order[:0], *(order[i : i + batch_size] for i in starts)])


def shared_part(rows: int | None, size: int) -> int | None:
    """Return the most rows of a rank where a batch is divided; None when its rows are unknown."""
    return rows and math.ceil(rows / size)


@dataclass(frozen=True)
class BatchAssignment:
    """Assigns batches to ranks in rounds of one batch each, so that all ranks take equal steps.

    An epoch ends with a whole round: where an epoch's batches run out within a round, the ranks
    without a batch repeat another rank's, with weight 0.

    Attributes:
        rank: the rank that takes the batches.
        size: the number of ranks.
        batches: the number of batches of all ranks' data; None when unknown or infinite.
        steps: the number of batches of an epoch, over all ranks; None for all of them.

    Example:
        >>> assignment = BatchAssignment(rank=1, size=2, batches=5)
        >>> assignment.rounds(), [assignment.at(number) for number in range(3)]
        (3, [(1, True), (3, True), (4, False)])
    """

    rank: int
    size: int
    batches: int | None = None
    steps: int | None = None

    @property
    def rounds_of_epoch(self) -> int | None:
        """Steps of each rank in an epoch; None when unknown."""
        if self.steps is None:
            return self.rounds()
        return math.ceil(self.steps / self.size)

    def rounds(self) -> int | None:
        """Return the steps of each rank until the data end; None when unknown."""
        if self.batches is None:
            return None
        if self.steps is None:
            return math.ceil(self.batches / self.size)
        epochs, rest = divmod(self.batches, self.steps)
        return epochs * math.ceil(self.steps / self.size) + math.ceil(rest / self.size)

    def taken_in(self, rounds: int) -> int:
        """Return the number of batches that all ranks together take in some rounds.

        Example:
            >>> BatchAssignment(rank=0, size=2, batches=5).taken_in(3)
            5
            >>> BatchAssignment(rank=0, size=2, steps=3).taken_in(3)  # an epoch has two
            5
        """
        if self.steps is None:
            taken = rounds * self.size
        else:
            epochs, rest = divmod(rounds, math.ceil(self.steps / self.size))
            taken = epochs * self.steps + min(rest * self.size, self.steps)
        return taken if self.batches is None else min(taken, self.batches)

    def whole_epochs(self, taken: int) -> int:
        """Round `taken` batches down to a point from which the rounds can continue.

        Where an epoch ends within a round, that is the beginning of the epoch.
        """
        if self.steps is None or self.steps % self.size == 0:
            return taken
        return taken - taken % self.steps

    def at(self, number: int) -> tuple[int, bool]:
        """Return the batch that the rank takes in a round, and whether it counts.

        Args:
            number: of the round, from 0.

        Returns:
            The index of the batch in the data of all ranks; False when it only fills the round,
            since the rank's own batch does not exist.
        """
        if self.steps is None:
            start, ends = 0, self.batches
        else:
            epoch, number = divmod(number, math.ceil(self.steps / self.size))
            start = epoch * self.steps
            ends = start + self.steps
            if self.batches is not None:
                ends = min(ends, self.batches)
        index = start + number * self.size + self.rank
        if ends is not None and index >= ends:
            return ends - 1, False
        return index, True
