"""Launchers: the environment variables by which each gives a process its rank.

The ranks themselves come from MPI. The table answers whether there should be more than one, so that
N tasks that each believe to be alone are noticed, and which rank this is before MPI is begun.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from keras_candle.errors import EngineError
from keras_candle.launcher_messages import ENGINE, LAUNCHER

_MATCH_MPI = (
    "the MPI that mpi4py loads is not the one that this launcher belongs to. "
    "Start the ranks with `candle run -np N script.py`"
)
# `candle run` itself must not advise that.
_UNDER_CANDLE_RUN = (
    "the MPI that mpi4py loads is not the one of the launcher that `candle run` has found. "
    "`candle doctor` shows both and what to do"
)
_SRUN = (
    "start the job with `srun --mpi=pmi2` (mpi4py on MPICH) or `srun --mpi=pmix` "
    "(mpi4py on Open MPI); `srun --mpi=list` shows what this cluster has"
)


@dataclass(frozen=True)
class Launcher:
    """The variables that a launcher sets.

    Attributes:
        name: what its users call it.
        rank: variable with this process's rank.
        size: with the number of ranks.
        local_rank: with this process's number on its node.
        local_size: with the number of ranks on this node.
        remedy: what to do when MPI finds one rank where `size` promises more.
    """

    name: str
    rank: str
    size: str
    local_rank: str
    local_size: str
    remedy: str = _MATCH_MPI


# The innermost launcher first: an mpiexec inside a Slurm step decides, not the step.
LAUNCHERS = (
    Launcher(
        "Open MPI",
        "OMPI_COMM_WORLD_RANK",
        "OMPI_COMM_WORLD_SIZE",
        "OMPI_COMM_WORLD_LOCAL_RANK",
        "OMPI_COMM_WORLD_LOCAL_SIZE",
    ),
    Launcher(
        "MVAPICH",
        "MV2_COMM_WORLD_RANK",
        "MV2_COMM_WORLD_SIZE",
        "MV2_COMM_WORLD_LOCAL_RANK",
        "MV2_COMM_WORLD_LOCAL_SIZE",
    ),
    Launcher("mpiexec", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"),
    Launcher(
        "jsrun",
        "JSM_NAMESPACE_RANK",
        "JSM_NAMESPACE_SIZE",
        "JSM_NAMESPACE_LOCAL_RANK",
        "JSM_NAMESPACE_LOCAL_SIZE",
    ),
    Launcher("PALS", "PALS_RANKID", "PALS_SIZE", "PALS_LOCAL_RANKID", "PALS_LOCAL_SIZE"),
    Launcher(
        "flux run",
        "FLUX_TASK_RANK",
        "FLUX_JOB_SIZE",
        "FLUX_TASK_LOCAL_ID",
        "FLUX_LOCAL_SIZE",
        "start the job with `flux run -o mpi=...` for the MPI of mpi4py",
    ),
    # The horovod engine sets these too, for the processes that a rank starts.
    Launcher(
        "horovodrun",
        "HOROVOD_RANK",
        "HOROVOD_SIZE",
        "HOROVOD_LOCAL_RANK",
        "HOROVOD_LOCAL_SIZE",
        "horovodrun starts no MPI job. Use `candle run -np N script.py` in its place",
    ),
    Launcher(
        "srun",
        "SLURM_PROCID",
        "SLURM_STEP_NUM_TASKS",
        "SLURM_LOCALID",
        "SLURM_STEP_TASKS_PER_NODE",
        _SRUN,
    ),
)
# By one of these an MPI library finds the other ranks of its job.
_MPI_INTERFACES = ("PMI_", "PMIX_", "PALS_", "OMPI_", "MV2_")
# Set by launchers that give a process its rank, but not the number of ranks: there MPI is asked.
_RANK_ONLY = ("PMIX_RANK", "PALS_RANKID")

RANK_VARIABLES = tuple(name for each in LAUNCHERS for name in (each.rank, each.local_rank))
VARIABLES = (
    *RANK_VARIABLES,
    *(name for each in LAUNCHERS for name in (each.size, each.local_size)),
)


class RankFacts(NamedTuple):
    """A process's rank, size, local rank and local size, from its launcher's variables."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1


