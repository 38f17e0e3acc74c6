"""Damage of a checkpoint is one fault, whatever its form: named, and the one before is taken."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import shutil
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from keras_candle.checkpoints import __main__ as command
from keras_candle.checkpoints import manifest, reading
from keras_candle.checkpoints.folder import CheckpointFolder
from tests.callback import cases


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    run = tmp_path_factory.mktemp("trained")
    cases.small_fit(run, epochs=2)
    return run


@pytest.fixture
def run(trained, tmp_path):
    """A run directory with the checkpoints of steps 2 and 4."""
    cases.forget_fits()
    shutil.copytree(trained, tmp_path / "run", symlinks=True)
    return tmp_path / "run"


def newest(run):
    return run / "checkpoints" / "step-00000004"


def sign(folder, change=lambda found: found):
    """Write the manifest anew, of the files as they are and with a change of its content."""
    old = manifest.read(folder)
    found = manifest.describe(folder, old.tensors, old.facts)
    (folder / manifest.NAME).write_bytes(manifest.to_json(change(found)))


def forge_state(folder, change):
    path = folder / reading.STATE
    state = json.loads(path.read_text())
    change(state)
    path.write_text(json.dumps(state))
    sign(folder)


def with_tensor(**changed):
    """A change of the manifest's second tensor."""

    def change(found):
        first, second, *others = found.tensors
        return replace(found, tensors=(first, replace(second, **changed), *others))

    return lambda folder: sign(folder, change)


def with_file(name):
    """A change of the manifest: it lists one more file."""

    def change(found):
        return replace(found, files=(*found.files, manifest.File(name, 5, "0" * 16)))

    return lambda folder: sign(folder, change)


def make_directory(folder):
    (folder / manifest.NAME).unlink()
    (folder / manifest.NAME).mkdir()


def make_pipe(folder):
    (folder / manifest.NAME).unlink()
    os.mkfifo(folder / manifest.NAME)


def link_out(folder):
    place = folder / reading.STATE
    shutil.move(place, folder.parents[2] / "outside")
    place.symlink_to(folder.parents[2] / "outside")


def link_to_itself(folder):
    (folder / manifest.NAME).unlink()
    (folder / manifest.NAME).symlink_to(manifest.NAME)


def forge_ranks(name, content=None):
    """A change of the ranks' file: it has one other part, and no state of rank 0."""

    def change(folder):
        part = io.BytesIO()
        np.savez(part, json=np.frombuffer(b'{"model": 1}', np.uint8))
        with zipfile.ZipFile(folder / reading.RANKS, "w") as parts:
            parts.writestr(name, part.getvalue() if content is None else content)
        sign(folder)

    return change


def drop_ranks(folder):
    (folder / reading.RANKS).unlink()
    sign(folder)


def cut_ranks(folder):
    path = folder / reading.RANKS
    path.write_bytes(path.read_bytes()[:100])
    sign(folder)


