"""`candle build-horovod`: Horovod for the TensorFlow at hand, built once and kept."""

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
from keras_candle.launch.horovod_key import HOROVOD_VERSION, BuildFacts, gather
from keras_candle.launch.horovod_tools import require_packages, require_tools
from keras_candle.launch.horovod_wheel import Report, compile_wheel, prove
from keras_candle.launch.progress import ProgressLine

BuildStep = Callable[[BuildFacts, Path, Path, Report], Path]
"""(facts, empty folder, log, report) -> the wheel, built and proven."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `candle build-horovod`."""
    parser.add_argument(
        "--with-mpi", action="store_true", help="MPI operations as well, with the mpicxx at hand"
    )
    parser.add_argument("--force", action="store_true", help="build even if the cache has it")
    parser.add_argument("--quiet", action="store_true", help="say nothing but errors")


def run(options: argparse.Namespace) -> int:
    """Builds, proves, keeps and installs Horovod, or as much of that as is still to do.

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
    facts = gather(options.with_mpi, cache, os.environ)
    wheel = wheel_from_cache(facts, cache, build, progress, force=options.force)
    name = f"Horovod {facts.horovod} for {facts.flavour} {facts.tensorflow}"
    if is_installed(wheel):
        progress.print(f"{name} is installed already; nothing to do")
        return 0
    install(wheel)
    progress.print(f"{name} is installed")
    return 0


def cache_folder(environment: Mapping[str, str]) -> Path:
    """Where built wheels are kept.

    Args:
        environment: KERAS_CANDLE_CACHE, XDG_CACHE_HOME and HOME are looked up here.

    Returns:
        The folder; it need not exist.

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
    """The wheel for these facts; built first when the cache has none.

    Two calls at once are one build: the second waits for the first one's wheel. A build that is
    killed leaves nothing that looks like a wheel, because the folder appears whole or not at all.

    Args:
        facts: what the wheel is for.
        cache: the cache's folder.
        step: builds the wheel into an empty folder.
        progress: told what happens.
        force: build in any case.

    Returns:
        The wheel's path in the cache.
    """
    home = cache / "horovod"
    place = home / facts.key
    home.mkdir(parents=True, exist_ok=True)
    with only_one(home / f"{facts.key}.lock", progress) as waited:
        kept = sorted(place.glob("*.whl"))
        # Who waited for another build wants that build's wheel, force or not.
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
def only_one(lock: Path, progress: ProgressLine) -> Iterator[bool]:
    """Holds a file lock; tells whether another process had it first."""
    with lock.open("a") as handle:
        waited = False
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waited = True
            progress.print("Another process builds the same Horovod; waiting for its wheel ...")
            fcntl.flock(handle, fcntl.LOCK_EX)
        # The system lets go of the lock with the file, also when this process is killed.
        yield waited


def build(facts: BuildFacts, folder: Path, log: Path, report: Report) -> Path:
    """The build step proper: compiles the wheel and lets two ranks add up with it."""
    require_tools(os.environ)
    start = time.monotonic()
    # The compiler's files go where temporary files belong: home folders can be slow and small.
    with tempfile.TemporaryDirectory(prefix="horovod-", ignore_cleanup_errors=True) as name:
        work = Path(name)
        wheel = compile_wheel(facts, folder, work, log, report)
        report(100, "two ranks add up numbers with it")
        prove(wheel, facts, work / "proof", log)
    report(100, f"built and proven in {time.monotonic() - start:.0f} s")
    return wheel


def is_installed(wheel: Path) -> bool:
    """Whether the running environment has exactly this wheel's files."""
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
    """Installs the wheel into the running environment, and nothing else."""
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet"]
    command += ["--force-reinstall", "--root-user-action=ignore", str(wheel)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["pip said nothing"]
        raise LaunchError(f"{wheel} is built but pip could not install it: {lines[-1]}")


def _end_by_signal(number: int, _: FrameType | None) -> None:
    # An exception and not the default: the compiler must end too, and the folder must go.
    raise SystemExit(128 + number)
