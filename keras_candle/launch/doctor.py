"""`candle doctor`: check packages and tools, test each engine on two ranks, suggest fixes."""

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

from keras_candle.cluster.launchers import VARIABLES
from keras_candle.cluster.schedulers import SCHEDULERS
from keras_candle.errors import LaunchError
from keras_candle.launch.horovod_cache import TENSORFLOW_DISTRIBUTIONS, cache_folder, search_path
from keras_candle.launch.job_launcher import Job, JobLauncher
from keras_candle.launch.mpi_diagnosis import (
    ABSENT,
    BROKEN,
    MISSING,
    OK,
    Diagnosis,
    collect,
    mpi_findings,
)
from keras_candle.launch.process import cores_of_this_node
from keras_candle.launcher_messages import ENGINE

_TIMEOUT_S = 120.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `candle doctor`."""
    parser.add_argument(
        "--timeout",
        type=float,
        default=_TIMEOUT_S,
        metavar="SECONDS",
        help=f"time limit of each 2-rank test (default {_TIMEOUT_S:g})",
    )


def run(options: argparse.Namespace) -> int:
    """Check the environment, test the engines and print the table.

    Args:
        options: as `add_arguments` describes them.

    Returns:
        0 if at least one engine works on two ranks, else 1.
    """
    findings = [*packages(), *tools(), *surroundings(os.environ)]
    print(table(findings), flush=True)
    print("\nTwo ranks add up numbers on each engine ...", flush=True)
    engines = [try_engine("mpi", options.timeout), try_engine("horovod", options.timeout)]
    print(table(engines))
    remedies = [f"{f.name}: {f.remedy}" for f in [*findings, *engines] if f.remedy]
    if remedies:
        print("\nWhat to do:\n  " + "\n  ".join(remedies))
    works = any(finding.state == OK for finding in engines)
    print("\nReady: candle run -np 2 script.py" if works else "\nNo engine works on 2 ranks yet")
    return 0 if works else 1


def table(findings: list[Diagnosis]) -> str:
    """Format diagnoses in columns."""
    names = max(len(finding.name) for finding in findings)
    return "\n".join(f"{f.name:<{names}}  {f.state:<7}  {f.detail}".rstrip() for f in findings)


def packages() -> list[Diagnosis]:
    """Diagnose the Python packages."""
    install = "pip install 'keras-candle[cpu]' (or 'keras-candle[gpu]')"
    return [
        Diagnosis("python", OK, f"{platform.python_version()} ({sys.executable})"),
        _package("keras", "pip install keras"),
        _package("tensorflow", install, TENSORFLOW_DISTRIBUTIONS),
        _package("numpy", "pip install numpy"),
        _package("mpi4py", "pip install mpi4py"),
        _package("horovod", "candle build-horovod (only --engine horovod needs it)"),
    ]


def _package(name: str, remedy: str, distributions: tuple[str, ...] = ()) -> Diagnosis:
    for distribution in distributions or (name,):
        try:
            found = version(distribution)
        except PackageNotFoundError:
            continue
        return Diagnosis(name, OK, found if distribution == name else f"{found} ({distribution})")
    return Diagnosis(name, MISSING, "", remedy)


def tools() -> list[Diagnosis]:
    """Diagnose the system: MPI, compiler, make, cmake and GPUs."""
    build = "apt-get install g++ make (only candle build-horovod needs it)"
    compiler = os.environ.get("CXX", "").split()[:1] or ["g++", "c++"]
    cmake = "pip install 'keras-candle[horovod]' (only candle build-horovod needs it)"
    return [
        *mpi_findings(collect(os.environ)),
        _tool("C++ compiler", compiler, build),
        _tool("make", ["make"], build),
        _tool("cmake", ["cmake"], cmake),
        _gpus(),
    ]


def _tool(name: str, programs: list[str], remedy: str) -> Diagnosis:
    paths = (shutil.which(program, path=search_path()) for program in programs)
    found = next(filter(None, paths), None)
    return Diagnosis(name, OK, found) if found else Diagnosis(name, MISSING, "", remedy)


def _gpus() -> Diagnosis:
    program = shutil.which("nvidia-smi")
    if program is None:
        return Diagnosis("GPUs", ABSENT, "no nvidia-smi; training runs on CPUs")
    done = subprocess.run([program, "-L"], capture_output=True, text=True, check=False)
    gpus = done.stdout.strip().splitlines()
    if done.returncode != 0 or not gpus:
        return Diagnosis("GPUs", BROKEN, "nvidia-smi finds none", "check the driver: nvidia-smi")
    return Diagnosis("GPUs", OK, f"{len(gpus)}: {gpus[0].split(' (UUID')[0]}")


def surroundings(environment: Mapping[str, str]) -> list[Diagnosis]:
    """Diagnose this process: its cores, a launcher's variables, the cache of built wheels."""
    names = [*VARIABLES, ENGINE, *(each.job_id for each in SCHEDULERS)]
    seen = [f"{name}={environment[name]}" for name in dict.fromkeys(names) if name in environment]
    cache = cache_folder(environment) / "horovod"
    kept = sorted(path.parent.name for path in cache.glob("*/*.whl"))
    return [
        Diagnosis("cores", OK, str(cores_of_this_node())),
        Diagnosis("launcher", OK if seen else ABSENT, " ".join(seen) or "none around this shell"),
        Diagnosis("Horovod cache", OK if kept else ABSENT, ", ".join(kept) or f"empty ({cache})"),
    ]


def try_engine(name: str, timeout_s: float) -> Diagnosis:
    """Run an allreduce on two ranks.

    Args:
        name: the engine.
        timeout_s: when to give up.

    Returns:
        Its diagnosis.
    """
    label = f"engine {name}"
    needed = "mpi4py" if name == "mpi" else name
    if _package(needed, "").state != OK:  # its remedy is in the package's row already
        return Diagnosis(label, MISSING, f"{needed} is not installed")
    job = Job(2, ("-m", "keras_candle.backend.tensorflow.selftest", "--engine", name), engine=name)
    stderr: list[bytes] = []
    with tempfile.TemporaryFile() as out:
        try:
            exit_code = JobLauncher(job, stderr.append).run(out.fileno(), timeout_s)
        except LaunchError as error:
            return Diagnosis(label, BROKEN, str(error), "run it yourself: " + _by_hand(name))
        out.seek(0)
        printed = out.read().decode(errors="replace").strip().splitlines() or [""]
    if exit_code == 0:
        return Diagnosis(label, OK, printed[-1])
    lines = b"".join(stderr).decode(errors="replace").strip().splitlines() or [f"code {exit_code}"]
    return Diagnosis(label, BROKEN, lines[-1].removeprefix("candle: "), "see " + _by_hand(name))


def _by_hand(name: str) -> str:
    return f"candle run -np 2 -m keras_candle.backend.tensorflow.selftest --engine {name}"
