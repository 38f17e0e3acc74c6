"""A checkpoint is there as a whole or not at all, whenever its writer dies."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from keras_candle.checkpoints import manifest
from keras_candle.checkpoints.folder import CheckpointFolder, Keep
from keras_candle.errors import CheckpointError


def fill(partial, text="new"):
    (partial / "state.json").write_text(text)
    content = manifest.to_json(manifest.describe(partial, (), {}))
    (partial / manifest.NAME).write_bytes(content)


@pytest.fixture
def folder(tmp_path):
    made = CheckpointFolder(tmp_path / "checkpoints")
    for step in (10, 20, 30):
        with made.new(step) as partial:
            fill(partial, f"step {step}")
    return made


def names(folder):
    return sorted(os.listdir(folder.path))


def test_steps_and_links(folder, tmp_path):
    assert folder.steps() == [10, 20, 30]
    assert os.readlink(folder.path / "last") == "step-00000030"
    folder.point_to_best(20)
    moved = CheckpointFolder(folder.path.rename(tmp_path / "moved here"))
    assert (moved.best(), moved.newest_whole(pytest.fail)) == (20, 30)
    assert (moved.path / "best" / "state.json").read_text() == "step 20"


def write_and_fail(folder, error):
    with folder.new(40) as partial:
        fill(partial)
        raise error


def test_an_error_while_writing_leaves_nothing(folder):
    before = names(folder)
    for error, raised in ((ValueError("own"), ValueError), (OSError(28, "full"), CheckpointError)):
        with pytest.raises(raised) as caught:
            write_and_fail(folder, error)
        assert names(folder) == before
    assert "bytes are free: make room there. The checkpoints before it" in str(caught.value)
    with pytest.raises(CheckpointError, match="has no MANIFEST"), folder.new(40):
        pass
    assert names(folder) == before


def test_damage_is_told_and_the_one_before_is_taken(folder):
    (folder.path_of(30) / "state.json").write_text("step 31")
    (folder.path_of(20) / manifest.NAME).unlink()
    told = []
    assert folder.newest_whole(told.append) == 10
    assert "step-00000030/state.json: it differs from what was written" in told[0]
    assert "was never finished" in told[1]


def test_a_step_that_is_written_again_replaces_the_one_before(folder):
    with folder.new(30) as partial:
        fill(partial, "again")
    assert (folder.path_of(30) / "state.json").read_text() == "again"
    assert names(folder) == ["last", "step-00000010", "step-00000020", "step-00000030"]


# A step that is there already is written again: the longest way. os._exit, as kill -9, runs no
# finally; it comes at the n-th call that changes the disk.
KILLED = """
import os, shutil, sys
from pathlib import Path
from keras_candle.checkpoints.folder import CheckpointFolder, Keep
from tests.checkpoints.test_folder import fill

left = int(sys.argv[2])
def dying(call):
    def changed(*args, **kwargs):
        global left
        left -= 1
        if left < 0:
            os._exit(7)
        return call(*args, **kwargs)
    return changed
for name in ("rename", "replace", "symlink", "fsync", "mkdir", "unlink", "rmdir"):
    setattr(os, name, dying(getattr(os, name)))
folder = CheckpointFolder(sys.argv[1])
with folder.new(30) as partial:
    fill(partial, "again")
folder.prune(Keep(last=2))
"""


def test_whenever_the_writer_dies_every_checkpoint_is_whole(folder):
    seen, calls, code = set(), 0, 7
    while code == 7:
        done = subprocess.run(
            [sys.executable, "-c", KILLED, folder.path, str(calls)], cwd=os.getcwd(), check=False
        )
        code, calls = done.returncode, calls + 1
        folder.recover()
        assert {10, 20, 30} & set(folder.steps()) >= {20, 30}
        assert all(manifest.find_damage(folder.path_of(step)) == [] for step in folder.steps())
        assert all(name == "last" or name.startswith("step-") for name in names(folder))
        seen.add((folder.path_of(30) / "state.json").read_text())
    assert code == 0
    assert calls > 10
    assert seen == {"step 30", "again"}


def test_what_stays(folder):
    folder.point_to_best(10)
    assert folder.prune(Keep(last=1), always=[folder.best()]) == [20]
    assert folder.steps() == [10, 30]
    with pytest.raises(CheckpointError, match="expected at least 1"):
        Keep(last=0)


def test_rolling_back_sets_newer_ones_aside(folder):
    folder.point_to_best(30)
    assert folder.roll_back(10) == [20, 30]
    assert (folder.steps(), folder.best()) == ([10], None)
    assert sorted(os.listdir(folder.path / "set-aside")) == ["step-00000020", "step-00000030"]
    assert os.readlink(folder.path / "last") == "step-00000010"
    with pytest.raises(CheckpointError, match=r"no checkpoint of step 20, only of \[10\]"):
        folder.roll_back(20)


def test_nobody_rolls_back_to_a_damaged_one(folder):
    (folder.path_of(10) / "state.json").unlink()
    with pytest.raises(CheckpointError, match="is missing"):
        folder.roll_back(10)
    assert folder.steps() == [10, 20, 30]
