"""Real ranks for the tests, and an engine that is stopped after each."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.rank_pool import RankPool

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.pop("KERAS_CANDLE_ENGINE", None)

_POOLS: dict[int, RankPool] = {}


@pytest.fixture(scope="session")
def ranks() -> Iterator[object]:
    """ranks(n): n real ranks, started once in a test session."""
    yield lambda size: _POOLS.setdefault(size, RankPool(size))
    for pool in _POOLS.values():
        pool.stop()


@pytest.fixture(autouse=True)
def _engine_stopped() -> Iterator[None]:
    yield
    from keras_candle import engine

    engine.stop()
