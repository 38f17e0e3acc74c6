"""When which rank of a training is killed: pure functions of what it did without kills."""

import random
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from keras_candle.verification.event_log import FIT, AttemptEvents, StepEvent

# More kills than these in one training, and it says less of each.
_KILLS_A_ROUND = 4

Notes = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Kill:
    """SIGKILL for one rank.

    Args:
        rank: the rank.
        directory: the run directory whose steps are counted.
        step: the rank waits for this step.
        delay_s: and then for so long.
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
        step: how many the run has taken.
        gap_s: until the next one was over.
        saves: whether a checkpoint is made then.
    """

    directory: str
    step: int
    gap_s: float
    saves: bool


@dataclass(frozen=True)
class Course:
    """What a training does when nothing kills it.

    Args:
        moments: its steps.
        due: for each run directory the steps at which a checkpoint is due, rising.
        save_s: how long a checkpoint is written, the median.
    """

    moments: Sequence[Moment]
    due: Mapping[str, Sequence[int]]
    save_s: float

    def least(self, directory: str, step: int) -> int:
        """The step whose checkpoint must be there when a run is killed after so many steps.

        When a step is over, all checkpoints that were due before it have been begun, and all of
        them but the last have been written.
        """
        before = [each for each in self.due[directory] if each < step]
        return before[-2] if len(before) > 1 else 0


def course_of(start: AttemptEvents, notes: Mapping[str, Notes]) -> Course:
    """The course of a training that was not killed.

    Args:
        start: what its ranks told.
        notes: the journals of its run directories.
    """
    steps, fits = start.steps(), start.lines(FIT)
    due = {name: sorted(_due(name, steps, fits, notes[name])) for name in start.directories}
    ends = [each.time_s for each in steps[1:]]
    gaps = [end - each.time_s for each, end in zip(steps, ends, strict=False)]
    gaps.append(statistics.median(gaps) if gaps else 0.0)
    moments = [
        Moment(each.directory, each.now, gap, each.now in due[each.directory])
        for each, gap in zip(steps, gaps, strict=True)
    ]
    saves = [
        note["seconds"] for each in notes.values() for note in each if note["event"] == "checkpoint"
    ]
    return Course(moments, due, statistics.median(saves) if saves else 0.0)


def _due(name: str, steps: Iterable[StepEvent], fits: Notes, notes: Notes) -> set[int]:
    """Due by steps, by epochs, and at the end of a fit; what is due by the clock is not known."""
    found = set()
    for step in steps:
        every = fits[step.fit]["cadence"]["every_steps"]
        if step.directory == name and every and step.now // every > step.before // every:
            found.add(step.now)
    own = [each for each in fits if each["directory"] == name]
    every_epochs = {each["number"]: each["cadence"]["every_epochs"] for each in own}
    epochs = [each for each in notes if each["event"] == "epoch"]
    last = {each["fit"]: each["step"] for each in epochs}
    for epoch in epochs:
        every = every_epochs[epoch["fit"]]
        if (every and epoch["epoch"] % every == 0) or epoch["step"] == last[epoch["fit"]]:
            found.add(epoch["step"])
    return found


def draw_round(course: Course, kills: int, size: int, draws: random.Random) -> list[Kill]:
    """Kills of one training, in their order.

    Half of the steps are those at which checkpoints are made, for those are over soon. The delay
    reaches to the next step, and there to the end of the writing.

    Args:
        course: what the training does.
        kills: the largest number of kills.
        size: number of ranks.
        draws: at random.
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
