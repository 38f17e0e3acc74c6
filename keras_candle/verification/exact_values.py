"""Plain values compared to the bit, place by place."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

import numpy as np

_LONGEST = 60
MISSING = type("Missing", (), {"__repr__": lambda _: "missing"})()
Path = tuple[Any, ...]


def differences(one: Any, other: Any, path: Path = ()) -> Iterator[tuple[Path, Any, Any]]:
    """Where two plain values are not the same.

    Args:
        one: numbers, text, arrays, and dicts, lists and tuples of them.
        other: likewise.
        path: where they are themselves.

    Yields:
        The path and both values there, of an array its first number that is another one.

    Example:
        >>> list(differences({"loss": [1.0, 2.0]}, {"loss": [1.0, 2.5]}))
        [(('loss', 1), 2.0, 2.5)]
    """
    if isinstance(one, dict) and isinstance(other, dict):
        for key in dict.fromkeys([*one, *other]):
            yield from differences(one.get(key, MISSING), other.get(key, MISSING), (*path, key))
    elif isinstance(one, list | tuple) and isinstance(other, list | tuple):
        for place, pair in enumerate(zip_longest(one, other, fillvalue=MISSING)):
            yield from differences(*pair, (*path, place))
    elif isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        yield from _of_arrays(one, other, path)
    elif repr(one) != repr(other):
        yield path, one, other


def _of_arrays(one: Any, other: Any, path: Path) -> Iterator[tuple[Path, Any, Any]]:
    if (one.shape, one.dtype) != (other.shape, other.dtype):
        yield path, f"{one.dtype} {list(one.shape)}", f"{other.dtype} {list(other.shape)}"
    elif one.tobytes() != other.tobytes():
        size = one.dtype.itemsize
        bits = [
            np.frombuffer(np.ascontiguousarray(each).tobytes(), f"V{size}") for each in (one, other)
        ]
        first = int(np.flatnonzero(bits[0] != bits[1])[0])
        index = tuple(map(int, np.unravel_index(first, one.shape)))
        yield (*path, list(index)), one[index], other[index]


def shown(value: Any) -> str:
    """A value as it stands in a sentence."""
    text = str(value) if isinstance(value, np.generic) else repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
