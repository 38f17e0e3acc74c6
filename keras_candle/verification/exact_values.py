"""Compare nested plain values bit by bit."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

import numpy as np

_LONGEST = 60
MISSING = type("Missing", (), {"__repr__": lambda _: "missing"})()
Path = tuple[Any, ...]


def differences(a: Any, b: Any, path: Path = ()) -> Iterator[tuple[Path, Any, Any]]:
    """Find the paths at which two nested values differ.

    Args:
        a: numbers, text, arrays, and dicts, lists and tuples of them.
        b: the same kinds.
        path: the path of `a` and `b` themselves.

    Yields:
        The path and both values there; of an array its first number that differs.

    Example:
        >>> list(differences({"loss": [1.0, 2.0]}, {"loss": [1.0, 2.5]}))
        [(('loss', 1), 2.0, 2.5)]
    """
    if isinstance(a, dict) and isinstance(b, dict):
        for key in dict.fromkeys([*a, *b]):
            yield from differences(a.get(key, MISSING), b.get(key, MISSING), (*path, key))
    elif isinstance(a, list | tuple) and isinstance(b, list | tuple):
        for place, pair in enumerate(zip_longest(a, b, fillvalue=MISSING)):
            yield from differences(*pair, (*path, place))
    elif isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        yield from _of_arrays(a, b, path)
    elif repr(a) != repr(b):
        yield path, a, b


def _of_arrays(a: Any, b: Any, path: Path) -> Iterator[tuple[Path, Any, Any]]:
    if (a.shape, a.dtype) != (b.shape, b.dtype):
        yield path, f"{a.dtype} {list(a.shape)}", f"{b.dtype} {list(b.shape)}"
    elif a.tobytes() != b.tobytes():
        size = a.dtype.itemsize
        bits = [np.frombuffer(np.ascontiguousarray(each).tobytes(), f"V{size}") for each in (a, b)]
        first = int(np.flatnonzero(bits[0] != bits[1])[0])
        index = tuple(map(int, np.unravel_index(first, a.shape)))
        yield (*path, list(index)), a[index], b[index]


def shown(value: Any) -> str:
    """Return a value as text for a message, shortened to 60 characters."""
    text = str(value) if isinstance(value, np.generic) else repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
