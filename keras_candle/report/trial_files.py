"""Read a search's folder: the journals of its groups, else insight.json, else Keras Tuner's files.

The journals are the source of truth while a search is running, and have each trial's group and
times. A search of Keras Tuner's own tuners has only trial.json files.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from typing import Any

from keras_candle.report.effects import effects_of
from keras_candle.report.reading import json_of, lines_of, number, numbers, rows, table
from keras_candle.report.trials import (
    COMPLETED,
    INTERACTIONS,
    Objective,
    Parameter,
    ReportedTrial,
    Search,
)

INSIGHT, SEARCH, ORACLE, JOURNALS = "insight.json", "search.json", "oracle.json", "journals"
_INVALID = "INVALID"
# The condition that a search adds to a name in a conditional scope.
_SCOPE = re.compile(r" \(.+ in \[.*\].*\)$")


def is_search(path: Path) -> bool:
    """Return whether a directory looks like a search's folder."""
    names = (INSIGHT, SEARCH, ORACLE)
    return any((path / name).is_file() for name in names) or (path / JOURNALS).is_dir()


def read_search(path: Path, name: str, number_of_search: int = 0) -> Search:
    """Read a search's folder.

    Args:
        path: the folder.
        name: its name in the report.
        number_of_search: its index among the report's searches, from 0.

    Returns:
        The search; its `missing` lists missing and damaged files.
    """
    search = Search(path, name, number_of_search)
    insight = json_of(path / INSIGHT, search.missing)
    asked = json_of(path / SEARCH, search.missing)
    oracle = {} if asked else json_of(path / ORACLE, search.missing)
    identity = table(asked.get("search"))
    _take_objectives(search, identity.get("objective"), insight)
    search.cost = str(identity.get("cost") or "cost")
    search.max_cost = number(insight.get("max_cost"))
    lines = [
        line
        for journal in sorted((path / JOURNALS).glob("*.jsonl"))
        for line in lines_of(journal, search.missing)
    ]
    search.trials = (
        _of_journals(lines, search.objectives)
        or [_of_insight(row, search.objectives) for row in rows(insight.get("table"))]
        or _of_keras_tuner(path, search)
    )
    search.trials.sort(key=lambda each: each.name)
    space = asked.get("space") or table(oracle.get("hyperparameters")).get("space")
    found = [row for line in lines for row in rows(line.get("hyperparameters"))]
    search.parameters = _parameters([*rows(space), *found], search.trials)
    forest = _importance(insight)
    search.importance, search.from_forest = forest or effects_of(search), bool(forest)
    return search


def _take_objectives(search: Search, asked: object, insight: dict[str, Any]) -> None:
    pairs = [each for each in asked if isinstance(each, list) and len(each) == 2] if isinstance(
        asked, list) else []  # fmt: skip
    found = [Objective(str(name), direction != "max") for name, direction in pairs]
    found = found or [
        Objective(str(each.get("name", "score")), each.get("direction") != "max")
        for each in rows(insight.get("objectives"))
    ]
    search.objectives = tuple(found) or search.objectives


def _importance(insight: dict[str, Any]) -> dict[str, float]:
    """The importance by hyperparameter, summed over the conditional scopes of a name."""
    found: dict[str, float] = defaultdict(float)
    for name, part in numbers(insight.get("importance")).items():
        found[_SCOPE.sub("", name)] += part
    ordered = sorted(found.items(), key=lambda item: (item[0] == INTERACTIONS, -item[1]))
    return dict(ordered)


def _of_journals(
    lines: list[dict[str, Any]], objectives: tuple[Objective, ...]
) -> list[ReportedTrial]:
    """The trials; the first attempt with a result counts, as in the search."""
    started: dict[str, dict[int, dict[str, Any]]] = {}
    ended: dict[str, dict[int, dict[str, Any]]] = {}
    for line in lines:
        into = {"started": started, "ended": ended}.get(str(line.get("event")))
        start = number(line.get("start"))
        if into is not None and start is not None:
            into.setdefault(str(line.get("trial")), {})[int(start)] = line
    trials = []
    for name, starts in started.items():
        ends = ended.get(name, {})
        counts = [n for n in sorted(ends) if n in starts and ends[n].get("status") != _INVALID]
        chosen = counts[0] if counts else max(starts)
        trials.append(_of_lines(name, starts[chosen], ends.get(chosen), objectives))
    return trials


