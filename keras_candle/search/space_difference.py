"""Describe the first difference between two search spaces."""

from __future__ import annotations

import json
from typing import Any


def first_difference(found: list[dict[str, Any]], ours: list[dict[str, Any]]) -> str:
    """Describe the first difference between two spaces; empty if none. The order doesn't matter.

    Args:
        found: the recorded space, as Keras Tuner's configurations.
        ours: the current space.
    """
    before = {_key(each): each for each in found}
    now = {_key(each): each for each in ours}
    for key in {**before, **now}:
        if before.get(key) != now.get(key):
            return (
                f"hyperparameter {key[0]!r} was {_described(before.get(key))}, here it is "
                f"{_described(now.get(key))}"
            )
    return ""


def _key(described: dict[str, Any]) -> tuple[str, str]:
    config = described["config"]
    return str(config["name"]), json.dumps(config["conditions"], default=str)


def _described(described: dict[str, Any] | None) -> str:
    if described is None:
        return "not there"
    hidden = ("name", "conditions")
    inner = ", ".join(f"{k}={v!r}" for k, v in described["config"].items() if k not in hidden)
    return f"{described['class_name']}({inner})"
