"""Build one wheel of Horovod, report progress, and test it on two ranks."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

from keras_candle.errors import LaunchError
from keras_candle.launch import horovod_cmake
from keras_candle.launch.environment import cores_of_this_node
from keras_candle.launch.horovod_key import BuildFacts, search_path
from keras_candle.launch.horovod_tools import free_memory_bytes, parallel_jobs
from keras_candle.launch.local import Job, JobLauncher
from keras_candle.launch.process import end_session, end_with_parent

_TEST_TIMEOUT_S = 180.0
_ERROR = re.compile(r"(\berror: |CMake Error|^ *ERROR: |^make: .* Error )", re.MULTILINE)

Report = Callable[[int, str], None]
"""A function of the percentage done and the current step's name."""


def recipe(facts: BuildFacts, folder: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment variables of the build.

    Args:
        facts: what to build for.
        folder: for the hook script and all temporary files.
        environment: the user's variables; HOROVOD_GPU_OPERATIONS and the like are passed on.
    """
    cmake = shutil.which("cmake", path=search_path()) or "cmake"
    hook = folder / "candle-cmake"
    hook.write_text(
        f'#!/bin/sh\nexec {shlex.join([sys.executable, horovod_cmake.__file__])} "$@"\n'
    )
    hook.chmod(0o700)
    ours = {
        **environment,
        # pip leaves its folder behind when it is stopped; this one is removed with ours.
        "TMPDIR": str(folder),
        # The environment's own mpicxx and cmake come first, and pip's children find its Python.
        "PATH": search_path(),
        "HOROVOD_CMAKE": str(hook),
        horovod_cmake.REAL_CMAKE: cmake,
        # Gloo's CMakeLists.txt asks for a version that cmake 4 no longer knows.
        "CMAKE_POLICY_VERSION_MINIMUM": "3.5",
        # Without this a build that fails for TensorFlow counts as a success.
        "HOROVOD_WITH_TENSORFLOW": "1",
        "HOROVOD_WITHOUT_PYTORCH": "1",
        "HOROVOD_WITHOUT_MXNET": "1",
        "HOROVOD_WITH_GLOO": "1",
        # GCC 13 no longer includes these by accident.
        "CXXFLAGS": f"{environment.get('CXXFLAGS', '')} -include stdexcept -include string".strip(),
    }
    ours["HOROVOD_WITHOUT_MPI" if facts.operations == "gloo" else "HOROVOD_WITH_MPI"] = "1"
    flags = ours.get("MAKEFLAGS", "")
    if "-j" not in flags:  # make itself sets the variable for what it runs
        jobs = parallel_jobs(cores_of_this_node(), free_memory_bytes())
        ours["MAKEFLAGS"] = f"{flags} -j{jobs}".strip()
    return ours


def compile_wheel(facts: BuildFacts, folder: Path, work: Path, log: Path, report: Report) -> Path:
    """Compile Horovod into a wheel.

    Args:
        facts: what to build for.
        folder: an empty folder for the wheel.
        work: a folder for the build's temporary files.
        log: receives the output of pip and the compiler.
        report: called with the progress repeatedly.

    Returns:
        The wheel's path.

    Raises:
        LaunchError: with the compiler's first error.
    """
    # --no-cache-dir: pip's own cache identifies a wheel by its source alone, and would return one
    # that was built for another TensorFlow or without MPI.
    command = [
        *(sys.executable, "-m", "pip", "wheel", "-v", "--no-cache-dir", "--no-deps"),
        *("--no-build-isolation", "--no-binary", "horovod", f"horovod=={facts.horovod}"),
        *("--disable-pip-version-check", "-w", str(folder)),
    ]
    us = os.getpid()
    with log.open("wb") as out:
        build = subprocess.Popen(
            command,
            stdout=out,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=recipe(facts, work, os.environ),
            start_new_session=True,
            preexec_fn=lambda: end_with_parent(us),  # noqa: PLW1509 - this process has one thread
        )
        try:
            _watch(build, log, report)
        finally:
            if build.poll() is None:
                end_session(build)
    wheels = list(folder.glob("horovod-*.whl"))
    if build.returncode != 0 or not wheels:
        raise LaunchError(f"{first_error(log.read_text(errors='replace'))} (whole log: {log})")
    return wheels[0]


def _watch(build: subprocess.Popen[bytes], log: Path, report: Report) -> None:
    with log.open(errors="replace") as lines:
        percent, done = 0, False
        report(0, "downloading and configuring")
        while not done:
            done = build.poll() is not None  # before reading: the last lines are read after it
            for line in lines:
                match = re.search(r"\[ *(\d+)%\] (.*)", line)
                if match and int(match[1]) >= percent:
                    percent = int(match[1])
                    report(percent, match[2].split("/")[-1].strip())
            if not done:
                time.sleep(0.2)


def first_error(text: str) -> str:
    """Return the first error in a build's log, as one sentence.

    Args:
        text: the log.
    """
    if "Killed signal terminated program" in text:
        return (
            "Building Horovod failed: the system killed the compiler for want of memory. "
            "Try MAKEFLAGS=-j1 candle build-horovod"
        )
    for line in text.splitlines():
        if _ERROR.search(line):
            return f"Building Horovod failed: {line.strip()}"
    return "Building Horovod failed without an error message in its log"


def verify_wheel(wheel: Path, facts: BuildFacts, folder: Path, log: Path) -> None:
    """Run an allreduce on two ranks with a new wheel, before it is cached.

    Args:
        wheel: the wheel.
        facts: what it must be built for.
        folder: a folder for its unpacked contents.
        log: the ranks' output is appended to it.

    Raises:
        LaunchError: it is for another TensorFlow, or the sum is wrong or does not arrive in time.
    """
    with zipfile.ZipFile(wheel) as archive:
        built_for = json.loads(archive.read("horovod/metadata.json")).get("tensorflow")
        if built_for != facts.tensorflow:
            raise LaunchError(
                f"The wheel was built for TensorFlow {built_for}, expected {facts.tensorflow}; "
                f"it is not cached. See the build's log: {log}"
            )
        archive.extractall(folder)
    python_path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH", "")]))
    program = ("-m", "keras_candle.backend.tensorflow.selftest", "--engine", "horovod")
    job = Job(2, program, engine="horovod", variables={"PYTHONPATH": python_path})
    with log.open("ab") as out:

        def show(data: bytes) -> None:
            out.write(data)
            out.flush()

        exit_code = JobLauncher(job, show).run(out.fileno(), _TEST_TIMEOUT_S)
    if exit_code != 0:
        last = log.read_text(errors="replace").strip().splitlines()[-1]
        raise LaunchError(
            f"Horovod was built, but an allreduce on two ranks fails: {last} (whole log: {log})"
        )
