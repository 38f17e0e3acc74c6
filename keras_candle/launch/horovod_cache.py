"""The cache of Horovod wheels, keyed by every fact that a build depends on."""

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TextIO

from keras_candle.errors import LaunchError

HOROVOD_VERSION = "0.28.1"
RECIPE_VERSION = 1
"""Incremented with every change of the build recipe, so that older wheels are not reused."""

TENSORFLOW_RANGE = ((2, 16), (2, 21))
TENSORFLOW_DISTRIBUTIONS = ("tensorflow", "tensorflow-cpu", "tensorflow-rocm", "tensorflow-gpu")

# Variables that Horovod's build reads. Those of its run time (HOROVOD_CYCLE_TIME ...) do not
# affect the wheel.
_BUILD_VARIABLE = re.compile(
    r"HOROVOD_(WITH_|WITHOUT_|GPU|CUDA_|NCCL_|NVTX_|ROCM_|BUILD_|CPU_OPERATIONS|ALLOW_MIXED|DEBUG)"
)
_COMPILER_VARIABLES = ("CXX", "CXXFLAGS", "LDFLAGS")
_PRINT_ABI = "import tensorflow as tf; print('abi', tf.sysconfig.CXX11_ABI_FLAG)"


@dataclasses.dataclass(frozen=True)
class BuildFacts:
    """The facts that a Horovod wheel depends on; builds with equal facts share one wheel.

    Args:
        tensorflow: TensorFlow's exact version: Horovod rejects any other on import.
        flavour: the distribution that provides it, "tensorflow" or "tensorflow-cpu".
        python: the interpreter's ABI, for example "cpython-311".
        platform: for example "linux-x86_64".
        cxx11_abi: TensorFlow's _GLIBCXX_USE_CXX11_ABI.
        operations: "gloo", or "mpi:" and what identifies the MPI library.
        variables: the user's own variables that the build reads.
        horovod: Horovod's version.
        recipe: RECIPE_VERSION.
    """

    tensorflow: str
    flavour: str
    python: str
    platform: str
    cxx11_abi: str
    operations: str = "gloo"
    variables: tuple[tuple[str, str], ...] = ()
    horovod: str = HOROVOD_VERSION
    recipe: int = RECIPE_VERSION

    @property
    def key(self) -> str:
        """The cache folder's name: readable, and unique by a digest of every fact."""
        digest = hashlib.sha256(json.dumps(dataclasses.asdict(self)).encode()).hexdigest()[:12]
        operations = self.operations.split(":")[0]
        return (
            f"{self.horovod}-{self.flavour}-{self.tensorflow}-{self.python}-{operations}-{digest}"
        )


def installed_tensorflow() -> tuple[str, str]:
    """Return the TensorFlow of the running environment, without importing it.

    Returns:
        (distribution, version), for example ("tensorflow-cpu", "2.21.0").

    Raises:
        LaunchError: none is installed, or Horovod cannot be built for its version.
    """
    for name in TENSORFLOW_DISTRIBUTIONS:
        try:
            found = version(name)
        except PackageNotFoundError:
            continue
        release = tuple(int(number) for number in re.findall(r"\d+", found)[:2])
        low, high = TENSORFLOW_RANGE
        if not low <= release <= high:
            raise LaunchError(
                f"Horovod {HOROVOD_VERSION} can be built for TensorFlow 2.16 to 2.21, but {name} "
                f"{found} is installed. Install one of those, or use --engine mpi"
            )
        return name, found
    raise LaunchError(
        f"Horovod is built for one TensorFlow, and {sys.executable} has none. Install it first: "
        "pip install 'keras-candle[cpu]' or 'keras-candle[gpu]'"
    )


def cxx11_abi(tensorflow: str, cache: Path) -> str:
    """Return TensorFlow's C++ ABI flag, read in a subprocess and cached.

    Args:
        tensorflow: its version.
        cache: the cache's folder: reading the flag costs an import of TensorFlow.

    Returns:
        "0" or "1".

    Raises:
        LaunchError: TensorFlow cannot be imported.
    """
    key = hashlib.sha256(f"{sys.prefix} {tensorflow}".encode()).hexdigest()[:16]
    answer = cache / "abi" / key
    if answer.is_file():
        return answer.read_text().strip()
    done = subprocess.run(
        [sys.executable, "-c", _PRINT_ABI], capture_output=True, text=True, check=False
    )
    match = re.search(r"^abi (\d)$", done.stdout, re.MULTILINE)
    if match is None:
        lines = done.stderr.strip().splitlines() or ["it printed nothing"]
        raise LaunchError(
            f"TensorFlow {tensorflow} is installed but cannot be imported: {lines[-1]}. "
            "Fix it first; `python -c 'import tensorflow'` shows the whole traceback"
        )
    answer.parent.mkdir(parents=True, exist_ok=True)
    partial = answer.with_suffix(f".{os.getpid()}")
    partial.write_text(match[1])
    os.replace(partial, answer)
    return match[1]


