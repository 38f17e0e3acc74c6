"""The MPI library that mpi4py loads, and the mpiexec that belongs to it."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from keras_candle.errors import LaunchError

MPICH, CRAY, INTEL, OPEN_MPI, PALS = "MPICH", "Cray MPICH", "Intel MPI", "Open MPI", "PALS"
_ANSWER_WITHIN_S = 60
# In a process of its own: a broken MPI ends the process that loads it. MPI is not begun.
_LOAD = """
import json, mpi4py
mpi4py.rc.initialize = False
from mpi4py import MPI
try:
    with open("/proc/self/maps") as maps:
        files = [line.split(None, 5)[5].strip() for line in maps if "/libmpi" in line]
except OSError:
    files = []
print(json.dumps([MPI.Get_library_version(), (files or [""])[0]]))
"""
# Words of a library's version, and of what `mpiexec --version` prints. The first that fits decides:
# Cray's MPICH and others name MPICH too.
_WORDS = (
    (CRAY, ("cray mpich",)),
    (INTEL, ("intel(r) mpi",)),
    (OPEN_MPI, ("open mpi", "openrte", "prrte", "prterun")),
    (PALS, ("pals",)),
    (MPICH, ("mpich", "hydra", "mvapich")),
)
# mpiexec's family by that of the library, the best first: hydra's protocol is one for all of these.
_FITTING = {
    MPICH: (MPICH, INTEL),
    CRAY: (PALS, MPICH),
    INTEL: (INTEL, MPICH),
    OPEN_MPI: (OPEN_MPI,),
}


@dataclass(frozen=True)
class MpiLibrary:
    """An MPI library.

    Attributes:
        family: MPICH, CRAY, INTEL or OPEN_MPI; "" where its version names none of them.
        version: the first line of what it says of itself.
        path: of its file, "" where that is unknown.
        problem: why mpi4py cannot load one; everything else is "" then.
    """

    family: str = ""
    version: str = ""
    path: str = ""
    problem: str = ""


def family_of(text: str) -> str:
    """Return the family of MPI that a version names, "" where it names none.

    Example:
        >>> family_of("Open MPI v5.0.11, package: Open MPI user@localhost Distribution")
        'Open MPI'
    """
    lowered = text.lower()
    return next((family for family, words in _WORDS if any(w in lowered for w in words)), "")


def loaded_library(environment: Mapping[str, str] = os.environ) -> MpiLibrary:
    """Return the MPI library that mpi4py loads in this Python.

    Args:
        environment: the variables; MPI4PY_LIBMPI, MPI4PY_MPIABI and LD_LIBRARY_PATH decide.
    """
    return _loaded(tuple(sorted(environment.items())))


@functools.lru_cache(maxsize=8)
def _loaded(environment: tuple[tuple[str, str], ...]) -> MpiLibrary:
    try:
        done = subprocess.run(
            [sys.executable, "-c", _LOAD],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_ANSWER_WITHIN_S,
            check=False,
            env=dict(environment),
        )
        version, path = json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        return MpiLibrary(problem=f"did not load within {_ANSWER_WITHIN_S} s")
    except (ValueError, IndexError):
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        return MpiLibrary(problem=lines[-1])
    text = str(version).replace("\0", "").strip()
    return MpiLibrary(family_of(text), text.splitlines()[0].strip() if text else "", str(path))


@functools.lru_cache(maxsize=32)
def family_of_mpiexec(path: Path) -> str:
    """Return the family of an mpiexec, "" where it prints none.

    Args:
        path: its file.
    """
    try:
        done = subprocess.run(
            [str(path), "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_ANSWER_WITHIN_S,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return family_of(done.stdout + done.stderr)


def mpiexecs(library: MpiLibrary, environment: Mapping[str, str]) -> Iterator[Path]:
    """Yield each mpiexec there is: of the library's folder, beside Python, on PATH.

    Args:
        library: that mpi4py loads.
        environment: with PATH.
    """
    folders = [parent / "bin" for parent in list(Path(library.path).parents)[:-1]]
    folders.append(Path(sys.prefix) / "bin")
    folders += [Path(each) for each in environment.get("PATH", os.defpath).split(os.pathsep)]
    seen: set[Path] = set()
    for folder in folders:
        found = shutil.which("mpiexec", path=str(folder))
        if found is not None and (real := Path(found).resolve()) not in seen:
            seen.add(real)
            yield Path(found)


def find_mpiexec(
    library: MpiLibrary | None = None, environment: Mapping[str, str] = os.environ
) -> Path:
    """Find the mpiexec of the MPI that mpi4py loads.

    Args:
        library: that mpi4py loads; looked for by default.
        environment: with PATH.

    Raises:
        LaunchError: there is none, or none that fits the library.
    """
    library = loaded_library(environment) if library is None else library
    found = list(mpiexecs(library, environment))
    if not found:
        raise LaunchError(
            f"No mpiexec beside {sys.executable} and none on PATH, but ranks are started by it. "
            "Install MPI: pip install mpich, or load your cluster's MPI module"
        )
    fitting = _FITTING.get(library.family)
    if fitting is None:  # no library, or one that we do not know: the ranks say what is wrong
        return found[0]
    families = {each: family_of_mpiexec(each) for each in found}
    for family in fitting:
        for each in found:
            if families[each] == family:
                return each
    unknown = next((each for each in found if not families[each]), None)
    if unknown is not None:
        return unknown
    listed = ", ".join(f"{each} ({families[each]})" for each in found)
    raise LaunchError(
        f"mpi4py loads {library.family} ({library.path or library.version}), and no mpiexec "
        f"belongs to it: found {listed}. Load the module of that MPI so that its mpiexec is on "
        "PATH, or name another library: MPI4PY_LIBMPI=/path/to/libmpi.so (see `candle doctor`)"
    )
