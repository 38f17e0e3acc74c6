"""What the other callbacks of a training know, taken out and put back."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from keras_candle.checkpoints.plain import is_plain, mark
from keras_candle.errors import CandleError

# What Keras's own callbacks change while they run. Not all of their attributes: EarlyStopping
# turns the sign of its min_delta when it is first used, and would turn it back.
_OF_KERAS: dict[str, tuple[str, ...]] = {
    "EarlyStopping": ("wait", "best", "best_epoch", "best_weights", "stopped_epoch"),
    "History": ("epoch", "history"),
    "ModelCheckpoint": (
        "best",
        "_batches_seen_since_last_saving",
        "_last_batch_seen",
        "_current_epoch",
    ),
    "ReduceLROnPlateau": ("wait", "best", "cooldown_counter"),
    "SwapEMAWeights": ("_ema_weights_in_model",),
    "TensorBoard": (
        "_global_train_batch",
        "_global_test_batch",
        "_previous_epoch_iterations",
    ),
}
_OF_CALLBACK = ("_model", "params", "validation_data", "model")


def shared_states(callbacks: Sequence[Any]) -> list[dict[str, Any]]:
    """The states of Keras's own callbacks: they are the same on all ranks."""
    found = []
    for name, callback, known in _of_keras(callbacks):
        state = {each: getattr(callback, each, None) for each in known}
        if name == "CSVLogger":
            state = {"size_bytes": _size_of(callback)}
        found.append({"kind": name, "state": _copied(_only_plain(state))})
    return found


def set_shared_states(callbacks: Sequence[Any], states: Iterable[dict[str, Any]]) -> None:
    """Put back what `shared_states` returned, the first of a kind into the first of that kind."""
    left = list(states)
    for name, callback, _ in _of_keras(callbacks):
        mine = next((each for each in left if each["kind"] == name), None)
        if mine is not None:
            left.remove(mine)
            if name != "CSVLogger":
                vars(callback).update(mine["state"])


def let_files_go_on(callbacks: Sequence[Any], states: Iterable[dict[str, Any]]) -> None:
    """Let CSVLoggers append, after the line that was the last one at the checkpoint.

    To be called before their `on_train_begin`, which would empty the file.
    """
    sizes = [each["state"]["size_bytes"] for each in states if each["kind"] == "CSVLogger"]
    loggers = [each for name, each, _ in _of_keras(callbacks) if name == "CSVLogger"]
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


Marks = list[dict[str, str]]


def marks_of(callbacks: Sequence[Any]) -> Marks:
    """What the attributes of the user's callbacks are before a training."""
    return [
        {name: mark(value) for name, value in _plain_attributes(each).items()}
        for each in _of_users(callbacks)
    ]


def own_states(callbacks: Sequence[Any], before: Marks) -> list[dict[str, Any]]:
    """The states of the user's callbacks: each rank has its own.

    What `get_state()` returns where a callback has that and `set_state(state)`, else all its
    attributes that are plain values and have changed.

    Args:
        callbacks: all of the training.
        before: what `marks_of` returned.
    """
    return [
        {"kind": _kind(each), "state": copy.deepcopy(_state_of(each, marks))}
        for each, marks in zip(_of_users(callbacks), before, strict=True)
    ]


def set_own_states(callbacks: Sequence[Any], states: Iterable[dict[str, Any]]) -> None:
    """Put back what `own_states` returned, the first of a kind into the first of that kind."""
    left = list(states)
    for callback in _of_users(callbacks):
        mine = next((each for each in left if each["kind"] == _kind(callback)), None)
        if mine is None:
            continue
        left.remove(mine)
        if _has_protocol(callback):
            callback.set_state(mine["state"])
        else:
            vars(callback).update(mine["state"])


def without_differences(of_ranks: Sequence[Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The states of rank 0, but for attributes in which the ranks differed, such as a rank."""
    common = []
    for states in zip(*of_ranks, strict=False):
        first = states[0]["state"]
        if isinstance(first, dict):
            first = {
                name: value
                for name, value in first.items()
                if all(repr(each["state"].get(name)) == repr(value) for each in states[1:])
            }
        common.append({"kind": states[0]["kind"], "state": first})
    return common


def _of_keras(callbacks: Sequence[Any]) -> Iterator[tuple[str, Any, tuple[str, ...]]]:
    for callback in callbacks:
        for kind in type(callback).__mro__:
            if kind.__module__.startswith("keras.src") and kind is not keras.callbacks.Callback:
                yield kind.__name__, callback, _OF_KERAS.get(kind.__name__, ())
                break


def _of_users(callbacks: Sequence[Any]) -> Iterator[Any]:
    of_keras = {id(each) for _, each, _ in _of_keras(callbacks)}
    for callback in callbacks:
        ours = type(callback).__module__.startswith("keras_candle.")
        if id(callback) not in of_keras and not ours:
            yield callback


def _state_of(callback: Any, before: dict[str, str]) -> Any:
    if _has_protocol(callback):
        state = callback.get_state()
        if not is_plain(state):
            raise CandleError(
                f"get_state() of {_kind(callback)} returned {state!r:.200}, expected numbers, "
                "text, NumPy arrays, lists, tuples and dicts."
            )
        return state
    attributes = _plain_attributes(callback)
    # What the user gave to it stays hers to change between two starts.
    return {name: value for name, value in attributes.items() if mark(value) != before.get(name)}


def _plain_attributes(callback: Any) -> dict[str, Any]:
    return _only_plain(
        {name: value for name, value in vars(callback).items() if name not in _OF_CALLBACK}
    )


def _copied(state: dict[str, Any]) -> dict[str, Any]:
    """A copy: it is written while the training goes on. EarlyStopping's weights never change."""
    return {
        name: value if name == "best_weights" else copy.deepcopy(value)
        for name, value in state.items()
    }


def _has_protocol(callback: Any) -> bool:
    return callable(getattr(callback, "get_state", None)) and callable(
        getattr(callback, "set_state", None)
    )


def _only_plain(state: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in state.items() if is_plain(value)}


def _kind(callback: Any) -> str:
    return f"{type(callback).__module__}.{type(callback).__qualname__}"


def _size_of(logger: Any) -> int | None:
    if logger.csv_file is None or logger.csv_file.closed:
        return None
    logger.csv_file.flush()
    return os.path.getsize(logger.filename)
