"""Which launcher started this process, and how many ranks it promised: a table.

The ranks themselves come from MPI. The table only answers whether there should be
more than one, so that N tasks that each believe to be alone are noticed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

_MATCH_MPI = (
    "the MPI that mpi4py was built for is not the one that this launcher belongs to. "
    "Start the ranks with `candle run -np N script.py`"
)


@dataclass(frozen=True)
class LauncherFacts:
    """The environment variables that one launcher sets, and what to do when its ranks don't meet.

    Attributes:
        name: what a user calls it.
        size: variable that holds the number of ranks.
        rank: variable that holds this process's rank.
        remedy: what to do when MPI finds one rank where `size` promises more.
    """

    name: str
    size: str
    rank: str
    remedy: str


# The innermost launcher first: an mpiexec inside a Slurm step decides, not the step.
LAUNCHERS = (
    LauncherFacts(
        "horovodrun",
        "HOROVOD_SIZE",
        "HOROVOD_RANK",
        "horovodrun starts no MPI job. Use `candle run -np N script.py` in its place",
    ),
    LauncherFacts("Open MPI", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", _MATCH_MPI),
    LauncherFacts("MVAPICH", "MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_RANK", _MATCH_MPI),
    LauncherFacts("mpiexec", "PMI_SIZE", "PMI_RANK", _MATCH_MPI),
    LauncherFacts("jsrun", "JSM_NAMESPACE_SIZE", "JSM_NAMESPACE_RANK", _MATCH_MPI),
    LauncherFacts(
        "flux run",
        "FLUX_JOB_SIZE",
        "FLUX_TASK_RANK",
        "start the job with `flux run -o mpi=...` for the MPI of mpi4py",
    ),
    LauncherFacts(
        "srun",
        "SLURM_STEP_NUM_TASKS",
        "SLURM_PROCID",
        "start the job with `srun --mpi=pmi2` (mpi4py on MPICH) or `srun --mpi=pmix` "
        "(mpi4py on Open MPI); `srun --mpi=list` shows what this cluster has",
    ),
)

# Set by launchers that tell a process its rank, but not of how many: there MPI is asked.
RANK_ONLY = ("PMIX_RANK", "PALS_RANKID")


def detect(environ: Mapping[str, str] = os.environ) -> LauncherFacts | None:
    """The launcher that started this process, or None when nothing says that one did."""
    return next((each for each in LAUNCHERS if environ.get(each.size, "").isdigit()), None)


def may_have_launcher(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether this process could be one of several ranks."""
    return promised_size(environ) > 1 or (
        detect(environ) is None and any(name in environ for name in RANK_ONLY)
    )


def promised_size(environ: Mapping[str, str] = os.environ) -> int:
    """How many ranks the launcher started: 1 when there is none."""
    launcher = detect(environ)
    return int(environ[launcher.size]) if launcher else 1
