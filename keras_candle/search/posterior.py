"""The posterior density of the Gaussian process's hyperparameters, and its gradient."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from keras_candle.search.history import Floats
from keras_candle.search.kernels import pair_correlations

# Natural logarithms of: variance of the product, of the sum, of the noise.
_VARIANCE_PRIOR = ((0.0, 1.0), (0.0, 1.0), (np.log(1e-4), 2.5))
_VARIANCE_BOUNDS = ((-6.0, 4.0), (-9.0, 4.0), (np.log(1e-8), 0.5))
_PRODUCT_BOUNDS = (np.log(0.1), np.log(30.0))
_SUM_BOUNDS = (np.log(0.02), np.log(30.0))
_WORTHLESS = 1e12


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
