"""Regularised evolution of architectures with a surrogate that ranks the mutants.

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
from keras_candle.search.surrogate_data import SurrogateData, surrogate_data_of

# A small step of a numeric hyperparameter, as a part of its range.
_STEP = 0.15


@dataclass(frozen=True)
class Evolution:
    """The settings of the evolution.

    Attributes:
        population: the number of latest completed trials that can be parents; older ones can't.
        tournament: a parent is the best of this many draws from the population.
        start: the number of first trials, drawn from the whole space.
        mutants: the number of mutants that the surrogate ranks.
        further_mutations: the probability of a second decision to change, of a third one, ...
        ranked: False: the first mutant is taken, as in plain regularised evolution.
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
    """Return the next trial: a mutant of a good one among the latest trials.

    A mutant differs from its parent in a decision of the architecture: a dimension with counted
    values. Continuous dimensions, such as the learning rate, are kept in half of the mutants and
    moved in the rest; the surrogate chooses among all by expected improvement.

    Args:
        space: the search space.
        history: ended and running trials, also those that failed.
        settings: the surrogate, and the weight of the cost.
        rng: the only source of randomness: the same arguments give the same trial.
        evolution: the settings of the evolution; None: the defaults.

    Returns:
        float [d], canonical; None when each point of a finite space was tried or is running.
    """
    evolution = evolution or Evolution()
    tried = set(space.keys(history.units)) | set(space.keys(history.pending))
    if space.count is not None and len(tried) >= space.count:
        return None
    whole = np.flatnonzero(history.succeeded)
    if len(history.units) + len(history.pending) < evolution.start or len(whole) < 2:
        return _random_untried(space, tried, rng)
    population = whole[-evolution.population :]
    parents = _tournament_winners(history.objective[population], evolution, rng)
    mutants = mutate(space, history.units[population[parents]], evolution.further_mutations, rng)
    new = _untried(space, mutants, tried)
    if not len(new):
        return _random_untried(space, tried, rng)
    chosen = _rank(space, history, new, settings, rng) if evolution.ranked else 0
    return np.asarray(new[chosen])


def mutate(
    space: SearchSpace, parents: Floats, further_mutations: float, rng: np.random.Generator
) -> Floats:
    """Return a mutant of each parent.

    Args:
        space: the search space of the parents.
        parents: float [n, d].
        further_mutations: the probability of a second decision to change, of a third one, ...
        rng: the generator of the mutations.

    Returns:
        float [n, d], canonical. A decision that becomes active gets a random value.
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
    # Reflected at the border; clipping would put many points on it.
    return space.canonical(1 - abs(1 - abs(units + step)))


def _change_one(
    space: SearchSpace, units: Floats, counted: NDArray[np.bool_], rng: np.random.Generator
) -> Floats:
    """Change one active decision of each point."""
    rows, sizes = np.arange(len(units)), np.array([each.size or 1 for each in space.dimensions])
    ordered = np.array([each.ordered for each in space.dimensions])
    draws = rng.random(units.shape)
    column = np.where(counted & ~np.isnan(units), draws, -1).argmax(axis=1)
    value, size = space.values(units)[rows, column], sizes[column]
    any_value = (value + 1 + rng.integers(np.maximum(size - 1, 1))) % size
    # Half of the changes of an ordered decision are to a neighbour: 32 units become 16 or 64.
    near = value + rng.choice([-1, 1], len(units))
    near = np.where((near < 0) | (near >= size), 2 * value - near, near)
    beside = ordered[column] & (rng.random(len(units)) < 0.5)
    changed = np.where(np.isnan(units), rng.random(units.shape), units)
    changed[rows, column] = (np.where(beside, near, any_value) + 0.5) / size
    return space.canonical(changed)


def _tournament_winners(
    objective: Floats, evolution: Evolution, rng: np.random.Generator
) -> NDArray[np.int64]:
    """The index of a parent for each mutant: the best of a tournament."""
    size = min(evolution.tournament, len(objective))
    rank = np.argsort(np.argsort(objective, kind="stable"))
    drawn = rng.random((evolution.mutants, len(objective))).argpartition(size - 1, axis=1)[:, :size]
    best = rank[drawn].argmin(axis=1)
    return np.asarray(drawn[np.arange(evolution.mutants), best])


def _untried(space: SearchSpace, units: Floats, tried: set[bytes]) -> Floats:
    """The untried points, without duplicates."""
    first: dict[bytes, int] = {}
    for number, key in enumerate(space.keys(units)):
        if key not in tried:
            first.setdefault(key, number)
    return units[list(first.values())]


def _random_untried(space: SearchSpace, tried: set[bytes], rng: np.random.Generator) -> Floats:
    """A random untried point; there must be one."""
    for _ in range(8):
        new = _untried(space, space.sample(32, rng), tried)
        if len(new):
            return np.asarray(new[0])
    new = _untried(space, space.all_points(), tried)
    return np.asarray(new[rng.integers(len(new))])


def _rank(
    space: SearchSpace,
    history: History,
    mutants: Floats,
    settings: AskSettings,
    rng: np.random.Generator,
) -> int:
    """The index of the mutant with the highest acquisition."""
    data = surrogate_data_of(space, history, settings.cost_limit)
    chosen = _training_trials(data)
    score = acquisition_of(
        space,
        data,
        chosen,
        chosen,
        SURROGATES[settings.surrogate],
        settings.cost_weight,
        rng,
    )
    return int(score(mutants).argmax())


def _training_trials(data: SurrogateData) -> NDArray[np.int64]:
    """The best and the latest trials, which the mutants are near."""
    best = np.argsort(data.values, kind="stable")[: PREDICTING_POINTS // 3]
    last = np.arange(len(data.values))[-(PREDICTING_POINTS - len(best)) :]
    return np.union1d(best, last)
