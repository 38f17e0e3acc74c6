"""Environment variables shared by the shell, the launcher and the ranks, and threads per rank."""

import os
import re
from collections.abc import Mapping

from keras_candle.errors import LaunchError

# What `candle run` passes to its ranks.
ALL_OUTPUT = "KERAS_CANDLE_ALL_OUTPUT"
TERMINALS = "KERAS_CANDLE_TERMINALS"
STDIN = "KERAS_CANDLE_STDIN"
# How long ranks wait for one whose program has ended before the job fails.
LEFT_S = "KERAS_CANDLE_LEFT_S"


def left_s(environment: Mapping[str, str]) -> float:
    """Return how long ranks wait for one that has left before the job fails, in seconds.

    Args:
        environment: the variables to read.

    Raises:
        LaunchError: the value is not a number of seconds above 0.
    """
    text = environment.get(LEFT_S, "5")
    if not re.fullmatch(r"\d+(\.\d*)?|\.\d+", text) or not float(text):
        raise LaunchError(f"{LEFT_S}={text!r}, expected a number of seconds above 0")
    return float(text)


def thread_settings(environment: Mapping[str, str], cores: int, local_size: int) -> dict[str, str]:
    """Return thread settings that divide a node's cores among its ranks.

    Without them every rank starts as many threads as the node has cores, and the ranks compete
    for the cores in every step.

    Args:
        environment: the variables that the user set; they are never overridden.
        cores: cores that this node's ranks may use together.
        local_size: ranks on this node.

    Returns:
        The variables to add.

    Example:
        >>> thread_settings({"OMP_NUM_THREADS": "3"}, cores=8, local_size=2)
        {'TF_NUM_INTRAOP_THREADS': '4'}
    """
    if local_size < 2:
        return {}
    threads = str(max(1, cores // local_size))
    names = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")
    return {name: threads for name in names if name not in environment}


def cores_of_this_node() -> int:
    """Return the cores that this process may use; a scheduler may grant fewer than the node has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
