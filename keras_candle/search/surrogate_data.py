"""The trials of a search as arrays: the history, its features, and a surrogate's training data."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from keras_candle.search.space import Floats, SearchSpace
from keras_candle.search.subspaces import Subspace


@dataclass(frozen=True)
class History:
    """The trials of a search that have ended, and those that are running.

    Attributes:
        units: float [trials, dimensions], each ended trial's point in the unit cube; NaN where a
            hyperparameter was not active.
        objective: float [trials], to be minimised; NaN where a trial failed.
        cost: float [trials], a trial's cost (device-seconds, by default); NaN where unknown.
        fidelity: float [trials], the part of the full budget that a trial was trained with, in
            (0, 1].
        subspace: int [trials], the subspace that the trial belongs to; -1: none.
        pending: float [running, dimensions], the points of the running trials.
    """

    units: Floats
    objective: Floats
    cost: Floats
    fidelity: Floats
    subspace: NDArray[np.int64]
    pending: Floats

    @classmethod
    def empty(cls, dimensions: int) -> History:
        """Return the history of a search without trials.

        Args:
            dimensions: of the search space.
        """
        none = np.empty(0)
        points = np.empty((0, dimensions))
        return cls(points, none, none, none, np.empty(0, np.int64), points)

    @property
    def succeeded(self) -> NDArray[np.bool_]:
        """Bool [trials]: whether a trial gave a finite objective."""
        return np.isfinite(self.objective)

    def with_pending(self, unit: Floats) -> History:
        """Return a copy with one more running trial.

        Args:
            unit: float [dimensions], its point.
        """
        return replace(self, pending=np.vstack([self.pending, unit]))

    def subset(self, ended: NDArray[np.bool_], running: NDArray[np.bool_]) -> History:
        """Return a copy with some of the trials.

        Args:
            ended: bool [trials], the ended trials to keep.
            running: bool [running], the running trials to keep.
        """
        return History(
            self.units[ended],
            self.objective[ended],
            self.cost[ended],
            self.fidelity[ended],
            self.subspace[ended],
            self.pending[running],
        )


def features_of(space: SearchSpace, units: ArrayLike, box: Subspace | None = None) -> Floats:
    """Encode points as feature columns.

    An ordered dimension is one column. Categories without an order are one column each (0 or 1,
    over the square root of 2, so that two categories are as far apart as the ends of a range). A
    conditional dimension has one more column, 1 where it is active; an inactive coordinate is .5.

    Args:
        space: the search space of the points.
        units: float [n, d].
        box: its lower corner and widths scale the ordered dimensions; None: the unit cube.

    Returns:
        float [n, f], f >= d.
    """
    points = space.canonical(units)
    missing = np.isnan(points)
    measured = points if box is None else (points - box.lower) / (box.upper - box.lower)
    measured = np.where(missing, 0.5, measured)
    columns = []
    for number, each in enumerate(space.dimensions):
        if each.ordered or each.size is None or each.size == 2:
            columns.append(measured[:, number])
        else:
            index = (np.where(missing[:, number], 0.5, points[:, number]) * each.size).astype(int)
            hot = (index[:, None] == np.arange(each.size)) & ~missing[:, number, None]
            columns.extend(hot.T / np.sqrt(2))
        if each.parents:
            columns.append((~missing[:, number]).astype(float))
    return np.stack(columns, axis=1) if columns else np.zeros((len(points), 0))


@dataclass(frozen=True)
class SurrogateData:
    """The training data of a surrogate: the trials with a finite objective.

    Attributes:
        units: float [n, d], canonical.
        features: float [n, f]; the last column is the fidelity where it varies.
        objective: float [n], as reported.
        values: float [n], the objective without units: its median is 0, see `standardise`.
        log_cost: float [n], NaN where the cost isn't known.
        feasible: bool [n], whether the cost keeps the limit (or isn't known).
        pending: float [p, f], the running trials.
        failed: float [q, f], the trials that failed.
        fidelities: whether the last column is the fidelity.
        box: the box whose trials these are, which scales the features; None: the whole space.
    """

    units: Floats
    features: Floats
    objective: Floats
    values: Floats
    log_cost: Floats
    feasible: NDArray[np.bool_]
    pending: Floats
    failed: Floats
    fidelities: bool
    box: Subspace | None = None

    @property
    def ranking_values(self) -> Floats:
        """Float [n], the values, with those of trials above the cost limit moved to the end."""
        if self.feasible.all():
            return self.values
        over = np.where(self.feasible, 0.0, np.ptp(self.values) + np.nan_to_num(self.log_cost))
        return np.asarray(self.values + np.where(self.feasible, 0.0, over - over.min() + 1.0))

    def inverse_cost(self, rows: NDArray[np.int64], exponent: float) -> Floats:
        """Return float [k], one over the cost of some trials, to the power of an exponent.

        Args:
            rows: int [k], their indices. An unknown cost is replaced by the median.
            exponent: of the cost; 0.0: all results are 1.
        """
        known = self.log_cost[np.isfinite(self.log_cost)]
        if not exponent or not len(known):
            return np.ones(len(rows))
        cost = self.log_cost[rows]
        return np.asarray(np.exp(-exponent * np.where(np.isnan(cost), np.median(known), cost)))

    def features_of(self, space: SearchSpace, units: Floats) -> Floats:
        """Return the features of points, at full fidelity.

        Args:
            space: the search space of the points.
            units: float [m, d].
        """
        return _features(space, units, np.ones(len(units)) if self.fidelities else None, self.box)


def surrogate_data_of(
    space: SearchSpace, history: History, limit: float | None = None, box: Subspace | None = None
) -> SurrogateData:
    """Return the training data of a surrogate.

    Args:
        space: the search space.
        history: the trials so far.
        limit: the highest cost that a trial may have; None: no limit.
        box: the box whose trials to use; None: all trials.
    """
    if box is not None:
        history = history.subset(box.contains(history.units), box.contains(history.pending))
    whole = history.succeeded
    varies = bool(len(history.fidelity)) and not np.allclose(history.fidelity, 1.0)
    units = space.canonical(history.units)
    fidelity = history.fidelity if varies else None
    features = _features(space, units, fidelity, box)
    running = np.ones(len(history.pending)) if varies else None
    pending = _features(space, history.pending, running, box)
    cost = history.cost[whole]
    log_cost = np.log(np.where(cost > 0, cost, np.nan))
    return SurrogateData(
        units[whole],
        features[whole],
        history.objective[whole],
        standardise(history.objective[whole]),
        log_cost,
        ~(cost > (np.inf if limit is None else limit)),
        pending,
        features[~whole],
        varies,
        box,
    )


def standardise(values: Floats) -> Floats:
    """Standardise values robustly, so that a few outliers don't compress the rest.

    The median becomes 0 and the quartiles are about a unit from it; above, values grow only
    logarithmically. Adding a number to all, or multiplying by a positive one, changes nothing.

    Args:
        values: float [n], finite.

    Returns:
        float [n].
    """
    if not len(values):
        return values
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    spread = float(high - low) / 1.35 or float(values.std()) or 1.0
    # Rounding errors of a large offset must not change the sequence of trials.
    z = ((values - middle) / spread).round(9)
    return np.asarray(np.where(z > 1.0, 1.0 + np.log(np.maximum(z, 1.0)), z))


def compress_low_end(values: Floats) -> tuple[Floats, float]:
    """Compress the low end of standardised values logarithmically, like the high end.

    Where most of an objective is a plain with a narrow hole, the depth of the hole would otherwise
    dominate the surrogate.

    Args:
        values: float [n], from `standardise`.

    Returns:
        float [n], and the sum of the logarithms of the slopes, to compare the likelihood of the
        compressed values with that of the given ones.
    """
    low = np.log(np.maximum(-values, 1.0))
    return np.where(values < -1.0, -1.0 - low, values), -float(low.sum())


def _features(
    space: SearchSpace, units: Floats, fidelity: Floats | None, box: Subspace | None
) -> Floats:
    features = features_of(space, units, box)
    if fidelity is None:
        return features
    # Logarithmic: 1/27 is as far from 1/9 as 1/3 from 1.
    column = 1 + np.log(np.clip(fidelity, 1e-3, 1.0)) / np.log(100)
    return np.concatenate([features, column[:, None]], axis=1)


def nearest(features: Floats, centre: Floats) -> NDArray[np.int64]:
    """Return the indices of points, from the nearest to the farthest.

    Args:
        features: float [n, f].
        centre: float [f].
    """
    distances = ((features - centre) ** 2).sum(axis=1)
    return np.argsort(distances, kind="stable")
