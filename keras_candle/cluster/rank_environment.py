"""What the shell, the launcher and the ranks tell each other through environment variables."""

import os
import re
from collections.abc import Mapping

from keras_candle.errors import LaunchError

# Ours. The engine room reads the first; the others pass between `candle run` and its ranks.
ENGINE = "KERAS_CANDLE_ENGINE"
ALL_OUTPUT = "KERAS_CANDLE_ALL_OUTPUT"
TERMINALS = "KERAS_CANDLE_TERMINALS"
STDIN = "KERAS_CANDLE_STDIN"
# So long others wait for a rank whose program has ended, until the job does.
LEFT_S = "KERAS_CANDLE_LEFT_S"
PREPARE = "KERAS_CANDLE_PREPARE"
# The training room reads this one, the parts of `candle verify`, `candle verify-resume` and `candle
# audit-precision` in the ranks the next three, and the preparation of `candle run --auto` the last
# two.
OPTIONS = "KERAS_CANDLE_OPTIONS"
VERIFY = "KERAS_CANDLE_VERIFY"
VERIFY_RESUME = "KERAS_CANDLE_VERIFY_RESUME"
AUDIT_PRECISION = "KERAS_CANDLE_AUDIT_PRECISION"
AUTO_SEED = "KERAS_CANDLE_AUTO_SEED"
AUTO_STARTED_S = "KERAS_CANDLE_AUTO_STARTED_S"

# (rank, size, local size) of each launcher, the most specific first: a hydra job inside a Slurm
# allocation sees Slurm's variables too, and there they are the batch script's.
LAUNCHER_VARIABLES: tuple[tuple[str, str, str], ...] = (
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE"),
    ("PMI_RANK", "PMI_SIZE", "MPI_LOCALNRANKS"),
    ("JSM_NAMESPACE_RANK", "JSM_NAMESPACE_SIZE", "JSM_NAMESPACE_LOCAL_SIZE"),
    ("PALS_RANKID", "PALS_SIZE", "PALS_LOCAL_SIZE"),
    ("FLUX_TASK_RANK", "FLUX_JOB_SIZE", "FLUX_LOCAL_SIZE"),
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_STEP_TASKS_PER_NODE"),
)


def launcher_facts(environment: Mapping[str, str]) -> tuple[int, int, int]:
    """What the launcher told this process: rank, size and ranks on this node.

    Args:
        environment: the variables to read.

    Returns:
        (rank, size, local_size); (0, 1, 1) where no launcher said anything, and the whole size
        as local size where the launcher does not say that in one number.

    Example:
        >>> launcher_facts({"PMI_RANK": "3", "PMI_SIZE": "8", "MPI_LOCALNRANKS": "4"})
        (3, 8, 4)
        >>> launcher_facts({})
        (0, 1, 1)
    """
    for rank, size, _ in LAUNCHER_VARIABLES:
        if rank in environment:
            total = max(1, _number(environment.get(size), 1))
            # Any row's: srun sets PMI_RANK, but only Slurm's own variable says what a node has.
            local = (_number(environment.get(name), 0) for *_, name in LAUNCHER_VARIABLES)
            return _number(environment[rank], 0), total, next(filter(None, local), total)
    return 0, 1, 1


def _number(text: str | None, otherwise: int) -> int:
    # Slurm writes "4(x2)" for four on each of two nodes.
    match = re.match(r"\d+", text or "")
    return int(match[0]) if match else otherwise


def left_s(environment: Mapping[str, str]) -> float:
    """How long a rank that has left is waited for until that is the job's failure.

    Args:
        environment: the variables to read.

    Raises:
        LaunchError: what stands there is no number of seconds above 0.
    """
    text = environment.get(LEFT_S, "5")
    if not re.fullmatch(r"\d+(\.\d*)?|\.\d+", text) or not float(text):
        raise LaunchError(f"{LEFT_S}={text!r}, expected a number of seconds above 0")
    return float(text)


def share_of_threads(environment: Mapping[str, str], cores: int, local_size: int) -> dict[str, str]:
    """The thread settings that keep the ranks of one node from crowding each other out.

    Without them every rank starts as many threads as the node has cores, and the ranks wait for
    each other's threads in every step.

    Args:
        environment: the variables that the user set; what stands there is never changed.
        cores: cores that this node's ranks may use together.
        local_size: ranks on this node.

    Returns:
        The variables to add.

    Example:
        >>> share_of_threads({"OMP_NUM_THREADS": "3"}, cores=8, local_size=2)
        {'TF_NUM_INTRAOP_THREADS': '4'}
    """
    if local_size < 2:
        return {}
    share = str(max(1, cores // local_size))
    names = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")
    return {name: share for name in names if name not in environment}


def cores_of_this_node() -> int:
    """Cores that this process may use: a scheduler often grants fewer than the node has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
