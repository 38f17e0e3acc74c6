"""One search as its folder tells it: what was asked for, its trials, what they gave and cost."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from keras_candle.report.quantities import exact

COMPLETED, FAILED = "COMPLETED", "FAILED"
# What no hyperparameter explains by itself, among the parts that matter.
INTERACTIONS = "interactions"
# With more trials the charts would be slow, and black.
MOST_DRAWN = 1000


@dataclass(frozen=True)
class Objective:
    """What is searched for.

    Attributes:
        smaller_is_better: whether it is to be minimised.
    """

    name: str
    smaller_is_better: bool = True

    def sign(self) -> int:
        """By what a value is multiplied so that less is better."""
        return 1 if self.smaller_is_better else -1


@dataclass(frozen=True)
class Parameter:
    """A hyperparameter of the space.

    Attributes:
        choices: its values where they have no scale: of a choice or a switch.
        log: whether its scale is logarithmic; None where nothing tells.
    """

    name: str
    choices: tuple[Any, ...] = ()
    log: bool | None = None


@dataclass(frozen=True)
class ReportedTrial:
    """One trial.

    Attributes:
        objectives: one for each of the search's; None where there is none.
        measured: every metric's best value, by name.
        cost: what the search counts as its cost.
        host: on which its group's first rank ran; empty where nothing tells.
        message: the last line of the error that it ended with.
        started_s: in seconds since the epoch; None where nothing tells.
    """

    name: str
    status: str
    values: dict[str, Any]
    objectives: tuple[float | None, ...] = (None,)
    measured: dict[str, float] = field(default_factory=dict)
    cost: float | None = None
    group: int | None = None
    subspace: int | None = None
    started_s: float | None = None
    ended_s: float | None = None
    message: str = ""
    host: str = ""

    @property
    def objective(self) -> float | None:
        """The first one's value."""
        return self.objectives[0] if self.objectives else None


@dataclass
class Search:
    """One search; its lists don't change once it was read.

    Attributes:
        path: its folder.
        name: by which the report calls it.
        number: its place among the report's searches, from 0.
        objectives: the first one counts where one is shown.
        cost: the name of what is counted as cost.
        max_cost: trials above it stand behind all others; None: no limit, or none told of yet.
        parameters: of its space, and others that its trials have, in order.
        trials: by their names.
        importance: name to part of the variance, the largest first; empty where it is not known.
        forest_told: whether that is what the search's forest tells, else each one's effect alone.
        missing: sentences on what could not be read.
    """

    path: Path
    name: str
    number: int = 0
    objectives: tuple[Objective, ...] = (Objective("score"),)
    cost: str = "cost"
    max_cost: float | None = None
    parameters: list[Parameter] = field(default_factory=list)
    trials: list[ReportedTrial] = field(default_factory=list)
    importance: dict[str, float] = field(default_factory=dict)
    forest_told: bool = False
    missing: list[str] = field(default_factory=list)

    @cached_property
    def completed(self) -> list[ReportedTrial]:
        """The trials with a result, the best first."""
        sign = self.objectives[0].sign()
        whole = [each for each in self.trials if each.objective is not None]
        return sorted(
            whole,
            key=lambda each: (self.is_dear(each), sign * (each.objective or 0.0), each.name),
        )

    def is_dear(self, trial: ReportedTrial) -> bool:
        """Whether a trial is above the limit of the cost."""
        if self.max_cost is None or trial.cost is None:
            return False
        return trial.cost > self.max_cost

    @property
    def best_text(self) -> str:
        """The best trial in a few words; empty where there is no result."""
        best = next(iter(self.completed), None)
        if best is None or best.objective is None:
            return ""
        return f"{self.objectives[0].name} {exact(best.objective)} (trial {best.name})"

    def describe(self, trial: ReportedTrial) -> str:
        """A trial and its result in a line."""
        pairs = zip(self.objectives, trial.objectives, strict=False)
        values = [f"{each.name} {exact(value)}" for each, value in pairs if value is not None]
        return f"trial {trial.name}: {', '.join(values) or trial.status.lower()}"

    def key(self, trial: ReportedTrial) -> str:
        """By which the page's script knows a trial."""
        return f"{self.number}:{trial.name}"

    @cached_property
    def drawn(self) -> frozenset[str]:
        """The trials that charts show: all, or of very many the best and some of the others."""
        if len(self.trials) <= MOST_DRAWN:
            return frozenset(each.name for each in self.trials)
        best = [each.name for each in self.completed[: MOST_DRAWN // 2]]
        chosen = set(best)
        others = [each.name for each in self.trials if each.name not in chosen]
        every = -(-len(others) // (MOST_DRAWN - len(best)))
        return frozenset([*best, *others[::every]])

    @cached_property
    def quality(self) -> dict[str, str]:
        """The style in which each trial is drawn, by name: from q0, the best eighth, to q7."""
        whole = self.completed
        styles = {each.name: f"q{8 * place // len(whole)}" for place, each in enumerate(whole)}
        return {**dict.fromkeys((each.name for each in self.failed), "failed"), **styles}

    @cached_property
    def first_s(self) -> float | None:
        """When its first trial began, in seconds since the epoch; None where nothing tells."""
        return min(
            (each.started_s for each in self.trials if each.started_s is not None), default=None
        )

    @cached_property
    def failed(self) -> list[ReportedTrial]:
        """Those that failed."""
        return [each for each in self.trials if each.status == FAILED]

    @cached_property
    def ended(self) -> list[ReportedTrial]:
        """The trials that gave a result or failed, by the time of their end, else by name."""
        over = [each for each in self.trials if each.objective is not None or each.status == FAILED]
        return sorted(over, key=lambda each: (each.ended_s or 0.0, each.name))
