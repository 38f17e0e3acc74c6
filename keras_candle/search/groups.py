"""Which ranks run a trial together, and how they agree on its end."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from keras_candle import engine as engines
from keras_candle.cluster import launchers
from keras_candle.engine.base import Engine
from keras_candle.engine.single import SingleEngine
from keras_candle.errors import SearchError


@dataclass(frozen=True)
class Group:
    """The ranks that run one trial, among all groups of a search.

    Attributes:
        number: of this group, from 0.
        count: of groups.
        ranks: of this group.
    """

    number: int = 0
    count: int = 1
    ranks: int = 1


def join(ranks_per_trial: int) -> tuple[Group, Engine]:
    """The group that this process belongs to, and the engine that connects its ranks.

    Groups of one rank need no MPI between them, so each may end without taking others with it.

    Args:
        ranks_per_trial: ranks of each group.

    Returns:
        The group, and its engine.

    Raises:
        SearchError: when the ranks cannot be divided so.
        EngineError: when the ranks do not find each other.
    """
    if not isinstance(ranks_per_trial, int) or ranks_per_trial < 1:
        raise SearchError(f"ranks_per_trial={ranks_per_trial!r}, expected a number from 1.")
    rank, size = place(os.environ)
    if size % ranks_per_trial:
        raise SearchError(
            f"ranks_per_trial={ranks_per_trial}, but there are {size} ranks, which cannot be "
            f"divided into groups of {ranks_per_trial}. Start a multiple: candle run -np "
            f"{ranks_per_trial * max(1, size // ranks_per_trial)} script.py"
        )
    group = Group(rank // ranks_per_trial, size // ranks_per_trial, ranks_per_trial)
    if ranks_per_trial == 1:
        engine: Engine = SingleEngine()
        engine.local_rank = launchers.rank_facts(os.environ).local_rank
        engine.local_size = size
        return group, engine
    world = engines.current()
    connected = world if world.name == "mpi" else engines.make("mpi")
    engine = connected.split(group.number)
    # On a node with several groups a rank's device goes by its number among all of them.
    engine.local_rank, engine.local_size = world.local_rank, world.local_size
    return group, engine


def agree_on_end(engine: Engine, status: str, message: str) -> tuple[str, str | None]:
    """How a trial ended on a group: as on the first rank that failed by itself.

    Args:
        engine: the group's; all of its ranks call this.
        status: how it ended on this rank: COMPLETED, INVALID or FAILED.
        message: what this rank tells of a failure.

    Returns:
        The status and the message for the group, the same on all ranks.
    """
    problem = "" if status == "COMPLETED" else f"{status}\n{message}"
    problems = list(filter(None, engine.meet_again(problem)))
    if not problems:
        return "COMPLETED", None
    told = next((each for each in problems if "EngineError: rank" not in each), problems[0])
    status, _, message = told.partition("\n")
    return status, message


def place(environ: Mapping[str, str]) -> tuple[int, int]:
    """This process's rank and the number of ranks, as its launcher told it.

    Args:
        environ: the environment variables.
    """
    launcher = launchers.detect(environ)
    if launcher is None:
        if launchers.may_have_launcher(environ):
            world = engines.current()
            return world.rank, world.size
        return 0, 1
    return int(environ.get(launcher.rank, "0")), int(environ[launcher.size])
