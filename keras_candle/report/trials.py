"""Read a search's folder: its groups' journals, else insight.json, else Keras Tuner's files."""

import itertools
import re
import statistics
from collections import defaultdict
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from keras_candle.report import reading
from keras_candle.report.formats import exact
from keras_candle.report.reading import json_of, mapping, mappings, number, sequence, whole

INSIGHT, SEARCH, ORACLE, JOURNALS = "insight.json", "search.json", "oracle.json", "journals"
# The name of the part of the importance that no hyperparameter explains by itself.
INTERACTIONS = "interactions"
# With more trials the charts would be slow and unreadable.
_MOST_DRAWN = 1000
_FEWEST_RANKED, _MOST_BINS = 12, 6
# The condition that a search adds to a name in a conditional scope.
_SCOPE = re.compile(r" \(.+ in \[.*\].*\)$")


class Objective(NamedTuple):
    """An objective of a search; its sign is 1 if it is minimised, -1 if it is maximised."""

    name: str
    sign: int = 1


class Parameter(NamedTuple):
    """A hyperparameter of the space."""

    name: str
    choices: tuple[Any, ...] = ()  # the values of a Choice or a Boolean that has no scale
    log: bool | None = None  # whether its scale is logarithmic; None if unknown


@dataclass(frozen=True)
class ReportedTrial:
    """A trial, read from its search's folder; None for unknown values."""

    name: str
    status: str
    values: dict[str, Any]
    objectives: tuple[float | None, ...]  # one for each of the search's; None without a result
    measured: dict[str, float]  # every metric's best value
    cost: float | None
    group: int | None
    subspace: int | None
    started_s: float | None  # since the epoch
    ended_s: float | None
    message: str  # the last line of its error
    host: str  # of its group's first rank

    @property
    def objective(self) -> float | None:
        """The value of the first objective."""
        return self.objectives[0]

    @property
    def took_s(self) -> float | None:
        """The time that it took."""
        known = self.started_s is not None and self.ended_s is not None
        return (self.ended_s or 0.0) - (self.started_s or 0.0) if known else None


