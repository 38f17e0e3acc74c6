"""The values of an epoch, from metrics and callbacks, in the form that the journal keeps."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np

from keras_candle.checkpoints.plain import MOST_BITS

# More elements are an image or a matrix, whose numbers nobody reads one by one.
MOST_ELEMENTS = 1000
_EXPECTED = "expected a number, text, None, or an array, a list or a dict of these"


class EpochLogs(keras.callbacks.Callback):  # type: ignore[misc]
    """The last callback of a fit: sees an epoch's logs with all that callbacks added.

    Attributes:
        logs: those of the latest epoch.
        values: what the journal keeps of them, see `recordable`.
        refused: by name, why it does not keep the rest.
    """

    def __init__(self) -> None:
        super().__init__()
        self.logs: dict[str, Any] = {}
        self.values: dict[str, Any] = {}
        self.refused: dict[str, str] = {}
        self._lengths: dict[str, int] = {}

    def begin_epoch(self) -> None:
        """Record what the History holds before an epoch; call it before all callbacks."""
        self._lengths = {name: len(each) for name, each in self._series()}

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002 - Keras's signature
        """Keep the logs, and what the History has got in this epoch by any way."""
        before = self._lengths
        new = {name: each[-1] for name, each in self._series() if len(each) > before.get(name, 0)}
        self.logs = {**(logs or {}), **new}
        self.values, self.refused = recordable(self.logs)

    def _series(self) -> Iterator[tuple[str, list[Any]]]:
        for name, each in self.model.history.history.items():
            if isinstance(each, list):
                yield name, each


def recordable(logs: Mapping[Any, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return what the journal can keep of an epoch's logs, and why it cannot keep the rest.

    Args:
        logs: by name, of any types. The element of an array, a list or a dict is recorded by its
            path: `f1/0`, `confusion/1/0`.

    Returns:
        Integers, floats, texts and None by name; reasons by name.

    Example:
        >>> recordable({"loss": np.float32(0.5), "f1": np.array([1.0, 0.25]), "best": []})
        ({'loss': 0.5, 'f1/0': 1.0, 'f1/1': 0.25}, {'best': 'it has no elements'})
    """
    values: dict[str, Any] = {}
    refused: dict[str, str] = {}
    for key, value in logs.items():
        name = str(key).encode(errors="backslashreplace").decode()
        try:
            elements = _elements(name, value)
        except Exception as cause:  # whatever a user's object raises
            refused[name] = str(cause)
            continue
        for path, element in elements:
            try:
                if path in values:
                    raise ValueError("another value has this name")
                values[path] = _plain(element)
            except Exception as cause:
                refused[path] = str(cause)
    return values, refused


def _elements(name: str, value: Any) -> list[tuple[str, Any]]:
    found = list(itertools.islice(_walk(name, value), MOST_ELEMENTS + 1))
    if len(found) > MOST_ELEMENTS:
        raise ValueError(f"it has more than {MOST_ELEMENTS:,} elements")
    if not found:
        raise ValueError("it has no elements")
    return found


def _walk(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield each element with its path, the value itself with its name where it has none."""
    if callable(getattr(value, "numpy", None)):  # a tensor or a variable
        value = value.numpy()
    if isinstance(value, np.ma.MaskedArray):
        value = value.tolist()  # None where it is masked
    elif hasattr(value, "__array__"):
        value = np.asarray(value)
    if isinstance(value, Mapping):
        elements = list(value.items())
    elif isinstance(value, list | tuple) or np.ndim(value):
        elements = list(enumerate(value))
    else:
        yield name, value.item() if hasattr(value, "__array__") else value
        return
    for key, each in elements:
        yield from _walk(f"{name}/{key}", each)


def _plain(value: Any) -> int | float | str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    if isinstance(value, int):
        if value.bit_length() > MOST_BITS:
            raise ValueError("it has more than 4,200 digits")
        return int(value)  # True is 1
    try:
        return float(value)
    except (TypeError, ValueError):
        kind = type(value).__name__
        raise TypeError(f"it is of type {kind}, {_EXPECTED}") from None
