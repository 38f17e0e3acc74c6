"""Which batch of a stream is whose: pure arithmetic, the same on all ranks."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class BatchAssignment:
    """Batches dealt to the ranks in rounds: one each, so that all ranks take equal steps.

    An epoch ends with a whole round: where the batches of an epoch run out within one, the ranks
    that come off badly repeat another's batch, which does not count.

    Attributes:
        rank: whose part.
        size: the number of ranks.
        batches: how many batches the whole data have; None when unknown or infinite.
        steps: after how many batches of the whole data an epoch ends; None for all of them.

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
        """Steps that each rank takes in an epoch; None when unknown."""
        if self.steps is None:
            return self.rounds()
        return math.ceil(self.steps / self.size)

    def rounds(self) -> int | None:
        """Steps that each rank takes until the data are used up; None when unknown."""
        if self.batches is None:
            return None
        if self.steps is None:
            return math.ceil(self.batches / self.size)
        epochs, rest = divmod(self.batches, self.steps)
        return epochs * math.ceil(self.steps / self.size) + math.ceil(rest / self.size)

    def taken_in(self, rounds: int) -> int:
        """The batches of the whole data that so many rounds take.

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
        """So many batches, or fewer: those from which the rounds can go on.

        Where an epoch ends within a round, they can only do so at an epoch's beginning.
        """
        if self.steps is None or self.steps % self.size == 0:
            return taken
        return taken - taken % self.steps

    def at(self, number: int) -> tuple[int, bool]:
        """The batch that the rank takes in a round, and whether it is its own.

        Args:
            number: counts the rounds from 0.

        Returns:
            Its index among the whole data's batches; False when it stands in for one that does
            not exist.
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
