"""Where the next trial is looked for: everywhere, in a subspace, or near an incumbent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from keras_candle.search.history import Floats, History
from keras_candle.search.kernels import squared_distances
from keras_candle.search.space import SearchSpace
from keras_candle.search.subspaces import Subspace, cut
from keras_candle.search.surrogate_data import SurrogateData

# Each subspace gets at least this part of an even share of the trials.
FLOOR = 0.25
_INCUMBENTS = 5
# Among so many of the best trials incumbents are looked for.
_COMPARED = 400


@dataclass(frozen=True)
class TrustRegion:
    """A box to look in.

    Attributes:
        box: where.
        subspace: whose trial it is.
        centre: float [d], an incumbent to look around; None without one.
    """

    box: Subspace
    subspace: int
    centre: Floats | None = None


def choose_subspace(
    history: History,
    evidence: SurrogateData,
    subspaces: Sequence[Subspace],
    home: int,
    cost_exponent: float,
    rng: np.random.Generator,
) -> int:
    """A bandit over the subspaces: those with good trials get more, none is left alone.

    The reward of a subspace is the mean of the best tenth of the values inside, from whichever
    subspace's trials they come; its bonus shrinks with the trials it was given (UCB1).

    Args:
        history: whose trials count.
        evidence: the same, levelled.
        subspaces: to choose from.
        home: the one that the asking worker prefers, where others aren't clearly better.
        cost_exponent: of the cost of the best inside, that the chances are divided by.
        rng: chooses, by those chances.

    Returns:
        The index of a subspace.
    """
    count = len(subspaces)
    given = np.bincount(history.subspace[history.subspace >= 0], minlength=count)[:count]
    total = max(int(given.sum()), 1)
    starved = given < FLOOR * total / count
    if starved.any():
        return home if starved[home] else int(rng.choice(np.flatnonzero(starved)))
    rewards = np.array([_reward(evidence, each) for each in subspaces])
    spread = max(float(np.ptp(rewards)), 1e-12)
    scores = (rewards - rewards.min()) / spread + np.sqrt(np.log(total + 1) / (given + 1))
    scores[home] += 0.1
    chances = np.exp(4 * (scores - scores.max()))
    chances *= [_cheapness(evidence, each, cost_exponent) for each in subspaces]
    return int(rng.choice(count, p=chances / chances.sum()))


def _reward(evidence: SurrogateData, box: Subspace) -> float:
    inside = np.sort(evidence.merits[box.contains(evidence.units)])
    if not len(inside):
        return -1.0
    return -float(inside[: max(1, len(inside) // 10)].mean())


def _cheapness(evidence: SurrogateData, box: Subspace, exponent: float) -> float:
    inside = np.flatnonzero(box.contains(evidence.units))
    if not len(inside):
        return 1.0
    best = inside[evidence.merits[inside].argmin()]
    return float(evidence.cheapness(np.array([best]), exponent)[0])


def deepen(
    space: SearchSpace,
    box: Subspace,
    evidence: SurrogateData,
    cost_exponent: float,
    rng: np.random.Generator,
) -> Subspace:
    """A part of a subspace, the smaller the more is known inside: splits get deeper with evidence.

    Args:
        space: that the box belongs to.
        box: to begin with.
        evidence: decides how deep, and towards which half.
        cost_exponent: of the cost of the best inside, that the chances of a half are divided by.
        rng: sometimes takes the half that looks worse.

    Returns:
        A box with the same index.
    """
    enough = 4 * len(space)
    importance = concentration(evidence)
    while box.contains(evidence.units).sum() > enough:
        parts = cut(space, box, 0.25, importance)
        if parts is None:
            break
        rewards = np.array([_reward(evidence, part) for part in parts])
        chances = np.where(rewards == rewards.max(), 0.75, 0.25)
        chances *= [_cheapness(evidence, part, cost_exponent) for part in parts]
        box = parts[int(rng.choice(2, p=chances / chances.sum()))]
    return box


def concentration(evidence: SurrogateData) -> Floats:
    """Float [d], from 0 to 1: how much closer together the best fifth of the trials are than all.

    Where they are close, the dimension matters; it is the one to cut next.
    """
    units = np.where(np.isnan(evidence.units), 0.5, evidence.units)
    if len(units) < 10:
        return np.ones(units.shape[1])
    best = units[np.argsort(evidence.merits, kind="stable")[: len(units) // 5]]
    return np.asarray(np.clip(1 - best.std(axis=0) / (units.std(axis=0) + 1e-9), 0.05, 1.0))


def incumbents(evidence: SurrogateData, apart: float) -> list[int]:
    """The best trials that no better one is near to: one for each valley, the best first.

    Args:
        evidence: to choose from.
        apart: how near, in feature space.
    """
    order = np.argsort(evidence.merits, kind="stable")[:_COMPARED]
    features = evidence.features[order]
    squares = squared_distances(features, features)
    squares[np.triu_indices(len(order))] = np.inf
    return [int(each) for each in order[squares.min(axis=1) > apart**2][:_INCUMBENTS]]


def inner(box: Subspace, margin: float) -> Subspace:
    """The box without its outer parts along continuous dimensions.

    Args:
        box: to be shrunk.
        margin: the part of its width that is taken off on both sides.
    """
    shrunk = margin * (box.upper - box.lower) * (np.array(box.sizes) == 0)
    return replace(box, lower=box.lower + shrunk, upper=box.upper - shrunk)


def trust_box(space: SearchSpace, everything: Subspace, centre: Floats, edge: float) -> Subspace:
    """A box around a point; categories without an order stay free.

    Args:
        space: that the point belongs to.
        everything: the whole space as a subspace.
        centre: float [d], canonical.
        edge: length of the box, as a part of the cube.
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
