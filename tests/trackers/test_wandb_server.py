"""The client of Weights & Biases against a server: one run, however the starts come there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from keras_candle.trackers.base import make
from tests.trackers.cases import MORE, ROWS, run_in, track
from tests.trackers.wandb_server import KEY, wandb_server

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


@pytest.fixture
def lines(monkeypatch):
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    with wandb_server() as (address, lines):
        monkeypatch.setenv("WANDB_BASE_URL", address)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        yield lines


@pytest.fixture
def start(tmp_path, monkeypatch):
    """start(rows, mode): a start of the run. Returns what it held before."""

    def start(rows, mode="online"):
        monkeypatch.setenv("WANDB_MODE", mode)
        said = []
        held = track(make("wandb"), run_in(tmp_path, said), rows)
        assert said == []
        return held

    return start


def sync(run):
    """What the user types."""
    paths = sorted(run.glob("wandb/offline-run-*"))
    command = [Path(sys.executable).parent / "wandb", "sync", *paths]
    if paths:
        # It leaves logs in the folder that it runs in.
        subprocess.run(command, cwd=run, check=True, capture_output=True, timeout=60)


def test_a_run_goes_on_where_the_server_is(lines, start):
    assert start(ROWS) == -1
    assert start(MORE) == max(ROWS)
    assert start({}) == max(MORE)
    assert lines.by_step() == {**ROWS, **MORE}


@pytest.mark.parametrize("first", ["online", "offline"])
def test_what_was_kept_offline_becomes_the_same_run(lines, start, tmp_path, first):
    start(ROWS, first)
    assert start(MORE, "offline") == max(ROWS)
    sync(tmp_path)
    assert lines.by_step() == {**ROWS, **MORE}


def test_what_was_kept_offline_is_not_sent_twice(lines, start, tmp_path):
    start(ROWS, "offline")
    assert start({**ROWS, **MORE}) == -1
    sync(tmp_path)
    assert lines.by_step() == {**ROWS, **MORE}
