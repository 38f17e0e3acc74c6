"""Covariance kernels: a Matern 5/2 product over all columns, and a sum of one-column kernels.

The sum of one-dimensional kernels (Duvenaud et al., Additive Gaussian Processes, 2011) learns each
hyperparameter's own effect from far fewer points than the product; the fit decides how much of the
objective each of the two explains.
"""

from __future__ import annotations

import numpy as np

from keras_candle.search.history import Floats

_ROOT = np.sqrt(5.0)


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
