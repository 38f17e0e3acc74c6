"""Several objectives: the Pareto front, its hypervolume, and scalarised values of trials."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from keras_candle.errors import SearchError
from keras_candle.search.history import Floats


def non_dominated(values: ArrayLike) -> NDArray[np.bool_]:
    """Return which trials are on the Pareto front.

    A trial is dominated when another one is at least as good in every objective and better in one.
    Trials with equal values don't dominate each other.

    Args:
        values: float [trials, objectives], all to be minimised; NaN where a trial has no value.

    Returns:
        bool [trials]; False for each trial with a value that is not finite.

    Example:
        >>> non_dominated([[1, 4], [2, 2], [3, 3], [float("nan"), 0]]).tolist()
        [True, True, False, False]
    """
    table = _table(values)
    front = np.zeros(len(table), bool)
    # No trial is dominated by one that is later in this order, so one comparison with the front so
    # far is enough.
    whole = np.flatnonzero(np.isfinite(table).all(axis=1))
    for trial in whole[np.lexsort(table[whole].T[::-1])]:
        better = table[front]
        no_worse = (better <= table[trial]).all(axis=1)
        front[trial] = not (no_worse & (better < table[trial]).any(axis=1)).any()
    return front


def hypervolume(values: ArrayLike, reference: ArrayLike) -> float:
    """Return the exact volume that the Pareto front dominates, up to a reference point.

    By slicing objectives (While et al., A Faster Algorithm for Calculating Hypervolume, 2006):
    n log n for two objectives, n^2 log n for three, and a factor of n for each one more.

    Args:
        values: float [trials, objectives], all to be minimised; NaN where a trial has no value.
        reference: float [objectives], the worst values of interest.

    Returns:
        The volume; 0.0 when no trial is better than the reference in every objective.

    Raises:
        SearchError: when the reference has another number of objectives.

    Example:
        >>> hypervolume([[1, 2], [2, 1]], [3, 3])
        3.0
    """
    table, worst = _table(values), np.asarray(reference, np.float64)
    if worst.shape != table.shape[1:]:
        raise SearchError(
            f"hypervolume got a reference of shape {worst.shape} for values of shape "
            f"{table.shape}, expected one number for each objective."
        )
    inside = table[non_dominated(table)]
    return _volume(np.unique(inside[(inside < worst).all(axis=1)], axis=0), worst)


def _volume(front: Floats, worst: Floats) -> float:
    if not len(front):
        return 0.0
    if front.shape[1] == 1:
        return float(worst[0] - front.min())
    front = front[np.argsort(front[:, -1], kind="stable")]
    tops = np.append(front[1:, -1], worst[-1])
    heights = tops - front[:, -1]
    if front.shape[1] == 2:
        return float(heights @ (worst[0] - np.minimum.accumulate(front[:, 0])))
    total = 0.0
    for count, height in enumerate(heights, start=1):
        if height > 0:
            slice_ = front[:count, :-1]
            total += height * _volume(slice_[non_dominated(slice_)], worst[:-1])
    return float(total)


def scalarise(
    values: ArrayLike, weights: ArrayLike | np.random.Generator, augmentation: float = 0.05
) -> Floats:
    """Scalarise each trial's objectives by the augmented Chebyshev distance of its ranks.

    Each objective is replaced by its rank among the trials, from 0 (best) to 1, so that neither
    units nor outliers matter. The largest weighted rank counts, plus a small part of their sum,
    which keeps dominated trials behind those that dominate them (Steuer and Choo, An Interactive
    Weighted Tchebycheff Procedure, 1983). Weights drawn anew for each decision lead a search along
    the whole front, also where it isn't convex (Knowles, ParEGO, 2006).

    Args:
        values: float [trials, objectives], all to be minimised; NaN where a trial has no value.
        weights: float [objectives], not negative, not all zero; or a generator, which draws them
            evenly among all that sum to one.
        augmentation: the weight of the ranks' sum.

    Returns:
        float [trials], to be minimised; NaN for each trial with a value that is not finite.

    Raises:
        SearchError: when the weights don't fit the objectives.
    """
    table = _table(values)
    if isinstance(weights, np.random.Generator):
        weights = weights.dirichlet(np.ones(table.shape[1]))
    shares = np.asarray(weights, np.float64)
    if shares.shape != table.shape[1:] or not (shares >= 0).all() or not shares.sum() > 0:
        raise SearchError(
            f"scalarise got the weights {shares.tolist()} for {table.shape[1]} objectives, "
            "expected one for each, not negative and not all zero."
        )
    whole = np.isfinite(table).all(axis=1)
    result = np.full(len(table), np.nan)
    ranks = _ranks(table[whole])
    largest = (ranks * shares / shares.sum()).max(axis=1, initial=0.0)
    result[whole] = largest + augmentation * ranks.sum(axis=1)
    return result


def _ranks(table: Floats) -> Floats:
    from scipy.stats import rankdata

    ranks: Floats = rankdata(table, axis=0).reshape(table.shape)
    return (ranks - 1) / max(len(table) - 1, 1)


def _table(values: ArrayLike) -> Floats:
    table = np.asarray(values, np.float64)
    if table.ndim != 2 or table.shape[1] == 0:
        raise SearchError(
            f"The values have the shape {table.shape}, expected [trials, objectives] with at "
            "least one objective."
        )
    return table
