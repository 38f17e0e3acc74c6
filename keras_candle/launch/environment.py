"""Environment variables between the shell, the launcher and the ranks, and threads per rank."""

import os
import re
from collections.abc import Mapping

from keras_candle.errors import LaunchError

# keras_candle's own. `engine` reads the first; the rest pass between `candle run` and its ranks.
ENGINE = "KERAS_CANDLE_ENGINE"
ALL_OUTPUT = "KERAS_CANDLE_ALL_OUTPUT"
TERMINALS = "KERAS_CANDLE_TERMINALS"
STDIN = "KERAS_CANDLE_STDIN"
# Seconds for which ranks may wait for a rank whose program has ended, before the job fails.
LEFT_S = "KERAS_CANDLE_LEFT_S"
PREPARE = "KERAS_CANDLE_PREPARE"
# `training` reads this one, the code of `candle verify`, `candle verify-resume` and `candle
# audit-precision` in the ranks the next three, and the preparation of `candle run --auto` the last
# two.
OPTIONS = "KERAS_CANDLE_OPTIONS"
VERIFY = "KERAS_CANDLE_VERIFY"
VERIFY_RESUME = "KERAS_CANDLE_VERIFY_RESUME"
AUDIT_PRECISION = "KERAS_CANDLE_AUDIT_PRECISION"
AUTO_SEED = "KERAS_CANDLE_AUTO_SEED"
AUTO_STARTED_S = "KERAS_CANDLE_AUTO_STARTED_S"


def left_s(environment: Mapping[str, str]) -> float:
    """Return how long ranks may wait for a rank that has left, before the job fails.

    Args:
        environment: the variables to read.

    Raises:
        LaunchError: the variable is not a number of seconds above 0.
    """
    text = environment.get(LEFT_S, "5")
    if not re.fullmatch(r"\d+(\.\d*)?|\.\d+", text) or not float(text):
        raise LaunchError(f"{LEFT_S}={text!r}, expected a number of seconds above 0")
    return float(text)


def share_of_threads(environment: Mapping[str, str], cores: int, local_size: int) -> dict[str, str]:
    """Return the thread settings that divide a node's cores among its ranks.

    Without them every rank starts as many threads as the node has cores, and the ranks wait for
    each other's threads in every step.

    Args:
        environment: the user's variables, which are never changed.
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
    """Return the number of cores this process may use, often fewer than the node has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
