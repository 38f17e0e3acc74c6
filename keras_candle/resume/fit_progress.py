"""The position of a fit: epoch, steps, and data cursor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from keras_candle.data.data_cursor import DataCursor


@dataclass
class FitProgress:
    """Counts a fit's epochs, steps and passes over its data.

    Attributes:
        adapter: the adapter of the training data, which knows the samples of a step.
        steps_per_epoch: argument of `fit`; None where an epoch is a pass of the data.
        step: steps of the run so far, over all its fits.
        epoch: the current epoch.
        in_epoch: completed steps of that epoch.
        steps_to_skip: steps of the first epoch that an earlier attempt took.
        passes: number of complete passes over the data.
        in_pass: steps of the current pass that this process took.
        before_epoch: steps of the current pass that earlier epochs took.
    """

    adapter: Any
    steps_per_epoch: int | None
    step: int = 0
    epoch: int = 0
    in_epoch: int = 0
    steps_to_skip: int = 0
    passes: int = 0
    in_pass: int = 0
    before_epoch: int = 0

    def advance(self, done: int) -> int:
        """Record the completed steps of the epoch and return how many are new."""
        new = done - self.in_epoch
        self.in_epoch = done
        self.step += new
        self.in_pass += new
        return new

    def end_epoch(self) -> None:
        """Record the end of the epoch."""
        self.before_epoch += self.in_epoch
        self.epoch, self.in_epoch = self.epoch + 1, 0
        if self.steps_per_epoch is None or self.adapter.steps_left(self.position().taken) == 0:
            self.passes, self.in_pass, self.before_epoch = self.passes + 1, 0, 0

    @property
    def can_resume_within_pass(self) -> bool:
        """Whether Keras can resume at this position within a pass.

        Where the data are finite and an epoch is not one pass, Keras counts the steps of a pass
        itself, from 0.
        """
        finite = self.steps_per_epoch is not None and self.adapter.num_batches is not None
        return not (finite and self.before_epoch)

    @property
    def within_pass(self) -> bool:
        """Whether batches of the current pass have been taken."""
        return self.position().taken > 0

    def position(self) -> DataCursor:
        """Return the data cursor from which to resume."""
        begun = self.adapter.get_tf_dataset().begun
        position: DataCursor = self.adapter.position_after(self.passes, self.in_pass, begun)
        return position
