"""candle.get_file: Keras's function on one rank, one download for any number of ranks."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import keras
import pytest

import keras_candle as candle

ROOT = Path(__file__).parent.parent
WITHIN_S = 100
# More than one message from the root to a node.
BLOB = os.urandom(17 << 20)


def archive():
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        for name, text in (("images/a.txt", b"a"), ("images/deep/b.txt", b"b")):
            info = tarfile.TarInfo(name)
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text))
        link = tarfile.TarInfo("images/link")
        link.type, link.linkname = tarfile.SYMTYPE, "deep"
        tar.addfile(link)
    return content.getvalue()


@pytest.fixture(scope="module")
def files():
    return {"/x.bin": BLOB, "/pets.tgz": archive(), "/short.bin": BLOB[:1000]}


@pytest.fixture
def server(files):
    """A server on loopback: its address, and the paths that it was asked for."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            if self.path not in files:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(files[self.path])))
            self.end_headers()
            self.wfile.write(files[self.path])

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}", asked
        httpd.shutdown()
        thread.join()


def tree(folder):
    return {
        str(path.relative_to(folder)): hash(path.read_bytes()) if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def outcome(get_file, folder, calls):
    """The results and errors of calls one after the other, and what is in the cache then."""
    folder.mkdir()
    results = []
    for call in calls:
        try:
            results.append(os.path.relpath(get_file(cache_dir=str(folder), **call), folder))
        except Exception as error:
            results.append((type(error), str(error)))
    return results, tree(folder)


SHA = hashlib.sha256(BLOB).hexdigest()
MD5 = hashlib.md5(BLOB, usedforsecurity=False).hexdigest()


@pytest.mark.parametrize(
    "calls",
    [
        [{"origin": "/x.bin"}, {"origin": "/x.bin"}],
        [{"origin": "/x.bin", "fname": "y.bin", "file_hash": SHA, "cache_subdir": "deep/er"}],
        [{"origin": "/x.bin", "md5_hash": MD5}, {"origin": "/x.bin", "md5_hash": MD5}],
        [{"origin": "/x.bin", "file_hash": "0" * 64}],
        [{"origin": "/pets.tgz", "extract": True}, {"origin": "/pets.tgz", "extract": True}],
        [{"origin": "/pets.tgz", "untar": True, "fname": "pets"}],
        [{"origin": "/pets.tgz", "extract": True, "fname": "pets.tgz"}],
        [
            {"origin": "/x.bin", "force_download": True},
            {"origin": "/x.bin", "force_download": True},
        ],
        [{"origin": "/no.bin"}],
        [{"origin": "/"}],
        [{"origin": None}],
        [{"origin": "/x.bin", "fname": "a/b"}],
    ],
)
def test_on_one_rank_it_is_keras_own(server, tmp_path, calls):
    base, asked = server
    for call in calls:
        call["origin"] = call["origin"] and base + call["origin"].removeprefix(base)
    expected = outcome(keras.utils.get_file, tmp_path / "keras", calls)
    requests = list(asked)
    if "Incomplete or corrupted" in str(expected[0]):  # Keras leaves it in the cache
        del expected[1]["datasets/x.bin"]
    assert outcome(candle.get_file, tmp_path / "candle", calls) == expected
    assert asked == 2 * requests


def test_a_failed_download_leaves_the_file_that_was_there(server, tmp_path):
    """Keras writes into it, and removes it."""
    path = Path(candle.get_file(origin=f"{server[0]}/x.bin", cache_dir=tmp_path))
    with pytest.raises(ValueError, match="Incomplete or corrupted file"):
        candle.get_file("x.bin", f"{server[0]}/short.bin", file_hash=SHA[::-1], cache_dir=tmp_path)
    assert path.read_bytes() == BLOB
    assert [each.name for each in path.parent.iterdir()] == ["x.bin"]


def test_the_function_of_auto_is_not_called(server, tmp_path, monkeypatch):
    @functools.wraps(keras.utils.get_file)
    def wait_for_root(*_, **__):
        raise AssertionError("a rank alone would wait")

    monkeypatch.setattr(keras.utils, "get_file", wait_for_root)
    candle.get_file(origin=f"{server[0]}/x.bin", cache_dir=tmp_path)


def test_the_default_cache_is_keras(server, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    assert candle.get_file(origin=f"{server[0]}/x.bin") == str(tmp_path / "datasets" / "x.bin")


def test_what_a_killed_download_has_left_is_removed_and_no_more(server, tmp_path):
    folder = tmp_path / "datasets"
    for name in (".x.bin.partial-1", ".y.bin.partial-2"):
        (folder / name).mkdir(parents=True)
        (folder / name / "half").touch()
    candle.get_file(origin=f"{server[0]}/x.bin", cache_dir=tmp_path)
    assert sorted(os.listdir(folder)) == [".y.bin.partial-2", "x.bin"]


def get(origin, cache, **options):
    return candle.get_file(origin=origin, cache_dir=str(cache), **options)


@pytest.mark.parametrize("size", [2, 3])
def test_ranks_that_share_a_cache_download_once(ranks, server, tmp_path, size):
    base, asked = server
    paths = ranks(size).run(get, origin=f"{base}/pets.tgz", cache=tmp_path, extract=True)
    assert paths == size * [str(tmp_path / "datasets" / "pets.tgz")]
    assert (Path(paths[0]) / "images" / "deep" / "b.txt").read_text() == "b"
    assert asked == ["/pets.tgz"]
    assert sorted(os.listdir(tmp_path / "datasets")) == ["pets.tgz", "pets.tgz_archive"]


def test_an_error_of_the_root_is_every_ranks(ranks, server, tmp_path):
    base, asked = server
    errors = ranks(2).errors(get, origin=f"{base}/no.bin", cache=tmp_path)
    assert errors[0] == errors[1]
    assert f"candle.get_file of '{base}/no.bin' into {tmp_path}/datasets: " in errors[0]
    assert "404" in errors[0]
    assert asked == ["/no.bin"]
    errors = ranks(2).errors(get, origin=f"{base}/x.bin", cache=tmp_path, file_hash="0" * 64)
    assert all("Incomplete or corrupted file detected" in each for each in errors)
    assert os.listdir(tmp_path / "datasets") == []


def get_own(origin, cache):
    return candle.get_file(fname=f"{candle.rank()}", origin=origin, cache_dir=str(cache))


def test_ranks_that_get_different_files_are_refused(ranks, server, tmp_path):
    errors = ranks(2).errors(get_own, origin=f"{server[0]}/x.bin", cache=tmp_path)
    assert all("The ranks differ in the arguments for candle.get_file" in each for each in errors)


def run_on_two_nodes(origin, folder, **arguments):
    (folder / "0").mkdir(exist_ok=True)
    (folder / "1").mkdir(exist_ok=True)
    done = subprocess.run(
        [
            Path(sys.executable).parent / "mpiexec",
            *("-n", "3", sys.executable, "-m", "tests.get_file_job"),
            *(origin, folder, json.dumps(arguments)),
        ],
        cwd=ROOT,
        env={**os.environ, "MPIR_CVAR_ODD_EVEN_CLIQUES": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=True,
    )
    lines = dict(line.split("|", 1) for line in done.stdout.split("\n") if line[1:2] == "|")
    assert sorted(lines) == ["0", "1", "2"], done.stdout + done.stderr
    return [lines[rank] for rank in sorted(lines)]


def test_a_node_with_a_cache_of_its_own_receives_the_file(server, tmp_path):
    base, asked = server
    # An old file of that name: the root's is the one.
    (tmp_path / "1" / "datasets").mkdir(parents=True)
    (tmp_path / "1" / "datasets" / "x.bin").write_text("old")
    paths = run_on_two_nodes(f"{base}/x.bin", tmp_path)
    assert paths == [str(tmp_path / str(node) / "datasets" / "x.bin") for node in (0, 1, 0)]
    assert all(Path(path).read_bytes() == BLOB for path in paths)
    assert asked == ["/x.bin"]
    assert os.listdir(tmp_path / "0" / "datasets") == os.listdir(tmp_path / "1" / "datasets")


def test_a_node_extracts_what_its_cache_has(server, files, tmp_path):
    base, asked = server
    cache = tmp_path / "1" / "datasets"
    cache.mkdir(parents=True)
    (cache / "pets_archive").write_bytes(files["/pets.tgz"])
    before = (cache / "pets_archive").stat()
    paths = run_on_two_nodes(f"{base}/pets.tgz", tmp_path, extract=True, fname="pets")
    assert tree(Path(paths[0])) == tree(Path(paths[1])) != {}
    assert asked == ["/pets.tgz"]
    assert sorted(os.listdir(cache)) == ["pets", "pets_archive"]
    assert (cache / "pets_archive").stat().st_ino == before.st_ino


def test_a_node_with_a_full_disk_is_every_ranks_error(server, tmp_path):
    full = tmp_path / "1"
    full.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "none", full], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        errors = run_on_two_nodes(f"{server[0]}/x.bin", tmp_path)
        assert os.listdir(full / "datasets") == []
    finally:
        subprocess.run(["umount", full], check=True)
    assert len(set(errors)) == 1
    assert "cannot store x.bin (17,825,792 bytes): [Errno 28] no space: 1,0" in errors[0]


def test_jobs_that_get_the_same_file_at_once_download_it_once(server, tmp_path):
    base, asked = server
    with ThreadPoolExecutor(4) as pool:  # each opens the lock for itself, as processes do
        paths = list(pool.map(lambda _: get(f"{base}/x.bin", tmp_path), range(4)))
    assert len(set(paths)) == 1
    assert asked == ["/x.bin"]
