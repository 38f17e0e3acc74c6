"""Kill and restart a training until it ends, and measure what each kill cost."""

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
        kill: as planned.
        round: number of its training, from 1.
        directory: the run directory that lost most steps.
        reached: the steps that its run had taken.
        newest: the step of its newest whole checkpoint, 0 without one.
        least: the oldest step that the checkpoint cadence allows there.
        went_on: the step from which the next attempt resumed; None where it took no step there.
        lost_s: duration of the lost steps.
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
        """Number of steps that had to be repeated."""
        return self.reached - (self.newest if self.went_on is None else self.went_on)

    def problems(self) -> list[str]:
        """Describe each violation after this kill in a sentence."""
        after = f"killed after step {self.reached} of {self.directory}"
        found = [f"{after}, {line}" for line in self.damage]
        if self.newest < self.least:
            found.append(
                f"{after}, its newest whole checkpoint was that of step {self.newest}, where that "
                f"of step {self.least} or a later one was expected"
            )
        if self.went_on not in (None, self.newest):
            found.append(
                f"{after}, the next attempt resumed from step {self.went_on}, and not from the "
                f"checkpoint of step {self.newest}"
            )
        return found


@dataclass
class KillRound:
    """One training, killed and restarted until it ended.

    Attributes:
        number: from 1.
        killed: its kills, in their order.
        last: the outcome of its last attempt.
        failure: why the last attempt failed without a kill; empty if it did not.
        compared: the output of `python -m keras_candle.verification.compare_resumes` for its end.
    """

    number: int
    killed: list[ExecutedKill]
    last: AttemptOutcome
    failure: str = ""
    compared: dict[str, Any] = field(default_factory=dict)

    def problems(self) -> list[str]:
        """Describe each violation but a difference of the final state in a sentence."""
        found = [line for each in self.killed for line in each.problems()]
        return [*found, self.failure] if self.failure else found


def run_round(
    training: TrainingCommand,
    place: Path,
    course: Course,
    planned: Iterable[Kill],
    print_line: Callable[[str], None],
) -> KillRound:
    """Start a training, kill it and restart it until it ends.

    Args:
        training: the command to start.
        place: a folder; its name ends with the round's number.
        course: the training without kills.
        planned: its kills, in their order.
        print_line: gets a line for each kill.

    Raises:
        LaunchError: an attempt took longer than the timeout.
    """
    number = int(place.name.rpartition("-")[2])
    trial, killed, kills = ResumeTrial(training, place), list[ExecutedKill](), iter(planned)
    while True:
        kill = next(kills, None)
        outcome = trial.start(kill)
        if killed:
            _record_attempt(killed[-1], outcome)
        if kill is None or not outcome.killed:
            break
        killed.append(_killed(kill, number, outcome, course))
        last = killed[-1]
        print_line(
            f"round {number}: killed rank {kill.rank} after step {last.reached} of "
            f"{last.directory}, newest checkpoint {last.newest}"
        )
    failure = ""
    if outcome.exit_code:
        failure = (
            f"round {number}: after {len(killed)} of its kills the program ended by itself with "
            f"code {outcome.exit_code}, see above"
        )
    return KillRound(number, killed, outcome, failure)


def _record_attempt(killed: ExecutedKill, outcome: AttemptOutcome) -> None:
    steps = [each for each in outcome.events.steps() if each.directory == killed.directory]
    if steps:
        killed.went_on = steps[0].before


def _killed(kill: Kill, number: int, outcome: AttemptOutcome, course: Course) -> ExecutedKill:
    """Measure the loss of a kill, in the run directory that lost most steps."""
    events = outcome.events
    newest, damage = newest_whole(events.directories)
    steps = [each for rank in events.ranks for each in events.steps(rank)]
    reached = {
        name: max([newest[name], *(each.now for each in steps if each.directory == name)])
        for name in events.directories
    }
    worst = max(reached, key=lambda name: reached[name] - newest[name])
    begun_s = [each["time_s"] for each in events.lines(FIT)]
    saved = (worst, newest[worst])
    saved_s = [each.time_s for each in steps if (each.directory, each.now) == saved]
    lost_s = (events.killed_s or 0.0) - max(saved_s or begun_s)
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
