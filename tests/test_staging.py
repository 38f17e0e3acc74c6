"""A node's copy of a file or folder is whole or absent, made once, and never outdated."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import keras_candle as candle
from keras_candle.cluster import node_copy
from keras_candle.errors import DataError

ROOT = Path(__file__).parent.parent
WITHIN_S = 60


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "shared" / "data set"
    (folder / "train" / "empty").mkdir(parents=True)
    (folder / "train" / "a.bin").write_bytes(os.urandom(100_000))
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o755)
    (tmp_path / "shared" / "blob").write_text("from elsewhere")
    (folder / "link").symlink_to("../blob")
    return folder


def tree(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def left(folder):
    """What is in a node's folder beside whole copies."""
    return [
        p.name for p in Path(folder).glob("keras_candle-*/*") if not (p / ".copy.json").exists()
    ]


def copy(folder, source, **options):
    return node_copy.make_copy(folder, source, node_copy.read_source(source).key, **options)


def test_a_folder_is_copied_whole(source, tmp_path):
    copied = candle.stage(source, tmp_path / "local")
    assert copied.name == "data set"
    assert copied.is_relative_to(tmp_path / "local")
    assert tree(copied) == tree(source)
    assert os.access(copied / "run.sh", os.X_OK)
    assert not (copied / "link").is_symlink()
    assert left(tmp_path / "local") == []


def test_a_file_keeps_its_name_and_the_default_is_the_jobs_local_folder(
    source, tmp_path, monkeypatch
):
    monkeypatch.setenv("SLURM_TMPDIR", str(tmp_path / "local"))
    monkeypatch.chdir(source)
    copied = candle.stage("train/a.bin")
    assert copied.name == "a.bin"
    assert copied.is_relative_to(tmp_path / "local")
    assert copied.read_bytes() == (source / "train" / "a.bin").read_bytes()


def test_an_unchanged_source_is_not_copied_again(source, tmp_path):
    assert copy(tmp_path, source).is_new
    assert not copy(tmp_path, source).is_new


def test_a_changed_source_is_copied_again_even_with_its_old_size_and_time(source, tmp_path):
    file = source / "train" / "a.bin"
    copy(tmp_path, source)
    before = file.stat()
    file.write_bytes(b"x" * before.st_size)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (copy(tmp_path, source).path / "train" / "a.bin").read_bytes() == file.read_bytes()


def test_an_outdated_copy_is_removed_once_no_process_uses_it(source, tmp_path):
    first = subprocess.run(
        [sys.executable, "-c", f"import keras_candle as c; print(c.stage({str(source)!r}, '.'))"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
        timeout=WITHIN_S,
    )
    folder = Path(first.stdout.strip()).parent
    assert folder.exists()
    (source / "new").touch()
    second = candle.stage(source, tmp_path)
    assert not folder.exists()
    (source / "newer").touch()
    candle.stage(source, tmp_path)
    assert second.exists()  # this process may still read it


@pytest.mark.parametrize("damage", ["write", "remove", "record", "reboot"])
def test_a_damaged_copy_is_replaced(source, tmp_path, damage):
    path = copy(tmp_path, source).path
    record = path.parent / ".copy.json"
    if damage == "write":
        (path / "run.sh").write_text("#!/bin/no\n")
    elif damage == "remove":
        (path / "train" / "a.bin").unlink()
    elif damage == "record":
        record.write_text("{")
    else:
        record.write_text(json.dumps({**json.loads(record.read_text()), "boot": "another"}))
    assert copy(tmp_path, source).is_new
    assert tree(path) == tree(source)


def test_what_cannot_be_copied_is_an_error_of_one_sentence(source, tmp_path):
    cases = {"missing": lambda p: None, "pipe": os.mkfifo, "broken": lambda p: p.symlink_to("no")}
    for name, make in cases.items():
        make(tmp_path / name)
        with pytest.raises(
            DataError, match=f"host {node_copy.host()}: cannot read .*{name}: "
        ) as e:
            candle.stage(tmp_path / name, tmp_path / "local")
        assert "\n" not in str(e.value)
    (source / "train" / "loop").symlink_to("..")
    with pytest.raises(DataError, match="loop: a link to a folder that holds it"):
        candle.stage(source, tmp_path / "local")
    with pytest.raises(DataError, match="got '', expected a file or a folder"):
        candle.stage("")


def test_a_folder_that_someone_else_has_made_is_refused(source, tmp_path):
    folder = tmp_path / f"keras_candle-{os.getuid()}"
    folder.symlink_to(source)
    with pytest.raises(DataError, match="is not a folder of this user"):
        candle.stage(source, tmp_path)
    if os.getuid() == 0:  # who alone can give a folder away
        folder.unlink()
        folder.mkdir()
        os.chown(folder, 12345, 12345)
        with pytest.raises(DataError, match="is not a folder of this user"):
            candle.stage(source, tmp_path)


def test_a_source_that_changes_meanwhile_is_refused(source, tmp_path, monkeypatch):
    monkeypatch.setattr(node_copy, "hash_file", lambda path: _append(source / "run.sh") or _x(path))
    with pytest.raises(DataError, match="the source changed while it was copied"):
        copy(node_copy.local_folder(tmp_path, {}), source)
    assert left(tmp_path) == []


_x = node_copy.hash_file


def _append(path):
    with open(path, "a") as file:
        file.write("more\n")


def test_a_write_that_goes_wrong_is_noticed(source, tmp_path, monkeypatch):
    monkeypatch.setattr(node_copy, "hash_file", lambda path: "another")
    with pytest.raises(DataError, match="what was written differs from what was read at "):
        copy(node_copy.local_folder(tmp_path, {}), source)
    assert left(tmp_path) == []


SLOW = """
import sys, time
from pathlib import Path
from keras_candle.cluster import node_copy
hash_file = node_copy.hash_file
node_copy.hash_file = lambda path: time.sleep({sleep_s}) or hash_file(path)
source = Path({source!r})
copy = node_copy.make_copy(Path("."), source, node_copy.read_source(source).key)
print("new" if copy.is_new else "reused", flush=True)
"""


def begin_copying(source, folder, sleep_s):
    """A process in the middle of a copy."""
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW.format(sleep_s=sleep_s, source=str(source))],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    deadline_s = time.monotonic() + WITHIN_S
    while not list(folder.glob("*.partial-*/*/run.sh")):
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    return process


