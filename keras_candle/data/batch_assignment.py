"""Assignment of a stream's batches to ranks: pure arithmetic, the same on all ranks."""

from __future__ import annotations

import math
from dataclasses import dataclass


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
