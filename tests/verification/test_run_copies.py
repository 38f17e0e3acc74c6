"""A killed training never has a run directory where the user's own are."""

from __future__ import annotations

import pytest

from keras_candle.verification.resume_check import RunCopies


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """The original, its copy, and where other run directories go."""
    original, scratch = tmp_path / "original", tmp_path / "scratch"
    copy = scratch / original.relative_to("/")
    for folder in (original, copy, tmp_path / "elsewhere"):
        folder.mkdir(parents=True)
    monkeypatch.chdir(copy)
    return original, copy, tmp_path / "elsewhere"


@pytest.fixture
def places(folders, tmp_path):
    return RunCopies(str(folders[0]), str(tmp_path / "scratch"), str(folders[2]))


def test_a_relative_path_and_an_absolute_one_in_the_folder_are_the_same_in_the_copy(
    places, folders
):
    original, copy, _ = folders
    assert places.copy == str(copy)
    for path in ("runs/one", original / "runs" / "one", copy / "runs" / "one"):
        assert places.resolve(path) == copy / "runs" / "one"
        assert places.name_of(path) == "runs/one"


def test_what_lies_elsewhere_goes_elsewhere(places, folders, tmp_path):
    (folders[1] / "link").symlink_to(tmp_path)
    for path in (tmp_path / "one", "../one", "link/one"):
        found = places.resolve(path)
        assert found.is_relative_to(folders[2])
        assert places.resolve(found) == found
        assert places.name_of(found) == places.name_of(path) == str(tmp_path / "one")