DEEP = "[" * 100_000
DAMAGE = {
    "a manifest as deep JSON": (
        lambda folder: (folder / manifest.NAME).write_text(DEEP),
        "RecursionError",
    ),
    "a directory for a manifest": (make_directory, "not a regular file"),
    "a pipe for a manifest": (make_pipe, "not a regular file"),
    "a link to itself": (link_to_itself, "MANIFEST.json cannot be read"),
    "a list for a manifest": (
        lambda folder: (folder / manifest.NAME).write_text("[]"),
        "is damaged: TypeError",
    ),
    "an absolute path": (with_file("/outside"), "leads out of the checkpoint"),
    "a path upwards": (with_file("../../../outside"), "leads out of the checkpoint"),
    "a link out of the folder": (link_out, "leads out of the checkpoint"),
    "a negative offset": (with_tensor(offset_bytes=-8), "offset_bytes of .* is -8"),
    "a huge offset": (with_tensor(offset_bytes=1 << 62), "is outside of 'model.weights.h5'"),
    "a huge shape": (with_tensor(shape=(1 << 40,)), "has 4 bytes"),
    "a size of text": (with_tensor(size_bytes="4"), "size_bytes of .* is '4'"),
    "an unknown dtype": (with_tensor(dtype="float31"), "float31.* has 4 bytes"),
    "a file twice": (with_file("state.json"), "is listed twice"),
    "no state": (
        lambda folder: ((folder / reading.STATE).write_text("[]"), sign(folder)),
        "it is list, expected a dict",
    ),
    "deep state": (
        lambda folder: ((folder / reading.STATE).write_text(DEEP), sign(folder)),
        "state.json is damaged: RecursionError",
    ),
    "a missing key": (
        lambda folder: forge_state(folder, lambda state: state.pop("schedule_iterations")),
        "schedule_iterations is missing",
    ),
    "a position of text": (
        lambda folder: forge_state(folder, lambda state: state["position"].update(taken="3")),
        "position.taken is '3', expected a count",
    ),
    "a position with more": (
        lambda folder: forge_state(folder, lambda state: state["position"].update(more=3)),
        "its position has",
    ),
    "ends of another fit": (
        lambda folder: forge_state(folder, lambda state: state["ends"].clear()),
        r"its ends are \[\]",
    ),
    "another step": (
        lambda folder: forge_state(folder, lambda state: state.update(step=3, ends=[3])),
        "step is 3, the manifest's 4",
    ),
    "a later format": (
        lambda folder: forge_state(folder, lambda state: state.update(format=99)),
        "format is 99, expected at most",
    ),
    "more ranks than files": (
        lambda folder: forge_state(folder, lambda state: state.update(ranks=2)),
        "ranks is 2, the manifest's 1",
    ),
    "no file of the ranks": (drop_ranks, "rank-00000.npz is missing"),
    "a missing rank": (forge_ranks("rank-00007.npz"), "ranks.zip/rank-00000.npz is missing"),
    "a forged rank": (
        forge_ranks("rank-00000.npz"),
        "ranks.zip/rank-00000.npz is damaged: model is int, expected a dict",
    ),
    "a rank of text": (
        forge_ranks("rank-00000.npz", b"text"),
        "ranks.zip/rank-00000.npz is damaged: ",
    ),
    "no index of the ranks": (cut_ranks, "ranks.zip is damaged: BadZipFile"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_it_is_named_and_the_one_before_is_taken(run, kind):
    damage, words = DAMAGE[kind]
    damage(newest(run))
    said = []
    assert CheckpointFolder(run / "checkpoints", reading.find_damage).newest_whole(said.append) == 2
    assert newest(run).name in said[0]
    assert re.search(words, said[0]), said


@pytest.mark.parametrize("kind", ["a directory for a manifest", "a missing key", "a forged rank"])
def test_a_training_resumes_from_the_one_before(run, kind, capsys):
    DAMAGE[kind][0](newest(run))
    seen = []
    cases.small_fit(run, epochs=2, callbacks=[cases.note_epochs(seen)])
    assert seen == [1]
    assert "step-00000004 is skipped" in capsys.readouterr().err
    assert (run / "checkpoints" / "set-aside" / newest(run).name).is_dir()


def test_a_device_that_cannot_read_is_named_and_the_one_before_is_taken(run, monkeypatch):
    read = Path.read_bytes

    def fail(path):
        if path.name == manifest.NAME and newest(run).name in path.parts:
            raise OSError(errno.EIO, "Input/output error")
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", fail)
    said = []
    assert CheckpointFolder(run / "checkpoints", reading.find_damage).newest_whole(said.append) == 2
    assert "cannot be read ([Errno 5] Input/output error)" in said[0]


OPENED: list[str] = []
sys.addaudithook(lambda event, given: OPENED.append(str(given[0])) if event == "open" else None)


@pytest.mark.parametrize("kind", ["an absolute path", "a path upwards", "a link out of the folder"])
def test_a_path_outside_of_the_folder_is_never_opened(run, kind):
    (run.parent / "outside").write_text("12345")
    DAMAGE[kind][0](newest(run))
    OPENED.clear()
    assert manifest.find_damage(newest(run))
    assert any(manifest.NAME in each for each in OPENED)
    assert "outside" not in {Path(each).name for each in OPENED}


def test_a_changed_byte_of_a_ranks_file_is_found(run):
    path = newest(run) / reading.RANKS
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert manifest.find_damage(newest(run)) == [f"{path}: it differs from what was written"]


@pytest.mark.parametrize("kind", ["a manifest as deep JSON", "a later format"])
def test_the_command_names_it_and_lists_the_others(run, kind, capsys):
    DAMAGE[kind][0](newest(run))
    assert command.main("ls", str(run)) == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in listed[1:]] == ["2", "4"]
    assert command.main("verify", str(run)) == 1
    first, second = capsys.readouterr().out.splitlines()
    assert first.endswith("whole")
    assert re.search(DAMAGE[kind][1], second)
    assert command.main("rollback", str(run), "4") == 1
    assert command.main("rollback", str(run), "2") == 0
