"""`candle build-horovod`: build Horovod for the installed TensorFlow once and cache the wheel."""

import argparse
import contextlib
import dataclasses
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from types import FrameType

from keras_candle.errors import LaunchError
from keras_candle.launch.horovod_key import HOROVOD_VERSION, BuildFacts, build_facts
from keras_candle.launch.horovod_tools import require_packages, require_tools
from keras_candle.launch.horovod_wheel import Report, compile_wheel, verify_wheel
from keras_candle.launch.progress import ProgressLine

BuildStep = Callable[[BuildFacts, Path, Path, Report], Path]
"""A function (facts, empty folder, log, report) -> the wheel, built and tested."""


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


def cache_folder(environment: Mapping[str, str]) -> Path:
    """Return the folder of built wheels; it need not exist.

    Args:
        environment: has KERAS_CANDLE_CACHE, XDG_CACHE_HOME and HOME.

    Example:
        >>> str(cache_folder({"XDG_CACHE_HOME": "/x"}))
        '/x/keras_candle'
    """
    own = environment.get("KERAS_CANDLE_CACHE")
    if own:
        return Path(own).expanduser()
    caches = environment.get("XDG_CACHE_HOME")
    return (Path(caches) if caches else Path.home() / ".cache") / "keras_candle"


def wheel_from_cache(
    facts: BuildFacts, cache: Path, step: BuildStep, progress: ProgressLine, *, force: bool = False
) -> Path:
    """Return the wheel for these facts, built first when the cache has none.

    Two calls at once are one build: the second waits for the first one's wheel. A build that is
    killed leaves nothing that looks like a wheel: the folder is renamed into place when complete.

    Args:
        facts: what the wheel depends on.
        cache: the cache's folder.
        step: builds the wheel into an empty folder.
        progress: shows the steps.
        force: build even if the cache has the wheel.

    Returns:
        The wheel's path in the cache.
    """
    home = cache / "horovod"
    place = home / facts.key
    home.mkdir(parents=True, exist_ok=True)
    with build_lock(home / f"{facts.key}.lock", progress) as waited:
        kept = sorted(place.glob("*.whl"))
        # After waiting for another build, that build's wheel is the right one, force or not.
        if kept and (waited or not force):
            progress.print(f"Found it in the cache: {kept[0]}")
            return kept[0]
        progress.print(
            f"Building Horovod {facts.horovod} for {facts.flavour} {facts.tensorflow} "
            f"({facts.operations.split(':')[0]} operations): about 2 minutes on 2 cores, once. "
            f"The wheel is kept in {place}"
        )
        folder = home / f"{facts.key}.partial"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            wheel = step(facts, folder, home / f"{facts.key}.log", progress.step)
            facts_file = folder / "facts.json"
            facts_file.write_text(json.dumps(dataclasses.asdict(facts), indent=2))
            shutil.rmtree(place, ignore_errors=True)
            os.replace(folder, place)
        finally:
            progress.end()
            shutil.rmtree(folder, ignore_errors=True)
    return place / wheel.name


@contextlib.contextmanager
def build_lock(lock: Path, progress: ProgressLine) -> Iterator[bool]:
    """Hold a file lock; yield whether another process had it first."""
    with lock.open("a") as handle:
        waited = False
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waited = True
            progress.print("Another process builds the same Horovod; waiting for its wheel ...")
            fcntl.flock(handle, fcntl.LOCK_EX)
        # The system releases the lock with the file, also when this process is killed.
        yield waited


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
