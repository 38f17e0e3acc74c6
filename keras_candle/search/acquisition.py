"""What a trial at a point is worth: its improvement, cost, limits and danger, in one number."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from keras_candle.search.ask_settings import CostWeight
from keras_candle.search.gaussian_process import (
    GaussianProcess,
    fit_gaussian_process,
    representatives,
)
from keras_candle.search.history import Floats
from keras_candle.search.kernels import squared_distances
from keras_candle.search.space import SearchSpace
from keras_candle.search.surrogate_data import SurrogateData, level, with_low_end

Fit = Callable[..., Any]
# The cost is a simpler function than the objective: few trials tell enough of it.
_COST_POINTS = 80
_FAILED_POINTS = 80
_FIRST_STAGE, _STAGE = 20, 1.1
# Of the results' spread: nobody pays a dear trial for less, however unknown its region.
_SMALL_IMPROVEMENT = 0.01
# A trial beyond the limit is of no use, and improvement goes on growing there.
_LIMIT_WEIGHT = 3.0
# What is aimed at the limit itself lands beyond it half of the time (in logarithms: 3 percent).
_MARGIN = 0.03
_FAILURE_REACH = (0.03, 0.15)
_FAILURES_EXPECTED = 0.05


def log_expected_improvement(mean: Floats, std: Floats, best: float) -> Floats:
    """The logarithm of the expected improvement on the best value, for minimisation.

    It keeps its slope where the improvement itself is too small for a float (Ament et al.,
    Unexpected Improvements to Expected Improvement, NeurIPS 2023, equation 9).

    Args:
        mean: float [n], predicted.
        std: float [n], positive.
        best: to be improved on.

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
    """The logarithm of the probability that a value is at most a limit.

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
    """A score for points, the higher the better.

    Attributes:
        space: of the points.
        evidence: what the models learned from.
        model: of the objective.
        best: the value to be improved on; None: no trial has kept the limit of the cost yet.
        cost: of the logarithm of the cost; None where cost doesn't matter.
        exponent: of the cost that the improvement is divided by.
        limit: logarithm of the highest cost; None without.
    """

    space: SearchSpace
    evidence: SurrogateData
    model: Any
    best: float | None
    cost: Any = None
    exponent: float = 0.0
    limit: float | None = None

    def __call__(self, units: Floats) -> Floats:
        """Float [n], the logarithm of what trials at float [n, d] canonical points are worth."""
        features = self.evidence.features_of(self.space, units)
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
                # A hundredth: how well a cost can be known at all.
                within = log_probability_below(mean, np.hypot(std, 0.01), self.limit - _MARGIN)
                score += _LIMIT_WEIGHT * within
        return np.asarray(score + self._log_safety(features))

    def _log_safety(self, features: Floats) -> Floats:
        """The logarithm of the probability that a trial gives a number (a kernel's estimate)."""
        failed, fine = self.evidence.failed, self.evidence.features
        if not len(failed):
            return np.zeros(len(features))
        reach = _reach(self.evidence)
        near = _closeness(features, failed, reach).sum(axis=1)
        safe = _closeness(features, fine, reach).sum(axis=1)
        return np.asarray(np.log1p(-(near + _FAILURES_EXPECTED) / (near + safe + 1.0)))


def acquisition_of(
    space: SearchSpace,
    evidence: SurrogateData,
    chosen: Any,
    rivals: Any,
    fit: Fit,
    price: CostWeight,
    rng: np.random.Generator,
) -> Acquisition:
    """Fit what is needed to judge points.

    Args:
        space: of the points.
        evidence: what is known.
        chosen: int [k], the trials that the model of the objective learns from.
        rivals: int [j], those whose best is to be improved on.
        fit: makes a surrogate.
        price: how cost counts.
        rng: for the fits.
    """
    earlier, values = None, evidence.values
    if fit is fit_gaussian_process:
        stage = _stage(evidence)
        earlier = stage.model
        values = with_low_end(values)[0] if stage.low_end else values
    features, known = _with_failures(evidence, evidence.features[chosen], values[chosen])
    model = fit(features, known, rng, earlier)
    best = _best(evidence, values, rivals, model)
    if len(evidence.pending):
        # A running trial is believed to give what is expected of it (kriging believer).
        model = model.with_points(evidence.pending, model.predict(evidence.pending)[0])
    cost = None
    limit = price.limit
    if price.exponent or limit is not None:
        cost = _cost_model(evidence, fit, rng)
    return Acquisition(
        space,
        evidence,
        model,
        best,
        cost,
        price.exponent,
        None if limit is None else np.log(limit),
    )


@dataclass(frozen=True)
class _Stage:
    """The fit to the first trials, and whether the low end of the values was levelled for it."""

    model: GaussianProcess
    low_end: bool


def _stage(evidence: SurrogateData) -> _Stage:
    """The fit to the first trials, whose number grows by a tenth from stage to stage.

    It is where a fit to all begins. As it depends on the first trials alone, it is the same for
    many decisions, and remembered between them.
    """
    count = len(evidence.values)
    if count > _FIRST_STAGE:
        stages = np.log(count / _FIRST_STAGE) // np.log(_STAGE)
        count = int(_FIRST_STAGE * _STAGE**stages)
    features, objective = evidence.features[:count], evidence.objective[:count]
    return _remembered_stage(features.tobytes(), objective.tobytes(), features.shape[1])


@lru_cache(maxsize=16)
def _remembered_stage(features: bytes, objective: bytes, columns: int) -> _Stage:
    points = np.frombuffer(features).reshape(-1, columns)
    values = level(np.frombuffer(objective))
    rng = np.random.default_rng(len(values))
    chosen = representatives(values, columns, rng)
    points, values = points[chosen], values[chosen]
    plain = fit_gaussian_process(points, values, rng)
    bent, slopes = with_low_end(values)
    if slopes == 0.0:
        return _Stage(plain, False)
    other = fit_gaussian_process(points, bent, rng, plain)
    if other.loss - slopes < plain.loss:
        return _Stage(other, True)
    return _Stage(plain, False)


def _best(evidence: SurrogateData, values: Floats, rivals: Any, model: Any) -> float | None:
    feasible = evidence.feasible[rivals]
    if not feasible.any():
        return None
    rows = rivals[feasible]
    features = evidence.features[rows]
    if evidence.fidelities:
        features = features.copy()
        features[:, -1] = 1.0
    elif model.noise < 0.05:
        return float(values[rows].min())
    # With noise, or at a part of the fidelity, the lowest number seen is too good to be true.
    return float(model.predict(features)[0].min())


def _with_failures(
    evidence: SurrogateData, features: Floats, values: Floats
) -> tuple[Floats, Floats]:
    """With the failed trials where most trials fail, as bad ones. Others may have had bad luck."""
    failed, fine = evidence.failed[-_FAILED_POINTS:], evidence.features
    if not len(failed):
        return features, values
    reach = _reach(evidence)
    near = _closeness(failed, failed, reach).sum(axis=1)
    hopeless = failed[near > 1.5 * _closeness(failed, fine, reach).sum(axis=1)]
    bad = np.full(len(hopeless), values.max())
    return np.concatenate([features, hopeless]), np.concatenate([values, bad])


def _cost_model(evidence: SurrogateData, fit: Fit, rng: np.random.Generator) -> Any:
    known = np.flatnonzero(np.isfinite(evidence.log_cost))
    if len(known) < 3:
        return None
    if len(known) > _COST_POINTS:
        known = rng.choice(known, _COST_POINTS, replace=False)
    return fit(evidence.features[known], evidence.log_cost[known], rng)


def _reach(evidence: SurrogateData) -> float:
    """How far a trial tells whether others fail: about as far as to the next one."""
    columns = evidence.features.shape[1]
    count = len(evidence.features) + len(evidence.failed)
    part = np.clip(0.4 * count ** (-1 / columns), *_FAILURE_REACH)
    return float(part * np.sqrt(columns))


def _closeness(features: Floats, others: Floats, reach: float) -> Floats:
    return np.asarray(np.exp(-0.5 * squared_distances(features, others) / reach**2))


def forget_stages() -> None:
    """Let the next decision fit all anew; it will be the same."""
    _remembered_stage.cache_clear()
