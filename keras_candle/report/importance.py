"""Which hyperparameters matter: as the search's forest tells, else as the trials do one by one."""

from __future__ import annotations

import itertools
from collections import defaultdict
from typing import Any

from keras_candle.report.axes import Axis, Categories
from keras_candle.report.chart import Chart
from keras_candle.report.legend import Entry
from keras_candle.report.markup import Markup
from keras_candle.report.quantities import percent
from keras_candle.report.reading import number
from keras_candle.report.trials import INTERACTIONS, Parameter, Search

_FEWEST_TRIALS = 12
_GROUPS = 6
_MOST = 16


def by_importance(search: Search) -> list[Parameter]:
    """The hyperparameters, those that matter most first; Keras Tuner's own last."""
    parts, _ = importance_of(search)
    names = [each.name for each in search.parameters]
    return sorted(
        search.parameters,
        key=lambda each: (
            each.name.startswith("tuner/"), -parts.get(each.name, 0.0), names.index(each.name),
        ),
    )  # fmt: skip


def importance_of(search: Search) -> tuple[dict[str, float], bool]:
    """Part of the objective's variance by hyperparameter, and whether the search told it.

    Where it did not (it does at its end), the part is the one that groups of a hyperparameter's
    values explain of the ranks of the results, corrected for the number of groups (epsilon
    squared; Kelley, 1935). That sees no interactions, and what goes together counts twice.
    """
    if search.importance:
        return search.importance, True
    whole = search.completed
    if len(whole) < _FEWEST_TRIALS:
        return {}, False
    ranks = {each.name: float(place) for place, each in enumerate(whole)}
    found = {}
    for each in search.parameters:
        pairs = [
            (trial.values[each.name], ranks[trial.name])
            for trial in whole
            if each.name in trial.values
        ]
        found[each.name] = _explained(_groups(each, pairs)) * len(pairs) / len(whole)
    ordered = sorted(found.items(), key=lambda item: -item[1])
    return {name: part for name, part in ordered if not name.startswith("tuner/")}, False


def importance_chart(search: Search) -> Markup | None:
    """A bar for each hyperparameter; None where too few trials tell."""
    parts, told = importance_of(search)
    shown = list(parts.items())[:_MOST]
    if not shown:
        return None
    lanes = Categories(tuple(name for name, _ in reversed(shown)))
    high = max(part for _, part in shown) or 1.0
    axis = Axis(0.0, high * 1.12, label="% of the variance", unit=0.01)
    chart = Chart("importance of hyperparameters", axis, lanes, height=max(60.0, 24.0 * len(shown)))
    for name, part in shown:
        style = "c7 faint" if name == INTERACTIONS else "c0"
        chart.bar((0.0, part), name, style, f"{name}: {percent(part, 1)}")
        chart.write(part, name, percent(part))
    how = "a forest's main effects" if told else "each alone, by ranks"
    chart.legend = [Entry(how, "c0", shape="bar")]
    if INTERACTIONS in parts:
        chart.legend.append(Entry("together only", "c7 faint", shape="bar"))
    return chart.svg()


def _groups(parameter: Parameter, pairs: list[tuple[Any, float]]) -> list[list[float]]:
    """Ranks by value, numbers in groups of about the same size."""
    if not parameter.choices and all(number(value) is not None for value, _ in pairs):
        ordered = sorted(pairs, key=lambda pair: number(pair[0]) or 0.0)
        different = len({value for value, _ in pairs})
        if different > _GROUPS:
            edges = [len(ordered) * place // _GROUPS for place in range(_GROUPS + 1)]
            return [[rank for _, rank in ordered[a:b]]
                    for a, b in itertools.pairwise(edges) if b > a]  # fmt: skip
    found: dict[str, list[float]] = defaultdict(list)
    for value, rank in pairs:
        found[str(value)].append(rank)
    return list(found.values())


def _explained(groups: list[list[float]]) -> float:
    ranks = [rank for group in groups for rank in group]
    if len(groups) < 2 or len(ranks) <= len(groups):
        return 0.0
    mean = sum(ranks) / len(ranks)
    whole = sum((rank - mean) ** 2 for rank in ranks)
    inside = sum(sum((rank - sum(group) / len(group)) ** 2 for rank in group) for group in groups)
    if not whole:
        return 0.0
    corrected = (inside / (len(ranks) - len(groups))) / (whole / (len(ranks) - 1))
    return max(1.0 - corrected, 0.0)
