"""The cache key of a Horovod wheel, from every fact that the build depends on."""

import dataclasses
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

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
