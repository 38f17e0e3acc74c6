"""Environment variables between the shell, the launcher and the ranks, and threads per rank."""

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
