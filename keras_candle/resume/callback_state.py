"""The state of all other callbacks of a training, taken and put back."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from keras_candle.checkpoints.plain import is_plain, mark
from keras_candle.keras_private.models import is_keras_class
from keras_candle.resume import keras_callbacks
from keras_candle.resume.object_state import attributes_of, is_installed, outside_of
from keras_candle.resume.own_state import OwnState


def shared_states(callbacks: Sequence[Any]) -> list[dict[str, Any]]:
    """The states that Keras's own classes keep in callbacks: they are the same on all ranks."""
    found = []
    for name, callback in _of_keras(callbacks):
        state = keras_callbacks.state_of(callback)
        if name == "CSVLogger":
            state = {"size_bytes": _size_of(callback)}
        found.append({"kind": name, "state": _copied(state)})
    return found


def set_shared_states(callbacks: Sequence[Any], states: Iterable[dict[str, Any]]) -> None:
    """Put back what `shared_states` returned, the first of a kind into the first of that kind."""
    left = list(states)
    for name, callback in _of_keras(callbacks):
        mine = _next_of(left, name)
        if mine is not None and name != "CSVLogger":
            vars(callback).update(mine["state"])


def continue_files(callbacks: Sequence[Any], states: Iterable[dict[str, Any]]) -> None:
    """Let CSVLoggers append, after the line that was the last one at the checkpoint.

    To be called before their `on_train_begin`, which would empty the file.
    """
    sizes = [each["state"]["size_bytes"] for each in states if each["kind"] == "CSVLogger"]
    loggers = [each for name, each in _of_keras(callbacks) if name == "CSVLogger"]
    for logger, size_bytes in zip(loggers, sizes, strict=False):
        if size_bytes is not None and os.path.exists(logger.filename):
            if os.path.getsize(logger.filename) > size_bytes:
                os.truncate(logger.filename, size_bytes)
            logger.append = True


def values_of(history: Any, logs: dict[str, Any]) -> dict[str, float]:
    """An epoch's numbers, with those that a callback has put into its logs.

    Args:
        history: Keras's, which has recorded the epoch.
        logs: of the epoch.
    """
    recorded = history.history.items() if history.epoch else ()
    last = {name: each[-1] for name, each in recorded if len(each) == len(history.epoch)}
    return {name: float(value) for name, value in {**last, **logs}.items() if np.ndim(value) == 0}


class CallbackState:
    """The state of the user's callbacks in one fit: each rank has its own, see `OwnState`.

    What a class of Keras keeps in a callback is not among it, see `shared_states`.

    Args:
        callbacks: all of the training.
        model: that is trained: its own state is kept elsewhere.
        others: more objects whose state is kept elsewhere.
    """

    def __init__(self, callbacks: Sequence[Any], model: Any, others: Sequence[Any] = ()) -> None:
        self._model, self._others = model, (*callbacks, *others)
        self._states = [
            OwnState(each, self._outside(), _attributes)
            for each in callbacks
            if not type(each).__module__.startswith("keras_candle.")
        ]

    def unkept(self) -> dict[str, str]:
        """What has a state that cannot be kept: by path, its type."""
        outside = self._outside()
        return {path: kind for each in self._states for path, kind in each.unkept(outside).items()}

    def take(self) -> list[dict[str, Any]]:
        """The states, as plain values.

        Raises:
            CandleError: when a `get_state()` returns what is no plain value.
        """
        outside = self._outside()
        return [each.take(outside) for each in self._states]

    def put_back(self, taken: Iterable[dict[str, Any]]) -> dict[str, str]:
        """Put back what `take` returned, the first of a kind into the first of that kind.

        Returns:
            What could not be put back: by path, why.
        """
        left, lost, outside = list(taken), {}, self._outside()
        for each in self._states:
            mine = _next_of(left, each.kind)
            if mine is not None:
                lost.update(each.put_back(mine, outside))
        return lost

    def _outside(self) -> set[int]:
        return outside_of(self._model, self._others)


def without_differences(of_ranks: Sequence[Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The states of rank 0, but for attributes in which the ranks differed, such as a rank."""
    left = [list(each) for each in of_ranks[1:]]
    common = []
    for own in of_ranks[0]:
        others = [_next_of(each, own["kind"]) for each in left]
        states = [each["state"] for each in others if each is not None and own["changes"]]
        common.append({**own, "state": _alike(own["state"], states)})
    return common


def _alike(own: Any, states: Sequence[dict[str, Any]]) -> Any:
    if not states:  # of get_state(), or of a callback that runs on root alone
        return own
    return {
        name: value
        for name, value in own.items()
        if all(name in each and mark(each[name]) == mark(value) for each in states)
    }


def _attributes(callback: Any) -> list[tuple[str, Any]]:
    known = keras_callbacks.STATE.get(keras_callbacks.kind_of(callback), ())
    found = [(name, each) for name, each in attributes_of(callback) if name not in known]
    if is_keras_class(type(callback)):
        # Only what the user gave to it may have a state: a function, a schedule.
        return [(name, each) for name, each in found if callable(each)]
    if is_installed(type(callback)):  # which may refer to all of its package's objects
        return [(name, each) for name, each in found if is_plain(each)]
    return found


def _of_keras(callbacks: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    for callback in callbacks:
        kind = keras_callbacks.kind_of(callback)
        if kind:
            yield kind, callback


def _next_of(states: list[dict[str, Any]], kind: str) -> dict[str, Any] | None:
    """The first state of a kind, which is then no longer among them."""
    found = next((each for each in states if each["kind"] == kind), None)
    if found is not None:
        states.remove(found)
    return found


def _copied(state: dict[str, Any]) -> dict[str, Any]:
    """A copy: it is written while the training continues. EarlyStopping's weights never change."""
    return {
        name: value if name == "best_weights" else copy.deepcopy(value)
        for name, value in state.items()
        if is_plain(value)
    }


def _size_of(logger: Any) -> int | None:
    if logger.csv_file is None or logger.csv_file.closed:
        return None
    logger.csv_file.flush()
    return os.path.getsize(logger.filename)