def detect(environ: Mapping[str, str] = os.environ) -> Launcher | None:
    """Return the launcher that started this process; None where no variable names one."""
    return next((each for each in LAUNCHERS if environ.get(each.size, "").isdigit()), None)


def may_have_launcher(environ: Mapping[str, str] = os.environ) -> bool:
    """Check whether this process could be one of several ranks."""
    return promised_size(environ) > 1 or (
        detect(environ) is None and any(name in environ for name in _RANK_ONLY)
    )


def promised_size(environ: Mapping[str, str] = os.environ) -> int:
    """Return the number of ranks that the launcher started: 1 without a launcher."""
    launcher = detect(environ)
    return int(environ[launcher.size]) if launcher else 1


def rank_facts(environ: Mapping[str, str]) -> RankFacts:
    """Return rank, size, local rank and local size of this process.

    Args:
        environ: the variables to read.

    Returns:
        (0, 1, 0, 1) without a launcher; the whole size as local size where the launcher does not
        give that in one number.

    Example:
        >>> tuple(rank_facts({"PMI_RANK": "3", "PMI_SIZE": "8", "MPI_LOCALNRANKS": "4"}))
        (3, 8, 0, 4)
        >>> tuple(rank_facts({}))
        (0, 1, 0, 1)
    """
    launcher = next((each for each in LAUNCHERS if each.rank in environ), None)
    if launcher is None:
        return RankFacts()
    size = max(1, _number(environ.get(launcher.size), 1))
    # Any row's: srun sets PMI_RANK, but only Slurm's own variables have what a node has.
    local_ranks = (environ[each.local_rank] for each in LAUNCHERS if each.local_rank in environ)
    node = _number(environ.get("SLURM_NODEID"), 0)
    local_sizes = (_of_node(environ.get(each.local_size), node) for each in LAUNCHERS)
    return RankFacts(
        _number(environ[launcher.rank], 0),
        size,
        _number(next(local_ranks, None), 0),
        next(filter(None, local_sizes), size),
    )


def refuse_lonely_task(environ: Mapping[str, str]) -> None:
    """Refuse a task of several of srun whose MPI finds no second one: each would train alone.

    Args:
        environ: the variables to read; KERAS_CANDLE_ENGINE=single asks for tasks that are alone.

    Raises:
        EngineError: srun has started several tasks without an interface for MPI.
    """
    tasks = _number(environ.get("SLURM_STEP_NUM_TASKS"), 1)
    if tasks == 1 or environ.get(ENGINE) == "single":
        return
    if any(name.startswith(_MPI_INTERFACES) for name in environ):
        return
    raise EngineError(
        f"srun started {tasks} tasks, but gave their MPI no way to find each other, so that each "
        f"would train alone: {_SRUN}. `candle run -np {tasks} script.py` in the job script finds "
        f"the value itself. For programs that are meant to be alone set {ENGINE}=single."
    )


def remedy_of(launcher: Launcher, environ: Mapping[str, str]) -> str:
    """Return what to do when MPI finds one rank where the launcher promised more.

    Args:
        launcher: of this process.
        environ: its variables.
    """
    return _UNDER_CANDLE_RUN if LAUNCHER in environ else launcher.remedy


def counts_of_nodes(text: str) -> list[int]:
    """Return one count for each node of Slurm's list of counts.

    Args:
        text: counts with the number of nodes that have them.

    Returns:
        An empty list where the text is no such list.

    Example:
        >>> counts_of_nodes("2(x2),1")
        [2, 2, 1]
    """
    counts: list[int] = []
    for entry in text.split(","):
        match = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", entry.strip())
        if match is None:
            return []
        counts += [int(match[1])] * int(match[2] or 1)
    return counts


def _of_node(text: str | None, node: int) -> int:
    counts = counts_of_nodes(text or "")
    return counts[node] if node < len(counts) else 0


def _number(text: str | None, default: int) -> int:
    return int(text) if text is not None and text.isdigit() else default
