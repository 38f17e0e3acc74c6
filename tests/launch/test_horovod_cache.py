"""The cache of built Horovods: a key for everything that matters, and one build at a time."""

import dataclasses
import io
import multiprocessing
import os
import time
from pathlib import Path

import pytest

from keras_candle.errors import LaunchError
from keras_candle.launch.horovod_cache import (
    BuildFacts,
    ProgressLine,
    cache_folder,
    wheel_from_cache,
)

FACTS = BuildFacts("2.21.0", "tensorflow-cpu", "cpython-311", "linux-x86_64", "1")
SPAWN = multiprocessing.get_context("spawn")


@pytest.mark.parametrize(
    "change",
    [
        {"tensorflow": "2.20.0"},
        {"flavour": "tensorflow"},
        {"python": "cpython-312"},
        {"platform": "linux-aarch64"},
        {"cxx11_abi": "0"},
        {"operations": "mpi:/opt/lib/libmpi.so.12.1 -I/opt /venv"},
        {"variables": (("HOROVOD_GPU_OPERATIONS", "NCCL"),)},
        {"horovod": "0.28.2"},
        {"recipe": 2},
    ],
)
def test_everything_that_matters_changes_the_key(change):
    assert dataclasses.replace(FACTS, **change).key != FACTS.key


def test_two_mpi_libraries_are_two_keys():
    a, b = (dataclasses.replace(FACTS, operations=f"mpi:{x}").key for x in "ab")
    assert a != b


def step(facts: BuildFacts, folder: Path, log: Path, report) -> Path:
    """A build that takes a moment and counts itself."""
    with log.with_suffix(".count").open("a") as count:
        count.write("x")
    report(50, "compiling")
    time.sleep(0.3)
    wheel = folder / "horovod-0.28.1-any.whl"
    wheel.write_text("wheel")
    return wheel


def failing_step(*_: object) -> Path:
    raise LaunchError("Building Horovod failed: error: no such header")


def killed_step(facts: BuildFacts, folder: Path, log: Path, report) -> Path:
    (folder / "horovod-0.28.1-any.whl").write_text("half a wh")
    os._exit(9)


def quietly(cache: Path, step=step, *, force: bool = False) -> Path:
    return wheel_from_cache(FACTS, cache, step, ProgressLine(quiet=True), force=force)


def builds(cache: Path) -> int:
    return len((cache / "horovod" / f"{FACTS.key}.count").read_text())


def test_the_second_time_nothing_is_built(tmp_path):
    wheel = quietly(tmp_path)
    assert quietly(tmp_path) == wheel
    assert wheel.read_text() == "wheel"
    assert builds(tmp_path) == 1
    assert quietly(tmp_path, force=True) == wheel
    assert builds(tmp_path) == 2


def test_two_builds_at_once_are_one(tmp_path):
    both = [SPAWN.Process(target=quietly, args=(tmp_path,)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(30)
    assert [process.exitcode for process in both] == [0, 0]
    assert builds(tmp_path) == 1


def test_a_killed_build_leaves_nothing_that_looks_whole(tmp_path):
    killed = SPAWN.Process(target=quietly, args=(tmp_path, killed_step))
    killed.start()
    killed.join(30)
    assert killed.exitcode == 9
    assert quietly(tmp_path).read_text() == "wheel"
    assert not list((tmp_path / "horovod").glob("*.partial"))


def test_a_failed_build_is_tried_again_and_harms_no_older_wheel(tmp_path):
    with pytest.raises(LaunchError, match="no such header"):
        quietly(tmp_path, failing_step)
    wheel = quietly(tmp_path)
    with pytest.raises(LaunchError, match="no such header"):
        quietly(tmp_path, failing_step, force=True)
    assert wheel.read_text() == "wheel"


def test_the_caches_place():
    assert cache_folder({"KERAS_CANDLE_CACHE": "/a", "XDG_CACHE_HOME": "/b"}) == Path("/a")
    assert cache_folder({"XDG_CACHE_HOME": "/b"}) == Path("/b/keras_candle")
    assert cache_folder({}) == Path.home() / ".cache" / "keras_candle"


def test_progress_is_a_line_for_every_tenth_and_never_more():
    stream = io.StringIO()
    progress = ProgressLine(stream=stream)
    for percent in range(101):
        progress.step(percent, "compiling")
    assert len(stream.getvalue().splitlines()) == 11
