"""The Gaussian process surrogate: Matern 5/2, one length scale for each column, fitted by MAP.

Rasmussen and Williams, Gaussian Processes for Machine Learning, chapters 2 and 5; the prior of the
length scales grows with the root of the dimensions (Hvarfner et al., ICML 2024). The covariance is
a product over all columns plus a sum of one-column kernels (Duvenaud et al., Additive Gaussian
Processes, 2011): the sum learns each hyperparameter's own effect from far fewer points, and the
fit decides how much of the objective each of the two explains.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_candle.search.space import Floats

# The hyperparameters are fitted to at most this many points; predictions use all points.
FITTED_POINTS = 100
_FEWEST_POINTS = 64
_FIRST_STEPS, _STEPS = 6, 18
# Starting from an earlier fit takes fewer steps.
_FURTHER_STEPS = 8
# Natural logarithms of: variance of the product, of the sum, of the noise.
_VARIANCE_PRIOR = ((0.0, 1.0), (0.0, 1.0), (np.log(1e-4), 2.5))
_VARIANCE_BOUNDS = ((-6.0, 4.0), (-9.0, 4.0), (np.log(1e-8), 0.5))
_PRODUCT_BOUNDS = (np.log(0.1), np.log(30.0))
_SUM_BOUNDS = (np.log(0.02), np.log(30.0))
_WORTHLESS = 1e12
_ROOT = np.sqrt(5.0)

# Kernels.


def squared_distances(a: Floats, b: Floats) -> Floats:
    """Return float [n, m], the squared distances between rows of float [n, f] and float [m, f]."""
    squares = -2 * a @ b.T
    squares += (a**2).sum(1)[:, None]
    squares += (b**2).sum(1)
    return np.maximum(squares, 0.0, out=squares)


def product(a: Floats, b: Floats, length_scales: Floats) -> Floats:
    """Return the product kernel with a length scale for each column (ARD).

    Args:
        a: float [n, f].
        b: float [m, f].
        length_scales: float [f].

    Returns:
        float [n, m] correlations.
    """
    squares = squared_distances(a / length_scales, b / length_scales)
    squares *= 5
    return _correlation(np.sqrt(squares, out=squares))


def total(a: Floats, b: Floats, length_scales: Floats) -> Floats:
    """Return the mean of one-dimensional kernels, one for each column.

    Args:
        a: float [n, f].
        b: float [m, f].
        length_scales: float [f].

    Returns:
        float [n, m] correlations.
    """
    mean = np.zeros((len(a), len(b)))
    for column, scale in enumerate(length_scales):
        left, right = a[:, column] * (_ROOT / scale), b[:, column] * (_ROOT / scale)
        distance = left[:, None] - right
        mean += _correlation(np.abs(distance, out=distance))
    mean /= max(len(length_scales), 1)
    return mean


def squared_differences(points: Floats) -> Floats:
    """Return float [f, pairs], the squared differences in each column, for each pair (i < j) once.

    Args:
        points: float [n, f].
    """
    first, second = np.triu_indices(len(points), 1)
    return np.ascontiguousarray((points[first] - points[second]).T ** 2)


def pair_correlations(squares: Floats) -> tuple[Floats, Floats]:
    """Return Matern 5/2 of squared scaled distances of any shape, and its slope.

    The derivative by the logarithm of a length scale is the slope times the squared scaled
    difference in its column.
    """
    distance = np.sqrt(5 * squares)
    decay = np.exp(-distance)
    slope = (1 + distance) * decay
    return slope + 5 / 3 * squares * decay, 5 / 3 * slope


def _correlation(distance: Floats) -> Floats:
    """Matern 5/2 of sqrt(5) times the scaled distance; in place, as arrays are large."""
    decay = np.exp(-distance)
    value = distance * distance
    value /= 3
    value += distance
    value += 1
    value *= decay
    return value


# The posterior density of the hyperparameters.


@lru_cache(maxsize=16)
def _prior(columns: int) -> tuple[Floats, Floats]:
    """Mean and spread, cached: don't modify them."""
    product = 0.5 * np.log(max(columns, 1)) + np.log(0.5)
    mean = np.concatenate([np.full(columns, product), np.full(columns, np.log(0.3))])
    spread = np.concatenate([np.full(columns, 0.7), np.full(columns, 0.9)])
    variances = np.array(_VARIANCE_PRIOR)
    return np.concatenate([mean, variances[:, 0]]), np.concatenate([spread, variances[:, 1]])


def bounds(columns: int) -> list[tuple[float, float]]:
    """Return the bounds of the 2 f + 3 logarithms."""
    return [_PRODUCT_BOUNDS] * columns + [_SUM_BOUNDS] * columns + [*_VARIANCE_BOUNDS]


def starts(columns: int) -> list[Floats]:
    """Return the starting points of a fit: a noiseless function, and a smooth one with noise."""
    exact, rough = _prior(columns)[0].copy(), _prior(columns)[0].copy()
    exact[-3:] = np.log(0.7), np.log(0.5), np.log(1e-4)
    rough[-3:] = np.log(0.7), np.log(0.05), np.log(0.1)
    return [exact, rough]


def negative_log_posterior(
    logarithms: Floats, x: Floats, y: Floats, squares: Floats, pairs: Any
) -> tuple[float, Floats]:
    """Return the negative log posterior, which the fit minimises, and its gradient.

    Args:
        logarithms: float [2 f + 3].
        x: float [n, f].
        y: float [n].
        squares: float [f, pairs], from `squared_differences`.
        pairs: the row and the column of each pair.
    """
    from scipy.linalg.lapack import dpotrf, dpotri, dpotrs

    count, columns = x.shape
    scales = np.exp(logarithms)
    variances = scales[-3:]
    of_product = scales[:columns] ** -2
    joint, joint_slope = pair_correlations(of_product @ squares)
    alone = squares * (scales[columns : 2 * columns] ** -2)[:, None]
    single, single_slopes = pair_correlations(alone)
    mean_single = single.mean(axis=0)
    covariance = np.zeros((count, count), order="F")
    covariance[pairs[::-1]] = variances[0] * joint + variances[1] * mean_single
    covariance[np.diag_indices(count)] = (1 + 1e-9) * variances[:2].sum() + variances[2]
    root, failed = dpotrf(covariance, lower=1)
    mean, spread = _prior(columns)
    off = (logarithms - mean) / spread
    if failed:
        return _WORTHLESS, off / spread
    weights = dpotrs(root, y, lower=1)[0]
    lost = 0.5 * y @ weights + np.log(np.diag(root)).sum() + 0.5 * off @ off
    inverse = dpotri(root, lower=1)[0]
    # dL/dK = (K^-1 - w w^T) / 2 (Rasmussen and Williams, equation 5.9); each pair counts twice.
    diagonal = 0.5 * (np.diag(inverse) - weights**2)
    outer = inverse[pairs[::-1]] - weights[pairs[0]] * weights[pairs[1]]
    gradient = np.empty_like(logarithms)
    gradient[:columns] = variances[0] * of_product * (squares @ (outer * joint_slope))
    gradient[columns : 2 * columns] = np.einsum("jp,jp,p->j", single_slopes, alone, outer)
    gradient[columns : 2 * columns] *= variances[1] / columns
    gradient[-3] = variances[0] * (outer @ joint + diagonal.sum())
    gradient[-2] = variances[1] * (outer @ mean_single + diagonal.sum())
    gradient[-1] = variances[2] * diagonal.sum()
    return float(lost), gradient + off / spread


# The process.


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
