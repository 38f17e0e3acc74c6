"""The reported search: its objectives, hyperparameters and trials, read from its folder."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from keras_candle.report.quantities import exact

COMPLETED, FAILED = "COMPLETED", "FAILED"
# The name of the part of the importance that no hyperparameter explains by itself.
INTERACTIONS = "interactions"
# With more trials the charts would be slow and unreadable.
MOST_DRAWN = 1000


@dataclass(frozen=True)
class Objective:
    """An objective of a search.

    Attributes:
        smaller_is_better: whether it is minimised.
    """

    name: str
    smaller_is_better: bool = True

    def sign(self) -> int:
        """Return the factor that makes it an objective to minimise."""
        return 1 if self.smaller_is_better else -1


@dataclass(frozen=True)
class Parameter:
    """A hyperparameter of the space.

    Attributes:
        choices: its values, if they have no scale: of a Choice or a Boolean.
        log: whether its scale is logarithmic; None if unknown.
    """

    name: str
    choices: tuple[Any, ...] = ()
    log: bool | None = None


@dataclass(frozen=True)
class ReportedTrial:
    """A trial, read from its search's folder.

    Attributes:
        objectives: one value for each of the search's objectives; None without a result.
        measured: every metric's best value, by name.
        cost: its cost in the search.
        host: the host of its group's first rank; empty if unknown.
        message: the last line of its error message.
        started_s: in seconds since the epoch; None if unknown.
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
        """The value of the first objective."""
        return self.objectives[0] if self.objectives else None


@dataclass
class Search:
    """A search, read from its folder; its lists don't change after reading.

    Attributes:
        path: its folder.
        name: its name in the report.
        number: its index among the report's searches, from 0.
        objectives: charts of a single objective show the first one.
        cost: the name of the cost.
        max_cost: trials above it rank last; None: no limit, or not recorded yet.
        parameters: of its space, and further ones of its trials, in order.
        trials: by their names.
        importance: name to part of the variance, the largest first; empty if unknown.
        from_forest: whether the importance is from the search's forest, else from each
            hyperparameter alone.
        missing: sentences on missing and damaged files.
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
    from_forest: bool = False
    missing: list[str] = field(default_factory=list)

    @cached_property
    def completed(self) -> list[ReportedTrial]:
        """The trials with a result, the best first."""
        sign = self.objectives[0].sign()
        whole = [each for each in self.trials if each.objective is not None]
        return sorted(
            whole,
            key=lambda each: (
                self.exceeds_max_cost(each),
                sign * (each.objective or 0.0),
                each.name,
            ),
        )

    def exceeds_max_cost(self, trial: ReportedTrial) -> bool:
        """Return whether a trial's cost is above `max_cost`."""
        if self.max_cost is None or trial.cost is None:
            return False
        return trial.cost > self.max_cost

    @property
    def best_text(self) -> str:
        """The best trial in a few words; empty without a result."""
        best = next(iter(self.completed), None)
        if best is None or best.objective is None:
            return ""
        return f"{self.objectives[0].name} {exact(best.objective)} (trial {best.name})"

    def describe(self, trial: ReportedTrial) -> str:
        """Describe a trial and its result in one line."""
        pairs = zip(self.objectives, trial.objectives, strict=False)
        values = [f"{each.name} {exact(value)}" for each, value in pairs if value is not None]
        return f"trial {trial.name}: {', '.join(values) or trial.status.lower()}"

    def key(self, trial: ReportedTrial) -> str:
        """Return a trial's key for the page's script."""
        return f"{self.number}:{trial.name}"

    @cached_property
    def drawn(self) -> frozenset[str]:
        """The names of the trials that charts show: all, or of very many the best and a sample."""
        if len(self.trials) <= MOST_DRAWN:
            return frozenset(each.name for each in self.trials)
        best = [each.name for each in self.completed[: MOST_DRAWN // 2]]
        chosen = set(best)
        rest = [each.name for each in self.trials if each.name not in chosen]
        every = -(-len(rest) // (MOST_DRAWN - len(best)))
        return frozenset([*best, *rest[::every]])

    @cached_property
    def quality(self) -> dict[str, str]:
        """The style class of each trial, by name: from q0, the best eighth, to q7."""
        whole = self.completed
        styles = {each.name: f"q{8 * place // len(whole)}" for place, each in enumerate(whole)}
        return {**dict.fromkeys((each.name for each in self.failed), "failed"), **styles}

    @cached_property
    def first_s(self) -> float | None:
        """The start of its first trial, in seconds since the epoch; None if unknown."""
        return min(
            (each.started_s for each in self.trials if each.started_s is not None), default=None
        )

    @cached_property
    def failed(self) -> list[ReportedTrial]:
        """The trials that failed."""
        return [each for each in self.trials if each.status == FAILED]

    @cached_property
    def ended(self) -> list[ReportedTrial]:
        """The completed and failed trials, sorted by the time of their end, then by name."""
        over = [each for each in self.trials if each.objective is not None or each.status == FAILED]
        return sorted(over, key=lambda each: (each.ended_s or 0.0, each.name))
