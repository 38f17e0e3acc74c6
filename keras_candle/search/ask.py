"""Ask for the next trial: a pure function of the history, so that each worker decides alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from keras_candle.errors import SearchError
from keras_candle.search.acquisition import Acquisition, CostWeight, acquisition_of
from keras_candle.search.gaussian_process import squared_distances
from keras_candle.search.optimize_acquisition import maximise
from keras_candle.search.space import Floats, SearchSpace
from keras_candle.search.subspaces import Subspace, whole_space
from keras_candle.search.surrogate_data import (
    History,
    SurrogateData,
    features_of,
    nearest,
    surrogate_data_of,
)
from keras_candle.search.trust_regions import (
    TrustRegion,
    choose_subspace,
    incumbents,
    subdivide,
    trust_box,
    without_margin,
)

# A surrogate is fitted to at most this many trials.
PREDICTING_POINTS = 200
# Finite spaces with fewer points than this are enumerated.
LISTED = 2_000
# The radius around an incumbent in which no other trial is better, as a part of the cube's side.
_VALLEY = 0.1
# Margins cut off the whole cube as a region. Without any, most trials go to its many corners.
_MARGINS = (0.0, 0.0, 0.08, 0.16)


@dataclass(frozen=True)
class AskSettings:
    """The settings of a search's decisions.

    Attributes:
        workers: the number of trials that run at once.
        budget: the total number of trials.
        overlap: of the subspaces.
        cost_exponent: 1.0: expected improvement per unit of cost; 0.0: cost doesn't matter.
        cost_limit: trials should not cost more than this; None: no limit.
    """

    workers: int = 1
    budget: int = 64
    overlap: float = 0.25
    cost_exponent: float = 0.0
    cost_limit: float | None = None

    @property
    def cost_weight(self) -> CostWeight:
        """The weight of a trial's cost in the acquisition."""
        return CostWeight(self.cost_exponent, self.cost_limit)

    def __post_init__(self) -> None:
        if self.workers < 1 or self.budget < 1:
            raise SearchError(
                f"The settings have workers={self.workers} and budget={self.budget}; both must "
                "be at least 1."
            )


@dataclass(frozen=True)
class Suggestion:
    """A trial to run.

    Attributes:
        unit: float [d], canonical.
        subspace: the index of the subspace that the trial is assigned to.
    """

    unit: Floats
    subspace: int


def suggest(
    space: SearchSpace,
    history: History,
    subspaces: Sequence[Subspace],
    home: int,
    settings: AskSettings,
    rng: np.random.Generator,
) -> Suggestion | None:
    """Return the next trial to run.

    Args:
        space: the search space.
        history: ended and running trials, also those that failed.
        subspaces: from `decompose`.
        home: the index of the subspace that the asking worker prefers.
        settings: how to search.
        rng: the only source of randomness: the same arguments give the same suggestion.

    Returns:
        None when each point of a finite space has been tried or is running.
    """
    tried = set(space.keys(history.units)) | set(space.keys(history.pending))
    untried = _untried(space, tried)
    if untried is not None and not len(untried):
        return None
    data = surrogate_data_of(space, history, settings.cost_limit)
    known = len(history.units) + len(history.pending)
    if known < start_size(space, settings) or len(data.values) < 3:
        unit = _farthest_point(space, history, subspaces[home], untried, rng)
        return Suggestion(unit, home)
    region = _region(space, history, data, subspaces, home, settings, rng)
    if untried is not None and len(untried) <= LISTED:
        inside = untried[region.box.contains(untried)]
        if not len(inside):
            inside, region = untried, TrustRegion(whole_space(space), region.subspace)
        score = _score(space, history, data, region, settings, rng)
        return Suggestion(inside[score(inside).argmax()], region.subspace)
    score = _score(space, history, data, region, settings, rng)
    good = data.units[np.argsort(data.ranking_values, kind="stable")[:20]]
    if region.centre is not None:
        good = np.concatenate([region.centre[None], good[region.box.contains(good)]])
    best = maximise(space, region.box, score, good, tried, rng)
    if best is None:
        best = _farthest_point(space, history, subspaces[region.subspace], untried, rng)
    return Suggestion(best, region.subspace)


