"""Maximise the acquisition in a region: score many points, then neighbours of the best ones.

No gradient is needed, so that categorical, counted and conditional dimensions are treated alike.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from keras_candle.search.space import Floats, SearchSpace
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


# Mutations and crossings of points with continuous, ordered and categorical dimensions.


def steps(
    space: SearchSpace,
    box: Subspace,
    points: Floats,
    scales: Floats,
    rates: Floats,
    rng: np.random.Generator,
) -> Floats:
    """Take one random step from each point, inside a box.

    A continuous coordinate moves by a normal step, one with ordered values by at least a cell, a
    category is drawn anew.

    Args:
        space: the search space of the points.
        box: the box that the new points stay in.
        points: float [n, d].
        scales: float [n], the length of a step, as a part of the box.
        rates: float [n], the probability of each coordinate to move; at least one moves.
        rng: the generator of the steps.

    Returns:
        float [n, d], canonical.
    """
    count, dimensions = points.shape
    fresh = box.scale(rng.random(points.shape))
    moved = np.where(np.isnan(points), fresh, points)
    chosen = rng.random(points.shape) < rates[:, None]
    chosen[np.arange(count), rng.integers(dimensions, size=count)] = True
    step = rng.standard_normal(points.shape) * scales[:, None] * (box.upper - box.lower)
    for number, each in enumerate(space.dimensions):
        if each.size is None:
            continue
        if box.allowed[number] is not None:
            step[:, number] = fresh[:, number] - moved[:, number]
        else:
            cell = 1 / each.size
            step[:, number] = np.sign(step[:, number]) * np.maximum(abs(step[:, number]), cell)
    return space.canonical(_inside(space, box, moved + np.where(chosen, step, 0.0)))


def single_changes(
    space: SearchSpace, box: Subspace, points: Floats, rng: np.random.Generator
) -> Floats:
    """Draw one coordinate of each point anew from the whole width of a box."""
    count, dimensions = points.shape
    fresh = box.scale(rng.random(points.shape))
    moved = np.where(np.isnan(points), fresh, points)
    rows, columns = np.arange(count), rng.integers(dimensions, size=count)
    moved[rows, columns] = fresh[rows, columns]
    return space.canonical(_inside(space, box, moved))


def crossings(
    space: SearchSpace, box: Subspace, points: Floats, partners: Floats, rng: np.random.Generator
) -> Floats:
    """Cross points with their partners: each coordinate is from one of the two parents."""
    fresh = box.scale(rng.random(points.shape))
    mixed = np.where(rng.random(points.shape) < 0.5, points, partners)
    return space.canonical(_inside(space, box, np.where(np.isnan(mixed), fresh, mixed)))


def _inside(space: SearchSpace, box: Subspace, points: Floats) -> Floats:
    """The nearest points in the box."""
    for number, each in enumerate(space.dimensions):
        values = box.allowed[number]
        if values is not None:
            index = np.clip((points[:, number] * box.sizes[number]).astype(int), 0, None)
            outside = ~np.isin(index, values)
            points[outside, number] = (values[0] + 0.5) / box.sizes[number]
        else:
            margin = 0.25 / each.size if each.size else 0.0
            low, high = box.lower[number] + margin, box.upper[number] - margin
            points[:, number] = np.clip(points[:, number], low, high)
    return points
