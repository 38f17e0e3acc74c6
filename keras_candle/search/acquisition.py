"""The acquisition: a point's expected improvement, cost, limit and failure risk in one score."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from keras_candle.search.gaussian_process import (
    GaussianProcess,
    fit_gaussian_process,
    representatives,
    squared_distances,
)
from keras_candle.search.space import Floats, SearchSpace
from keras_candle.search.surrogate_data import SurrogateData, compress_low_end, standardise

# The cost is a simpler function than the objective: a few trials are enough to fit it.
_COST_POINTS = 80
_FAILED_POINTS = 80
_FIRST_STAGE, _STAGE = 20, 1.1
# As a part of the results' spread: a smaller expected improvement doesn't justify a costly trial,
# however uncertain its region.
_SMALL_IMPROVEMENT = 0.01
# A trial beyond the limit is of no use, while the improvement keeps growing there.
_LIMIT_WEIGHT = 3.0
# A point predicted exactly at the limit breaks it half of the time (in logarithms: 3 percent).
_MARGIN = 0.03
_FAILURE_REACH = (0.03, 0.15)
_FAILURES_EXPECTED = 0.05


@dataclass(frozen=True)
class CostWeight:
    """The weight of a trial's cost in the acquisition.

    Attributes:
        exponent: the power of the cost that divides the improvement.
        limit: the highest cost; None: no limit.
    """

    exponent: float = 0.0
    limit: float | None = None


def log_expected_improvement(mean: Floats, std: Floats, best: float) -> Floats:
    """Return the logarithm of the expected improvement on the best value, for minimisation.

    Its gradient stays useful where the improvement itself underflows a float (Ament et al.,
    Unexpected Improvements to Expected Improvement, NeurIPS 2023, equation 9).

    Args:
        mean: float [n], predicted.
        std: float [n], positive.
        best: the value to improve on.

    Returns:
        float [n].

    Example:
        >>> log_expected_improvement(np.array([0.0]), np.array([1.0]), 0.0).round(3).tolist()
        [-0.919]
    """
    from scipy.special import erfcx, log1p, ndtr

    z = (best - mean) / std
    density = np.exp(-0.5 * np.minimum(z**2, 1400)) / np.sqrt(2 * np.pi)
    near = np.log(np.maximum(density + z * ndtr(z), 1e-300))
    below = np.minimum(z, -1.0)
    # phi(z) + z Phi(z) = phi(z) (1 - |z| Phi(z) / phi(z)), the ratio by the scaled erfc.
    ratio = np.sqrt(np.pi / 2) * erfcx(-below / np.sqrt(2)) * -below
    tail = (
        np.where(below < -1e3, -2 * np.log(-below), log1p(-np.minimum(ratio, 1 - 1e-12)))
        - 0.5 * below**2
        - 0.5 * np.log(2 * np.pi)
    )
    return np.asarray(np.where(z > -1.0, near, tail) + np.log(std))


def log_probability_below(mean: Floats, std: Floats, limit: float) -> Floats:
    """Return the logarithm of the probability that a value is at most a limit.

    Args:
        mean: float [n], predicted.
        std: float [n], positive.
        limit: in the same units.

    Returns:
        float [n].
    """
    from scipy.special import log_ndtr

    return np.asarray(log_ndtr((limit - mean) / std))


@dataclass(frozen=True)
class Acquisition:
    """A score of points, higher is better.

    Attributes:
        space: the search space of the points.
        data: the trials that the models are fitted to.
        model: the surrogate of the objective.
        best: the value to improve on; None: no trial has kept the cost limit yet.
        cost: the surrogate of the logarithm of the cost; None where cost doesn't matter.
        exponent: the power of the cost that divides the improvement.
        limit: logarithm of the highest cost; None: no limit.
    """

    space: SearchSpace
    data: SurrogateData
    model: GaussianProcess
    best: float | None
    cost: GaussianProcess | None = None
    exponent: float = 0.0
    limit: float | None = None

    def __call__(self, units: Floats) -> Floats:
        """Return float [n], the score of float [n, d] canonical points, in logarithms."""
        features = self.data.features_of(self.space, units)
        score = np.zeros(len(units))
        if self.best is not None:
            mean, std = self.model.predict(features)
            score += log_expected_improvement(mean, std, self.best)
            if self.exponent:
                score = np.logaddexp(score, np.log(_SMALL_IMPROVEMENT))
        if self.cost is not None:
            mean, std = self.cost.predict(features)
            score -= self.exponent * mean
            if self.limit is not None:
                # A cost is never known better than to a hundredth.
                within = log_probability_below(mean, np.hypot(std, 0.01), self.limit - _MARGIN)
                score += _LIMIT_WEIGHT * within
        return np.asarray(score + self._log_success_probability(features))

    def _log_success_probability(self, features: Floats) -> Floats:
        """Log probability that a trial gives a finite objective, by a kernel estimate."""
        failed, fine = self.data.failed, self.data.features
        if not len(failed):
            return np.zeros(len(features))
        reach = _failure_length_scale(self.data)
        near = _similarity(features, failed, reach).sum(axis=1)
        safe = _similarity(features, fine, reach).sum(axis=1)
        return np.asarray(np.log1p(-(near + _FAILURES_EXPECTED) / (near + safe + 1.0)))


def acquisition_of(
    space: SearchSpace,
    data: SurrogateData,
    chosen: Any,
    baseline: Any,
    cost_weight: CostWeight,
    rng: np.random.Generator,
) -> Acquisition:
    """Fit the surrogates and return the acquisition.

    Args:
        space: the search space of the points.
        data: the trials so far.
        chosen: int [k], the trials that the surrogate of the objective is fitted to.
        baseline: int [j], the trials whose best value is to be improved on.
        cost_weight: how cost counts.
        rng: the generator for the fits.
    """
    stage = _stage(data)
    values = compress_low_end(data.values)[0] if stage.low_end else data.values
    features, known = _with_failures(data, data.features[chosen], values[chosen])
    model = fit_gaussian_process(features, known, rng, stage.model)
    best = _best(data, values, baseline, model)
    if len(data.pending):
        # A pending trial is assumed to give its predicted mean (kriging believer).
        model = model.with_points(data.pending, model.predict(data.pending)[0])
    cost = None
    limit = cost_weight.limit
    if cost_weight.exponent or limit is not None:
        cost = _cost_model(data, rng)
    return Acquisition(
        space,
        data,
        model,
        best,
        cost,
        cost_weight.exponent,
        None if limit is None else np.log(limit),
    )


@dataclass(frozen=True)
class _Stage:
    """The fit to the first trials, and whether the low end of their values was compressed."""

    model: GaussianProcess
    low_end: bool


def _stage(data: SurrogateData) -> _Stage:
    """The fit to the first trials, whose number grows by a tenth from stage to stage.

    A fit to all trials starts from it. It depends on the first trials alone, so many decisions
    share it, and it is cached between them.
    """
    count = len(data.values)
    if count > _FIRST_STAGE:
        stages = np.log(count / _FIRST_STAGE) // np.log(_STAGE)
        count = int(_FIRST_STAGE * _STAGE**stages)
    features, objective = data.features[:count], data.objective[:count]
    return _remembered_stage(features.tobytes(), objective.tobytes(), features.shape[1])


@lru_cache(maxsize=16)
def _remembered_stage(features: bytes, objective: bytes, columns: int) -> _Stage:
    points = np.frombuffer(features).reshape(-1, columns)
    values = standardise(np.frombuffer(objective))
    rng = np.random.default_rng(len(values))
    chosen = representatives(values, columns, rng)
    points, values = points[chosen], values[chosen]
    plain = fit_gaussian_process(points, values, rng)
    bent, slopes = compress_low_end(values)
    if slopes == 0.0:
        return _Stage(plain, False)
    compressed = fit_gaussian_process(points, bent, rng, plain)
    if compressed.loss - slopes < plain.loss:
        return _Stage(compressed, True)
    return _Stage(plain, False)


def _best(
    data: SurrogateData, values: Floats, baseline: Any, model: GaussianProcess
) -> float | None:
    feasible = data.feasible[baseline]
    if not feasible.any():
        return None
    rows = baseline[feasible]
    features = data.features[rows]
    if data.fidelities:
        features = features.copy()
        features[:, -1] = 1.0
    elif model.noise < 0.05:
        return float(values[rows].min())
    # With noise, or below full fidelity, the lowest observed value is biased low.
    return float(model.predict(features)[0].min())


def _with_failures(data: SurrogateData, features: Floats, values: Floats) -> tuple[Floats, Floats]:
    """Add failed trials as bad values, but only where most trials fail; single ones are chance."""
    failed, fine = data.failed[-_FAILED_POINTS:], data.features
    if not len(failed):
        return features, values
    reach = _failure_length_scale(data)
    near = _similarity(failed, failed, reach).sum(axis=1)
    hopeless = failed[near > 1.5 * _similarity(failed, fine, reach).sum(axis=1)]
    bad = np.full(len(hopeless), values.max())
    return np.concatenate([features, hopeless]), np.concatenate([values, bad])


def _cost_model(data: SurrogateData, rng: np.random.Generator) -> GaussianProcess | None:
    known = np.flatnonzero(np.isfinite(data.log_cost))
    if len(known) < 3:
        return None
    if len(known) > _COST_POINTS:
        known = rng.choice(known, _COST_POINTS, replace=False)
    return fit_gaussian_process(data.features[known], data.log_cost[known], rng)


def _failure_length_scale(data: SurrogateData) -> float:
    """The length scale of the failure estimate: about the distance to the next trial."""
    columns = data.features.shape[1]
    count = len(data.features) + len(data.failed)
    part = np.clip(0.4 * count ** (-1 / columns), *_FAILURE_REACH)
    return float(part * np.sqrt(columns))


def _similarity(features: Floats, centres: Floats, reach: float) -> Floats:
    return np.asarray(np.exp(-0.5 * squared_distances(features, centres) / reach**2))


def forget_stages() -> None:
    """Clear the cache of fits; the next decision is the same, but fits everything anew."""
    _remembered_stage.cache_clear()