def start_size(space: SearchSpace, settings: AskSettings) -> int:
    """Return the number of initial trials before the surrogate decides; few if the budget is small.

    Args:
        space: the search space.
        settings: how to search.
    """
    return max(3, min(2 * len(space), settings.budget // 8))


def _untried(space: SearchSpace, tried: set[bytes]) -> Floats | None:
    """All untried points, where listing them is affordable or needed; else None."""
    if space.count is None or (space.count > LISTED and 2 * len(tried) < space.count):
        return None
    points = space.all_points()
    left = np.array([key not in tried for key in space.keys(points)], bool)
    return np.asarray(points[left])


def _farthest_point(
    space: SearchSpace,
    history: History,
    box: Subspace,
    untried: Floats | None,
    rng: np.random.Generator,
) -> Floats:
    """A point of a subspace that is far from all trials."""
    known = features_of(space, np.concatenate([history.units, history.pending]))
    points = space.sample(128, rng, box)
    if untried is not None:
        inside = untried[box.contains(untried)]
        points = inside if len(inside) else untried
        points = points[rng.permutation(len(points))[:LISTED]]
    if not len(known):
        return np.asarray(points[0])
    features = features_of(space, points)
    return np.asarray(points[squared_distances(features, known).min(axis=1).argmax()])


def _region(
    space: SearchSpace,
    history: History,
    data: SurrogateData,
    subspaces: Sequence[Subspace],
    home: int,
    settings: AskSettings,
    rng: np.random.Generator,
) -> TrustRegion:
    everything = whole_space(space)
    explore, anywhere = _shares(space, data, settings)
    if len(subspaces) == 1:
        explore = 0.0
    kind = rng.random()
    if kind < explore:
        number = choose_subspace(history, data, subspaces, home, settings.cost_exponent, rng)
        box = subdivide(space, subspaces[number], data, settings.cost_exponent, rng)
        return TrustRegion(box, number)
    if kind < anywhere:
        return TrustRegion(without_margin(everything, rng.choice(_MARGINS)), home)
    places = incumbents(data, _VALLEY * np.sqrt(len(space)))
    chances = 0.5 ** np.arange(len(places))
    chances *= data.inverse_cost(np.array(places), settings.cost_exponent)
    number = int(rng.choice(places, p=chances / chances.sum()))
    centre = data.units[number]
    edge = float(np.exp(rng.uniform(np.log(0.02), np.log(0.63))))
    owners = [each.index for each in subspaces if each.contains(centre[None])[0]]
    owner = home if home in owners or not owners else int(rng.choice(owners))
    return TrustRegion(trust_box(space, everything, centre, edge), owner, centre)


def _shares(space: SearchSpace, data: SurrogateData, settings: AskSettings) -> tuple[float, float]:
    """The part of the trials that goes to subspaces, and the part to subspaces or anywhere."""
    if settings.workers < 4:
        return 0.0, 1.0
    # The best of a few trials is no incumbent yet.
    if len(data.values) < 10 * len(space):
        return 0.15, 0.8
    return 0.15, 0.35


def _score(
    space: SearchSpace,
    history: History,
    data: SurrogateData,
    region: TrustRegion,
    settings: AskSettings,
    rng: np.random.Generator,
) -> Acquisition:
    if region.centre is not None:
        data = _local_data(surrogate_data_of(space, history, settings.cost_limit, region.box), data)
    chosen = _training_trials(space, data, region, rng)
    return acquisition_of(
        space,
        data,
        chosen,
        _baseline(data, region, chosen),
        settings.cost_weight,
        rng,
    )


def _training_trials(
    space: SearchSpace, data: SurrogateData, region: TrustRegion, rng: np.random.Generator
) -> NDArray[np.int64]:
    """The trials that a region's surrogate is fitted to: the best, the nearest, some at random."""
    count = len(data.values)
    if count <= PREDICTING_POINTS:
        return np.arange(count)
    best = np.argsort(data.ranking_values, kind="stable")[: PREDICTING_POINTS // 4]
    if region.centre is None:
        inside = np.flatnonzero(region.box.contains(data.units))
        near = rng.permutation(inside)
    else:
        centre = data.features_of(space, region.centre[None])[0]
        near = nearest(data.features, centre)
    order = np.concatenate([best, near[: PREDICTING_POINTS // 2], rng.permutation(count)])
    _, first = np.unique(order, return_index=True)
    return order[np.sort(first)][:PREDICTING_POINTS]


def _local_data(inside: SurrogateData, data: SurrogateData) -> SurrogateData:
    """The trials inside a box if they are enough for a surrogate of its own, else all trials.

    A surrogate of the whole space cannot resolve a box: its length scales are at least a tenth of
    the cube, and values are compared with the worst of all.
    """
    count, columns = inside.features.shape
    return inside if count >= 2 * columns and inside.feasible.any() else data


def _baseline(
    data: SurrogateData, region: TrustRegion, chosen: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Those of the chosen trials whose best is to be improved on.

    Around an incumbent, its neighbours alone: each local optimum is refined, however good another
    one is. Which one is deeper shows only at its minimum.
    """
    if region.centre is None:
        return chosen
    inside = chosen[region.box.contains(data.units[chosen])]
    return inside if data.feasible[inside].any() else chosen
