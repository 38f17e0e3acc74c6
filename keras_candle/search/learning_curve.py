"""Extrapolate a trial's learning curve to the probability that it beats the incumbent.

The curve is extrapolated with a family of shapes, as by Domhan et al., Speeding Up Automatic
Hyperparameter Optimization of Deep Neural Networks by Extrapolation of Learning Curves (2015). All
shapes are linear in their free coefficients, so that the posterior is exact and nothing is sampled:
the same curve always gives the same answer.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from keras_candle.errors import SearchError
from keras_candle.search.history import Floats

# Powers and half-lives: from a curve that is nearly a straight line over log(epochs) to one that is
# flat soon after the start.
_POWERS = (0.1, 0.3, 0.6, 1.0, 2.0)
_HALF_LIVES = (0.03, 0.1, 0.3)
# The least noise, as a part of the curve's range.
_LEAST_NOISE = 0.02
# A coefficient's spread, in ranges of the curve.
_SPREAD = 10.0


def probability_of_winning(
    epochs: ArrayLike, values: ArrayLike, max_epochs: int, incumbent: float
) -> float:
    """Return the probability that a trial's best value will be at least as good as the incumbent.

    Args:
        epochs: int [n], the epochs of the values, from 1, ascending.
        values: float [n], the objective after each, to be minimised. A last value that is not
            finite means that the training has diverged; earlier ones are left out.
        max_epochs: the epochs of the full training.
        incumbent: the value to beat.

    Returns:
        From 0 to 1. It is 1 where the incumbent is beaten already, where there is none (not
        finite), and for fewer than three finite values.

    Raises:
        SearchError: when there are not as many values as epochs, or epochs don't ascend.

    Example:
        >>> probability_of_winning([1, 2, 3, 4, 5], [0.9, 0.5, 0.41, 0.4, 0.4], 20, 0.1) < 0.05
        True
    """
    times, curve = np.asarray(epochs, np.float64), np.asarray(values, np.float64)
    if times.ndim != 1 or times.shape != curve.shape or (np.diff(times, prepend=0.0) <= 0).any():
        raise SearchError(
            f"A learning curve got epochs {times.tolist()} and values {curve.tolist()}; expected "
            "as many values as epochs, which ascend from 1."
        )
    if not np.isfinite(incumbent) or not len(curve):
        return 1.0
    finite = np.isfinite(curve)
    if (curve[finite] <= incumbent).any():
        return 1.0
    if not finite[-1] or times[-1] >= max_epochs:
        return 0.0
    if finite.sum() < 3:
        return 1.0
    return _extrapolate(times[finite], curve[finite], max_epochs, float(incumbent))


def should_stop(
    epochs: ArrayLike,
    values: ArrayLike,
    max_epochs: int,
    incumbent: float,
    *,
    min_epochs: int = 5,
    threshold: float = 0.03,
) -> bool:
    """Return whether to stop a trial because it is unlikely to beat the incumbent.

    Args:
        epochs: int [n], see `probability_of_winning`.
        values: float [n].
        max_epochs: the epochs of the full training.
        incumbent: the value to beat: the best so far, or that of the k-th best trial.
        min_epochs: no trial is stopped before this epoch.
        threshold: a trial is stopped below this probability.

    Raises:
        SearchError: when there are not as many values as epochs, or epochs don't ascend.
    """
    times = np.asarray(epochs, np.float64)
    chance = probability_of_winning(times, values, max_epochs, incumbent)
    return bool(len(times)) and bool(times[-1] >= min_epochs) and chance < threshold


def _shapes(times: Floats, max_epochs: int) -> list[Floats]:
    """Falling functions of the epochs; each, scaled and shifted, is a model of the curve."""
    powers = [times**-power for power in _POWERS]
    decays = [0.5 ** (times / (part * max_epochs)) for part in _HALF_LIVES]
    # A curve that falls ever faster shows no asymptote yet: continue at least a straight line.
    return [*powers, *decays, -times / max_epochs]


def _extrapolate(times: Floats, curve: Floats, max_epochs: int, incumbent: float) -> float:
    from scipy.stats import t as student

    # Later epochs predict the rest better than the first ones.
    weights = times / times.sum() * len(times)
    scale = float(curve.max() - curve.min()) or max(abs(float(curve[-1])), 1e-12)
    y, goal = (curve - curve[-1]) / scale, (incumbent - curve[-1]) / scale
    ahead = np.array([float(max_epochs)])
    evidence, chances = [], []
    for shape, end in zip(_shapes(times, max_epochs), _shapes(ahead, max_epochs), strict=True):
        # A shape is measured from its last value, and in its own range: its coefficient is then the
        # fall of the curve so far.
        span = (shape.max() - shape.min()) or 1.0
        basis = np.stack([np.ones_like(shape), (shape - shape[-1]) / span], axis=1)
        point = np.array([1.0, (end[0] - shape[-1]) / span])
        mean, spread, log_evidence = _posterior(basis, y, weights, point)
        # The best of the remaining epochs is below their mean by at most this.
        noise = spread[1] * np.sqrt(2 * np.log(max(max_epochs - times[-1], 1.0)))
        evidence.append(log_evidence)
        degrees = 1.0 + weights.sum() ** 2 / (weights**2).sum()
        chances.append(student.cdf((goal - mean + noise) / spread[0], degrees))
    belief = np.exp(np.array(evidence) - max(evidence))
    return float(belief @ np.array(chances) / belief.sum())


def _posterior(
    basis: Floats, y: Floats, weights: Floats, point: Floats
) -> tuple[float, tuple[float, float], float]:
    """Bayesian linear regression with an inverse gamma prior of the noise (Bishop, chapter 3).

    Returns:
        The mean at the point; the standard deviations of a value there and of the noise; the
        logarithm of the evidence, up to a constant.
    """
    prior = np.eye(2) / _SPREAD**2
    precision = prior + basis.T @ (weights[:, None] * basis)
    coefficients = np.linalg.solve(precision, basis.T @ (weights * y))
    lost = weights @ (y - basis @ coefficients) ** 2 + coefficients @ prior @ coefficients
    count = len(y)
    variance = (lost + 2 * _LEAST_NOISE**2) / (count + 2)
    spread = np.sqrt(variance * (1 + point @ np.linalg.solve(precision, point)))
    evidence = -0.5 * (count + 2) * np.log(variance) - 0.5 * np.linalg.slogdet(precision)[1]
    return float(point @ coefficients), (float(spread), float(np.sqrt(variance))), float(evidence)
