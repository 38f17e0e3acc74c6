"""Groups of ranks that run a trial together and agree on its final status."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from keras_candle import engine as engines
from keras_candle.cluster import launchers
from keras_candle.engine.base import Engine
from keras_candle.engine.single import SingleEngine
from keras_candle.errors import SearchError
from keras_candle.launcher_messages import array_element


@dataclass(frozen=True)
class Group:
    """A group of ranks that runs one trial at a time.

    Attributes:
        number: of this group, from 0.
        count: the number of groups.
        ranks: the number of ranks in this group.
        elements: the elements of the job array that the groups belong to, an equal part to each;
            1 without an array.
    """

    number: int = 0
    count: int = 1
    ranks: int = 1
    elements: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the first group of its array element, or of all groups."""
        return self.number % (self.count // self.elements) == 0


def join(ranks_per_trial: int) -> tuple[Group, Engine]:
    """Join this process's group and connect its ranks with an engine.

    Groups of one rank need no MPI between them, so that one can die without ending the others.

    Args:
        ranks_per_trial: the number of ranks in each group.

    Returns:
        The group, and its engine.

    Raises:
        SearchError: when `ranks_per_trial` does not divide the number of ranks.
        LaunchError: when the variable of the array element has another form.
        EngineError: when the ranks cannot connect.
    """
    if not isinstance(ranks_per_trial, int) or ranks_per_trial < 1:
        raise SearchError(f"ranks_per_trial={ranks_per_trial!r}, expected a number from 1.")
    rank, size = rank_and_size(os.environ)
    if size % ranks_per_trial:
        raise SearchError(
            f"ranks_per_trial={ranks_per_trial}, but there are {size} ranks, which cannot be "
            f"divided into groups of {ranks_per_trial}. Start a multiple: candle run -np "
            f"{ranks_per_trial * max(1, size // ranks_per_trial)} script.py"
        )
    element, elements = array_element(os.environ)
    here = size // ranks_per_trial
    number = element * here + rank // ranks_per_trial
    group = Group(number, elements * here, ranks_per_trial, elements)
    if ranks_per_trial == 1:
        engine: Engine = SingleEngine()
        engine.local_rank = launchers.rank_facts(os.environ).local_rank
        engine.local_size = size
        return group, engine
    world = engines.current()
    connected = world if world.name == "mpi" else engines.make("mpi")
    engine = connected.split(group.number)
    # With several groups on a node, the local rank among all of them chooses the device.
    engine.local_rank, engine.local_size = world.local_rank, world.local_size
    return group, engine


def agree_on_end(engine: Engine, status: str, message: str) -> tuple[str, str | None]:
    """Agree on a trial's final status: that of the first rank that failed on its own.

    Args:
        engine: the group's; all of its ranks call this.
        status: on this rank: COMPLETED, INVALID or FAILED.
        message: this rank's error message.

    Returns:
        The status and the message for the group, the same on all ranks.
    """
    problem = "" if status == "COMPLETED" else f"{status}\n{message}"
    problems = list(filter(None, engine.meet_again(problem)))
    if not problems:
        return "COMPLETED", None
    cause = next((each for each in problems if "EngineError: rank" not in each), problems[0])
    status, _, message = cause.partition("\n")
    return status, message


def rank_and_size(environ: Mapping[str, str]) -> tuple[int, int]:
    """Return this process's rank and the number of ranks, from its launcher's variables.

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
