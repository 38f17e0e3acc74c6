"""One search of 200 trials for all of these tests."""

from __future__ import annotations

import pytest

from keras_candle import engine
from tests.report import cases


@pytest.fixture(scope="session")
def large_search(tmp_path_factory):
    folder = cases.searched(tmp_path_factory.mktemp("large"), 200)
    engine.stop()
    return folder
