"""Mask secrets in values that leave the run directory."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

MASK = "***"
_SECRET = re.compile(r"token(?!iz)|secret|passw|api_?key|credential", re.IGNORECASE)
_COUNT = re.compile(r"token", re.IGNORECASE)
_IN_URL = re.compile(r"(\w://)[^/\s@]+@")


def redacted(value: Any, key: str = "") -> Any:
    """Mask the values of keys that name a secret, and passwords in URLs.

    Args:
        value: a JSON value.
        key: its key.

    Example:
        >>> redacted({"rate": 0.1, "API_KEY": "x", "num_tokens": 512, "to": "s3://me:pw@host/a"})
        {'rate': 0.1, 'API_KEY': '***', 'num_tokens': 512, 'to': 's3://***@host/a'}
    """
    if _SECRET.search(key) and value is not None and not _is_count(key, value):
        return MASK
    if isinstance(value, Mapping):
        return {name: redacted(each, str(name)) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(each) for each in value]
    if isinstance(value, str):
        return _IN_URL.sub(rf"\1{MASK}@", value)
    return value


def _is_count(key: str, value: Any) -> bool:
    """Whether a value is a number of tokens, as of a language model."""
    return isinstance(value, int | float) and not _SECRET.search(_COUNT.sub("", key))


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested dicts to one with names like paths.

    Example:
        >>> flat({"fit": {"epochs": 3}, "ranks": 2})
        {'fit/epochs': 3, 'ranks': 2}
    """
    found: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            found.update(flat(value, f"{prefix}{name}/"))
        else:
            found[f"{prefix}{name}"] = value
    return found
