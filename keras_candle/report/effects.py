"""The effect of each hyperparameter alone, for searches without an importance of their own."""

from __future__ import annotations

import itertools
from collections import defaultdict
from typing import Any

from keras_candle.report.reading import number
from keras_candle.report.trials import Parameter, Search

_FEWEST_TRIALS = 12
_GROUPS = 6


def effects_of(search: Search) -> dict[str, float]:
    """Return the part of the ranks' variance that each hyperparameter explains, largest first.

    Values are grouped, and the part that the groups explain is corrected for their number (epsilon
    squared; Kelley, An Unbiased Correlation Ratio Measure, 1935). It ignores interactions, and
    counts correlated hyperparameters twice.

    Args:
        search: with its trials; the result is empty for fewer than 12 with a result.
    """
    whole = search.completed
    if len(whole) < _FEWEST_TRIALS:
        return {}
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
    return {name: part for name, part in ordered if not name.startswith("tuner/")}


def _groups(parameter: Parameter, pairs: list[tuple[Any, float]]) -> list[list[float]]:
    """Ranks grouped by value; numbers are in groups of about the same size."""
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
