"""Mutate and cross points of a search space with continuous, ordered and categorical dimensions."""

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
