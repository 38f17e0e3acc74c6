"""Plain values as JSON and arrays, and back: nothing that could run code when it is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_candle.checkpoints.manifest import digest

_KIND = "__kind__"


def is_plain(value: Any) -> bool:
    """Whether a value can be written here: numbers, text, None, arrays, and what consists of them.

    Example:
        >>> is_plain({"best": 0.5, "waits": [1, 2]}), is_plain({"model": object()})
        (True, False)
    """
    if isinstance(value, Mapping):
        return type(value) is dict and all(
            is_plain(each) for pair in value.items() for each in pair
        )
    if type(value) in (list, tuple):
        return all(is_plain(each) for each in value)
    if isinstance(value, np.ndarray | np.generic):
        return value.dtype.kind in "biufcUS"
    return value is None or type(value) in (bool, int, float, str, bytes)


def mark(value: Any) -> str:
    """A text that is another one when a plain value has changed."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
        return digest(np.ascontiguousarray(value).reshape(-1).view(np.uint8))
    return repr(value)


def encode(value: Any, arrays: dict[str, NDArray[Any]]) -> Any:  # noqa: PLR0911 - one for each kind
    """A value as JSON values.

    Args:
        value: a plain value.
        arrays: gets its arrays, under names that the JSON values refer to.

    Raises:
        TypeError: when the value is not plain.
    """
    if type(value) is dict:
        if all(type(key) is str for key in value) and _KIND not in value:
            return {key: encode(each, arrays) for key, each in value.items()}
        pairs = [[encode(key, arrays), encode(each, arrays)] for key, each in value.items()]
        return {_KIND: "dict", "pairs": pairs}
    if type(value) is list:
        return [encode(each, arrays) for each in value]
    if type(value) is tuple:
        return {_KIND: "tuple", "items": [encode(each, arrays) for each in value]}
    if type(value) is bytes:
        return {_KIND: "bytes", "hex": value.hex()}
    if isinstance(value, np.ndarray | np.generic) and is_plain(value):
        name = f"a{len(arrays)}"
        arrays[name] = np.array(value)
        return {_KIND: "array" if isinstance(value, np.ndarray) else "scalar", "name": name}
    if is_plain(value):
        return value
    raise TypeError(f"{type(value).__name__} is not plain: {value!r:.80}")


def decode(value: Any, arrays: Mapping[str, NDArray[Any]]) -> Any:  # noqa: PLR0911 - as there
    """The value that `encode` was given.

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
    if kind == "dict":
        return {decode(key, arrays): decode(each, arrays) for key, each in value["pairs"]}
    if kind == "tuple":
        return tuple(decode(each, arrays) for each in value["items"])
    if kind == "bytes":
        return bytes.fromhex(value["hex"])
    if kind == "array":
        return np.array(arrays[value["name"]])
    if kind == "scalar":
        return arrays[value["name"]][()]
    return {key: decode(each, arrays) for key, each in value.items()}
