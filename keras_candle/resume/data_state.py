"""Save and restore the state of the training data: changed attributes and random generators."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras

from keras_candle.resume.object_state import outside_of
from keras_candle.resume.own_state import OwnState
from keras_candle.resume.random_state import random_state, set_random_state


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
        if state.get("shared") is not None:
            self._adapter.randomness.restore(state["shared"])
        if state.get("own") is not None:
            self._adapter.get_tf_dataset().while_reading = _drawing_from(state["own"])
        if within_pass:
            self._of_pass, self._mark_of_pass = dict(state), self._mark()
            if state.get("changed") and same_ranks:
                self._adapter.reads_again = True
        return lost

    def unsavable(self) -> dict[str, str]:
        """Return the path and type of each object whose state cannot be saved."""
        return self._source.unsavable(self._outside()) if self._source else {}

    def _now(self) -> dict[str, Any]:
        own = random_state() if self._source else None
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


@contextmanager
def _drawing_from(state: dict[str, Any]) -> Iterator[None]:
    outside = random_state()
    set_random_state(state)
    try:
        yield
    finally:
        set_random_state(outside)