def test_two_jobs_at_once_make_one_copy(source, tmp_path):
    first = begin_copying(source, tmp_path, 1)
    assert not copy(tmp_path, source).is_new
    assert first.communicate(timeout=WITHIN_S)[0] == "new\n"
    assert len(list(tmp_path.glob("data set-*"))) == 1


@pytest.mark.parametrize("changed", [False, True])
def test_what_a_killed_process_has_left_is_removed_and_the_copy_made(source, tmp_path, changed):
    first = begin_copying(source, tmp_path, 1000)
    first.kill()
    first.communicate()
    assert list(tmp_path.glob("*.partial-*"))
    if changed:
        (source / "new").touch()
    made = copy(tmp_path, source)
    assert made.is_new
    assert [p.name for p in tmp_path.iterdir() if p.name != "shared"] == [made.path.parent.name]


def test_what_another_process_copies_is_left_alone(source, tmp_path):
    first = begin_copying(source, tmp_path, 1)
    copy(tmp_path, source / "train")
    assert first.communicate(timeout=WITHIN_S)[0] == "new\n"


def test_a_stopped_process_is_not_awaited_for_ever(source, tmp_path):
    first = begin_copying(source, tmp_path, 1)
    os.kill(first.pid, signal.SIGSTOP)
    try:
        assert copy(tmp_path, source, patience_s=0.5).is_new
    finally:
        os.kill(first.pid, signal.SIGCONT)
    # It copies to the end, and takes the copy that is there by then.
    assert first.communicate(timeout=WITHIN_S)[0] in ("new\n", "reused\n")
    assert first.returncode == 0
    assert tree(copy(tmp_path, source).path) == tree(source)


# On several ranks.


def stage_here(source, directory):
    return str(candle.stage(source, directory))


def wait_for(pool, sentence, before):
    # It comes through `candle run`, the ranks' results do not.
    deadline_s = time.monotonic() + WITHIN_S
    while sentence not in (told := pool.log()[before:]):
        assert time.monotonic() < deadline_s, told
        time.sleep(0.05)


@pytest.mark.parametrize("size", [2, 3])
def test_one_rank_of_a_node_copies(ranks, source, tmp_path, size):
    before = len(ranks(size).log()) if ranks(size)._job else 0
    paths = ranks(size).run(stage_here, source=source, directory=tmp_path / "local")
    assert len(set(paths)) == 1
    assert tree(Path(paths[0])) == tree(source)
    wait_for(ranks(size), "is on 1 node: 1 copied, 0 reused", before)
    assert ranks(size).run(stage_here, source=source, directory=tmp_path / "local") == paths
    wait_for(ranks(size), "is on 1 node: 0 copied, 1 reused", before)


def test_ranks_that_stage_different_paths_are_refused(ranks, source):
    errors = ranks(2).errors(stage_rank_file, source=source)
    assert all("The ranks differ in the path for candle.stage" in each for each in errors)


def stage_rank_file(source):
    candle.stage(source / str(candle.rank()))


def run_on_two_nodes(source, folder):
    """Each rank's result: two ranks on each of two nodes, as MPI sees them."""
    done = subprocess.run(
        [
            Path(sys.executable).parent / "mpiexec",
            *("-n", "4", sys.executable, "-m", "tests.staging_job", source, folder),
        ],
        cwd=ROOT,
        env={**os.environ, "MPIR_CVAR_ODD_EVEN_CLIQUES": "1"},
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=True,
    )
    # Lines of two ranks may be mixed.
    lines = dict(line.split("|", 1) for line in sorted(done.stdout.split("\n")) if "|" in line)
    assert sorted(lines) == ["0", "1", "2", "3"], done.stdout + done.stderr
    return [lines[rank] for rank in sorted(lines)], done.stderr


def test_each_node_has_a_copy_and_they_are_compared(source, tmp_path):
    results, told = run_on_two_nodes(source, tmp_path)
    assert results[0] == results[2] != results[1] == results[3]
    assert tree(Path(results[0])) == tree(Path(results[1])) == tree(source)
    assert "is on 2 nodes: 2 copied, 0 reused" in told
    record = Path(results[1]).parent / ".copy.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "content": "another"}))
    errors, _ = run_on_two_nodes(source, tmp_path)
    assert all("The nodes' copies of" in each and "differ" in each for each in errors)


def test_a_full_disk_of_one_node_is_every_ranks_error(source, tmp_path):
    full = tmp_path / "1"
    full.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "none", full], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        results, _ = run_on_two_nodes(source, tmp_path)
        assert left(full) == []
    finally:
        subprocess.run(["umount", full], check=True)
    expected = (
        f"DataError: rank 1: host {socket.gethostname()}: cannot copy {source} (100,024 bytes) to "
        f"{full}/keras_candle-{os.getuid()}: no space: 65,536 bytes are free"
    )
    assert results == 4 * [expected]
