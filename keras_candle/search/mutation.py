"""Steps from points to others near them, in spaces of all kinds of dimensions."""

from __future__ import annotations

import numpy as np

from keras_candle.search.history import Floats
from keras_candle.search.space import SearchSpace
from keras_candle.search.subspaces import Subspace


def steps(
    space: SearchSpace,
    box: Subspace,
    points: Floats,
    scales: Floats,
    rates: Floats,
    rng: np.random.Generator,
) -> Floats:
    """One random step from each point, kept inside a box.

    A continuous coordinate moves by a normal step, one with ordered values by at least a cell, a
    category becomes another one.

    Args:
        space: that the points belong to.
        box: which the new points don't leave.
        points: float [n, d].
        scales: float [n], the length of a step, as a part of the box.
        rates: float [n], the probability of each coordinate to move; at least one does.
        rng: of the steps.

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
    """Each point with one coordinate drawn anew from the whole width of a box."""
    count, dimensions = points.shape
    fresh = box.scale(rng.random(points.shape))
    moved = np.where(np.isnan(points), fresh, points)
    rows, columns = np.arange(count), rng.integers(dimensions, size=count)
    moved[rows, columns] = fresh[rows, columns]
    return space.canonical(_inside(space, box, moved))


def crossings(
    space: SearchSpace, box: Subspace, points: Floats, others: Floats, rng: np.random.Generator
) -> Floats:
    """Points that have each coordinate from one of two parents."""
    fresh = box.scale(rng.random(points.shape))
    mixed = np.where(rng.random(points.shape) < 0.5, points, others)
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
