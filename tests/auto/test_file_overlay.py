"""A rank's own files lie over the real ones; the real ones stay as they are."""

from __future__ import annotations

import os
import time

import pytest

from keras_candle.auto.file_overlay import OverlayFiles


@pytest.fixture
def real(tmp_path):
    folder = tmp_path / "real"
    folder.mkdir()
    (folder / "old.txt").write_text("real")
    return folder


@pytest.fixture
def scratch(tmp_path):
    return OverlayFiles(str(tmp_path / "own"), time.time())


def write(scratch, path, text, *, keep=False):
    with open(scratch.write_path(str(path), keep=keep), "a" if keep else "w") as file:
        file.write(text)


def read(scratch, path):
    with open(scratch.read_path(str(path))) as file:
        return file.read()


def test_a_rank_alone_reads_what_it_wrote(scratch, real):
    write(scratch, real / "old.txt", "own")
    write(scratch, real / "new.txt", "new")
    assert read(scratch, real / "old.txt") == "own"
    assert scratch.names(str(real)) == ["new.txt", "old.txt"]
    assert [(each.name, each.read_text()) for each in real.iterdir()] == [("old.txt", "real")]


def test_appending_begins_with_the_real_file(scratch, real):
    write(scratch, real / "old.txt", ", own", keep=True)
    assert read(scratch, real / "old.txt") == "real, own"


def test_what_was_removed_is_gone_until_the_root_writes_it_anew(scratch, real):
    scratch.remove(str(real))
    assert not os.path.exists(scratch.read_path(str(real / "old.txt")))
    with pytest.raises(FileNotFoundError):
        scratch.names(str(real))
    scratch.make_folder(str(real), 0o777)
    assert scratch.names(str(real)) == []
    time.sleep(0.02)
    (real / "old.txt").write_text("anew")
    os.utime(real)
    assert read(scratch, real / "old.txt") == "anew"


@pytest.mark.parametrize("name", ["old.txt", "own.txt"])
def test_renaming(scratch, real, name):
    if name == "own.txt":
        write(scratch, real / name, "real")
    scratch.rename(str(real / name), str(real / "renamed.txt"))
    assert read(scratch, real / "renamed.txt") == "real"
    assert name not in scratch.names(str(real))
    assert (real / "old.txt").exists()


def test_a_folder_of_before_the_job_is_in_the_way_and_a_new_one_is_not(real, tmp_path):
    made_s = real.stat().st_ctime
    OverlayFiles(str(tmp_path / "own"), made_s - 1).make_folder(str(real), 0o777)
    with pytest.raises(FileExistsError):
        OverlayFiles(str(tmp_path / "later"), made_s + 1).make_folder(str(real), 0o777)


def test_in_a_folder_that_is_not_there_nothing_can_be_written(scratch, real):
    with pytest.raises(FileNotFoundError):
        write(scratch, real / "missing" / "file.txt", "own")


def test_another_name_for_the_roots_file(scratch, real):
    scratch.redirect_reads(str(real / "18-00-01.txt"), str(real / "old.txt"))
    assert read(scratch, real / "18-00-01.txt") == "real"
