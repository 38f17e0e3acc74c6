"""The next trial: a pure function of what is known, so that every worker can decide on its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from keras_candle.search.acquisition import Acquisition, acquisition_of
from keras_candle.search.ask_settings import SURROGATES, AskSettings
from keras_candle.search.features import features_of
from keras_candle.search.history import Floats, History
from keras_candle.search.kernels import squared_distances
from keras_candle.search.optimize_acquisition import maximise
from keras_candle.search.space import SearchSpace
from keras_candle.search.subspaces import Subspace, whole
from keras_candle.search.surrogate_data import SurrogateData, evidence_of, nearest
from keras_candle.search.trust_regions import (
    TrustRegion,
    choose_subspace,
    deepen,
    incumbents,
    inner,
    trust_box,
)

# A prediction is made from at most so many trials.
PREDICTING_POINTS = 200
# Finite spaces with fewer points than this are looked through whole.
LISTED = 2_000
# How far round an incumbent no other trial is better, as a part of the cube's side.
_VALLEY = 0.1
# Of the whole cube as a region. Without any, most trials go to its many corners.
_MARGINS = (0.0, 0.0, 0.08, 0.16)


@dataclass(frozen=True)
class Suggestion:
    """A trial to run.

    Attributes:
        unit: float [d], canonical.
        subspace: the index of the subspace that it is given to.
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
    """The next trial.

    Args:
        space: to be searched.
        history: ended and running trials, also those that failed.
        subspaces: from `decompose`.
        home: the index of the subspace that the asking worker prefers.
        settings: how to search.
        rng: all chance comes from it: the same arguments give the same suggestion.

    Returns:
        None when each point of a finite space has been tried or is running.
    """
    tried = set(space.keys(history.units)) | set(space.keys(history.pending))
    untried = _untried(space, tried)
    if untried is not None and not len(untried):
        return None
    evidence = evidence_of(space, history, settings.cost_limit)
    known = len(history.units) + len(history.pending)
    if known < start_size(space, settings) or len(evidence.values) < 3:
        unit = _apart(space, history, subspaces[home], untried, rng)
        return Suggestion(unit, home)
    region = _region(space, history, evidence, subspaces, home, settings, rng)
    if untried is not None and len(untried) <= LISTED:
        inside = untried[region.box.contains(untried)]
        if not len(inside):
            inside, region = untried, TrustRegion(whole(space), region.subspace)
        score = _score(space, history, evidence, region, settings, rng)
        return Suggestion(inside[score(inside).argmax()], region.subspace)
    score = _score(space, history, evidence, region, settings, rng)
    good = evidence.units[np.argsort(evidence.merits, kind="stable")[:20]]
    if region.centre is not None:
        good = np.concatenate([region.centre[None], good[region.box.contains(good)]])
    best = maximise(space, region.box, score, good, tried, rng)
    if best is None:
        best = _apart(space, history, subspaces[region.subspace], untried, rng)
    return Suggestion(best, region.subspace)


