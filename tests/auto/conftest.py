"""Real jobs under `candle run --auto`."""

from tests.launch.conftest import candle as candle  # noqa: PLC0414 - a fixture is used by its name
