"""How alike the values at two points are: a Matern 5/2 product over all columns, and a sum of them.

The sum of one-dimensional kernels (Duvenaud et al., Additive Gaussian Processes, 2011) learns each
hyperparameter's own effect from far fewer points than the product; together, the fit decides how
much of the objective is which.
"""

from __future__ import annotations

import numpy as np

from keras_candle.search.history import Floats

_ROOT = np.sqrt(5.0)


def matern(a: Floats, b: Floats, length_scales: Floats) -> tuple[Floats, Floats]:
    """The product kernel with a length scale for each column (ARD).

    Args:
        a: float [n, f].
        b: float [m, f].
        length_scales: float [f].

    Returns:
        float [n, m] correlations, and float [n, m] slopes: the derivative by the logarithm of a
        length scale is the slope times the squared scaled difference in its column.
    """
    left, right = a / length_scales, b / length_scales
    squares = (left**2).sum(1)[:, None] + (right**2).sum(1) - 2 * left @ right.T
    return _matern(np.maximum(squares, 0.0))


def matern_sum(a: Floats, b: Floats, length_scales: Floats) -> tuple[Floats, Floats]:
    """The mean of one-dimensional kernels, one for each column.

    Args:
        a: float [n, f].
        b: float [m, f].
        length_scales: float [f].

    Returns:
        float [n, m] correlations, and float [f, n, m] derivatives by the logarithms of the length
        scales.
    """
    columns = len(length_scales)
    left, right = (a / length_scales).T, (b / length_scales).T
    squares = (left[:, :, None] - right[:, None, :]) ** 2
    value, slope = _matern(squares)
    return value.mean(axis=0), slope * squares / columns


def sum_values(a: Floats, b: Floats, length_scales: Floats) -> Floats:
    """The correlations of `matern_sum` alone, without the room for the derivatives."""
    total = np.zeros((len(a), len(b)))
    for column, scale in enumerate(length_scales):
        distance = np.abs(a[:, column, None] - b[:, column]) * (_ROOT / scale)
        total += (1 + distance + distance**2 / 3) * np.exp(-distance)
    return total / max(len(length_scales), 1)


def _matern(squares: Floats) -> tuple[Floats, Floats]:
    distance = np.sqrt(5 * squares)
    decay = np.exp(-distance)
    return (1 + distance + distance**2 / 3) * decay, 5 / 3 * (1 + distance) * decay
