"""The position of a fit in its data, and the state of data that run Python code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras

from keras_candle.data.data_cursor import DataCursor
from keras_candle.random_state import global_state, set_global_state
from keras_candle.resume.object_state import outside_of
from keras_candle.resume.own_state import OwnState


@dataclass
class FitProgress:
    """Counts a fit's epochs, steps and passes over its data.

    Attributes:
        adapter: the adapter of the training data, which knows the samples of a step.
        steps_per_epoch: argument of `fit`; None where an epoch is a pass of the data.
        epochs: number of epochs of the fit.
        step: steps of the run so far, over all its fits.
        step_before: the same before the latest call of the train function.
        epoch: the current epoch.
        in_epoch: completed steps of that epoch.
        steps_to_skip: steps of the first epoch that an earlier attempt took.
        passes: number of complete passes over the data.
        in_pass: steps of the current pass that this process took.
        before_epoch: steps of the current pass that earlier epochs took.
        finished: whether the fit's last epoch has ended.
    """

    adapter: Any
    steps_per_epoch: int | None
    epochs: int = 0
    step: int = 0
    step_before: int = 0
    epoch: int = 0
    in_epoch: int = 0
    steps_to_skip: int = 0
    passes: int = 0
    in_pass: int = 0
    before_epoch: int = 0
    finished: bool = False

    def advance(self, done: int) -> None:
        """Record the completed steps of the epoch."""
        new = done - self.in_epoch
        self.in_epoch = done
        self.step_before, self.step = self.step, self.step + new
        self.in_pass += new

    def end_epoch(self, *, stops: bool) -> None:
        """Record the end of the epoch.

        Args:
            stops: whether the fit has been asked to end with it.
        """
        self.before_epoch += self.in_epoch
        self.epoch, self.in_epoch, self.steps_to_skip = self.epoch + 1, 0, 0
        self.finished = stops or self.epoch == self.epochs
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


# The generators of `SharedRandomness.state`.
_SHARED = ("python", "numpy", "torch")


class DataState:
    """The state of data that run Python code: a PyDataset, or a reader of a stream.

    Batches are read ahead of the steps, so within a pass the state is that of its beginning; the
    batches that were taken are read again or skipped.

    Args:
        adapter: the adapter of the training data of `fit`.
        model: the trained model.
    """

    def __init__(self, adapter: Any, model: Any) -> None:
        self._adapter, self._model = adapter, model
        found = getattr(adapter, "source", None)
        self._is_infinite = adapter.num_batches is None
        self._source = None
        if isinstance(found, keras.utils.PyDataset):
            self._source = OwnState(found, self._outside())
        self._of_pass: dict[str, Any] = {}
        self._mark_of_pass = ""

    @property
    def sources(self) -> list[Any]:
        """The data as a list of one; empty where they have no state in Python."""
        return [self._source.owner] if self._source else []

    def begin_epoch(self, *, within_pass: bool) -> None:
        """Capture the state from which an epoch's order is drawn.

        Args:
            within_pass: whether batches of the current pass were taken before.
        """
        if not (within_pass and self._of_pass):
            self._of_pass = self._now()
            self._mark_of_pass = self._mark()
        elif self._is_infinite:
            # Their pass never ends; the generators drawn from at an epoch's end do advance.
            self._of_pass["shared"] = self._shared()

    def take(self, *, within_pass: bool) -> dict[str, Any]:
        """Return the attributes that changed since the fit began, and the generators' states.

        Args:
            within_pass: see `begin_epoch`.
        """
        if not within_pass:
            return self._now()
        if self._is_infinite:
            return {**self._of_pass, "object": self._object()}
        return {**self._of_pass, "changed": self._mark() != self._mark_of_pass}

    def restore(
        self, state: dict[str, Any], *, within_pass: bool, same_ranks: bool
    ) -> dict[str, str]:
        """Restore a state of `take`.

        Args:
            state: this rank's state; root's where the number of ranks has changed.
            within_pass: see `begin_epoch`.
            same_ranks: whether it was taken on the same number of ranks.

        Returns:
            By path, why a state could not be restored.
        """
        lost: dict[str, str] = {}
        if self._source and state["object"]:
            lost = self._source.restore(state["object"], self._outside())
        own, shared = state.get("own"), state.get("shared")
        randomness = getattr(self._adapter, "randomness", None)
        # One rank draws an order from its own generators, several ranks from shared ones.
        if randomness is not None:
            if shared is None and own is not None:
                shared = _shared_of(own)
            if shared is not None:
                randomness.restore(shared)
        elif own is not None and shared is not None:
            own = {**own, **dict(zip(_SHARED, shared, strict=True))}
        if own is not None:
            self._adapter.get_tf_dataset().while_reading = _drawing_from(own)
        if within_pass:
            self._of_pass, self._mark_of_pass = dict(state), self._mark()
            if state.get("changed") and same_ranks:
                self._adapter.reads_again = True
        return lost

    def unsavable(self) -> dict[str, str]:
        """Return the path and type of each object whose state cannot be saved."""
        return self._source.unsavable(self._outside()) if self._source else {}

    def _now(self) -> dict[str, Any]:
        own = global_state() if self._source else None
        return {"object": self._object(), "shared": self._shared(), "own": own}

    def _object(self) -> dict[str, Any] | None:
        return self._source.take(self._outside()) if self._source else None

    def _mark(self) -> str:
        # Keras's own adapter, on one rank, reads the batches again in any case.
        needed = self._source and hasattr(self._adapter, "reads_again")
        return self._source.mark(self._outside()) if self._source and needed else ""

    def _shared(self) -> Any:
        shared = getattr(self._adapter, "randomness", None)
        return None if shared is None else shared.state()

    def _outside(self) -> set[int]:
        return outside_of(self._model)


def _shared_of(own: dict[str, Any]) -> tuple[Any, ...]:
    version, numbers, gauss = own["python"]
    return (version, tuple(map(int, numbers)), gauss), own["numpy"], own["torch"]


@contextmanager
def _drawing_from(state: dict[str, Any]) -> Iterator[None]:
    outside = global_state()
    set_global_state(state)
    try:
        yield
    finally:
        set_global_state(outside)
