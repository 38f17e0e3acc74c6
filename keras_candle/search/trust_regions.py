"""Choose the region of the next trial: the whole space, a subspace, or a trust region."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from keras_candle.search.gaussian_process import squared_distances
from keras_candle.search.space import Floats, SearchSpace
from keras_candle.search.subspaces import Subspace, cut
from keras_candle.search.surrogate_data import History, SurrogateData

# Each subspace gets at least this part of an equal number of trials.
FLOOR = 0.25
_INCUMBENTS = 5
# Incumbents are chosen among this many of the best trials.
_COMPARED = 400


@dataclass(frozen=True)
class TrustRegion:
    """A box to search.

    Attributes:
        box: the box.
        subspace: the index of the subspace that the trial is assigned to.
        centre: float [d], the incumbent in its middle; None without one.
    """

    box: Subspace
    subspace: int
    centre: Floats | None = None


def choose_subspace(
    history: History,
    data: SurrogateData,
    subspaces: Sequence[Subspace],
    home: int,
    cost_exponent: float,
    rng: np.random.Generator,
) -> int:
    """Choose a subspace by a bandit: those with good trials get more, none is neglected.

    The reward of a subspace is the mean of the best tenth of the values inside, of all subspaces'
    trials; its bonus shrinks with the trials that it was given (UCB1).

    Args:
        history: the trials so far.
        data: the same trials as a surrogate's data.
        subspaces: to choose from.
        home: the index that the asking worker prefers, unless another one is clearly better.
        cost_exponent: the power of the cost of the best trial inside that divides the chances.
        rng: draws the subspace by these chances.

    Returns:
        The index of a subspace.
    """
    count = len(subspaces)
    given = np.bincount(history.subspace[history.subspace >= 0], minlength=count)[:count]
    total = max(int(given.sum()), 1)
    starved = given < FLOOR * total / count
    if starved.any():
        return home if starved[home] else int(rng.choice(np.flatnonzero(starved)))
    rewards = np.array([_reward(data, each) for each in subspaces])
    spread = max(float(np.ptp(rewards)), 1e-12)
    scores = (rewards - rewards.min()) / spread + np.sqrt(np.log(total + 1) / (given + 1))
    scores[home] += 0.1
    chances = np.exp(4 * (scores - scores.max()))
    chances *= [_inverse_cost(data, each, cost_exponent) for each in subspaces]
    return int(rng.choice(count, p=chances / chances.sum()))


def _reward(data: SurrogateData, box: Subspace) -> float:
    inside = np.sort(data.ranking_values[box.contains(data.units)])
    if not len(inside):
        return -1.0
    return -float(inside[: max(1, len(inside) // 10)].mean())


def _inverse_cost(data: SurrogateData, box: Subspace, exponent: float) -> float:
    inside = np.flatnonzero(box.contains(data.units))
    if not len(inside):
        return 1.0
    best = inside[data.ranking_values[inside].argmin()]
    return float(data.inverse_cost(np.array([best]), exponent)[0])


def subdivide(
    space: SearchSpace,
    box: Subspace,
    data: SurrogateData,
    cost_exponent: float,
    rng: np.random.Generator,
) -> Subspace:
    """Choose a part of a subspace by repeated cuts; more trials inside give more cuts.

    Args:
        space: the search space of the box.
        box: the box to start with.
        data: decides the number of cuts, and which half to take.
        cost_exponent: the power of the cost of the best trial inside that divides a half's chances.
        rng: sometimes takes the half that looks worse.

    Returns:
        A box with the same index.
    """
    enough = 4 * len(space)
    importance = concentration(data)
    while box.contains(data.units).sum() > enough:
        parts = cut(space, box, 0.25, importance)
        if parts is None:
            break
        rewards = np.array([_reward(data, part) for part in parts])
        chances = np.where(rewards == rewards.max(), 0.75, 0.25)
        chances *= [_inverse_cost(data, part, cost_exponent) for part in parts]
        box = parts[int(rng.choice(2, p=chances / chances.sum()))]
    return box


def concentration(data: SurrogateData) -> Floats:
    """Return float [d], from 0 to 1: how much closer the best fifth of the trials are than all.

    Where they are close, the dimension matters, and is cut next.
    """
    units = np.where(np.isnan(data.units), 0.5, data.units)
    if len(units) < 10:
        return np.ones(units.shape[1])
    best = units[np.argsort(data.ranking_values, kind="stable")[: len(units) // 5]]
    return np.asarray(np.clip(1 - best.std(axis=0) / (units.std(axis=0) + 1e-9), 0.05, 1.0))


def incumbents(data: SurrogateData, apart: float) -> list[int]:
    """Return the best trials without a better one nearby: one for each local optimum, best first.

    Args:
        data: the trials to choose from.
        apart: the least distance to a better trial, in feature space.
    """
    order = np.argsort(data.ranking_values, kind="stable")[:_COMPARED]
    features = data.features[order]
    squares = squared_distances(features, features)
    squares[np.triu_indices(len(order))] = np.inf
    return [int(each) for each in order[squares.min(axis=1) > apart**2][:_INCUMBENTS]]


def without_margin(box: Subspace, margin: float) -> Subspace:
    """Return a box without its margins along continuous dimensions.

    Args:
        box: the box to shrink.
        margin: the part of its width to remove on both sides.
    """
    shrunk = margin * (box.upper - box.lower) * (np.array(box.sizes) == 0)
    return replace(box, lower=box.lower + shrunk, upper=box.upper - shrunk)


def trust_box(space: SearchSpace, everything: Subspace, centre: Floats, edge: float) -> Subspace:
    """Return a box around a point; categories without an order stay free.

    Args:
        space: the search space of the point.
        everything: the whole space as a subspace.
        centre: float [d], canonical.
        edge: the side of the box, as a part of the cube's.
    """
    middle = np.where(np.isnan(centre), 0.5, centre)
    lower = np.maximum(middle - edge / 2, 0.0)
    upper = np.minimum(middle + edge / 2, 1.0)
    for number, each in enumerate(space.dimensions):
        if everything.allowed[number] is not None or np.isnan(centre[number]):
            lower[number], upper[number] = 0.0, 1.0
        elif each.size is not None:
            cell = int(middle[number] * each.size)
            reach = max(1, round(edge * each.size / 2))
            lower[number] = max(cell - reach, 0) / each.size
            upper[number] = min(cell + reach + 1, each.size) / each.size
    return replace(everything, lower=lower, upper=upper)
