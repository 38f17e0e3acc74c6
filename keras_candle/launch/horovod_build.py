"""`candle build-horovod`: build Horovod for the installed TensorFlow once and cache the wheel."""

import argparse
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from types import FrameType

from keras_candle.errors import LaunchError
from keras_candle.launch import horovod_cmake
from keras_candle.launch.horovod_cache import (
    HOROVOD_VERSION,
    BuildFacts,
    ProgressLine,
    Report,
    build_facts,
    cache_folder,
    search_path,
    wheel_from_cache,
)
from keras_candle.launch.job_launcher import Job, JobLauncher
from keras_candle.launch.process import cores_of_this_node, end_session, end_with_parent


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `candle build-horovod`."""
    parser.add_argument(
        "--with-mpi", action="store_true", help="build MPI operations too, with the first mpicxx"
    )
    parser.add_argument("--force", action="store_true", help="build even if the cache has it")
    parser.add_argument("--quiet", action="store_true", help="print errors only")


def run(options: argparse.Namespace) -> int:
    """Build, test, cache and install Horovod, skipping steps that are done already.

    Args:
        options: as `add_arguments` describes them.

    Returns:
        0.

    Raises:
        LaunchError: something is missing, or the build failed.
    """
    signal.signal(signal.SIGTERM, _end_by_signal)
    progress = ProgressLine(quiet=options.quiet)
    require_packages()
    cache = cache_folder(os.environ)
    facts = build_facts(options.with_mpi, cache, os.environ)
    wheel = wheel_from_cache(facts, cache, build, progress, force=options.force)
    name = f"Horovod {facts.horovod} for {facts.flavour} {facts.tensorflow}"
    if is_installed(wheel):
        progress.print(f"{name} is installed already; nothing to do")
        return 0
    install(wheel)
    progress.print(f"{name} is installed")
    return 0


def build(facts: BuildFacts, folder: Path, log: Path, report: Report) -> Path:
    """Compile the wheel and test it with an allreduce on two ranks."""
    require_tools(os.environ)
    start = time.monotonic()
    # The compiler's files go to the temporary folder: home folders can be slow and small.
    with tempfile.TemporaryDirectory(prefix="horovod-", ignore_cleanup_errors=True) as name:
        work = Path(name)
        wheel = compile_wheel(facts, folder, work, log, report)
        report(100, "testing it on two ranks")
        verify_wheel(wheel, facts, work / "test", log)
    report(100, f"built and tested in {time.monotonic() - start:.0f} s")
    return wheel


def is_installed(wheel: Path) -> bool:
    """Return whether the running environment has exactly this wheel's files."""
    try:
        installed = distribution("horovod")
    except PackageNotFoundError:
        return False
    if installed.version != HOROVOD_VERSION:
        return False
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/RECORD"))
        wanted = set(archive.read(name).decode().splitlines())
    has = set((installed.read_text("RECORD") or "").splitlines())
    return {line for line in wanted if line.startswith("horovod/")} <= has


def install(wheel: Path) -> None:
    """Install the wheel into the running environment, without dependencies."""
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet"]
    command += ["--force-reinstall", "--root-user-action=ignore", str(wheel)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["pip gave no reason"]
        raise LaunchError(f"{wheel} is built but pip could not install it: {lines[-1]}")


def _end_by_signal(number: int, _: FrameType | None) -> None:
    # An exception instead of the default action: the compiler must end, and the folder be removed.
    raise SystemExit(128 + number)


PACKAGES = ("cmake", "setuptools", "pip", "wheel", "packaging", "cloudpickle", "psutil", "pyyaml")
_JOB_BYTES = 2 * 1024**3  # what the compiler takes for Horovod's largest files


def missing_packages() -> list[str]:
    """Return the Python packages that Horovod or its build needs and that are not installed."""
    missing = []
    for name in PACKAGES:
        try:
            found = version(name)
        except PackageNotFoundError:
            missing.append(name)
            continue
        # Horovod's setup.py imports pkg_resources, which setuptools 81 no longer has.
        if name == "setuptools" and int(found.split(".")[0]) >= 81:
            missing.append("setuptools<81")
    return missing


def require_packages() -> None:
    """Raise LaunchError unless all Python packages are installed."""
    missing = missing_packages()
    if missing:
        raise LaunchError(
            f"Building Horovod needs Python packages that are not installed: {', '.join(missing)}. "
            "Install them: pip install 'keras-candle[horovod]'"
        )


def require_tools(environment: Mapping[str, str]) -> None:
    """Raise LaunchError for the first missing tool: a C++ compiler or make."""
    path = environment.get("PATH", "")
    chosen = environment.get("CXX", "").split()
    compilers = chosen[:1] or ["g++", "c++"]
    if not any(shutil.which(name, path=path) for name in compilers):
        raise LaunchError(
            f"Building Horovod needs a C++17 compiler, and there is no {' or '.join(compilers)} on "
            "PATH. Install one: apt-get install g++ make, or load your cluster's compiler module"
        )
    if shutil.which("make", path=path) is None:
        raise LaunchError(
            "Building Horovod needs make, and there is none on PATH. "
            "Install it: apt-get install g++ make"
        )


def parallel_jobs(cores: int, free_bytes: int) -> int:
    """Return the number of parallel compilers that fits cores and memory.

    Example:
        >>> parallel_jobs(cores=16, free_bytes=8 * 1024**3)
        4
        >>> parallel_jobs(cores=4, free_bytes=10**8)
        1
    """
    return max(1, min(cores, free_bytes // _JOB_BYTES))


def free_memory_bytes(meminfo: Path = Path("/proc/meminfo")) -> int:
    """Return the memory available to new processes, including reclaimable file cache."""
    if meminfo.is_file():
        match = re.search(r"^MemAvailable: *(\d+) kB$", meminfo.read_text(), re.MULTILINE)
        if match:
            return int(match[1]) * 1024
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


_TEST_TIMEOUT_S = 180.0
_ERROR = re.compile(r"(\berror: |CMake Error|^ *ERROR: |^make: .* Error )", re.MULTILINE)


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
