"""Hyperparameter search in overlapping subspaces on any number of ranks, without a server."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keras_candle.search import nas as architecture
    from keras_candle.search.oracle import HyperSpaceOracle as HyperSpaceOracle
    from keras_candle.search.tuner import CandleTuner as CandleTuner

_HOMES = {
    "CandleTuner": "keras_candle.search.tuner",
    "HyperSpaceOracle": "keras_candle.search.oracle",
}

__all__ = ["CandleTuner", "HyperSpaceOracle", "architecture"]


def __getattr__(name: str) -> Any:
    if name == "architecture":
        return importlib.import_module("keras_candle.search.nas")
    if name in _HOMES:
        _need_keras_tuner()
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'keras_candle.search' has no attribute {name!r}")


def _need_keras_tuner() -> None:
    from keras_candle.errors import SearchError
    from keras_candle.optional import load

    for package in ("keras_tuner", "scipy"):
        load(package, "a hyperparameter search", SearchError)
