"""How much a trial at a point is worth, given what a surrogate believes of it."""

from __future__ import annotations

import numpy as np

from keras_candle.search.history import Floats


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
