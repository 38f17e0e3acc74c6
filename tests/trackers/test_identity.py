"""Which starts are one run: the id stays with the checkpoints."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from keras_candle.run_directory import RunDirectory
from keras_candle.trackers.identity import id_of_search, identify
from tests.trackers.cases import ROWS, note


@pytest.fixture
def directory(tmp_path):
    return RunDirectory(tmp_path)


@pytest.fixture
def first(directory):
    """The identity of a run that has come to its first checkpoint."""
    found = identify(directory, None, begin=False)
    note(directory.path, ROWS)
    directory.log_event("checkpoint", step=8)
    return found


def test_a_run_that_goes_on_is_the_same(directory, first):
    assert identify(directory, first, begin=False) == first
    assert identify(directory, {}, begin=False) == first  # a checkpoint from before there were ids


def test_one_that_was_killed_before_its_first_checkpoint_is_the_same(directory):
    found = identify(directory, None, begin=False)
    note(directory.path, ROWS)
    assert identify(directory, None, begin=False) == found


@pytest.mark.parametrize("begin", [True, False])
def test_one_that_begins_anew_is_another_behind_it(directory, first, begin):
    (directory.path / "log.csv").write_text("step\n")
    found = identify(directory, None, begin=begin)
    assert found["id"] != first["id"]
    assert found["from_bytes"] == directory.journal.stat().st_size
    assert (directory.path / f"log-{first['id']}.csv").exists()
    assert not (directory.path / "log.csv").exists()
    assert identify(directory, None, begin=False) == found


def test_the_checkpoint_decides(directory, first):
    identify(directory, None, begin=True)
    assert identify(directory, first, begin=False) == first


def test_a_file_that_is_damaged_costs_the_id_and_not_the_training(directory, first):
    (directory.path / "trackers.json").write_text("{")
    assert identify(directory, first, begin=False) == first


def test_all_groups_of_a_search_find_the_same_id(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(id_of_search, [tmp_path] * 64))
    assert len(set(found)) == 1
    assert [each.name for each in tmp_path.iterdir()] == ["trackers.json"]
