"""The client of Weights & Biases against a server: one run, however the starts come there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from keras_candle.trackers.base import make
from tests.trackers.cases import MORE, ROWS, note, reconcile, run_in, track
from tests.trackers.mlflow_server import ANSWERS, answering
from tests.trackers.readers import read
from tests.trackers.wandb_server import KEY, wandb_server

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


@pytest.fixture
def lines(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    (tmp_path / "user").mkdir()
    monkeypatch.chdir(tmp_path / "user")
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "user"))
    with wandb_server() as (address, lines):
        monkeypatch.setenv("WANDB_BASE_URL", address)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        yield lines


@pytest.fixture
def start(tmp_path, monkeypatch):
    """start(rows, mode): a start of the run. Returns what it held before."""

    def start(rows, mode="online"):
        if mode is not None:
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


def settings(tmp_path, where, text):
    """What `wandb offline` and `wandb login` write, for the user or for the folder."""
    path = tmp_path / "user" / where
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"[default]\n{text}\n")


@pytest.mark.parametrize("where", ["settings", "wandb/settings"])
def test_a_settings_file_that_says_offline_is_obeyed(lines, start, tmp_path, where):
    settings(tmp_path, where, "mode = offline")
    start(ROWS, None)
    assert lines.starts == 0
    assert read("wandb", tmp_path) == ROWS


def test_a_settings_file_names_the_server_and_the_project(lines, start, tmp_path, monkeypatch):
    settings(tmp_path, "settings", f"base_url = {os.environ['WANDB_BASE_URL']}\nproject = theirs")
    monkeypatch.delenv("WANDB_BASE_URL")
    start(ROWS, None)
    assert (lines.by_step(), lines.project) == (ROWS, "theirs")


@pytest.mark.parametrize("mode", ["OFFLINE", " offline", "dryrun"])
def test_offline_is_offline_however_it_is_written(lines, start, tmp_path, mode):
    start(ROWS, mode)
    assert lines.starts == 0
    assert read("wandb", tmp_path) == ROWS


@pytest.mark.parametrize("mode", ["", "Online", "run"])
def test_online_is_online_however_it_is_written(lines, start, mode):
    start(ROWS, mode)
    assert lines.by_step() == ROWS


def test_empty_variables_are_none(lines, start, monkeypatch):
    for name in ("WANDB_PROJECT", "WANDB_ENTITY", "WANDB_DIR", "WANDB_RUN_GROUP"):
        monkeypatch.setenv(name, "")
    start(ROWS, "")
    assert (lines.by_step(), lines.project) == (ROWS, "keras_candle")


@pytest.mark.parametrize("kind", ANSWERS)
def test_a_server_that_is_none_is_one_sentence(lines, tmp_path, monkeypatch, kind):
    said = []
    note(tmp_path, ROWS)
    with answering(*ANSWERS[kind]) as address:
        monkeypatch.setenv("WANDB_BASE_URL", address)
        assert reconcile(tmp_path, make("wandb"), said, within_s=60)
    (text,) = said
    assert text.startswith("wandb: the run is kept offline: ")
    assert read("wandb", tmp_path) == ROWS


def test_disabled_is_nowhere(lines, start, tmp_path):
    start(ROWS, "disabled")
    assert lines.starts == 0
    assert not list(tmp_path.glob("wandb/*run-*"))


def test_a_row_has_the_time_at_which_it_was_noted(lines, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "online")
    with monkeypatch.context() as then:
        then.setattr("time.time", lambda: 1e9)
        note(tmp_path, ROWS)
    assert reconcile(tmp_path, make("wandb"), [], within_s=60)
    assert {values["_timestamp"] for values in lines.rows.values()} == {1e9}