def start_size(space: SearchSpace, settings: AskSettings) -> int:
    """How many trials come before the first decision of a surrogate: few when the budget is small.

    Args:
        space: to be searched.
        settings: how.
    """
    return max(3, min(2 * len(space), settings.budget // 8))


def _untried(space: SearchSpace, tried: set[bytes]) -> Floats | None:
    """All points that are left, where listing them is affordable or needed; else None."""
    if space.count is None or (space.count > LISTED and 2 * len(tried) < space.count):
        return None
    points = space.all_points()
    left = np.array([key not in tried for key in space.keys(points)], bool)
    return np.asarray(points[left])


def _apart(
    space: SearchSpace,
    history: History,
    box: Subspace,
    untried: Floats | None,
    rng: np.random.Generator,
) -> Floats:
    """A point of a subspace that is far from all that are known."""
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
    evidence: SurrogateData,
    subspaces: Sequence[Subspace],
    home: int,
    settings: AskSettings,
    rng: np.random.Generator,
) -> TrustRegion:
    everything = whole(space)
    explore, anywhere = _shares(space, evidence, settings)
    if len(subspaces) == 1:
        explore = 0.0
    kind = rng.random()
    if kind < explore:
        number = choose_subspace(history, evidence, subspaces, home, settings.cost_exponent, rng)
        box = deepen(space, subspaces[number], evidence, settings.cost_exponent, rng)
        return TrustRegion(box, number)
    if kind < anywhere:
        return TrustRegion(inner(everything, rng.choice(_MARGINS)), home)
    places = incumbents(evidence, _VALLEY * np.sqrt(len(space)))
    chances = 0.5 ** np.arange(len(places))
    chances *= evidence.cheapness(np.array(places), settings.cost_exponent)
    number = int(rng.choice(places, p=chances / chances.sum()))
    centre = evidence.units[number]
    edge = float(np.exp(rng.uniform(np.log(0.02), np.log(0.63))))
    owners = [each.index for each in subspaces if each.contains(centre[None])[0]]
    owner = home if home in owners or not owners else int(rng.choice(owners))
    return TrustRegion(trust_box(space, everything, centre, edge), owner, centre)


def _shares(
    space: SearchSpace, evidence: SurrogateData, settings: AskSettings
) -> tuple[float, float]:
    """The part of the trials that goes to subspaces, and to those or anywhere."""
    if settings.workers < 4:
        return 0.0, 1.0
    # A box around the best of a few trials is a box around nothing.
    if len(evidence.values) < 10 * len(space):
        return 0.15, 0.8
    return 0.15, 0.35


def _score(
    space: SearchSpace,
    history: History,
    evidence: SurrogateData,
    region: TrustRegion,
    settings: AskSettings,
    rng: np.random.Generator,
) -> Acquisition:
    if region.centre is not None and settings.surrogate == "gaussian_process":
        evidence = _enough(evidence_of(space, history, settings.cost_limit, region.box), evidence)
    chosen = _learned_from(space, evidence, region, rng)
    return acquisition_of(
        space,
        evidence,
        chosen,
        _rivals(evidence, region, chosen),
        SURROGATES[settings.surrogate],
        settings.price,
        rng,
    )


def _learned_from(
    space: SearchSpace, evidence: SurrogateData, region: TrustRegion, rng: np.random.Generator
) -> NDArray[np.int64]:
    """The trials for a prediction in a region: the best, the nearest, and some of all others."""
    count = len(evidence.values)
    if count <= PREDICTING_POINTS:
        return np.arange(count)
    best = np.argsort(evidence.merits, kind="stable")[: PREDICTING_POINTS // 4]
    if region.centre is None:
        inside = np.flatnonzero(region.box.contains(evidence.units))
        near = rng.permutation(inside)
    else:
        centre = evidence.features_of(space, region.centre[None])[0]
        near = nearest(evidence.features, centre)
    order = np.concatenate([best, near[: PREDICTING_POINTS // 2], rng.permutation(count)])
    _, first = np.unique(order, return_index=True)
    return order[np.sort(first)][:PREDICTING_POINTS]


def _enough(inside: SurrogateData, evidence: SurrogateData) -> SurrogateData:
    """What is known in a box where it is enough for a model of its own, else what is known at all.

    In a model of the whole, what a box would teach is lost: no length is shorter there than a tenth
    of the cube, and values are compared with the worst of all.
    """
    count, columns = inside.features.shape
    return inside if count >= 2 * columns and inside.feasible.any() else evidence


def _rivals(
    evidence: SurrogateData, region: TrustRegion, chosen: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Those of the chosen trials whose best is to be improved on.

    Round an incumbent, its neighbours alone: a valley is gone down to its ground, however good
    another one is. Only there it can be told which is deeper.
    """
    if region.centre is None:
        return chosen
    inside = chosen[region.box.contains(evidence.units[chosen])]
    return inside if evidence.feasible[inside].any() else chosen