@dataclass
class Search:
    """A search, read from its folder; its lists don't change after reading."""

    path: Path
    name: str
    number: int = 0  # its index among the report's searches
    objectives: tuple[Objective, ...] = (Objective("score"),)
    cost: str = "cost"  # its name
    max_cost: float | None = None  # trials above it rank last
    parameters: list[Parameter] = field(default_factory=list)
    trials: list[ReportedTrial] = field(default_factory=list)  # by their names
    importance: dict[str, float] = field(default_factory=dict)  # parts of the variance, by size
    from_forest: bool = False  # the importance is the search's own, else each one's effect alone
    missing: list[str] = field(default_factory=list)  # sentences on missing and damaged files

    @cached_property
    def completed(self) -> list[ReportedTrial]:
        """The trials with a result, the best first."""
        found = [each for each in self.trials if each.objective is not None]
        return sorted(found, key=lambda t: (self._too_costly(t), self._loss(t), t.name))

    @cached_property
    def best(self) -> ReportedTrial | None:
        """The best trial; None without a result."""
        return next(iter(self.completed), None)

    @cached_property
    def failed(self) -> list[ReportedTrial]:
        """The trials that failed."""
        return [each for each in self.trials if each.status == "FAILED"]

    @cached_property
    def ended(self) -> list[ReportedTrial]:
        """The completed and failed trials, sorted by the time of their end, then by name."""
        return sorted(self.completed + self.failed, key=lambda t: (t.ended_s or 0.0, t.name))

    @cached_property
    def first_s(self) -> float | None:
        """The start of its first trial, in seconds since the epoch; None if unknown."""
        return min((t.started_s for t in self.trials if t.started_s is not None), default=None)

    @cached_property
    def drawn(self) -> set[str]:
        """The names of the trials that charts show: all, or of very many the best and a sample."""
        best_first = [*self.completed, *self.failed, *self.trials]
        names, half = list(dict.fromkeys(each.name for each in best_first)), _MOST_DRAWN // 2
        return {*names[:half], *names[half :: max(-(-len(names) // half) - 1, 1)]}

    @cached_property
    def quality(self) -> dict[str, str]:
        """The style class of each trial, by name: from q0, the best eighth, to q7."""
        failed, many = {each.name: "failed" for each in self.failed}, len(self.completed)
        return failed | {t.name: f"q{8 * place // many}" for place, t in enumerate(self.completed)}

    @cached_property
    def by_importance(self) -> list[Parameter]:
        """The hyperparameters by importance, the highest first; Keras Tuner's own last."""
        ordered = sorted(self.parameters, key=lambda p: -self.importance.get(p.name, 0.0))
        return sorted(ordered, key=lambda each: each.name.startswith("tuner/"))

    def _loss(self, trial: ReportedTrial) -> float:
        missing = trial.objective is None
        return float("inf") if missing else self.objectives[0].sign * (trial.objective or 0.0)

    def _too_costly(self, trial: ReportedTrial) -> bool:
        return self.max_cost is not None and trial.cost is not None and trial.cost > self.max_cost

    def within_max_cost(self, trials: list[ReportedTrial]) -> list[ReportedTrial]:
        """Return those trials that cost at most `max_cost`; all while the search has none."""
        kept = [each for each in trials if not self._too_costly(each)]
        return trials if all(map(self._too_costly, self.completed)) else kept

    def new_bests(self, trials: list[ReportedTrial]) -> list[ReportedTrial]:
        """Return those trials that were better than all before them."""
        best = itertools.accumulate(map(self._loss, trials), min, initial=float("inf"))
        return [t for t, before in zip(trials, best, strict=False) if self._loss(t) < before]

    def describe(self, trial: ReportedTrial) -> str:
        """Describe a trial and its result in one line."""
        pairs = zip(self.objectives, trial.objectives, strict=False)
        values = [f"{each.name} {exact(value)}" for each, value in pairs if value is not None]
        return f"trial {trial.name}: {', '.join(values) or trial.status.lower()}"

    def key(self, trial: ReportedTrial) -> str:
        """Return a trial's key for the page's script."""
        return f"{self.number}:{trial.name}"


def is_search(path: Path) -> bool:
    """Return whether a directory looks like a search's folder."""
    files = [(path / name).is_file() for name in (INSIGHT, SEARCH, ORACLE)]
    return any(files) or (path / JOURNALS).is_dir()


def read_search(path: Path, name: str, place: int = 0) -> Search:
    """Read the folder of the search with an index; its `missing` lists what cannot be read."""
    search = Search(path, name, place)
    insight, asked = (json_of(path / each, search.missing) for each in (INSIGHT, SEARCH))
    oracle = {} if asked else json_of(path / ORACLE, search.missing)
    identity = mapping(asked.get("search"))
    pairs = [each for each in sequence(identity.get("objective")) if len(sequence(each)) == 2]
    pairs = pairs or [(each.get("name", "score"), each.get("direction"))
                      for each in mappings(insight.get("objectives"))]  # fmt: skip
    if pairs:
        search.objectives = tuple(Objective(str(n), -1 if d == "max" else 1) for n, d in pairs)
    search.cost = str(identity.get("cost") or "cost")
    search.max_cost = number(insight.get("max_cost"))
    journals = sorted((path / JOURNALS).glob("*.jsonl"))
    lines = [line for each in journals for line in reading.lines_of(each, search.missing)]
    # In the journals all objectives are minimised.
    signs = [each.sign for each in search.objectives]
    search.trials = [_trial(row, signs) for row in _rows_of_journals(lines)]
    if not search.trials:
        signs = [1] * len(signs)
        search.trials = [_trial(row, signs) for row in mappings(insight.get("table"))]
    for file in [] if search.trials else sorted(path.glob("trial_*/trial.json")):
        if row := json_of(file, search.missing):
            row |= {"trial": row.get("trial_id"), "objectives": [row.get("score")]}
            values = mapping(row.get("hyperparameters")).get("values")
            search.trials.append(_trial({**row, "values": values}, [1]))
    search.trials.sort(key=lambda each: each.name)
    space = asked.get("space") or mapping(oracle.get("hyperparameters")).get("space")
    scopes = [row for line in lines for row in mappings(line.get("hyperparameters"))]
    search.parameters = _parameters([*mappings(space), *scopes], search.trials)
    forest: dict[str, float] = defaultdict(float)
    for scoped, part in reading.numbers(insight.get("importance")).items():
        forest[_SCOPE.sub("", scoped)] += part
    ordered = sorted(forest.items(), key=lambda item: (item[0] == INTERACTIONS, -item[1]))
    search.importance, search.from_forest = dict(ordered) or _effects(search), bool(forest)
    return search


def _rows_of_journals(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each trial; its first attempt with a result counts, as in the search."""
    starts: dict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
    ends: dict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
    for line in lines:
        event, place = line.get("event"), whole(line.get("start"))
        if event in ("started", "ended") and place is not None:
            (starts if event == "started" else ends)[str(line.get("trial"))][place] = line
    found = []
    for name, own in starts.items():
        over = ends[name]
        valid = [n for n in over if n in own and over[n].get("status") != "INVALID"]
        chosen = min(valid, default=max(own))
        start, end = own[chosen], over.get(chosen, {})
        values = mapping(end.get("values")) or start.get("values")
        row = {"status": "RUNNING", **end, "trial": name, "values": values}
        row |= {each: start.get(each) for each in ("group", "subspace", "owner")}
        found.append({**row, "started_s": start.get("time_s"), "ended_s": end.get("time_s")})
    return found


def _trial(row: dict[str, Any], signs: list[int]) -> ReportedTrial:
    results = [number(each) for each in sequence(row.get("objectives"))]
    known = row.get("status") == "COMPLETED" and len(results) == len(signs) and None not in results
    values = [sign * (each or 0.0) for sign, each in zip(signs, results, strict=False)]
    message = row.get("message")
    lines = message.strip().splitlines() if isinstance(message, str) else []
    return ReportedTrial(
        name=str(row.get("trial")),
        status=str(row.get("status")),
        values=mapping(row.get("values")),
        objectives=tuple(values if known else [None] * len(signs)),
        measured=_measured(mapping(mapping(row.get("metrics")).get("metrics"))),
        cost=number(row.get("cost")),
        group=whole(row.get("group")),
        subspace=whole(row.get("subspace")),
        started_s=number(row.get("started_s")),
        ended_s=number(row.get("ended_s")),
        message=lines[-1].strip() if lines else "",
        host=str(mapping(row.get("owner")).get("host") or ""),
    )


def _measured(metrics: dict[str, Any]) -> dict[str, float]:
    """Each metric's best value, as in Keras Tuner."""
    found = {}
    for name, metric in metrics.items():
        best = max if mapping(metric).get("direction") == "max" else min
        seen = [sequence(e.get("value")) for e in mappings(mapping(metric).get("observations"))]
        values = [[n for n in map(number, each) if n is not None] for each in seen]
        if any(values):
            found[str(name)] = best(statistics.fmean(each) for each in values if each)
    return found


def _parameters(space: list[dict[str, Any]], trials: list[ReportedTrial]) -> list[Parameter]:
    """The hyperparameters; a name in several conditional scopes has the first one's scale."""
    found: dict[str, Parameter] = {}
    for described in space:
        config, kind = mapping(described.get("config")), described.get("class_name")
        choices = [False, True] if kind == "Boolean" else sequence(config.get("values"))
        if kind not in ("Boolean", "Choice") or None not in map(number, choices):
            choices = []
        name, log = str(config.get("name")), config.get("sampling") in ("log", "reverse_log")
        found.setdefault(name, Parameter(name, tuple(choices), log))
    used = dict.fromkeys(str(name) for trial in trials for name in trial.values)
    found |= {name: Parameter(name) for name in used if name not in found}
    return [each for name, each in found.items() if name in used]


def _effects(search: Search) -> dict[str, float]:
    """The part of the ranks' variance that each hyperparameter explains alone, the largest first.

    It is corrected for the number of bins: Kelley, An Unbiased Correlation Ratio Measure, 1935.
    """
    ranked, found = search.completed, {}
    for each in search.parameters if len(ranked) >= _FEWEST_RANKED else []:
        pairs = [(t.values[each.name], n) for n, t in enumerate(ranked) if each.name in t.values]
        bins, many = _bins(each, pairs), len(pairs)
        if 2 <= len(bins) < many and not each.name.startswith("tuner/"):
            inside = sum(statistics.pvariance(ranks) * len(ranks) for ranks in bins)
            total = statistics.variance(rank for _, rank in pairs)
            part = 1.0 - inside / (many - len(bins)) / total
            found[each.name] = max(part, 0.0) * many / len(ranked)
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _bins(parameter: Parameter, pairs: list[tuple[Any, int]]) -> list[list[int]]:
    """Ranks grouped by value; numbers are in bins of about the same size."""
    values = {number(value) for value, _ in pairs}
    if not parameter.choices and None not in values and len(values) > _MOST_BINS:
        ranks = [rank for _, rank in sorted(pairs, key=lambda pair: number(pair[0]) or 0.0)]
        edges = [len(ranks) * place // _MOST_BINS for place in range(_MOST_BINS + 1)]
        return [ranks[a:b] for a, b in itertools.pairwise(edges) if b > a]
    found: dict[str, list[int]] = defaultdict(list)
    for value, rank in pairs:
        found[str(value)].append(rank)
    return list(found.values())


def grouped(trials: list[ReportedTrial], by: str) -> dict[int, list[ReportedTrial]]:
    """Return trials by their "group" or "subspace"; those without one are left out."""
    numbers = sorted({getattr(each, by) for each in trials} - {None})
    return {n: [each for each in trials if getattr(each, by) == n] for n in numbers}


def shares(search: Search, groups: dict[int, list[ReportedTrial]]) -> dict[int, float]:
    """Return the groups' shares of the budget: of the cost, else of time, else of trials."""
    ended = search.ended
    budgets = ([each.cost for each in ended], [each.took_s for each in ended], [1.0] * len(ended))
    chosen = next(each for each in budgets if None not in each)
    budget = {each.name: max(own or 0.0, 0.0) for each, own in zip(ended, chosen, strict=True)}
    total = sum(budget.values()) or 1.0
    return {n: sum(budget.get(t.name, 0.0) for t in own) / total for n, own in groups.items()}