def mpi_identity(prefix: str = sys.prefix) -> str:
    """Identify the MPI that Horovod would be linked to.

    Args:
        prefix: the environment; the library's path is written into the wheel, so a wheel with
            MPI belongs to one environment.

    Returns:
        The library's real path (its name ends in its version), mpicxx's flags and the prefix.

    Raises:
        LaunchError: mpicxx is not found.
    """
    mpicxx = shutil.which("mpicxx", path=search_path(prefix))
    if mpicxx is None:
        raise LaunchError(
            "--with-mpi needs mpicxx, and there is none beside the interpreter or on PATH. "
            "Load your cluster's MPI module, or leave --with-mpi out: Gloo needs no MPI"
        )
    shown = subprocess.run([mpicxx, "-show"], capture_output=True, text=True, check=False).stdout
    folders = [Path(folder) for folder in re.findall(r"-L(\S+)", shown)]
    libraries = sorted({str(path.resolve()) for f in folders for path in f.glob("libmpi*.so*")})
    return f"mpi:{' '.join(libraries)} {shown.strip()} {prefix}"


def search_path(prefix: str = sys.prefix) -> str:
    """Return PATH with the environment's own programs first."""
    return f"{prefix}/bin{os.pathsep}{os.environ.get('PATH', os.defpath)}"


def build_facts(with_mpi: bool, cache: Path, environment: Mapping[str, str]) -> BuildFacts:
    """Collect the facts of a build in the running environment.

    Args:
        with_mpi: build the MPI operations beside Gloo's.
        cache: the cache's folder.
        environment: variables, with the user's own build variables.
    """
    flavour, tensorflow = installed_tensorflow()
    return BuildFacts(
        tensorflow=tensorflow,
        flavour=flavour,
        python=sys.implementation.cache_tag,
        platform=sysconfig.get_platform(),
        cxx11_abi=cxx11_abi(tensorflow, cache),
        operations=mpi_identity() if with_mpi else "gloo",
        variables=tuple(
            (name, value)
            for name, value in sorted(environment.items())
            if _BUILD_VARIABLE.match(name) or name in _COMPILER_VARIABLES
        ),
    )


_EVERY_PERCENT = 10


class ProgressLine:
    """Rewrite one line on a terminal; elsewhere print a line every 10 percent.

    Args:
        quiet: print nothing.
        stream: where to write; sys.stdout by default.
    """

    def __init__(self, quiet: bool = False, stream: TextIO | None = None) -> None:
        self._quiet = quiet
        self._stream = sys.stdout if stream is None else stream
        self._live = self._stream.isatty()
        self._next_percent = 0
        self._open = False

    def print(self, sentence: str) -> None:
        """Print a sentence on a line of its own."""
        self.end()
        if not self._quiet:
            self._stream.write(f"{sentence}\n")
            self._stream.flush()

    def step(self, percent: int, what: str) -> None:
        """Show the progress.

        Args:
            percent: 0 to 100, never decreasing.
            what: the current step, in a few words.
        """
        if self._quiet:
            return
        text = f"[{percent:3d}%] {what[:60]}"
        if self._live:
            self._stream.write(f"\r\x1b[K{text}")
            self._open = True
        elif percent >= self._next_percent:
            self._stream.write(f"{text}\n")
            self._next_percent = min(100, percent - percent % _EVERY_PERCENT + _EVERY_PERCENT)
        self._stream.flush()

    def end(self) -> None:
        """End the live line, so that the next output starts on a new one."""
        if self._open:
            self._stream.write("\n")
            self._stream.flush()
            self._open = False


Report = Callable[[int, str], None]
"""A function of the percentage done and the current step's name."""

BuildStep = Callable[[BuildFacts, Path, Path, Report], Path]
"""A function (facts, empty folder, log, report) -> the wheel, built and tested."""


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
