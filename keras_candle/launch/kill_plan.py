"""Draw at which steps which ranks of a training are killed, from its timing without kills."""

import random
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from keras_candle.verification.event_log import FIT, AttemptEvents, StepEvent

# More kills than these in one training make the cause of a difference hard to find.
_KILLS_A_ROUND = 4

JournalEvents = Sequence[Mapping[str, Any]]


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
