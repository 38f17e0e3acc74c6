"""How far a fit has come: epoch, steps, and where in its data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from keras_candle.data.data_cursor import DataCursor


@dataclass
class FitProgress:
    """Counts a fit's steps.

    Attributes:
        adapter: the training data, which know what a step takes of them.
        steps_per_epoch: as `fit` got it; None where an epoch is a pass of the data.
        step: steps that the run has taken, over all its fits.
        epoch: the epoch that is under way.
        in_epoch: steps of that epoch that are done.
        left_out: steps of the first epoch that were taken before.
        passes: how often the data have been gone through as a whole.
        in_pass: steps since, but for those that were taken before this process began.
        before_epoch: steps of the current pass that earlier epochs took.
    """

    adapter: Any
    steps_per_epoch: int | None
    step: int = 0
    epoch: int = 0
    in_epoch: int = 0
    left_out: int = 0
    passes: int = 0
    in_pass: int = 0
    before_epoch: int = 0

    def advance(self, done: int) -> int:
        """Note that so many steps of the epoch are done; returns how many are new."""
        new = done - self.in_epoch
        self.in_epoch = done
        self.step += new
        self.in_pass += new
        return new

    def end_epoch(self) -> None:
        """Note that the epoch is over."""
        self.before_epoch += self.in_epoch
        self.epoch, self.in_epoch = self.epoch + 1, 0
        if self.steps_per_epoch is None or self.adapter.steps_left(self.position().taken) == 0:
            self.passes, self.in_pass, self.before_epoch = self.passes + 1, 0, 0

    @property
    def can_go_on(self) -> bool:
        """Whether Keras can go on from here in the middle of a pass.

        It counts the steps of a pass itself, from 0, where the data are finite and an epoch is not
        a pass of them.
        """
        finite = self.steps_per_epoch is not None and self.adapter.num_batches is not None
        return not (finite and self.before_epoch)

    @property
    def within_pass(self) -> bool:
        """Whether batches of the pass have been taken."""
        return self.position().taken > 0

    def position(self) -> DataCursor:
        """Where the data are to be gone on with."""
        begun = self.adapter.get_tf_dataset().begun
        position: DataCursor = self.adapter.position_after(self.passes, self.in_pass, begun)
        return position
