"""Spaces and histories that the tests of the search share."""

from __future__ import annotations

import numpy as np

from keras_candle.search.space import Dimension, SearchSpace
from keras_candle.search.surrogate_data import History

CONTINUOUS = SearchSpace([Dimension("x"), Dimension("y")])
# 2 * 3 * 3 = 18 points
FINITE = SearchSpace([Dimension("a", 2, False), Dimension("b", 3), Dimension("c", 3, False)])
CONDITIONAL = SearchSpace(
    [
        Dimension("kind", 3, False),
        Dimension("layers", 4, parents=((0, frozenset({1, 2})),)),
        Dimension("rate"),
        Dimension("dropout", parents=((0, frozenset({1, 2})), (1, frozenset({2, 3})))),
        Dimension("last", 2, False, parents=((0, frozenset({0})),)),
    ]
)
SPACES = {"continuous": CONTINUOUS, "finite": FINITE, "conditional": CONDITIONAL}


def random_space(rng: np.random.Generator) -> SearchSpace:
    dimensions: list[Dimension] = []
    for number in range(int(rng.integers(1, 12))):
        size = None if rng.random() < 0.3 else int(rng.integers(1, 7))
        counted = [i for i, each in enumerate(dimensions) if each.size]
        parents = ()
        if counted and rng.random() < 0.4:
            parent = int(rng.choice(counted))
            values = rng.permutation(dimensions[parent].size)
            parents = ((parent, frozenset(values[: rng.integers(1, len(values) + 1)].tolist())),)
        ordered = bool(rng.random() < 0.5)
        dimensions.append(Dimension(f"d{number}", size, ordered, parents))
    return SearchSpace(dimensions)


def history_of(units, objective, pending=None, *, cost=None, fidelity=None) -> History:
    units, objective = np.asarray(units, float), np.asarray(objective, float)
    count, dimensions = units.shape
    return History(
        units,
        objective,
        np.full(count, np.nan) if cost is None else np.asarray(cost, float),
        np.ones(count) if fidelity is None else np.asarray(fidelity, float),
        np.zeros(count, np.int64),
        np.empty((0, dimensions)) if pending is None else np.asarray(pending, float),
    )
