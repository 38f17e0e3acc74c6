"""One training in a copy of the user's folder, started as often as it is killed."""

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from keras_candle.checkpoints.folder import CheckpointFolder
from keras_candle.launch import environment
from keras_candle.launch.kill_plan import Kill
from keras_candle.launch.local import Job, JobLauncher
from keras_candle.launch.run import auto_variables
from keras_candle.launch.scratch import copy_of_folder, led_inside
from keras_candle.run_directory import CHECKPOINTS
from keras_candle.verification.event_log import AttemptEvents, read_attempt

# The room of which the ranks call prepare() before the program begins, and which compares.
RESUME_CHECK = "keras_candle.verification.resume_check"
# For programs that set no seed of their own.
SEED = 1


@dataclass(frozen=True)
class TrainingCommand:
    """What is started.

    Args:
        program: the script and its arguments, or "-m" and a module.
        size: number of ranks.
        engine: the engine's name; None leaves the choice to the program.
        auto: whether the models of a program that does not do it are scaled.
        timeout_s: after which a start is stopped.
    """

    program: tuple[str, ...]
    size: int
    engine: str | None
    auto: bool
    timeout_s: float | None


@dataclass(frozen=True)
class AttemptOutcome:
    """One start of a trial.

    Args:
        exit_code: the job's.
        events: of its ranks.
        folder: where that is.
        said: what stood on the ranks' stderr.
    """

    exit_code: int
    events: AttemptEvents
    folder: Path
    said: bytes

    @property
    def killed(self) -> bool:
        """Whether a rank was killed, as planned, before the program ended."""
        return self.exit_code != 0 and self.events.killed_s is not None


class ResumeTrial:
    """A copy of the folder, and the run directories in it.

    Args:
        training: what is started there.
        place: an empty folder for all of it.

    Raises:
        LaunchError: the folder is too large to copy.
    """

    def __init__(self, training: TrainingCommand, place: Path) -> None:
        self._training, self._place = training, place
        self._original = Path.cwd().resolve()
        for name in ("files", "elsewhere"):
            (place / name).mkdir(parents=True)
        self._copy = copy_of_folder(self._original, place / "files", runs=False)
        self._starts = 0

    def start(self, kill: Kill | None = None) -> AttemptOutcome:
        """Start the program, and wait until it has ended.

        Args:
            kill: of one rank; None for none.

        Raises:
            LaunchError: the timeout passed.
        """
        self._starts += 1
        told = self._place / f"start-{self._starts}"
        told.mkdir()
        said: list[bytes] = []
        training = self._training
        program = tuple(led_inside(each, self._original, self._copy) for each in training.program)
        job = Job(
            training.size, program, engine=training.engine, variables=self._variables(told, kill)
        )
        with tempfile.TemporaryFile() as printed:
            exit_code = JobLauncher(job, said.append).run(printed.fileno(), training.timeout_s)
        return AttemptOutcome(exit_code, read_attempt(told), told, b"".join(said))

    def _variables(self, told: Path, kill: Kill | None) -> dict[str, str]:
        settings = {
            "original": str(self._original),
            "scratch": str(self._place / "files"),
            "elsewhere": str(self._place / "elsewhere"),
            "told": str(told),
            "seed": SEED,
            "kill": None if kill is None else asdict(kill),
        }
        prepare = {environment.PREPARE: RESUME_CHECK, environment.AUTO_SEED: str(SEED)}
        return {
            **(auto_variables(prepare) if self._training.auto else prepare),
            environment.VERIFY_RESUME: json.dumps(settings),
            "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "2"),
        }


def newest_whole(directories: Mapping[str, Path]) -> tuple[dict[str, int], list[str]]:
    """What lies in run directories now.

    Args:
        directories: by name.

    Returns:
        For each the step of its newest whole checkpoint, 0 without one; and for each checkpoint
        that is damaged a line.
    """
    newest: dict[str, int] = {}
    damage: list[str] = []
    for name, path in directories.items():
        folder = CheckpointFolder(path / CHECKPOINTS)
        newest[name] = folder.newest_whole(damage.append) or 0
    return newest, damage
