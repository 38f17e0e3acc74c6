"""Which group a process belongs to: by its rank, and by its element of a job array."""

from __future__ import annotations

import json
import os

import pytest

from keras_candle.errors import LaunchError
from keras_candle.launcher_messages import ELEMENT
from keras_candle.search.groups import Group, join
from tests.search.search_job import main


@pytest.mark.parametrize(
    ("element", "rank", "size", "expected", "is_first"),
    [
        ("0/6", 0, 1, Group(0, 6, 1, 6), True),
        ("4/6", 0, 1, Group(4, 6, 1, 6), True),
        ("2/3", 1, 4, Group(9, 12, 1, 3), False),
    ],
)
def test_ranks_come_after_elements(monkeypatch, element, rank, size, expected, is_first):
    monkeypatch.setenv(ELEMENT, element)
    monkeypatch.setenv("PMI_RANK", str(rank))
    monkeypatch.setenv("PMI_SIZE", str(size))
    group = join(1)[0]
    assert group == expected
    assert group.is_first == is_first


@pytest.mark.parametrize("given", ["6/6", "3", "-1/2", "a/b", ""])
def test_an_element_that_is_none_is_named(monkeypatch, given):
    monkeypatch.setenv(ELEMENT, given)
    with pytest.raises(LaunchError, match=f"{ELEMENT} is '{given}', expected the element"):
        join(1)


def element_of_four(asked):
    """A process that its environment makes one of four elements, as on nodes of their own."""
    before = {name: os.environ.pop(name) for name in ("PMI_RANK", "PMI_SIZE")}
    os.environ[ELEMENT] = f"{before['PMI_RANK']}/4"
    try:
        return main(asked)
    finally:
        os.environ.update(before)
        del os.environ[ELEMENT]


def test_two_elements_search_one_folder_in_subspaces_of_their_own(ranks, tmp_path):
    asked = {"space": "wide", "max_trials": 8, "folder": str(tmp_path), "sleep_s": 1.0}
    first, second = ranks(2).run(element_of_four, asked=asked)
    assert first["trials"] == second["trials"] == 8
    assert first["ran"] + second["ran"] == 8
    lines = [
        json.loads(line)
        for path in sorted((tmp_path / "runs/search/journals").iterdir())
        for line in path.read_text().splitlines()
    ]
    started = [each for each in lines if each["event"] == "started"]
    # The first trial of each, while too little is known to prefer another subspace.
    homes = {each["group"]: each["subspace"] for each in reversed(started)}
    assert homes == {0: 0, 1: 1}
