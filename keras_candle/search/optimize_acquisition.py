"""Maximise the acquisition in a region: score many points, then neighbours of the best ones.

No gradient is needed, so that categorical, counted and conditional dimensions are treated alike.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from keras_candle.search.history import Floats
from keras_candle.search.mutation import crossings, single_changes, steps
from keras_candle.search.space import SearchSpace
from keras_candle.search.subspaces import Subspace

Score = Callable[[Floats], Floats]
_SPREAD = 256
_AROUND = 192
_ROUNDS = 5
_KEPT = 12
_CHILDREN = 96


def maximise(
    space: SearchSpace,
    box: Subspace,
    score: Score,
    good: Floats,
    tried: set[bytes],
    rng: np.random.Generator,
) -> Floats | None:
    """Return the best untried point of a box.

    Args:
        space: the search space.
        box: the box that the point must be in.
        score: of canonical points, higher is better.
        good: float [k, d], trials to start from, the best first; may be outside of the box.
        tried: keys of points to exclude.
        rng: the generator of the candidates.

    Returns:
        float [d], canonical; None when no candidate was new.
    """
    points = _first(space, box, good, rng)
    points = points[box.contains(points)]
    scores = score(points)
    for number in range(_ROUNDS):
        order = np.argsort(-scores, kind="stable")[:_KEPT]
        parents, scores = points[order], scores[order]
        children = _children(space, box, parents, 0.1 * 0.35**number, rng)
        children = children[box.contains(children)]
        points = np.concatenate([parents, children])
        scores = np.concatenate([scores, score(children)])
        if number == 0:
            # Tried points must not be parents either.
            points, scores = _new(space, points, scores, tried)
    points, scores = _new(space, points, scores, tried)
    return np.asarray(points[scores.argmax()]) if len(points) else None


def _first(space: SearchSpace, box: Subspace, good: Floats, rng: np.random.Generator) -> Floats:
    spread = space.sample(_SPREAD, rng, box)
    if not len(good):
        return spread
    centres = good[_favouring_the_first(len(good), _AROUND, rng)]
    scales = np.exp(rng.uniform(np.log(1e-3), np.log(0.3), _AROUND))
    rates = rng.choice([0.0, 0.2, 0.5, 1.0], _AROUND)
    near = steps(space, box, centres, scales, rates, rng)
    changed = single_changes(space, box, centres, rng)
    partners = good[_favouring_the_first(len(good), _AROUND, rng)]
    crossed = crossings(space, box, centres, partners, rng)
    return np.concatenate([spread, near, changed, crossed])


def _children(
    space: SearchSpace, box: Subspace, parents: Floats, scale: float, rng: np.random.Generator
) -> Floats:
    chosen = parents[_favouring_the_first(len(parents), _CHILDREN, rng)]
    scales = scale * np.exp(rng.normal(size=_CHILDREN))
    rates = rng.choice([0.0, 0.3, 1.0], _CHILDREN)
    near = steps(space, box, chosen, scales, rates, rng)
    third = _CHILDREN // 3
    partners = parents[rng.integers(len(parents), size=third)]
    return np.concatenate(
        [
            near,
            single_changes(space, box, chosen[:third], rng),
            crossings(space, box, chosen[:third], partners, rng),
        ]
    )


def _favouring_the_first(count: int, size: int, rng: np.random.Generator) -> NDArray[np.int64]:
    return np.minimum((rng.random(size) ** 2 * count).astype(np.int64), count - 1)


def _new(
    space: SearchSpace, points: Floats, scores: Floats, tried: set[bytes]
) -> tuple[Floats, Floats]:
    new = np.array([key not in tried for key in space.keys(points)], bool)
    return (points[new], scores[new]) if len(new) else (points, scores)
