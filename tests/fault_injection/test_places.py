"""A killed training never has a run directory where the user's own are."""

from __future__ import annotations

import pytest

from keras_candle.fault_injection.places import Places


@pytest.fixture
def places(tmp_path, monkeypatch):
    for name in ("original", "copy", "elsewhere"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "copy")
    return Places(*(str(tmp_path / name) for name in ("original", "copy", "elsewhere")))


def test_a_relative_path_and_an_absolute_one_in_the_folder_are_the_same_in_the_copy(
    places, tmp_path
):
    for path in ("runs/one", tmp_path / "original" / "runs" / "one"):
        assert places.lies_at(path) == tmp_path / "copy" / "runs" / "one"
        assert places.name_of(path) == "runs/one"


def test_what_lies_elsewhere_goes_elsewhere(places, tmp_path):
    (tmp_path / "copy" / "link").symlink_to(tmp_path)
    for path in (tmp_path / "one", "../one", "link/one"):
        found = places.lies_at(path)
        assert found.is_relative_to(tmp_path / "elsewhere")
        assert places.lies_at(found) == found
        assert places.name_of(found) == places.name_of(path) == str(tmp_path / "one")
