"""Draw at which steps which ranks of a training are killed, kill them, and measure the cost."""

import random
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keras_candle.verification.attempt import (
    AttemptOutcome,
    Kill,
    ResumeTrial,
    StartRanks,
    TrainingCommand,
    newest_whole,
)
from keras_candle.verification.event_log import FIT, AttemptEvents, StepEvent

# More kills than these in one training make the cause of a difference hard to find.
_KILLS_A_ROUND = 4

JournalEvents = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Moment:
    """A step of the training, after which a rank can be killed.

    Args:
        directory: the run directory.
        step: number of steps that the run has taken.
        gap_s: seconds until the next step was over.
        saves: whether a checkpoint is due at this step.
    """

    directory: str
    step: int
    gap_s: float
    saves: bool


@dataclass(frozen=True)
class Course:
    """The steps and checkpoints of a training that is not killed.

    Args:
        moments: its steps.
        due: for each run directory the steps at which a checkpoint is due, rising.
        save_s: median time to write a checkpoint.
    """

    moments: Sequence[Moment]
    due: Mapping[str, Sequence[int]]
    save_s: float

    def least(self, directory: str, step: int) -> int:
        """Return the oldest step whose checkpoint may be the newest after a kill at `step`.

        When a step is over, all checkpoints that were due before it have been begun, and all of
        them but the last have been written.
        """
        before = [each for each in self.due[directory] if each < step]
        return before[-2] if len(before) > 1 else 0


def course_of(start: AttemptEvents, journals: Mapping[str, JournalEvents]) -> Course:
    """Reconstruct the course of a training that was not killed.

    Args:
        start: the event log of its attempt.
        journals: the journal events of each run directory.
    """
    steps, fits = start.steps(), start.lines(FIT)
    due = {name: sorted(_due(name, steps, fits, journals[name])) for name in start.directories}
    ends = [each.time_s for each in steps[1:]]
    gaps = [end - each.time_s for each, end in zip(steps, ends, strict=False)]
    gaps.append(statistics.median(gaps) if gaps else 0.0)
    moments = [
        Moment(each.directory, each.now, gap, each.now in due[each.directory])
        for each, gap in zip(steps, gaps, strict=True)
    ]
    saves = [
        event["seconds"]
        for events in journals.values()
        for event in events
        if event["event"] == "checkpoint"
    ]
    return Course(moments, due, statistics.median(saves) if saves else 0.0)


def _due(
    name: str, steps: Iterable[StepEvent], fits: JournalEvents, events: JournalEvents
) -> set[int]:
    """Return the steps due by steps, epochs or the end of a fit; those by time are unknown."""
    found = set()
    for step in steps:
        every = fits[step.fit]["cadence"]["every_steps"]
        if step.directory == name and every and step.now // every > step.before // every:
            found.add(step.now)
    own = [each for each in fits if each["directory"] == name]
    every_epochs = {each["number"]: each["cadence"]["every_epochs"] for each in own}
    epochs = [each for each in events if each["event"] == "epoch"]
    last = {each["fit"]: each["step"] for each in epochs}
    for epoch in epochs:
        every = every_epochs[epoch["fit"]]
        if (every and epoch["epoch"] % every == 0) or epoch["step"] == last[epoch["fit"]]:
            found.add(epoch["step"])
    return found


def draw_round(course: Course, kills: int, size: int, draws: random.Random) -> list[Kill]:
    """Draw the kills of one training, in their order.

    Half of the steps are those at which checkpoints are made, because writing one is short. The
    delay reaches to the next step, or to the end of the writing.

    Args:
        course: the training without kills.
        kills: the largest number of kills.
        size: number of ranks.
        draws: random generator.
    """
    moments = course.moments
    saving = [place for place, each in enumerate(moments) if each.saves]
    chosen: set[int] = set()
    for _ in range(min(kills, _KILLS_A_ROUND)):
        among = saving if saving and draws.random() < 0.5 else range(len(moments))
        chosen.add(draws.choice(among))
    found = []
    for place in sorted(chosen):
        moment = moments[place]
        longest_s = moment.gap_s + (course.save_s if moment.saves else 0.0)
        delay_s = round(draws.uniform(0, longest_s), 4)
        found.append(Kill(draws.randrange(size), moment.directory, moment.step, delay_s))
    return found


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
    start_ranks: StartRanks,
    place: Path,
    course: Course,
    planned: Iterable[Kill],
    print_line: Callable[[str], None],
) -> KillRound:
    """Start a training, kill it and restart it until it ends.

    Args:
        training: the command to start.
        start_ranks: starts its ranks.
        place: a folder; its name ends with the round's number.
        course: the training without kills.
        planned: its kills, in their order.
        print_line: gets a line for each kill.

    Raises:
        LaunchError: an attempt took longer than the timeout.
    """
    number = int(place.name.rpartition("-")[2])
    trial, killed, kills = (
        ResumeTrial(training, start_ranks, place),
        list[ExecutedKill](),
        iter(planned),
    )
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
