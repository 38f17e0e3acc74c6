"""One training in a copy of the user's folder, restarted after each kill."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from keras_candle.checkpoints.folder import CheckpointFolder
from keras_candle.folder_copy import copy_of_folder, map_into_copy
from keras_candle.launcher_messages import AUTO_SEED, PREPARE, VERIFY_RESUME
from keras_candle.run_directory import CHECKPOINTS
from keras_candle.verification.event_log import AttemptEvents, read_attempt

# The module whose prepare() the ranks call before the program begins.
RESUME_CHECK = "keras_candle.verification.resume_check"
# For programs that set no seed of their own.
SEED = 1


@dataclass(frozen=True)
class Kill:
    """A planned SIGKILL of one rank.

    Args:
        rank: the rank.
        directory: the run directory whose steps are counted.
        step: the rank is killed after this step.
        delay_s: and this delay.
    """

    rank: int
    directory: str
    step: int
    delay_s: float


@dataclass(frozen=True)
class TrainingCommand:
    """The command of a training: program, ranks, engine and timeout.

    Args:
        program: the script and its arguments, or "-m" and a module.
        size: number of ranks.
        engine: the engine's name; None leaves the choice to the program.
        auto: whether the program runs with --auto.
        timeout_s: after which an attempt is stopped.
    """

    program: tuple[str, ...]
    size: int
    engine: str | None
    auto: bool
    timeout_s: float | None


StartRanks = Callable[[TrainingCommand, Mapping[str, str]], tuple[int, bytes]]
"""Starts the ranks of a command, with these further environment variables, and waits for them.

Returns the job's exit code and its stderr; raises LaunchError when the timeout passed.
"""


def recording_variables(prepare: str) -> dict[str, str]:
    """Return the environment variables of ranks that are recorded.

    Args:
        prepare: the module whose prepare() each rank calls before the program begins.
    """
    level = os.environ.get("TF_CPP_MIN_LOG_LEVEL", "2")
    return {PREPARE: prepare, AUTO_SEED: str(SEED), "TF_CPP_MIN_LOG_LEVEL": level}


@dataclass(frozen=True)
class AttemptOutcome:
    """The outcome of one attempt of a training.

    Args:
        exit_code: the job's.
        events: the event log of its ranks.
        folder: the event log's folder.
        stderr: the job's stderr.
    """

    exit_code: int
    events: AttemptEvents
    folder: Path
    stderr: bytes

    @property
    def killed(self) -> bool:
        """Whether the planned kill happened before the program ended."""
        return self.exit_code != 0 and self.events.killed_s is not None


class ResumeTrial:
    """A training in a copy of the user's folder, which holds its run directories.

    Args:
        training: the command to start there.
        start_ranks: starts its ranks.
        place: an empty folder for the copy, the event logs and redirected files.

    Raises:
        LaunchError: the folder is too large to copy.
    """

    def __init__(self, training: TrainingCommand, start_ranks: StartRanks, place: Path) -> None:
        self._training, self._start_ranks, self._place = training, start_ranks, place
        self._original = Path.cwd().resolve()
        for name in ("files", "elsewhere"):
            (place / name).mkdir(parents=True)
        self._copy = copy_of_folder(self._original, place / "files", runs=False)
        self._starts = 0

    def start(self, kill: Kill | None = None) -> AttemptOutcome:
        """Run one attempt and wait until it has ended.

        Args:
            kill: the kill of one rank; None for none.

        Raises:
            LaunchError: the timeout passed.
        """
        self._starts += 1
        event_log = self._place / f"start-{self._starts}"
        event_log.mkdir()
        words = (map_into_copy(word, self._original, self._copy) for word in self._training.program)
        training = replace(self._training, program=tuple(words))
        exit_code, stderr = self._start_ranks(training, self._variables(event_log, kill))
        return AttemptOutcome(exit_code, read_attempt(event_log), event_log, stderr)

    def _variables(self, event_log: Path, kill: Kill | None) -> dict[str, str]:
        settings = {
            "original": str(self._original),
            "scratch": str(self._place / "files"),
            "elsewhere": str(self._place / "elsewhere"),
            "told": str(event_log),
            "seed": SEED,
            "kill": None if kill is None else asdict(kill),
        }
        return {**recording_variables(RESUME_CHECK), VERIFY_RESUME: json.dumps(settings)}


def newest_whole(directories: Mapping[str, Path]) -> tuple[dict[str, int], list[str]]:
    """Find the newest whole checkpoint of each run directory.

    Args:
        directories: by name.

    Returns:
        For each directory the step of its newest whole checkpoint, 0 without one; and a line for
        each damaged checkpoint.
    """
    newest: dict[str, int] = {}
    damage: list[str] = []
    for name, path in directories.items():
        folder = CheckpointFolder(path / CHECKPOINTS)
        newest[name] = folder.newest_whole(damage.append) or 0
    return newest, damage
