"""What the training data change in themselves, and what they draw from, taken out and put back."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras

from keras_candle.callback.randomness import random_state, set_random_state
from keras_candle.checkpoints.plain import is_plain, mark


class DataState:
    """The state of data that are Python code: a PyDataset, or what reads a stream.

    Args:
        adapter: the training data, as `fit` got them.
    """

    def __init__(self, adapter: Any) -> None:
        source = getattr(adapter, "source", None)
        self._adapter = adapter
        self._source = source if isinstance(source, keras.utils.PyDataset) else None
        self._at_beginning = {name: mark(value) for name, value in self._attributes().items()}
        self._of_epoch: dict[str, Any] = {}

    def begin_epoch(self) -> None:
        """Take note of what an epoch's order will be drawn from."""
        shared = getattr(self._adapter, "randomness", None)
        self._of_epoch = {
            "shared": None if shared is None else shared.state(),
            "own": random_state() if self._source is not None else None,
        }

    def take(self, *, in_epoch: bool) -> dict[str, Any]:
        """The attributes that changed since the fit began, and what the order is drawn from.

        Args:
            in_epoch: whether an epoch is under way, whose order will have to be drawn again.
        """
        if not in_epoch:
            self.begin_epoch()
        changed = {
            name: copy.deepcopy(value)
            for name, value in self._attributes().items()
            if self._at_beginning.get(name) != mark(value)
        }
        return {"attributes": changed, **self._of_epoch}

    def put_back(self, state: dict[str, Any]) -> None:
        """Go on from what `take` returned."""
        if self._source is not None:
            vars(self._source).update(state["attributes"])
        if state.get("shared") is not None:
            self._adapter.randomness.go_on(state["shared"])
        if state.get("own") is not None:
            self._adapter.get_tf_dataset().while_reading = _drawing_from(state["own"])

    def _attributes(self) -> dict[str, Any]:
        attributes = {} if self._source is None else vars(self._source)
        return {name: value for name, value in attributes.items() if is_plain(value)}


@contextmanager
def _drawing_from(state: dict[str, Any]) -> Iterator[None]:
    outside = random_state()
    set_random_state(state)
    try:
        yield
    finally:
        set_random_state(outside)
