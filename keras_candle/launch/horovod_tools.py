"""The requirements of a Horovod build: packages, a compiler, make, memory."""

import os
import re
import shutil
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from keras_candle.errors import LaunchError

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
