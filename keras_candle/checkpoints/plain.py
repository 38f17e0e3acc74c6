"""Encode plain values as JSON and arrays, and decode them without running code."""

from __future__ import annotations

import datetime
import json
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping
from decimal import Decimal
from fractions import Fraction
from pathlib import PosixPath
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from keras_candle.checkpoints.manifest import digest

# Python refuses to write and to read integers of more than 4,300 digits.
MOST_BITS = 14_000
_KIND = "__kind__"
# The allowed factories of a defaultdict: a name in a file must not choose any callable.
_FACTORIES = {each.__name__: each for each in (bool, dict, float, int, list, set, str, tuple)}
# Types that are encoded as text: (write, read).
_BY_TEXT: dict[type, tuple[Callable[[Any], str], Callable[[str], Any]]] = {
    bytes: (bytes.hex, bytes.fromhex),
    bytearray: (bytearray.hex, bytearray.fromhex),
    complex: (repr, complex),
    datetime.date: (datetime.date.isoformat, datetime.date.fromisoformat),
    datetime.datetime: (datetime.datetime.isoformat, datetime.datetime.fromisoformat),
    datetime.time: (datetime.time.isoformat, datetime.time.fromisoformat),
    Decimal: (str, Decimal),
    Fraction: (str, Fraction),
    PosixPath: (str, PosixPath),
    UUID: (str, UUID),
}
_BY_INTEGERS: dict[type, Callable[[Any], tuple[int | None, ...]]] = {
    datetime.timedelta: lambda each: (each.days, each.seconds, each.microseconds),
    range: lambda each: (each.start, each.stop, each.step),
    slice: lambda each: (each.start, each.stop, each.step),
}
_TEXTS = {kind.__name__: kind for kind in _BY_TEXT}
_INTEGERS = {kind.__name__: kind for kind in _BY_INTEGERS}
_DICTS: dict[str, Any] = {each.__name__: each for each in (Counter, OrderedDict, defaultdict)}
_ITEMS = {each.__name__: each for each in (tuple, set, frozenset, deque)}


def is_plain(value: Any) -> bool:  # noqa: PLR0911 - one for each kind
    """Whether a value can be encoded.

    Plain values are numbers, text, bytes, None, arrays, times, paths, and lists, tuples, dicts,
    sets, deques, Counters, OrderedDicts and defaultdicts of them.

    Example:
        >>> is_plain({"best": 0.5, "waits": [1, 2]}), is_plain({"model": object()})
        (True, False)
    """
    kind = type(value)
    if isinstance(value, Mapping):
        if isinstance(value, defaultdict) and not _is_known(value.default_factory):
            return False
        known = kind is dict or kind in _DICTS.values()
        return known and all(is_plain(each) for pair in list(value.items()) for each in pair)
    if kind is list or kind in _ITEMS.values():
        return all(is_plain(each) for each in list(value))
    if isinstance(value, np.ndarray | np.generic):
        return value.dtype.kind in "biufcUSmM"
    if kind is slice:
        return all(
            type(each) in (int, type(None)) for each in (value.start, value.stop, value.step)
        )
    if kind in (datetime.datetime, datetime.time):
        return value.tzinfo is None or type(value.tzinfo) is datetime.timezone
    if kind is int and value.bit_length() > MOST_BITS:
        return False
    return value is None or kind in (bool, int, float, str) or kind in _BY_TEXT | _BY_INTEGERS


def _is_known(factory: Any) -> bool:
    return factory is None or any(factory is each for each in _FACTORIES.values())


def mark(value: Any) -> str:
    """Return a digest that changes with a plain value."""
    arrays: dict[str, NDArray[Any]] = {}
    text = json.dumps(encode(value, arrays))
    bits = (np.ascontiguousarray(each).reshape(-1).view(np.uint8) for each in arrays.values())
    facts = [(each.dtype.str, each.shape) for each in arrays.values()]
    return digest(repr([text, facts, *map(digest, bits)]).encode())


def encode(value: Any, arrays: dict[str, NDArray[Any]]) -> Any:  # noqa: PLR0911 - one for each kind
    """Convert a value to JSON values.

    Args:
        value: a plain value.
        arrays: receives its arrays, not copied, under names that the JSON values refer to.

    Raises:
        TypeError: when the value is not plain.
    """
    kind = type(value)
    if kind is dict and all(type(key) is str for key in value) and _KIND not in value:
        return {key: encode(each, arrays) for key, each in list(value.items())}
    if kind is dict or (kind in _DICTS.values() and is_plain(value)):
        pairs = [[encode(each, arrays) for each in pair] for pair in list(value.items())]
        found = {_KIND: kind.__name__, "pairs": pairs}
        if kind is defaultdict and value.default_factory:
            found["factory"] = value.default_factory.__name__
        return found
    if kind is list:
        return [encode(each, arrays) for each in list(value)]
    if kind in _ITEMS.values():
        found = {_KIND: kind.__name__, "items": [encode(each, arrays) for each in list(value)]}
        return {**found, "maxlen": value.maxlen} if kind is deque else found
    if isinstance(value, np.ndarray | np.generic) and is_plain(value):
        name = f"a{len(arrays)}"
        arrays[name] = np.asarray(value)
        return {_KIND: "array" if isinstance(value, np.ndarray) else "scalar", "name": name}
    if kind in _BY_TEXT and is_plain(value):
        return {_KIND: kind.__name__, "text": _BY_TEXT[kind][0](value)}
    if kind in _BY_INTEGERS and is_plain(value):
        return {_KIND: kind.__name__, "integers": list(_BY_INTEGERS[kind](value))}
    if is_plain(value):
        return value
    raise TypeError(f"{kind.__name__} is not plain: {value!r:.80}")


def decode(value: Any, arrays: Mapping[str, NDArray[Any]]) -> Any:  # noqa: PLR0911 - as there
    """Convert JSON values of `encode` back to the value.

    Example:
        >>> arrays = {}
        >>> decode(encode({"seen": (1, np.arange(2))}, arrays), arrays)
        {'seen': (1, array([0, 1]))}
    """
    if isinstance(value, list):
        return [decode(each, arrays) for each in value]
    if not isinstance(value, dict):
        return value
    kind = value.get(_KIND)
    if kind == "array":
        return np.array(arrays[value["name"]])
    if kind == "scalar":
        return arrays[value["name"]][()]
    if kind == "bytes" and "hex" in value:  # of an earlier version
        return bytes.fromhex(value["hex"])
    if kind in _TEXTS:
        return _BY_TEXT[_TEXTS[kind]][1](value["text"])
    if kind in _INTEGERS:
        return _INTEGERS[kind](*value["integers"])
    if kind in _ITEMS:
        items = [decode(each, arrays) for each in value["items"]]
        return deque(items, value["maxlen"]) if kind == "deque" else _ITEMS[kind](items)
    if kind == "dict" or kind in _DICTS:
        pairs = [(decode(key, arrays), decode(each, arrays)) for key, each in value["pairs"]]
        if kind == "defaultdict":
            return defaultdict(_FACTORIES.get(value.get("factory", "")), pairs)
        # A Counter of pairs would count the pairs.
        return dict(pairs) if kind == "dict" else _DICTS[kind](dict(pairs))
    return {key: decode(each, arrays) for key, each in value.items()}