def _of_lines(
    name: str,
    start: dict[str, Any],
    end: dict[str, Any] | None,
    objectives: tuple[Objective, ...],
) -> ReportedTrial:
    ended = end or {}
    # In the journal all objectives are minimised.
    signs = [each.sign() for each in objectives]
    return ReportedTrial(
        name=name,
        status=str(ended.get("status", "RUNNING")),
        values=table(ended.get("values")) or table(start.get("values")),
        objectives=_objectives(ended, signs),
        measured=_measured(ended.get("metrics")),
        cost=number(ended.get("cost")),
        group=_whole(start.get("group")),
        subspace=_whole(start.get("subspace")),
        started_s=number(start.get("time_s")),
        ended_s=number(ended.get("time_s")),
        message=last_line(ended.get("message")),
        host=str(table(start.get("owner")).get("host") or ""),
    )


def _of_insight(row: dict[str, Any], objectives: tuple[Objective, ...]) -> ReportedTrial:
    return ReportedTrial(
        name=str(row.get("trial")),
        status=str(row.get("status")),
        values=table(row.get("values")),
        objectives=_objectives(row, [1 for _ in objectives]),
        cost=number(row.get("cost")),
        group=_whole(row.get("group")),
        subspace=_whole(row.get("subspace")),
        started_s=number(row.get("started_s")),
        ended_s=number(row.get("ended_s")),
    )


def _of_keras_tuner(path: Path, search: Search) -> list[ReportedTrial]:
    trials = []
    for file in sorted(path.glob("trial_*/trial.json")):
        found = json_of(file, search.missing)
        if not found:
            continue
        trials.append(
            ReportedTrial(
                name=str(found.get("trial_id")),
                status=str(found.get("status")),
                values=table(table(found.get("hyperparameters")).get("values")),
                objectives=(_score(found),),
                measured=_measured(found.get("metrics")),
                message=last_line(found.get("message")),
            )
        )  # fmt: skip
    return trials


def _score(line: dict[str, Any]) -> float | None:
    return number(line.get("score")) if line.get("status") == COMPLETED else None


def _objectives(line: dict[str, Any], signs: list[int]) -> tuple[float | None, ...]:
    given = line.get("objectives")
    found = [number(each) for each in given] if isinstance(given, list) else []
    if line.get("status") != COMPLETED or len(found) != len(signs) or None in found:
        return (None,) * len(signs)
    return tuple(sign * (each or 0.0) for sign, each in zip(signs, found, strict=True))


def _measured(metrics: object) -> dict[str, float]:
    """Each metric's best value, as in Keras Tuner."""
    found = {}
    for name, metric in table(table(metrics).get("metrics")).items():
        seen = [each.get("value") for each in rows(table(metric).get("observations"))]
        means = [_mean(each) for each in seen]
        values = [each for each in means if each is not None]
        if values:
            best = max if table(metric).get("direction") == "max" else min
            found[str(name)] = best(values)
    return found


def _mean(values: object) -> float | None:
    found = [number(each) for each in values] if isinstance(values, list) else []
    whole = [each for each in found if each is not None]
    return sum(whole) / len(whole) if whole else None


def _parameters(space: list[dict[str, Any]], trials: list[ReportedTrial]) -> list[Parameter]:
    """The hyperparameters; a name in several conditional scopes has the first one's scale."""
    found: dict[str, Parameter] = {}
    for described in space:
        config = table(described.get("config"))
        name = str(config.get("name"))
        choices = config.get("values") if described.get("class_name") == "Choice" else None
        values = tuple(choices) if isinstance(choices, list) else ()
        if described.get("class_name") == "Boolean":
            values = (False, True)
        if all(number(each) is not None for each in values):
            values = ()
        found.setdefault(
            name, Parameter(name, values, config.get("sampling") in ("log", "reverse_log"))
        )
    for trial in trials:
        for name in map(str, trial.values):
            found.setdefault(name, Parameter(name))
    used = {str(name) for trial in trials for name in trial.values}
    return [each for name, each in found.items() if name in used]


def last_line(message: object) -> str:
    """Return the last line of an error message."""
    lines = message.strip().splitlines() if isinstance(message, str) else []
    return lines[-1].strip() if lines else ""


def _whole(value: object) -> int | None:
    found = number(value)
    return None if found is None else int(found)
