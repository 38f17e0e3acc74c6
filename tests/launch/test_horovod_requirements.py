"""What stands in the way of a build is said in one sentence with its remedy."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from keras_candle.errors import LaunchError
from keras_candle.launch import horovod_build, horovod_cache
from keras_candle.launch.horovod_build import first_error, recipe
from keras_candle.launch.horovod_cache import BuildFacts


def fake_distribution(folder: Path, name: str, version: str) -> None:
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


@pytest.mark.parametrize("version", ["2.15.1", "2.22.0", "3.0.0"])
def test_a_tensorflow_out_of_range_is_refused(candle, tmp_path, version):
    fake_distribution(tmp_path / "first", "tensorflow", version)
    done = candle("build-horovod", PYTHONPATH=str(tmp_path / "first"))
    assert done.returncode == 2
    assert f"tensorflow {version} is installed" in done.stderr
    assert "2.16 to 2.21" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("version", ["2.16.0", "2.18.1", "2.21.3"])
def test_a_tensorflow_in_range_is_taken(tmp_path, monkeypatch, version):
    fake_distribution(tmp_path, "tensorflow", version)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert horovod_cache.installed_tensorflow() == ("tensorflow", version)


def test_without_tensorflow_the_error_names_the_extra(monkeypatch):
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(LaunchError, match=r"keras-candle\[cpu\]"):
        horovod_cache.installed_tensorflow()


def test_missing_packages_are_named_together(tmp_path, monkeypatch):
    fake_distribution(tmp_path, "setuptools", "81.0.0")
    fake_distribution(tmp_path, "pip", "25.0")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(LaunchError, match=r"cmake, setuptools<81, wheel, .*\[horovod\]"):
        horovod_build.require_packages()


@pytest.mark.parametrize(
    ("programs", "variables", "words"),
    [
        ((), {}, r"no g\+\+ or c\+\+ on PATH"),
        (("g++",), {}, "needs make"),
        (("g++", "make"), {"CXX": "clang++ -v"}, r"no clang\+\+ on PATH"),
    ],
)
def test_missing_tools_are_named(tmp_path, programs, variables, words):
    for name in programs:
        (tmp_path / name).touch(0o755)
    with pytest.raises(LaunchError, match=words):
        horovod_build.require_tools({"PATH": str(tmp_path), **variables})


def test_what_is_there_is_enough(tmp_path):
    for name in ("c++", "make"):
        (tmp_path / name).touch(0o755)
    horovod_build.require_tools({"PATH": str(tmp_path)})


def test_no_compiler_no_build(tmp_path):
    # The whole command with an empty PATH; the ABI is remembered, so TensorFlow stays unasked.
    fake_distribution(tmp_path / "site", "tensorflow", "2.21.0")
    (tmp_path / "site" / "tensorflow.py").write_text("class sysconfig: CXX11_ABI_FLAG = 1\n")
    names = horovod_build.PACKAGES
    for name in names:
        fake_distribution(tmp_path / "site", name, "70.0")
    done = subprocess.run(
        [sys.executable, "-m", "keras_candle.launch.cli", "build-horovod"],
        env={
            "PATH": str(tmp_path),
            "PYTHONPATH": str(tmp_path / "site"),
            "KERAS_CANDLE_CACHE": str(tmp_path / "cache"),
        },
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert "apt-get install g++ make" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_users_build_variables_are_part_of_the_facts(tmp_path, monkeypatch):
    fake_distribution(tmp_path, "tensorflow", "2.21.0")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(horovod_cache, "cxx11_abi", lambda *_: "1")
    given = {"HOROVOD_GPU_OPERATIONS": "NCCL", "HOROVOD_CYCLE_TIME": "1", "CXX": "g++-12", "A": "b"}
    facts = horovod_cache.build_facts(False, tmp_path, given)
    assert facts.variables == (("CXX", "g++-12"), ("HOROVOD_GPU_OPERATIONS", "NCCL"))


def test_mpi_identity_names_library_and_prefix(tmp_path, monkeypatch):
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "libmpi.so.12.5.2").touch()
    (tmp_path / "lib" / "libmpi.so").symlink_to("libmpi.so.12.5.2")
    (tmp_path / "bin").mkdir()
    mpicxx = tmp_path / "bin" / "mpicxx"
    mpicxx.write_text(f"#!/bin/sh\necho c++ -L{tmp_path}/lib -lmpi\n")
    mpicxx.chmod(0o755)
    identity = horovod_cache.mpi_identity(str(tmp_path))
    assert f"{tmp_path}/lib/libmpi.so.12.5.2" in identity
    assert identity.endswith(str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LaunchError, match="needs mpicxx"):
        horovod_cache.mpi_identity("/nowhere")


@pytest.mark.parametrize(
    ("log", "sentence"),
    [
        ("a\nx.cc:1:10: fatal error: y.h: No such file\nx.cc:2: error: z\n", "fatal error: y.h"),
        ("c++: fatal error: Killed signal terminated program cc1plus\n", "MAKEFLAGS=-j1"),
        ("  ERROR: No matching distribution found for horovod\n", "No matching distribution"),
        ("CMake Error at CMakeLists.txt:1 (find_package):\n", "CMake Error at"),
        ("", "without an error"),
    ],
)
def test_the_first_error_of_a_log(log, sentence):
    assert sentence in first_error(log)
    assert "\n" not in first_error(log)


def test_memory_is_read_and_bounds_the_compilers():
    free = horovod_build.free_memory_bytes()
    assert 2**20 < free < 2**50
    assert horovod_build.parallel_jobs(4, 2**50) == 4
    assert horovod_build.parallel_jobs(4, 2**20) == 1


@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, r"-j\d+"), ({"MAKEFLAGS": ""}, r"-j\d+"), ({"MAKEFLAGS": "w"}, r"w -j\d+")],
)
def test_compilers_run_beside_each_other_also_where_make_started_the_build(
    tmp_path, given, expected
):
    facts = BuildFacts("2.21.0", "tensorflow-cpu", "cpython-311", "linux-x86_64", "1")
    assert re.fullmatch(expected, recipe(facts, tmp_path, given)["MAKEFLAGS"])
    assert recipe(facts, tmp_path, {"MAKEFLAGS": "-j1"})["MAKEFLAGS"] == "-j1"
