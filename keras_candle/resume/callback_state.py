"""Save and restore the state of the user's and Keras's callbacks."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from keras_candle.checkpoints.plain import is_plain, mark
from keras_candle.keras_private import callbacks as keras_callbacks
from keras_candle.keras_private.models import is_keras_class
from keras_candle.resume.object_state import attributes_of, is_installed, outside_of
from keras_candle.resume.own_state import OwnState


def shared_states(callbacks: Sequence[Any]) -> list[dict[str, Any]]:
    """Return the states of Keras's own callback classes, which are the same on all ranks."""
    found = []
    for name, callback in _of_keras(callbacks):
        state = keras_callbacks.state_of(callback)
        if name == "CSVLogger":
            state = {"size_bytes": _size_of(callback)}
        if name == "History":
            state = {**state, "history": _plain_series(state["history"])}
        found.append({"kind": name, "state": _copied(state)})
    return found


def set_shared_states(callbacks: Sequence[Any], states: Iterable[dict[str, Any]]) -> None:
    """Restore the states of `shared_states`, matching callbacks of one class by their order."""
    left = list(states)
    for name, callback in _of_keras(callbacks):
        state = _next_of(left, name)
        if state is not None and name != "CSVLogger":
            vars(callback).update(state["state"])


def resume_csv_loggers(callbacks: Sequence[Any], states: Iterable[dict[str, Any]]) -> None:
    """Make each CSVLogger append after the line that was its last one at the checkpoint.

    Call it before their `on_train_begin`, which would empty the file.
    """
    sizes = [each["state"]["size_bytes"] for each in states if each["kind"] == "CSVLogger"]
    loggers = [each for name, each in _of_keras(callbacks) if name == "CSVLogger"]
    for logger, size_bytes in zip(loggers, sizes, strict=False):
        if size_bytes is not None and os.path.exists(logger.filename):
            if os.path.getsize(logger.filename) > size_bytes:
                os.truncate(logger.filename, size_bytes)
            logger.append = True


class CallbackState:
    """The state of the user's callbacks in one fit; each rank has its own, see `OwnState`.

    The state of Keras's own classes is not part of it, see `shared_states`.

    Args:
        callbacks: all callbacks of the fit.
        model: the trained model, whose state is saved elsewhere.
        excluded: further objects whose state is saved elsewhere.
    """

    def __init__(self, callbacks: Sequence[Any], model: Any, excluded: Sequence[Any] = ()) -> None:
        self._model, self._excluded = model, (*callbacks, *excluded)
        self._states = [
            OwnState(each, self._outside(), _attributes)
            for each in callbacks
            if not type(each).__module__.startswith("keras_candle.")
        ]

    def unsavable(self) -> dict[str, str]:
        """Return the path and type of each object whose state cannot be saved."""
        outside = self._outside()
        return {
            path: kind for each in self._states for path, kind in each.unsavable(outside).items()
        }

    def take(self) -> list[dict[str, Any]]:
        """Return the states as plain values.

        Raises:
            CandleError: when a `get_state()` returns something that is not a plain value.
        """
        outside = self._outside()
        return [each.take(outside) for each in self._states]

    def restore(self, taken: Iterable[dict[str, Any]], *, of_this_rank: bool) -> dict[str, str]:
        """Restore the states of `take`, matching callbacks of one class by their order.

        Args:
            taken: the states.
            of_this_rank: whether `fit` had the same callbacks, unless the script has changed.

        Returns:
            By path, why a state could not be restored.
        """
        left, lost, outside = list(taken), {}, self._outside()
        for each in self._states:
            state = _next_of(left, each.kind)
            if state is not None:
                lost.update(each.restore(state, outside))
        missing = {each["kind"] for each in left if of_this_rank and each["state"]}
        why = "no callback of this class and module is in fit's list"
        ours = ("keras.", "keras_candle.")
        return {**lost, **{kind: why for kind in sorted(missing) if not kind.startswith(ours)}}

    def _outside(self) -> set[int]:
        return outside_of(self._model, self._excluded)


def without_differences(of_ranks: Sequence[Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return rank 0's states without the attributes that differ across ranks, such as a rank."""
    left = [list(each) for each in of_ranks[1:]]
    common = []
    for own in of_ranks[0]:
        same_kind = [_next_of(each, own["kind"]) for each in left]
        states = [each["state"] for each in same_kind if each is not None and own["changes"]]
        common.append({**own, "state": _alike(own["state"], states)})
    return common


def _alike(own: Any, states: Sequence[dict[str, Any]]) -> Any:
    if not states:  # from get_state(), or a callback that runs only on root
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
        # Only what the user passed to it may have a state: a function, a schedule.
        return [(name, each) for name, each in found if callable(each)]
    if is_installed(type(callback)):  # may refer to all objects of its package
        return [(name, each) for name, each in found if is_plain(each)]
    return found


def _of_keras(callbacks: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    for callback in callbacks:
        kind = keras_callbacks.kind_of(callback)
        if kind:
            yield kind, callback


def _next_of(states: list[dict[str, Any]], kind: str) -> dict[str, Any] | None:
    """Remove and return the first state of a class; None where there is none."""
    found = next((each for each in states if each["kind"] == kind), None)
    if found is not None:
        states.remove(found)
    return found


def _copied(state: dict[str, Any]) -> dict[str, Any]:
    """Copy what the training may change while it is written; EarlyStopping's weights never do."""
    return {
        name: value if name == "best_weights" else copy.deepcopy(value)
        for name, value in state.items()
        if is_plain(value)
    }


def _plain_series(history: Mapping[Any, Any]) -> dict[Any, Any]:
    """Return a History's series with None for a value that cannot be saved, such as a figure."""
    return {
        name: [_plain(each) for each in series] if isinstance(series, list) else _plain(series)
        for name, series in history.items()
        if is_plain(name)
    }


def _plain(value: Any) -> Any:
    if callable(getattr(value, "numpy", None)):  # a tensor or a variable
        value = value.numpy()
    if "float" in str(getattr(value, "dtype", "")) and not is_plain(value):
        value = np.asarray(value, "float32")  # of a type that NumPy does not know, such as bfloat16
    return value if is_plain(value) else None


def _size_of(logger: Any) -> int | None:
    if logger.csv_file is None or logger.csv_file.closed:
        return None
    logger.csv_file.flush()
    return os.path.getsize(logger.filename)
