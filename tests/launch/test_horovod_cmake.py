"""The hook in Horovod's build: two edits, one target, and otherwise the real cmake."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from keras_candle.launch import horovod_cmake

LISTS = "horovod/tensorflow/CMakeLists.txt"
CONTROLLER = "horovod/common/gloo/gloo_controller.cc"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    files = {
        LISTS: "a\nlist(APPEND TF_SOURCES mpi_ops.cc)\nlist(APPEND TF_SOURCES xla_mpi_ops.cc)\nb\n",
        CONTROLLER: "  global_ranks_.reserve(size_);\n  other_.reserve(size_);\n",
    }
    for name, text in files.items():
        (tmp_path / "source" / name).parent.mkdir(parents=True)
        (tmp_path / "source" / name).write_text(text)
    return tmp_path / "source"


@pytest.fixture
def hook(tmp_path: Path):
    """Runs the hook as Horovod's setup.py does; the real cmake is one that takes notes."""
    recorder = tmp_path / "cmake"
    recorder.write_text('#!/bin/sh\nfor a in "$@"; do echo "<$a>"; done\nexit 3\n')
    recorder.chmod(0o755)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, horovod_cmake.__file__, *arguments],
            env={**os.environ, horovod_cmake.REAL_CMAKE: str(recorder)},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    return run


def test_configuring_makes_both_edits_first(hook, source):
    done = hook(str(source), "-DCMAKE_BUILD_TYPE=Release", "-DX=a b")
    assert (source / LISTS).read_text() == "a\nlist(APPEND TF_SOURCES mpi_ops.cc)\nb\n"
    edited = "  global_ranks_.resize(size_);\n  other_.reserve(size_);\n"
    assert (source / CONTROLLER).read_text() == edited
    passed = [line for line in done.stdout.splitlines() if line.startswith("<")]
    assert passed == [f"<{source}>", "<-DCMAKE_BUILD_TYPE=Release>", "<-DX=a b>"]
    assert done.returncode == 3


def test_editing_twice_is_editing_once(source):
    assert len(horovod_cmake.edit(source)) == 2
    assert horovod_cmake.edit(source) == []


def test_building_builds_the_library_for_tensorflow_alone(hook):
    done = hook("--build", ".", "--config", "Release", "--", "-j4", "VERBOSE=1")
    wanted = ["--build", ".", "--config", "Release", "--target", "tensorflow", "--", "-j4"]
    assert done.stdout.splitlines() == [f"<{argument}>" for argument in wanted]


@pytest.mark.parametrize("call", [("--version",), ("-E", "echo", "x"), (".",), ()])
def test_every_other_call_passes_as_it_is(hook, call):
    assert hook(*call).stdout.splitlines() == [f"<{argument}>" for argument in call]


def test_without_a_real_cmake_the_error_names_the_remedy():
    done = subprocess.run(
        [sys.executable, horovod_cmake.__file__, "--version"],
        env={"PATH": "/nowhere"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 127
    assert "keras-candle[horovod]" in done.stderr
