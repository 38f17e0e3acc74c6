"""The Gaussian process surrogate: Matern 5/2, one length scale for each column, fitted by MAP.

Rasmussen and Williams, Gaussian Processes for Machine Learning, chapters 2 and 5; the prior of the
length scales grows with the root of the dimensions (Hvarfner et al., ICML 2024).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_candle.search.history import Floats
from keras_candle.search.kernels import product, squared_differences, total
from keras_candle.search.posterior import bounds, negative_log_posterior, starts

# Hyperparameters are fitted to at most this many points; predictions use all points.
FITTED_POINTS = 100
_FEWEST_POINTS = 64
_FIRST_STEPS, _STEPS = 6, 18
# Starting from an earlier fit takes fewer steps.
_FURTHER_STEPS = 8


@dataclass(frozen=True)
class GaussianProcess:
    """A Gaussian process, conditioned on observed values.

    Attributes:
        logarithms: float [2 f + 3], logarithms of the fitted hyperparameters: length scales of
            the product, of the sum, and the three variances (of the product, the sum, the noise).
        features: float [n, f], the points.
        values: float [n], their values.
        shift: subtracted from the values.
        scale: divides the shifted values.
        root: float [n, n], the lower Cholesky factor of the covariance.
        weights: float [n], the inverse covariance times the scaled values.
        loss: the negative log posterior density of the fit, for values in their own units.
    """

    logarithms: Floats
    features: Floats
    values: Floats
    shift: float
    scale: float
    root: Floats
    weights: Floats
    loss: float = 0.0

    def predict(self, features: Floats) -> tuple[Floats, Floats]:
        """Predict the mean and standard deviation of the function, without the noise.

        Args:
            features: float [m, f].

        Returns:
            float [m] and float [m].
        """
        from scipy.linalg import solve_triangular

        cross = _covariance(self.features, features, self.logarithms)
        mean = cross.T @ self.weights
        part = solve_triangular(self.root, cross, lower=True, check_finite=False)
        prior = np.exp(self.logarithms[-3:-1]).sum()
        variance = np.maximum(prior - np.einsum("ij,ij->j", part, part), 1e-12 * prior)
        return self.shift + self.scale * mean, np.asarray(self.scale * np.sqrt(variance))

    def with_points(self, features: Floats, values: Floats) -> GaussianProcess:
        """Condition on more values with the same hyperparameters; nothing is fitted again.

        Args:
            features: float [m, f].
            values: float [m].
        """
        return _condition(
            self.logarithms,
            np.concatenate([self.features, features]),
            np.concatenate([self.values, values]),
            self.shift,
            self.scale,
        )

    @property
    def noise(self) -> float:
        """The standard deviation of the noise, in the units of the values."""
        return float(self.scale * np.exp(self.logarithms[-1] / 2))


def fit_gaussian_process(
    features: Floats,
    values: Floats,
    rng: np.random.Generator,
    previous: GaussianProcess | None = None,
) -> GaussianProcess:
    """Fit a Gaussian process: the MAP hyperparameters, by analytic gradients.

    Args:
        features: float [n, f], each within about [0, 1].
        values: float [n], finite. Any scale.
        rng: chooses the points to fit to, where there are more than the limit.
        previous: an earlier fit on the same columns, to start from.

    Returns:
        The model; deterministic, given the generator's state.
    """
    from scipy.optimize import minimize

    shift, scale = float(values.mean()), float(values.std()) or 1.0
    columns = features.shape[1]
    chosen = representatives(values, columns, rng)
    x, y = features[chosen], (values[chosen] - shift) / scale
    squares, pairs = squared_differences(x), np.triu_indices(len(x), 1)

    def descend(start: Floats, most: int) -> Any:
        return minimize(
            negative_log_posterior,
            start,
            args=(x, y, squares, pairs),
            jac=True,
            method="L-BFGS-B",
            bounds=bounds(columns),
            options={"maxiter": most},
        )

    if previous is None:
        begun = [descend(start, _FIRST_STEPS) for start in starts(columns)]
        best = descend(min(begun, key=lambda each: float(each.fun)).x, _STEPS)
    else:
        best = descend(previous.logarithms, _FURTHER_STEPS)
    model = _condition(best.x, features, values, shift, scale)
    return replace(model, loss=float(best.fun) + len(x) * float(np.log(scale)))


def representatives(values: Floats, columns: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Choose the points that hyperparameters are fitted to: a third the best, the rest at random.

    Args:
        values: float [n].
        columns: the number of feature columns; with many a step takes longer, and the points are
            fewer.
        rng: draws the random points.

    Returns:
        int [at most n], in no order.
    """
    limit = int(max(_FEWEST_POINTS, FITTED_POINTS * min(1.0, np.sqrt(8 / max(columns, 1)))))
    if len(values) <= limit:
        return np.arange(len(values))
    order = np.argsort(values, kind="stable")
    best, rest = order[: limit // 3], order[limit // 3 :]
    return np.concatenate([best, rng.choice(rest, limit - len(best), replace=False)])


def _covariance(a: Floats, b: Floats, logarithms: Floats) -> Floats:
    columns = a.shape[1]
    scales = np.exp(logarithms)
    result = scales[-3] * product(a, b, scales[:columns])
    # A term that explains less than a hundredth of a percent is left out, to save time.
    if scales[-2] > 1e-4 * scales[-3]:
        result += scales[-2] * total(a, b, scales[columns : 2 * columns])
    return np.asarray(result)


def _condition(
    logarithms: Floats, features: Floats, values: Floats, shift: float, scale: float
) -> GaussianProcess:
    from scipy.linalg import cho_solve, cholesky

    covariance = _covariance(features, features, logarithms)
    noise = np.exp(logarithms[-1]) + 1e-9 * np.exp(logarithms[-3:-1]).sum()
    for attempt in range(6):
        try:
            shifted = covariance + noise * 10.0**attempt * np.eye(len(values))
            root = cholesky(shifted, lower=True, check_finite=False)
            break
        except np.linalg.LinAlgError:
            if attempt == 5:
                raise
    weights = cho_solve((root, True), (values - shift) / scale, check_finite=False)
    return GaussianProcess(logarithms, features, values, shift, scale, root, weights)
