"""Regularised evolution of architectures, in which a surrogate chooses among the mutants.

Real et al., Regularized Evolution for Image Classifier Architecture Search (2019), for parents that
age; the ranking of mutants by a surrogate is that of White et al., BANANAS (2021). Everything is a
function of the history, so every worker can decide on its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from keras_candle.errors import SearchError
from keras_candle.search.acquisition import acquisition_of
from keras_candle.search.ask import PREDICTING_POINTS
from keras_candle.search.ask_settings import SURROGATES, AskSettings
from keras_candle.search.history import Floats, History
from keras_candle.search.space import SearchSpace
from keras_candle.search.surrogate_data import SurrogateData, evidence_of

# A small step of a numeric hyperparameter, as a part of its range.
_STEP = 0.15


@dataclass(frozen=True)
class Evolution:
    """How to evolve.

    Attributes:
        population: the last so many trials that gave a number can be parents; older ones died.
        tournament: a parent is the best of so many drawn from the population.
        start: so many trials are drawn from the whole space first.
        mutants: among so many the surrogate chooses.
        further_mutations: the probability of a second decision to change, of a third one, ...
        ranked: False: the first mutant is taken, as in regularised evolution alone.
    """

    population: int = 50
    tournament: int = 10
    start: int = 8
    mutants: int = 300
    further_mutations: float = 0.3
    ranked: bool = True

    def __post_init__(self) -> None:
        counts = (self.population, self.tournament, self.start, self.mutants)
        if min(counts) < 1 or not 0 <= self.further_mutations < 1:
            raise SearchError(
                f"{self}: population, tournament, start and mutants must be at least 1, and "
                "further_mutations from 0 to below 1."
            )


def propose(
    space: SearchSpace,
    history: History,
    settings: AskSettings,
    rng: np.random.Generator,
    evolution: Evolution | None = None,
) -> Floats | None:
    """The next trial: a mutant of a good one among the last trials.

    A mutant differs from its parent in a decision of the architecture: a dimension with counted
    values. Continuous dimensions, as the learning rate, are kept in half of the mutants and moved
    in the others; the surrogate chooses among all by expected improvement.

    Args:
        space: to be searched.
        history: ended and running trials, also those that failed.
        settings: which surrogate, and what a trial may cost.
        rng: all chance comes from it: the same arguments give the same trial.
        evolution: how to evolve.

    Returns:
        float [d], canonical; None when each point of a finite space was tried or is running.
    """
    how = evolution or Evolution()
    tried = set(space.keys(history.units)) | set(space.keys(history.pending))
    if space.count is not None and len(tried) >= space.count:
        return None
    whole = np.flatnonzero(history.whole)
    if len(history.units) + len(history.pending) < how.start or len(whole) < 2:
        return _anything_new(space, tried, rng)
    population = whole[-how.population :]
    parents = _winners(history.objective[population], how, rng)
    mutants = mutate(space, history.units[population[parents]], how.further_mutations, rng)
    new = _new_ones(space, mutants, tried)
    if not len(new):
        return _anything_new(space, tried, rng)
    chosen = _rank(space, history, new, settings, rng) if how.ranked else 0
    return np.asarray(new[chosen])


def mutate(
    space: SearchSpace, parents: Floats, further_mutations: float, rng: np.random.Generator
) -> Floats:
    """A mutant of each parent.

    Args:
        space: that the parents belong to.
        parents: float [n, d].
        further_mutations: the probability of a second decision to change, of a third one, ...
        rng: of the mutations.

    Returns:
        float [n, d], canonical. A decision that becomes active takes a value by chance.
    """
    counted = np.array([(each.size or 0) > 1 for each in space.dimensions])
    free = np.array([each.size is None for each in space.dimensions])
    units = space.canonical(parents)
    changing = np.ones(len(units), bool)
    while changing.any() and counted.any():
        units[changing] = _change_one(space, units[changing], counted, rng)
        changing &= rng.random(len(units)) < further_mutations
    moving = (rng.random(len(units)) < 0.5) | ~counted.any()
    step = rng.normal(0, _STEP, units.shape) * (moving[:, None] & free)
    # Reflected at the border, where clipping would let many stand on it.
    return space.canonical(1 - abs(1 - abs(units + step)))


def _change_one(
    space: SearchSpace, units: Floats, counted: NDArray[np.bool_], rng: np.random.Generator
) -> Floats:
    """Each point with another value of one of its active decisions."""
    rows, sizes = np.arange(len(units)), np.array([each.size or 1 for each in space.dimensions])
    ordered = np.array([each.ordered for each in space.dimensions])
    draws = rng.random(units.shape)
    column = np.where(counted & ~np.isnan(units), draws, -1).argmax(axis=1)
    value, size = space.values(units)[rows, column], sizes[column]
    other = (value + 1 + rng.integers(np.maximum(size - 1, 1))) % size
    # Half of the changes of an ordered decision are to a neighbour: 32 units become 16 or 64.
    near = value + rng.choice([-1, 1], len(units))
    near = np.where((near < 0) | (near >= size), 2 * value - near, near)
    beside = ordered[column] & (rng.random(len(units)) < 0.5)
    changed = np.where(np.isnan(units), rng.random(units.shape), units)
    changed[rows, column] = (np.where(beside, near, other) + 0.5) / size
    return space.canonical(changed)


def _winners(objective: Floats, how: Evolution, rng: np.random.Generator) -> NDArray[np.int64]:
    """The numbers of the parents, one for each mutant; each the best of a tournament."""
    size = min(how.tournament, len(objective))
    rank = np.argsort(np.argsort(objective, kind="stable"))
    drawn = rng.random((how.mutants, len(objective))).argpartition(size - 1, axis=1)[:, :size]
    best = rank[drawn].argmin(axis=1)
    return np.asarray(drawn[np.arange(how.mutants), best])


def _new_ones(space: SearchSpace, units: Floats, tried: set[bytes]) -> Floats:
    """Those that were not tried, each once."""
    first: dict[bytes, int] = {}
    for number, key in enumerate(space.keys(units)):
        if key not in tried:
            first.setdefault(key, number)
    return units[list(first.values())]


def _anything_new(space: SearchSpace, tried: set[bytes], rng: np.random.Generator) -> Floats:
    """A point by chance that was not tried; there must be one."""
    for _ in range(8):
        new = _new_ones(space, space.sample(32, rng), tried)
        if len(new):
            return np.asarray(new[0])
    new = _new_ones(space, space.all_points(), tried)
    return np.asarray(new[rng.integers(len(new))])


def _rank(
    space: SearchSpace,
    history: History,
    mutants: Floats,
    settings: AskSettings,
    rng: np.random.Generator,
) -> int:
    """The number of the mutant that is worth most: improvement, cost and danger of failing."""
    evidence = evidence_of(space, history, settings.cost_limit)
    chosen = _learned_from(evidence)
    score = acquisition_of(
        space,
        evidence,
        chosen,
        chosen,
        SURROGATES[settings.surrogate],
        settings.price,
        rng,
    )
    return int(score(mutants).argmax())


def _learned_from(evidence: SurrogateData) -> NDArray[np.int64]:
    """The best trials and the last ones: near these are the mutants."""
    best = np.argsort(evidence.values, kind="stable")[: PREDICTING_POINTS // 3]
    last = np.arange(len(evidence.values))[-(PREDICTING_POINTS - len(best)) :]
    return np.union1d(best, last)
