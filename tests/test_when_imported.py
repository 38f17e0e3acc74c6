"""An action waits for the program's own import."""

from __future__ import annotations

import gc
import importlib
import importlib.util
import sys

import pytest

from keras_candle.when_imported import hasten_import, when_imported


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of a submodule, not imported yet."""
    (tmp_path / "slow_package").mkdir()
    (tmp_path / "slow_package/__init__.py").write_text("from slow_package.part import value\n")
    (tmp_path / "slow_package/part.py").write_text("value = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "slow_package"
    for name in ("slow_package", "slow_package.part"):
        sys.modules.pop(name, None)


def test_actions_wait_for_the_import_and_see_the_whole_module(package):
    seen = []
    before = list(sys.meta_path)
    when_imported(package, lambda module: seen.append(("first", module.value)))
    when_imported(package, lambda module: seen.append(("second", module.value)))
    assert seen == []
    module = __import__(package)
    assert sorted(seen) == [("first", 1), ("second", 1)]
    assert sys.meta_path == before
    assert module.__spec__.submodule_search_locations == list(module.__path__)
    assert type(module.__loader__).__name__ == "SourceFileLoader"


def test_what_is_imported_already_is_acted_on_at_once():
    seen = []
    when_imported("sys", seen.append)
    assert seen == [sys]


def test_looking_for_a_module_is_no_import(package):
    seen = []
    when_imported(package, lambda module: seen.append(module.value))
    assert importlib.util.find_spec(package) is not None
    assert seen == []
    __import__(package)
    assert seen == [1]


def test_a_failed_import_may_be_tried_again(package, tmp_path):
    seen = []
    when_imported(package, lambda module: seen.append(module.value))
    part = tmp_path / "slow_package/part.py"
    part.write_text("raise ImportError\n")
    with pytest.raises(ImportError):
        __import__(package)
    part.write_text("value = 1  # now\n")
    importlib.invalidate_caches()
    __import__(package)
    assert seen == [1]


def test_the_garbage_collector_waits_for_a_large_import_and_for_a_failed_one(package, tmp_path):
    hasten_import(package)
    part = tmp_path / "slow_package/part.py"
    part.write_text("import gc\nvalue = gc.isenabled()\nassert value\n")
    with pytest.raises(AssertionError):
        __import__(package)
    assert gc.isenabled()
    part.write_text("import gc\nvalue = gc.isenabled()\n")
    importlib.invalidate_caches()
    assert __import__(package).value is False
    assert gc.isenabled()


def test_what_was_imported_is_old_for_the_collector_and_what_was_frozen_stays(package, tmp_path):
    (tmp_path / "slow_package/part.py").write_text("value = [[]]\n")
    hasten_import(package)
    value = __import__(package).value
    assert any(each is value for each in gc.get_objects(generation=2))
    gc.freeze()
    try:
        frozen = gc.get_freeze_count()
        sys.modules.pop(package)
        hasten_import(package)
        __import__(package)
        assert gc.get_freeze_count() > frozen / 2
    finally:
        gc.unfreeze()


def test_a_program_that_has_turned_the_collector_off_keeps_it_off(package):
    hasten_import(package)
    gc.disable()
    try:
        __import__(package)
        assert not gc.isenabled()
    finally:
        gc.enable()
