"""Trainings that are killed and started again until they end, and what each kill cost."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keras_candle.launch.kill_plan import Course, Kill
from keras_candle.launch.trial import AttemptOutcome, ResumeTrial, TrainingCommand, newest_whole
from keras_candle.verification.event_log import FIT


@dataclass
class ExecutedKill:
    """A kill that took place.

    Attributes:
        kill: as it was planned.
        round: of which training, from 1.
        directory: the run directory that lost most.
        reached: the steps that its run had taken.
        newest: the step of its newest whole checkpoint, 0 without one.
        least: which step the asked cadence makes one expect there.
        went_on: the step from which the next start went on; None where it took no step there.
        lost_s: how long the steps took that were lost.
        damage: a line for each damaged checkpoint of any run directory.
    """

    kill: Kill
    round: int
    directory: str
    reached: int
    newest: int
    least: int
    lost_s: float
    damage: list[str]
    went_on: int | None = None

    @property
    def lost(self) -> int:
        """Steps that had to be taken again."""
        return self.reached - (self.newest if self.went_on is None else self.went_on)

    def problems(self) -> list[str]:
        """What is not as it should be after it, in sentences."""
        after = f"killed after step {self.reached} of {self.directory}"
        found = [f"{after}, {line}" for line in self.damage]
        if self.newest < self.least:
            found.append(
                f"{after}, its newest whole checkpoint was that of step {self.newest}, where that "
                f"of step {self.least} or a later one had to be there"
            )
        if self.went_on not in (None, self.newest):
            found.append(
                f"{after}, the next start went on from step {self.went_on}, and not from the "
                f"checkpoint of step {self.newest}"
            )
        return found


@dataclass
class KillRound:
    """One training, killed and started again until it ended.

    Attributes:
        number: from 1.
        killed: its kills, in their order.
        last: its last start; where that failed, `failure` says how.
        failure: why the program ended by itself before it was done; empty if it did not.
        compared: what `python -m keras_candle.verification.compare_resumes` says of its end.
    """

    number: int
    killed: list[ExecutedKill]
    last: AttemptOutcome
    failure: str = ""
    compared: dict[str, Any] = field(default_factory=dict)

    def problems(self) -> list[str]:
        """What is not as it should be, but for how it ended, in sentences."""
        found = [line for each in self.killed for line in each.problems()]
        return [*found, self.failure] if self.failure else found


def run_round(
    training: TrainingCommand,
    place: Path,
    course: Course,
    planned: Iterable[Kill],
    tell: Callable[[str], None],
) -> KillRound:
    """Start a training, kill it, start it again, until it ends.

    Args:
        training: what is started.
        place: where; its name ends with the round's number.
        course: what it does without kills.
        planned: its kills, in their order.
        tell: gets a line for each kill.

    Raises:
        LaunchError: a start took too long.
    """
    number = int(place.name.rpartition("-")[2])
    trial, killed, kills = ResumeTrial(training, place), list[ExecutedKill](), iter(planned)
    while True:
        kill = next(kills, None)
        ended = trial.start(kill)
        if killed:
            _record_attempt(killed[-1], ended)
        if kill is None or not ended.killed:
            break
        killed.append(_killed(kill, number, ended, course))
        last = killed[-1]
        tell(
            f"round {number}: killed rank {kill.rank} after step {last.reached} of "
            f"{last.directory}, newest checkpoint {last.newest}"
        )
    failure = ""
    if ended.exit_code:
        failure = (
            f"round {number}: after {len(killed)} of its kills the program ended by itself with "
            f"code {ended.exit_code}, see above"
        )
    return KillRound(number, killed, ended, failure)


def _record_attempt(killed: ExecutedKill, ended: AttemptOutcome) -> None:
    steps = [each for each in ended.events.steps() if each.directory == killed.directory]
    if steps:
        killed.went_on = steps[0].before


def _killed(kill: Kill, number: int, ended: AttemptOutcome, course: Course) -> ExecutedKill:
    """What a kill left, in the run directory that lost most."""
    told = ended.events
    newest, damage = newest_whole(told.directories)
    steps = [each for rank in told.ranks for each in told.steps(rank)]
    reached = {
        name: max([newest[name], *(each.now for each in steps if each.directory == name)])
        for name in told.directories
    }
    worst = max(reached, key=lambda name: reached[name] - newest[name])
    began_s = [each["time_s"] for each in told.lines(FIT)]
    saved = (worst, newest[worst])
    saved_s = [each.time_s for each in steps if (each.directory, each.now) == saved]
    lost_s = (told.killed_s or 0.0) - max(saved_s or began_s)
    return ExecutedKill(
        kill,
        number,
        worst,
        reached[worst],
        newest[worst],
        course.least(worst, reached[worst]),
        lost_s if reached[worst] > newest[worst] else 0.0,
        damage,
    )
